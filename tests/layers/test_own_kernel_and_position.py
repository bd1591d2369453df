"""An attention kernel and a position of a user's own, of public names alone."""

import dataclasses

import keras
import numpy as np
import pytest
from keras import ops

from keras_attn import EncoderModel
from keras_attn.export import export
from keras_attn.layers import MultiHeadAttention, PositionEncoding
from keras_attn.ops import AttentionArguments, Mechanism, dense_attention, mechanisms, register_mechanism


@pytest.fixture(autouse=True)
def _registry(monkeypatch):
    monkeypatch.setattr(mechanisms, "_MECHANISMS", dict(mechanisms._MECHANISMS))
    register_mechanism("performer", Mechanism(Performer(), performer_unsupported_reasons, is_softmax=False))


@dataclasses.dataclass(frozen=True)
class Performer:
    """`phi(q) (phi(k)^T v) / phi(q) sum phi(k)`, Choromanski et al., 2021, with positive random features."""

    num_features: int = 64

    def __call__(self, q, k, v, arguments):
        mask, scale = arguments.mask, q.shape[-1] ** -0.5 if arguments.scale is None else arguments.scale
        directions = np.random.default_rng(0).normal(size=(q.shape[-1], self.num_features)).astype("float32")

        def features(x, axes):
            x = x * scale**0.5
            logits = ops.matmul(x, directions) - ops.sum(x * x, axis=-1, keepdims=True) / 2
            return ops.exp(logits - ops.max(logits, axis=axes, keepdims=True))

        queries, keys = features(q, (-1,)), features(k, (-2, -1))
        if mask is not None and mask.key_mask is not None:
            real = ops.expand_dims(ops.expand_dims(mask.key_mask, 1), -1)
            keys = ops.where(real, keys, ops.zeros_like(keys))
        weights = ops.sum(queries * ops.sum(keys, axis=2, keepdims=True), axis=-1, keepdims=True)
        return ops.matmul(queries, ops.matmul(ops.transpose(keys, (0, 1, 3, 2)), v)) / ops.maximum(weights, 1e-20)


def performer_unsupported_reasons(request):
    mask = request.mask
    rules = {
        "it has no bias": request.has_bias,
        "it hides padding only": mask is not None and (mask.causal or mask.window is not None),
        "it has no scores": request.return_scores,
        "all keys have heads of their own": request.key_shape[1] != request.query_shape[1],
    }
    return [reason for reason, holds in rules.items() if holds]


@keras.saving.register_keras_serializable(package="tests")
class LogarithmicBias(PositionEncoding):
    """`-a_n log(1 + |t - s|)` on the logits of head `n`, Chi et al., 2022."""

    def __init__(self, num_heads, **kwargs):
        super().__init__(**kwargs)
        self.num_heads = num_heads

    def build(self, inputs_shape=None):
        self.slope = self.add_weight(name="slope", shape=(self.num_heads, 1, 1), initializer="ones")

    def logit_bias(self, query_positions, key_positions):
        distances = ops.abs(ops.expand_dims(query_positions, -1) - ops.expand_dims(key_positions, 1))
        return -self.slope * ops.expand_dims(ops.log1p(ops.cast(distances, self.compute_dtype)), 1)


def test_the_kernel_is_close_to_softmax():
    rng = np.random.default_rng(1)
    q, k, v = (rng.normal(scale=0.7, size=(2, 3, 5, 4)).astype("float32") for _ in range(3))
    found = Performer(num_features=50_000)(q, k, v, AttentionArguments())
    np.testing.assert_allclose(found, dense_attention(q, k, v), atol=0.05)


def test_padding_is_hidden_and_the_rest_refused():
    layer, x = MultiHeadAttention(2, 4, mechanism="performer"), np.random.default_rng(2).normal(size=(1, 5, 8))
    mask = np.array([[True, True, True, False, False]])
    padded = np.where(mask[..., None], x, 1e3).astype("float32")
    np.testing.assert_allclose(layer(padded, query_mask=mask)[:, :3], layer(x[:, :3].astype("float32")), atol=1e-5)
    with pytest.raises(ValueError, match="performer: it hides padding only"):
        layer(padded, use_causal_mask=True)


def test_a_kernel_of_keywords_gets_the_fields_of_the_arguments():
    calls = []

    def kernel(q, k, v, *, mask, scale, **others):
        calls.append(others)
        return dense_attention(q, k, v, mask=mask, scale=scale, **others)

    register_mechanism("keywords", Mechanism(kernel, lambda request: []))
    x = np.random.default_rng(3).normal(size=(2, 5, 8)).astype("float32")
    names = ("keywords", "dense")
    layers = [MultiHeadAttention(2, 4, mechanism=name, causal=True, logit_soft_cap=2.0) for name in names]
    for layer in layers:
        layer.build(x.shape)
    layers[1].set_weights(layers[0].get_weights())
    np.testing.assert_array_equal(layers[0](x), layers[1](x))
    assert calls[-1].keys() == {"bias", "dropout", "seed", "training", "logit_soft_cap", "sinks", "return_scores"}
    assert calls[-1]["logit_soft_cap"] == 2.0


def test_the_position_is_its_formula():
    position = LogarithmicBias(2)
    position.build()
    position.slope.assign([[[1.0]], [[0.5]]])
    bias = np.asarray(position.logit_bias(np.array([[0, 1]]), np.array([[0, 1, 3]])))
    distances = np.array([[0, 1, 3], [1, 0, 2]])
    np.testing.assert_allclose(bias[0], -np.log1p(distances) * np.array([1, 0.5])[:, None, None], rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "formats"),
    [
        ({"mechanism": "performer"}, ["saved_model", "tflite", "onnx"]),
        ({"attention_options": {"position": LogarithmicBias(2)}}, ["onnx"]),
    ],
)
def test_models_have_them_in_files_and_artefacts(options, formats, tmp_path):
    model = EncoderModel(20, 1, 8, 2, 16, head="sequence_classification", num_classes=3, **options)
    ids = np.array([[5, 6, 7], [8, 9, 0]])
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "model.keras")(ids), model(ids))
    report = export(model, tmp_path, formats, tasks=["classify"])
    assert all(row["ok"] and row["identical"] == row["total"] > 0 for row in report.rows)


@pytest.mark.parametrize(
    ("name", "mechanism", "message"),
    [
        ("auto", Mechanism(Performer(4), performer_unsupported_reasons), "`name` must be a string other than 'auto'"),
        ("mine", Performer(4), "`mechanism` must be a `Mechanism"),
    ],
)
def test_mechanisms_that_cannot_be_registered(name, mechanism, message):
    with pytest.raises(ValueError, match=message):
        register_mechanism(name, mechanism)
