"""Attention scores of all attention layers of a model."""

from __future__ import annotations

import keras
from keras import ops

from keras_attn.layers import recording
from keras_attn.typing import Array, Nest


def attention_maps(model: keras.Layer, inputs: Nest) -> dict[str, Array]:
    """Returns the scores of every attention layer in `model` for `inputs`, including those of nested models.

    The outputs, config and weights of the model do not change. For mechanisms that do not compute all scores, dense
    attention computes them in addition, which takes its memory. Run it eagerly, outside of any `tf.function`.

    Args:
        model: A Keras model or layer with attention layers of this package.
        inputs: Inputs of the model.

    Returns:
        Dict of `{layer.path: float array (B, N, T, S)}`, in the order of the calls. The second and later calls of a
        layer, as in models whose blocks share their weights, are stored as `path#2`, `path#3`, ...

    Raises:
        ValueError: If a layer's mechanism, such as linear attention, has no scores.

    Example:

    >>> import numpy as np
    >>> import keras_attn
    >>> model = keras_attn.Transformer(50, num_layers=1, hidden_dim=16, num_heads=2, intermediate_dim=32)
    >>> maps = keras_attn.attention_maps(model, {"source_ids": np.array([[5, 6]]), "target_ids": np.array([[2]])})
    >>> [tuple(scores.shape) for scores in maps.values()]
    [(1, 2, 2, 2), (1, 2, 1, 1), (1, 2, 1, 2)]
    """
    with recording() as scores:
        model(inputs, training=False)
    return {path: ops.convert_to_numpy(value) for path, value in scores.items()}
