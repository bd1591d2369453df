"""Encoder and decoder over the same text, against the `Transformer` of the same weights."""

import keras
import numpy as np
import pytest
from model_checks import as_float32, check_mixed_precision, check_round_trips, scattered

from keras_attn import Seq2SeqEncoderModel, Transformer
from keras_attn.export import export
from keras_attn.layers import LastTokenPooling, LearnedPositionEmbedding

V, END = 23, 1
# The second row goes on after its end token, and is shorter.
IDS = np.array([[5, 6, 7, 8, 9, END], [10, END, 11, END, 12, 0]])
MASK = IDS != 0
STACKS = {
    "num_decoder_layers": 1,
    "decoder_options": {"num_heads": 2},
    "embedding_norm": True,
    "norm_epsilon": 1e-5,
    "activation": "gelu",
}
CLASSES = {"head": "sequence_classification", "num_classes": 3, "end_id": END}


def positions():
    names = ("position", "decoder_position")
    return {name: LearnedPositionEmbedding(9, name=name) for name in names}


def make(cls=Seq2SeqEncoderModel, **kwargs):
    keras.utils.set_random_seed(7)
    own = {} if cls is Transformer else {"start_id": 2}
    return scattered(cls(V, 2, 12, 3, 14, **STACKS, **positions(), scale_embeddings=True, **{**own, **kwargs}))


def transformer_of(model):
    """The `Transformer` with the weights of a model."""
    other = make(Transformer)
    values = {x.path: np.asarray(x) for x in model.weights}
    for variable in other.weights:
        variable.assign(values[variable.path])
    return other


@pytest.fixture(scope="module")
def model():
    return make()


@pytest.mark.parametrize("start_id", [2, "last"])
def test_vectors_are_those_of_a_decoder(start_id):
    model = make(start_id=start_id)
    first = [[2], [2]] if start_id == 2 else [[END], [12]]
    inputs = {"source_ids": IDS, "target_ids": np.concatenate([first, IDS[:, :-1]], 1)}
    # The decoder hides no padding, which stands after all that is read.
    inputs["target_mask"] = np.ones_like(MASK)
    expected = as_float32(transformer_of(model).hidden_states(inputs, training=False))
    np.testing.assert_allclose(model(IDS), expected, atol=1e-5)
    np.testing.assert_allclose(model.encode(IDS), expected, atol=1e-5)
    np.testing.assert_allclose(model({"token_ids": IDS, "padding_mask": MASK}), expected, atol=1e-5)


def test_a_classifier_reads_the_last_end_token():
    model = make(**CLASSES)
    vectors = np.asarray(model.encode(IDS))[[0, 1], [5, 3]]
    expected = model.get_layer("classifier")(model.get_layer("pooler")(vectors))
    np.testing.assert_allclose(model(IDS), expected, atol=1e-5)
    padded = np.pad(IDS, ((0, 0), (0, 2)))
    np.testing.assert_allclose(model(padded), expected, atol=1e-5)
    without = np.where(IDS == END, 13, IDS)
    other = make(**{**CLASSES, "end_id": None}, pooling=LastTokenPooling())
    np.testing.assert_allclose(model(without), other(without), atol=1e-6)


def test_gradients_reach_all_weights():
    model = make(**CLASSES)
    model.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    before = [np.array(x) for x in model.trainable_variables]
    model.fit(IDS, np.array([2, 0]), verbose=0)
    still = [x.path for x, y in zip(model.trainable_variables, before, strict=True) if np.array_equal(x, y)]
    # Softmax ignores what is added to all keys.
    assert all(path.endswith("key/bias") for path in still)


def test_round_trips(tmp_path):
    given = {**STACKS, **CLASSES, "start_id": 2, "decoder_position": None}
    check_round_trips(make(**CLASSES), IDS, given, tmp_path)


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(model, dtype):
    half = make(dtype=dtype)
    half.set_weights(model.get_weights())
    check_mixed_precision(half, model, IDS)


def test_formats_agree(tmp_path):
    model = make(**CLASSES)
    for tasks in ("forward", "classify"):
        report = export(model, tmp_path / tasks, ["saved_model", "tflite", "onnx"], tasks=tasks)
        assert all(row["ok"] and row["total"] > 0 for row in report.rows)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"start_id": "first"}, "`start_id` must be a token id or 'last'"),
        ({"end_id": "largest"}, "`end_id` must be a token id or None"),
        ({"num_token_types": 2}, r"must be given none of.*'num_token_types': 2"),
        ({"num_decoder_layers": 0}, "`num_decoder_layers`"),
        ({"decoder_options": {"causal": False}}, "`decoder_options` must not contain 'causal'"),
    ],
)
def test_bad_arguments(given, message):
    settings = {"start_id": 2, **given}
    with pytest.raises(ValueError, match=message):
        Seq2SeqEncoderModel(V, 1, 12, 3, 14, **settings)


def test_inputs_that_select_parts_of_texts_are_refused(model):
    with pytest.raises(ValueError, match=r"may hold \['padding_mask', 'token_ids'\]"):
        model({"token_ids": IDS, "segments": np.ones_like(IDS)})
