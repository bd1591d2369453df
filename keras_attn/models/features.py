"""Model inputs other than token ids, such as images or audio frames, which a layer embeds."""

from __future__ import annotations

from collections.abc import Mapping

import keras
from keras import ops

from keras_attn import compat
from keras_attn.layers import PaddingMask
from keras_attn.layers.base.serialization import deserialized
from keras_attn.ops.arrays import shape_of
from keras_attn.typing import Nest


class FeatureMask(PaddingMask):
    """The given mask, or True everywhere, since features have no padding id.

    Args, returns: As `PaddingMask`, for features `(B, S, ...)`.
    """

    def call(self, ids, given=None):
        return ops.ones(shape_of(ids)[:2], dtype="bool") if given is None else super().call(ids, given)

    def compute_output_spec(self, ids, given=None):
        return keras.KerasTensor(ids.shape[:2], dtype="bool")


@keras.saving.register_keras_serializable(package="keras_attn")
class AttachMask(keras.layers.Layer):
    """Attaches a Keras mask to its inputs.

    Call arguments:
        inputs: Tensor `(B, S, ...)`.
        given: Optional bool `(B, S)`. Without it, the inputs keep their mask.

    Returns:
        The inputs.

    Example:

    >>> import numpy as np
    >>> from keras_attn.models.features import AttachMask
    >>> x = AttachMask()(np.ones((1, 2, 4), "float32"), np.array([[True, False]]))
    >>> tuple(keras.layers.GlobalAveragePooling1D()(x).shape)
    (1, 4)
    """

    def __init__(self, **kwargs):
        # Integer features, such as pixels, are not cast.
        super().__init__(**kwargs, autocast=False)
        self.supports_masking = True

    def call(self, inputs, given=None):
        if given is None:
            return inputs
        x = ops.copy(inputs)
        compat.attach_keras_mask(x, given)
        return x

    def compute_output_shape(self, inputs_shape, given_shape=None):
        return inputs_shape

    def compute_output_spec(self, inputs, given=None):
        return keras.KerasTensor(inputs.shape, dtype=inputs.dtype)


def checked_embeddings(embeddings: Nest, inputs: Nest, reserved: tuple[str, ...]):
    """`(embeddings, specs)`: the layer, and the `keras.KerasTensor` of its inputs by name; or `(None, {})`.

    Args:
        embeddings: Keras layer, its config, or None.
        inputs: Mapping from names to `keras.Input`s or dicts of `shape` (without the batch) and `dtype`. Defaults to
            the named inputs if `embeddings` is a functional model.
        reserved: Names of the model's other inputs.

    Raises:
        ValueError: If only one of them is given, or one is invalid.
    """
    embeddings = deserialized(embeddings)
    if embeddings is not None and not isinstance(embeddings, keras.layers.Layer):
        raise ValueError(f"`embeddings` must be a Keras layer. Received: embeddings={embeddings!r}")
    if inputs is None and isinstance(embeddings, keras.Model):
        inputs = getattr(embeddings, "input", None)
    if (embeddings is None) != (inputs is None) or (inputs is not None and not isinstance(inputs, Mapping)):
        raise ValueError(
            "`embeddings` must come with `inputs`, a dict from the name of each tensor that it reads to a "
            "`keras.Input`, or be a functional model whose inputs are such a dict. "
            f"Received: embeddings={embeddings!r}, inputs={inputs!r}"
        )
    if isinstance(embeddings, keras.Model) and passes_masks(embeddings):
        # Keras warns that a model loses the mask of its input, whatever its layers do.
        embeddings.supports_masking = True
    specs = {name: _spec(name, value) for name, value in (inputs or {}).items()}
    for name in specs:
        if name in reserved or not isinstance(name, str) or not name.isidentifier():
            raise ValueError(
                f"`inputs` must have names that are identifiers and none of {list(reserved)}. Received: {name!r}"
            )
    return embeddings, specs


def check_width(vectors, hidden_dim):
    """Raises a ValueError unless the vectors of the embeddings have the width of the model."""
    if vectors.shape[-1] != hidden_dim:
        raise ValueError(
            f"`embeddings` must return vectors of hidden_dim={hidden_dim}. Received: shape {vectors.shape}"
        )


def passes_masks(layer):
    """Whether the Keras mask of a layer's input reaches its output."""
    layers = getattr(layer, "layers", None) if isinstance(layer, keras.Model) else None
    return layer.supports_masking or (bool(layers) and all(map(passes_masks, layers)))


def config_of_specs(specs):
    """The argument `inputs` for a config; None if there are none."""
    return {name: {"shape": list(x.shape[1:]), "dtype": x.dtype} for name, x in specs.items()} or None


def _spec(name, value):
    if isinstance(value, Mapping) and value.keys() == {"shape", "dtype"}:
        value = keras.KerasTensor((None, *value["shape"]), dtype=value["dtype"])
    if not isinstance(value, keras.KerasTensor) or len(value.shape) < 2:
        raise ValueError(
            "`inputs` must hold a `keras.Input` of rank 2 or more (batch, ...) for each name. "
            f"Received: {name!r}: {value!r}"
        )
    return keras.KerasTensor((None, *value.shape[1:]), dtype=value.dtype)
