"""Token embedding and output projection with one table."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_attn import compat
from keras_attn.argument_checks import check_positive
from keras_attn.layers.base.configurable import Configurable
from keras_attn.layers.base.lora import Lora
from keras_attn.ops.arrays import reshape, reshape_as, rows
from keras_attn.ops.quantized_product import quantized_product
from keras_attn.typing import Initializer, Shape, Tensor


@keras.saving.register_keras_serializable(package="keras_attn")
class TokenEmbedding(Lora, Configurable, keras.layers.ReversibleEmbedding):
    """A `keras.layers.ReversibleEmbedding` that can scale its vectors by `sqrt(output_dim)`.

    `call(ids)` returns `table[ids] * sqrt(output_dim)`. `call(x, reverse=True)` returns the logits `x table^T`,
    unscaled, from the same table (`tie_weights=True`) or a separate one. LoRA changes the table in both directions,
    also if it is quantised.

    Args:
        input_dim: Vocabulary size `V`.
        output_dim: Width `D` of the vectors.
        scale: Whether to multiply the vectors by `sqrt(output_dim)`.
        embeddings_initializer: Initializer of the table. Defaults to a normal distribution with standard deviation
            `output_dim ** -0.5`.
        use_bias: Whether the logits have a bias. Cannot be combined with `logit_soft_cap`.
        **kwargs: Other arguments of `keras.layers.ReversibleEmbedding`.

    Call arguments:
        inputs: Int32 ids `(B, T)`; float `(B, T, D)` with `reverse=True`.
        reverse: Whether to project vectors to logits.

    Returns:
        Float `(B, T, D)`; float `(B, T, V)` with `reverse=True`.

    Raises:
        ValueError: If a size is not a positive integer, or `use_bias` and `logit_soft_cap` are combined.

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

    _adapted = "embeddings"

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        scale: bool = True,
        embeddings_initializer: Initializer | None = None,
        use_bias: bool = False,
        **kwargs: Any,
    ) -> None:
        check_positive(input_dim=input_dim, output_dim=output_dim)
        if use_bias and kwargs.get("logit_soft_cap") is not None:
            raise ValueError(f"`use_bias` must be False if `logit_soft_cap` is given. Received: use_bias={use_bias}")
        if embeddings_initializer is None:
            embeddings_initializer = keras.initializers.RandomNormal(stddev=output_dim**-0.5)
        super().__init__(input_dim, output_dim, embeddings_initializer=embeddings_initializer, **kwargs)
        self.supports_masking = True
        self.scale = scale
        self.use_bias = use_bias

    def build(self, input_shape: Shape | None = None) -> None:
        # Keras would enable LoRA before the other weights exist, and without its alpha.
        rank, self.lora_rank = self.lora_rank, None
        super().build(input_shape)
        if self.use_bias:
            self.bias = self.add_weight(name="bias", shape=(self.input_dim,), initializer="zeros")
        if rank:
            self.enable_lora(rank, lora_alpha=self.lora_alpha)

    def call(self, inputs: Tensor, reverse: bool = False) -> Tensor:
        if not reverse:
            dtype = keras.backend.standardize_dtype(inputs.dtype)
            ids = inputs if dtype in ("int32", "int64") else ops.cast(inputs, "int32")
            vectors = self._scaled(ops.cast(rows(self.embeddings, ids), self.compute_dtype))
            return self._with_mask(vectors, inputs)
        # Keras does not cast inputs of embeddings: without this, the product would be float32 under any policy.
        inputs = ops.cast(inputs, self._reverse_dtype)
        kernel = ops.transpose(self.embeddings) if self.tie_weights else self.reverse_embeddings
        # One 2-D product: a batched one would copy the table for every row.
        flat = ops.matmul(reshape(inputs, (-1, self.output_dim)), ops.cast(kernel, self._reverse_dtype))
        return reshape_as(self._logits(flat), inputs, len(inputs.shape) - 1, self.input_dim)

    def _logits(self, products):
        """Adds the bias and applies the soft cap."""
        if self.use_bias:
            products = ops.add(products, ops.cast(self.bias, products.dtype))
        if self.logit_soft_cap is not None:
            products = self.logit_soft_cap * ops.tanh(products / self.logit_soft_cap)
        return products

    def output_projection(self) -> dict[str, Any] | None:
        """The kernel and bias of a reverse call, as arguments of `keras_attn.ops.linear_cross_entropy`.

        Returns:
            Dict of `kernel`, `bias` and `transpose_kernel`; None if the logits are not a plain product plus bias, that
            is with `logit_soft_cap` or quantisation.
        """
        if self.logit_soft_cap is not None or self.quantization_mode is not None:
            return None
        return {
            "kernel": self.embeddings if self.tie_weights else self.reverse_embeddings,
            "bias": self.bias if self.use_bias else None,
            "transpose_kernel": self.tie_weights,
        }

    def quantized_call(self, inputs: Tensor, reverse: bool = False) -> Tensor:
        if not reverse:
            return self._with_mask(self._scaled(super().quantized_call(inputs)), inputs)
        inputs = ops.cast(inputs, self._reverse_dtype)
        products = quantized_product(inputs, *self._quantized_table(), self.inputs_quantizer)
        if self.lora_enabled and self.tie_weights:
            a, b = (ops.transpose(ops.cast(matrix, inputs.dtype)) for matrix in self._lora_matrices())
            change = ops.matmul(ops.matmul(inputs, b), a)
            products = ops.add(products, ops.multiply(change, self.lora_alpha / self.lora_rank))
        return self._logits(products)

    def _quantized_table(self):
        """`(table, scale)` of a reverse call, `(D, V)` and `(V,)`; `table / scale` is the dequantised table."""
        table, kind = (compat.stored_weights(self), "") if self.tie_weights else (self.reverse_embeddings, "reverse_")
        scale = getattr(self, f"{kind}embeddings_scale")
        if self.quantization_mode == "int4":
            table = keras.quantizers.unpack_int4(table, self.output_dim, axis=-1 if self.tie_weights else 0)
        table = ops.transpose(table) if self.tie_weights else table
        if len(scale.shape) == 1:
            return table, ops.convert_to_tensor(scale)
        # One scale and zero point per group of channels.
        groups = ops.cast(self.g_idx, "int32")
        scale, zero = (
            ops.take(ops.transpose(x) if self.tie_weights else x, groups, axis=0)
            for x in (scale, getattr(self, f"{kind}embeddings_zero"))
        )
        table = ops.multiply(ops.subtract(ops.cast(table, scale.dtype), ops.cast(zero, scale.dtype)), scale)
        return table, ops.ones((self.input_dim,), scale.dtype)

    def _scaled(self, vectors):
        return ops.multiply(vectors, ops.cast(self.output_dim**0.5, vectors.dtype)) if self.scale else vectors

    @property
    def variable_serialization_spec(self) -> dict[str | None, list[str]]:
        own = ["bias"] if self.use_bias else []
        return {mode: [*names, *own] for mode, names in super().variable_serialization_spec.items()}

    @property
    def _reverse_dtype(self):
        return self.reverse_dtype or self.compute_dtype

    def compute_mask(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor | None:
        # Only ids have a mask, not the vectors of a reverse call.
        is_ids = "int" in keras.backend.standardize_dtype(inputs.dtype)
        return keras.layers.Embedding.compute_mask(self, inputs, mask) if is_ids else None

    def _with_mask(self, vectors, ids):
        """Attaches the Keras mask of float ids, which `compute_mask` cannot tell from the vectors of a reverse call."""
        if self.mask_zero and self.compute_mask(ids) is None:
            compat.attach_keras_mask(vectors, ops.not_equal(ids, 0))
        return vectors

    def compute_output_shape(self, input_shape: Shape, reverse: bool = False) -> Shape:
        return tuple(super().compute_output_shape(input_shape, reverse))

    def compute_output_spec(self, inputs: Tensor, reverse: bool = False) -> keras.KerasTensor:
        spec = super().compute_output_spec(inputs, reverse=reverse)
        return keras.KerasTensor(spec.shape, dtype=self._reverse_dtype) if reverse else spec

    def quantize(self, mode: str | None = None, type_check: bool = True, config: Any = None) -> None:
        """Same as `keras.layers.ReversibleEmbedding.quantize`, which rejects subclasses by default."""
        return super().quantize(mode, type_check=False, config=config)
