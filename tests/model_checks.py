"""What tests of several models share."""

import json

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from keras_attn.generation import Decoding, run


def scattered(model, scale=0.3):
    """The model with random weights: at Keras' initial values biases are zero and norms the identity, which hides a
    mix-up."""
    rng = np.random.default_rng(7)
    model.set_weights([w + scale * rng.standard_normal(w.shape) for w in model.get_weights()])
    return model


def as_float32(outputs):
    return ops.convert_to_numpy(ops.cast(outputs, "float32"))


def rounding(expected):
    """How far float32 may be off where numbers are as large as these, for `atol`."""
    return 1e-6 * max(10, np.abs(expected).max())


def check_round_trips(model, inputs, given, tmp_path):
    """Through its config and a file, a model comes back with the arguments `given` and the same outputs."""
    expected, config = as_float32(model(inputs)), json.loads(json.dumps(model.get_config()))
    assert set(given) <= config.keys()
    rebuilt = type(model).from_config(config)
    rebuilt.set_weights(model.get_weights())
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for copy in (rebuilt, loaded):
        assert type(copy) is type(model)
        assert json.loads(json.dumps(copy.get_config())) == config
        assert all(
            getattr(copy, name, None) == getattr(model, name, None) for name in ("tokenizer", "generation_config")
        )
        np.testing.assert_array_equal(as_float32(copy(inputs)), expected)


def check_mixed_precision(model, single, inputs, tolerance=0.05):
    """Outputs in half precision are near those of `single`, and gradients are finite."""
    with tf.GradientTape() as tape:
        outputs = model(inputs)
        loss = ops.mean(ops.square(ops.cast(outputs, "float32")))
    assert keras.backend.standardize_dtype(outputs.dtype) == model.compute_dtype
    gradients = tape.gradient(
        loss, [v.value for v in model.trainable_variables], unconnected_gradients=tf.UnconnectedGradients.ZERO
    )
    assert all(np.isfinite(tf.convert_to_tensor(g)).all() for g in gradients)
    expected = as_float32(single(inputs))
    np.testing.assert_allclose(as_float32(outputs), expected, atol=tolerance * np.abs(expected).max())


def generated(model, ids, config, mask=None):
    """What generation returns outside of any graph."""
    return run(Decoding(model, config), ids, mask)
