"""What every attention layer of a model looked at."""

from __future__ import annotations

import keras
from keras import ops

from keras_attn.layers import recording
from keras_attn.typing import Array, Nest


def attention_maps(model: keras.Layer, inputs: Nest) -> dict[str, Array]:
    """Scores of every attention layer in `model` for `inputs`, those of nested models included.

    The model's outputs, config and weights stay as they are. Mechanisms that never hold their scores answer as they
    always do, and dense attention computes the scores beside them, which takes its memory. Run it eagerly, outside of
    any `tf.function`.

    Args:
        model: A Keras model or layer that holds attention layers of this package.
        inputs: What the model is called with.

    Returns:
        Dict of `{layer.path: float array (B, N, T, S)}`, in the order of the calls. The second and later calls of a
        layer, as in models whose blocks share their weights, stand under `path#2`, `path#3`, ...

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
