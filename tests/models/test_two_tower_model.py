"""Images and texts compared."""

import keras
import numpy as np
import pytest
from model_checks import check_round_trips, scattered

from keras_attn import EncoderModel
from keras_attn.export import export
from keras_attn.layers import EmbeddingHead, FirstTokenPooling, LastTokenPooling, PatchEmbedding
from keras_attn.models import TwoTowerModel

IDS = np.array([[5, 6, 20, 7], [5, 9, 8, 20], [5, 20, 0, 0], [3, 9, 20, 0]])
IMAGES = np.random.default_rng(0).normal(size=(2, 8, 12, 3)).astype("float32")


def make():
    keras.utils.set_random_seed(7)
    patches = PatchEmbedding(4, 12, class_token=True)
    inputs = {"images": keras.Input((8, 12, 3))}
    head = EmbeddingHead(FirstTokenPooling(), 5, use_bias=False, normalize=False)
    images = EncoderModel(None, 1, 12, 2, 14, embeddings=patches, inputs=inputs, norm="pre", head=head)
    head = EmbeddingHead(LastTokenPooling(), 5, use_bias=False, normalize=False)
    texts = EncoderModel(23, 1, 12, 3, 14, norm="pre", end_id=20, attention_options={"causal": True}, head=head)
    return scattered(TwoTowerModel(images, texts, use_bias=True))


@pytest.fixture(scope="module")
def model():
    return make()


def test_logits_are_scaled_cosines(model):
    images, texts = np.asarray(model.encode_images(IMAGES)), np.asarray(model.encode_texts(IDS))
    np.testing.assert_allclose(np.linalg.norm(np.concatenate([images, texts]), axis=-1), 1, atol=1e-5)
    scale, bias = (np.asarray(weight) for weight in model.similarity.weights)
    expected = np.exp(scale) * images @ texts.T + bias
    np.testing.assert_allclose(model({"images": IMAGES, "token_ids": IDS}), expected, rtol=1e-4, atol=1e-5)
    mask = np.ones_like(IDS, bool)
    found = model({"images": IMAGES, "token_ids": IDS, "padding_mask": mask})
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_round_trips(model, tmp_path):
    check_round_trips(model, {"images": IMAGES, "token_ids": IDS}, {"use_bias": True}, tmp_path)


def test_every_format_agrees(model, tmp_path):
    report = export(model, tmp_path, ["tflite", "onnx"], tasks="forward")
    assert all(row["ok"] and row["total"] > 0 for row in report.rows)


def test_bad_arguments(model):
    images, texts = model.image_encoder, model.text_encoder
    with pytest.raises(ValueError, match="`image_encoder` must be an EncoderModel with `embeddings`"):
        TwoTowerModel(texts, texts)
    with pytest.raises(ValueError, match=r"`text_encoder` must be an EncoderModel of token ids.*one vector"):
        TwoTowerModel(images, EncoderModel(23, 1, 12, 3, 14))
