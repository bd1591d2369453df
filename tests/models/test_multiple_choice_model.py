"""Which of several texts fits best."""

import keras
import numpy as np
import pytest
from model_checks import check_round_trips, scattered

from keras_attn import EncoderModel, MultipleChoiceModel
from keras_attn.export import export

IDS = np.array([[[5, 6, 7, 8], [5, 9, 2, 0], [5, 1, 0, 0]], [[7, 9, 0, 0], [3, 9, 2, 1], [8, 8, 8, 0]]])
TYPES = np.array([[[0, 0, 1, 1]] * 3] * 2)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(7)
    encoder = EncoderModel(13, 1, 12, 3, 14, head="sequence_classification", num_classes=1, num_token_types=2)
    return scattered(MultipleChoiceModel(encoder))


def test_each_text_is_read_on_its_own(model):
    for row, types, logits in zip(
        IDS, TYPES, np.asarray(model({"token_ids": IDS, "token_type_ids": TYPES})), strict=True
    ):
        expected = np.asarray(model.encoder({"token_ids": row, "token_type_ids": types}))[:, 0]
        np.testing.assert_allclose(logits, expected, atol=1e-6)
    mask = np.arange(4) < np.array([3, 2, 1])[:, None]
    expected = model(np.where(mask, IDS, 0))
    found = model({"token_ids": IDS, "padding_mask": mask & (IDS > 0)})
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_fit_learns(model):
    model = MultipleChoiceModel.from_config(model.get_config())
    model.compile(keras.optimizers.Adam(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    losses = model.fit(IDS, np.array([2, 0]), epochs=30, verbose=0).history["loss"]
    assert losses[-1] < losses[0] / 2


def test_round_trips(model, tmp_path):
    check_round_trips(model, {"token_ids": IDS}, {}, tmp_path)


def test_formats_agree(model, tmp_path):
    report = export(model, tmp_path, ["tflite", "onnx"], tasks="forward")
    assert all(row["ok"] and row["total"] > 0 for row in report.rows)


def test_bad_arguments():
    with pytest.raises(ValueError, match="`encoder` must be an EncoderModel of token ids that returns one logit"):
        MultipleChoiceModel(EncoderModel(13, 1, 12, 3, 14))
