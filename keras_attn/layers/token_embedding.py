"""Token ids to vectors, and back to logits with the same table."""

import contextlib

import keras
from keras import ops

from keras_attn.argument_checks import check_positive
from keras_attn.layers.configurable import Configurable
from keras_attn.ops.reshape_rows import reshape_rows
from keras_attn.ops.rows import rows


@keras.saving.register_keras_serializable(package="keras_attn")
class TokenEmbedding(Configurable, keras.layers.ReversibleEmbedding):
    """`keras.layers.ReversibleEmbedding` that can scale its vectors by `sqrt(output_dim)`.

    `call(ids)` gives `table[ids] * sqrt(output_dim)`; `call(x, reverse=True)` gives the logits `x table^T`, unscaled,
    from the same table (`tie_weights=True`) or from one of its own.

    Args:
        input_dim: size of the vocabulary `V`.
        output_dim: width `D` of the vectors.
        scale: whether to multiply the vectors by `sqrt(output_dim)`.
        embeddings_initializer: initializer of the table; normal with deviation `output_dim ** -0.5` where None.
        use_bias: whether the logits have a bias; not with `logit_soft_cap`.
        **kwargs: every other argument of `keras.layers.ReversibleEmbedding`.

    Call arguments:
        inputs: int32 ids `(B, T)`; with `reverse=True` float `(B, T, D)`.
        reverse: whether to project back to the vocabulary.

    Returns:
        Float `(B, T, D)`; with `reverse=True` `(B, T, V)`.

    Raises:
        ValueError: a size is not a positive integer, or `use_bias` meets a `logit_soft_cap`.

    Reference:
        [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762), section 3.4;
        [Press and Wolf, 2017](https://arxiv.org/abs/1608.05859)

    Example:

    >>> import numpy as np
    >>> from keras_attn.layers import TokenEmbedding
    >>> embedding = TokenEmbedding(100, 16)
    >>> vectors = embedding(np.array([[1, 2, 3]]))
    >>> tuple(vectors.shape), tuple(embedding(vectors, reverse=True).shape)
    ((1, 3, 16), (1, 3, 100))
    """

    def __init__(self, input_dim, output_dim, scale=True, embeddings_initializer=None, use_bias=False, **kwargs):
        check_positive(input_dim=input_dim, output_dim=output_dim)
        if use_bias and kwargs.get("logit_soft_cap") is not None:
            raise ValueError(f"`use_bias` goes without `logit_soft_cap`. Received: use_bias={use_bias}")
        if embeddings_initializer is None:
            embeddings_initializer = keras.initializers.RandomNormal(stddev=output_dim**-0.5)
        super().__init__(input_dim, output_dim, embeddings_initializer=embeddings_initializer, **kwargs)
        self.supports_masking = True
        self.scale = scale
        self.use_bias = use_bias

    def build(self, input_shape=None):
        super().build(input_shape)
        if self.use_bias:
            self.bias = self.add_weight(name="bias", shape=(self.input_dim,), initializer="zeros")

    def call(self, inputs, reverse=False):
        if not reverse:
            dtype = keras.backend.standardize_dtype(inputs.dtype)
            ids = inputs if dtype in ("int32", "int64") else ops.cast(inputs, "int32")
            vectors = self._scaled(ops.cast(rows(self.embeddings, ids), self.compute_dtype))
            return self._with_mask(vectors, inputs)
        # Keras casts nothing for an embedding: unless told, it would multiply in float32 under any policy.
        inputs = ops.cast(inputs, self._reverse_dtype)
        kernel = ops.transpose(self.embeddings) if self.tie_weights else self.reverse_embeddings
        # One 2-D product: a batched one would copy the table for every row of the batch.
        flat = ops.matmul(ops.reshape(inputs, (-1, self.output_dim)), ops.cast(kernel, self._reverse_dtype))
        if self.use_bias:
            flat = ops.add(flat, ops.cast(self.bias, flat.dtype))
        if self.logit_soft_cap is not None:
            flat = self.logit_soft_cap * ops.tanh(flat / self.logit_soft_cap)
        return reshape_rows(flat, *ops.shape(inputs)[:-1], self.input_dim)

    def output_projection(self):
        """What a reverse call multiplies by and adds, as arguments of `keras_attn.ops.linear_cross_entropy`.

        Returns:
            Dict of `kernel`, `bias` and `transpose_kernel`; None where the logits are more than a product and a bias:
            with `logit_soft_cap`, or quantised.
        """
        if self.logit_soft_cap is not None or self.quantization_mode is not None:
            return None
        return {
            "kernel": self.embeddings if self.tie_weights else self.reverse_embeddings,
            "bias": self.bias if self.use_bias else None,
            "transpose_kernel": self.tie_weights,
        }

    def quantized_call(self, inputs, reverse=False):
        outputs = super().quantized_call(inputs, reverse=reverse)
        if not reverse:
            return self._with_mask(self._scaled(outputs), inputs)
        return ops.add(outputs, ops.cast(self.bias, outputs.dtype)) if self.use_bias else outputs

    def _scaled(self, vectors):
        return ops.multiply(vectors, ops.cast(self.output_dim**0.5, vectors.dtype)) if self.scale else vectors

    @property
    def variable_serialization_spec(self):
        own = ["bias"] if self.use_bias else []
        return {mode: [*names, *own] for mode, names in super().variable_serialization_spec.items()}

    @property
    def _reverse_dtype(self):
        return self.reverse_dtype or self.compute_dtype

    def compute_mask(self, inputs, mask=None):
        # Ids have a mask to give; the vectors of a reverse call do not.
        is_ids = "int" in keras.backend.standardize_dtype(inputs.dtype)
        return keras.layers.Embedding.compute_mask(self, inputs, mask) if is_ids else None

    def _with_mask(self, vectors, ids):
        """Vectors with their Keras mask also where ids are floats, which only the call tells from a reverse call's."""
        if self.mask_zero and self.compute_mask(ids) is None:
            # Tracers of JAX take no attributes.
            with contextlib.suppress(AttributeError):
                vectors._keras_mask = ops.not_equal(ids, 0)
        return vectors

    def compute_output_spec(self, inputs, reverse=False):
        spec = super().compute_output_spec(inputs, reverse=reverse)
        return keras.KerasTensor(spec.shape, dtype=self._reverse_dtype) if reverse else spec

    def quantize(self, mode=None, type_check=True, config=None):
        """As `keras.layers.ReversibleEmbedding.quantize`, which refuses subclasses unless told otherwise."""
        return super().quantize(mode, type_check=False, config=config)
