"""What was done to sub-layers after they were made comes back from configs and files."""

import json
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from samples import normal

from keras_attn.layers import (
    Encoder,
    EncoderBlock,
    FeedForward,
    MultiHeadAttention,
    Projection,
    Recurrence,
    Residual,
    TokenEmbedding,
)

X = normal(np.random.default_rng(0), 2, 5, 8)
IDS = np.array([[1, 2, 3], [4, 5, 6]])
WEIGHTS_ALONE = keras.quantizers.Int8QuantizationConfig(activation_quantizer=None)


def functional(layer, width=8):
    inputs = keras.Input((None, width))
    return keras.Model(inputs, layer(inputs))


def encoder(**config):
    return Encoder(2, 2, 16, **config)


def reloaded(model, tmp_path):
    model.save(tmp_path / "model.keras")
    return keras.saving.load_model(tmp_path / "model.keras")


def adapted(layer, rank=2):
    """Gives LoRA with random matrices to all that offers it."""
    rng = np.random.default_rng(1)
    for part in layer._flatten_layers():
        if hasattr(part, "enable_lora"):
            part.enable_lora(rank, lora_alpha=3)
            for matrix in part._lora_matrices():
                matrix.assign(normal(rng, *matrix.shape) / 2)
    return layer


def flags(model):
    return [weight.trainable for weight in model.weights]


def freeze_all_but_the_last(layer):
    layer.trainable = False
    layer.blocks[1].trainable = True
    return 16, {"blocks/1": {"trainable": True}}


def freeze_parts(layer):
    layer.blocks[0].self_attention.layer.query_dense.trainable = False
    layer.final_norm.trainable = False
    query = "blocks/0/self_attention/layer/query_dense"
    return 30, {query: {"trainable": False}, "final_norm": {"trainable": False}}


def unfreeze_what_was_made_frozen(layer):
    assert len(layer.trainable_weights) == 18
    layer.blocks[0].trainable = True
    return 34, {"blocks/0": {"trainable": True}}


def freeze_and_unfreeze(layer):
    layer.trainable = False
    layer.trainable = True
    return 34, None


@pytest.mark.parametrize(
    ("config", "change"),
    [
        ({}, freeze_all_but_the_last),
        ({}, freeze_parts),
        ({}, freeze_and_unfreeze),
        ({"layer_options": [{"trainable": False}, {}]}, unfreeze_what_was_made_frozen),
        ({"trainable": False}, lambda layer: (0, None)),
        ({"layer_options": [{"trainable": False}, {}]}, lambda layer: (18, None)),
    ],
)
def test_frozen_sublayers_of_a_stack(config, change, tmp_path):
    layer = encoder(**config)
    model = functional(layer)
    number, states = change(layer)
    assert len(model.trainable_weights) == number
    assert layer.get_config().get("sublayers") == states
    loaded = reloaded(model, tmp_path)
    assert flags(loaded) == flags(model) == flags(keras.models.clone_model(model))
    assert flags(loaded).count(True) == number


def test_freezing_before_the_weights_are_there():
    layer = encoder()
    freeze_all_but_the_last(layer)
    assert len(functional(layer).trainable_weights) == 16
    layer = encoder(trainable=False)
    copy = Encoder.from_config(Encoder.from_config(layer.get_config()).get_config())
    assert len(functional(copy).trainable_weights) == 0
    layer = encoder()
    functional(layer)
    freeze_parts(layer)
    copy = Encoder.from_config(layer.get_config())
    assert copy.get_config() == layer.get_config()
    copy.trainable = False
    copy.trainable = True
    assert len(functional(copy).trainable_weights) == 34


def test_a_layer_that_is_built_into_another_stays_as_it_is(tmp_path):
    layer = encoder()
    model = functional(layer)
    freeze_parts(layer)
    for built in (layer, reloaded(model, tmp_path).layers[1]):
        assert len(functional(Residual(built)).trainable_weights) == 32


@pytest.mark.parametrize(
    ("make", "number"),
    [
        (lambda: Residual(FeedForward(16, trainable=False)), 2),
        (lambda: Residual(FeedForward(16), trainable=False), 0),
        (lambda: EncoderBlock(2, feed_forward=FeedForward(16, trainable=False)), 12),
        (lambda: Recurrence(keras.layers.LSTMCell(4), trainable=False), 0),
        (lambda: keras.layers.TimeDistributed(FeedForward(16, trainable=False)), 0),
    ],
)
def test_layers_inside_layers(make, number, tmp_path):
    layer = make()
    inputs = keras.Input((3, 5, 8) if isinstance(layer, keras.layers.TimeDistributed) else (5, 8))
    model = keras.Model(inputs, layer(inputs))
    assert len(model.trainable_weights) == len(reloaded(model, tmp_path).trainable_weights) == number


@pytest.mark.parametrize(
    ("config", "state"),
    [
        (keras.quantizers.Int8QuantizationConfig(), {"dtype": "int8_from_float32"}),
        (keras.quantizers.Int4QuantizationConfig(), {"dtype": "int4/128_from_float32"}),
        (keras.quantizers.Float8QuantizationConfig(), {"dtype": "float8_from_float32"}),
        (WEIGHTS_ALONE, None),
        (keras.quantizers.Int4QuantizationConfig(block_size=4), None),
    ],
)
def test_quantised_sublayers(config, state, tmp_path):
    layer = FeedForward(16)
    model = functional(layer)
    layer.output_dense.quantize(config=config)
    states = layer.get_config()["sublayers"]
    assert state is None or states == {"output_dense": state}
    loaded = reloaded(model, tmp_path)
    np.testing.assert_array_equal(loaded(X), model(X))
    assert [(w.path, w.dtype, w.shape) for w in loaded.weights] == [(w.path, w.dtype, w.shape) for w in model.weights]
    assert json.dumps(loaded.layers[1].get_config()) == json.dumps(layer.get_config())


def test_a_policy_map_reaches_sublayers_and_their_files(tmp_path):
    policy = keras.dtype_policies.DTypePolicyMap("float32", {".*/query": keras.dtype_policies.get("int8_from_float32")})
    layer = MultiHeadAttention(2, 4, dtype=policy)
    model = functional(layer)
    assert (layer.query_dense.quantization_mode, layer.key_dense.quantization_mode) == ("int8", None)
    layer.value_dense.dtype_policy = "mixed_bfloat16"
    loaded = reloaded(model, tmp_path)
    np.testing.assert_array_equal(loaded(X), model(X))
    assert loaded.layers[1].value_dense.compute_dtype == "bfloat16"


@pytest.mark.parametrize("mode", [None, "int8", "int4"])
def test_training_with_lora_goes_on(mode, tmp_path):
    """Optimizer, matrices and the weights that these change are those of the saved model."""
    layer = FeedForward(8)
    model = functional(layer)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if mode is not None:
            model.quantize(mode)
    adapted(layer)
    layer.trainable = False
    layer.trainable = True
    assert {w.name for w in model.trainable_weights} == {"lora_kernel_a", "lora_kernel_b", "bias"}
    model.compile("adam", "mse")
    model.train_on_batch(X, X)
    loaded = reloaded(model, tmp_path)
    np.testing.assert_array_equal(loaded(X), model(X))
    assert flags(loaded) == flags(model)
    assert [loaded.train_on_batch(X, X) for _ in range(3)] == [model.train_on_batch(X, X) for _ in range(3)]


def test_lora_in_a_file_is_added_to_weights_without_or_of_another_rank(tmp_path):
    def projection():
        layer = Projection("abc,cd->abd", (None, 6), bias_axes="d")
        return layer, functional(layer)

    layer, model = projection()
    adapted(layer)
    model.save_weights(tmp_path / "lora.weights.h5")
    for rank in (None, 3):
        plain, other = projection()
        if rank is not None:
            plain.enable_lora(rank)
            start = np.asarray(plain.lora_kernel_a)
        other.load_weights(tmp_path / "lora.weights.h5")
        np.testing.assert_allclose(other(X), model(X), atol=1e-5)
    # Zeros in both would never train.
    np.testing.assert_array_equal(plain.lora_kernel_a, start)
    assert np.any(start)
    assert not np.any(plain.lora_kernel_b)

    model.layers[1].quantize("int8")
    model.save_weights(tmp_path / "qlora.weights.h5")
    plain, other = projection()
    plain.quantize("int8")
    other.load_weights(tmp_path / "qlora.weights.h5")
    assert 0 < np.max(np.abs(other(X) - model(X))) < 0.05 * np.max(np.abs(model(X)))
    assert not plain.lora_enabled


def tied(**config):
    inputs, layer = keras.Input((None,), dtype="int32"), TokenEmbedding(20, 8, scale=False, **config)
    return layer, keras.Model(inputs, layer(layer(inputs), reverse=True))


@pytest.mark.parametrize(
    "config", [{}, {"use_bias": True}, {"logit_soft_cap": 3.0}, {"tie_weights": False}, {"lora_rank": 2}]
)
@pytest.mark.parametrize(
    ("quantization", "tolerance"),
    [
        (keras.quantizers.Int8QuantizationConfig(), 0.03),
        (WEIGHTS_ALONE, 0.03),
        (keras.quantizers.Int4QuantizationConfig(block_size=None), 0.4),
        (keras.quantizers.Int4QuantizationConfig(block_size=4), 0.4),
    ],
)
def test_quantised_logits_see_lora(config, quantization, tolerance, tmp_path):
    layer, model = tied(**config)
    if not layer.lora_enabled:
        layer.enable_lora(2, lora_alpha=6)
    rng = np.random.default_rng(3)
    for weight in layer.trainable_weights:
        weight.assign(normal(rng, *weight.shape))
    layer.lora_embeddings_b.assign(normal(rng, 2, 8) / 3)
    before, number = np.asarray(model(IDS)), len(model.trainable_weights)
    layer.quantize(config=quantization)
    after = np.asarray(model(IDS))
    assert 0 < np.max(np.abs(after - before)) < tolerance * np.max(np.abs(before))
    assert len(model.trainable_weights) == number - (not layer.tie_weights)
    loaded = reloaded(model, tmp_path)
    np.testing.assert_array_equal(loaded(IDS), after)
    assert [(w.name, w.trainable) for w in loaded.weights] == [(w.name, w.trainable) for w in model.weights]


def test_rounded_activations_pass_the_gradient_of_the_table():
    layer, _ = tied()
    table = np.asarray(layer.embeddings)
    layer.quantize("int8")
    x, upstream = tf.constant(X), normal(np.random.default_rng(4), 2, 5, 20)
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(layer(x, reverse=True) * upstream)
    np.testing.assert_allclose(tape.gradient(loss, x), upstream @ table, atol=0.05)


def test_quantised_logits_have_their_own_dtype():
    layer, _ = tied(dtype="mixed_bfloat16", reverse_dtype="float32")
    layer.quantize("int8")
    assert layer(X, reverse=True).dtype == layer(keras.KerasTensor((2, 5, 8)), reverse=True).dtype == "float32"
