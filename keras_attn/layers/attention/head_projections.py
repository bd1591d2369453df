"""The projections of an attention layer to and from its heads."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
from keras import ops

from keras_attn.layers.base.initializer_copies import cloned
from keras_attn.layers.base.projection import Projection
from keras_attn.ops import cache as kv_cache
from keras_attn.ops.arrays import axis_size
from keras_attn.typing import Nest, Tensor


class HeadProjections(keras.layers.Layer):
    """Projections with the arguments, shapes and order of those in `keras.layers.MultiHeadAttention`."""

    def _build_projections(self, query_shape, value_shape, key_shape):
        heads, kv_heads = (self.num_heads, self.key_dim), (self.num_kv_heads, self.key_dim)
        self.query_dense = self._to_heads("query", query_shape, heads)
        self.key_dense = self._to_heads("key", key_shape, kv_heads)
        if self.use_gate:
            shape = (self.num_heads, self.value_dim)
            self.gate_dense = self._to_heads("gate", query_shape, shape, activation="sigmoid")
        shape, special = (self.num_kv_heads, self.value_dim), {"initializer": self.value_initializer}
        self.value_dense = self._to_heads("value", value_shape, shape, **special)
        outputs = (query_shape[-1],) if self._output_shape is None else tuple(self._output_shape)
        letters = "efghij"[: len(outputs)]
        self.output_dense = self._projection(
            "output", f"abcd,cd{letters}->ab{letters}", (None, *outputs), letters, **special
        )
        self.output_dense.build((None, None, self.num_heads, self.value_dim))
        if self.qk_norm:
            self.query_norm = self._head_norm("query_norm", self.num_heads)
            self.key_norm = self._head_norm("key_norm", self.num_kv_heads)

    def _head_norm(self, name, num_heads):
        axis = [-2, -1] if self.qk_norm == "all_heads" else -1
        settings = {"epsilon": self.qk_norm_epsilon, "dtype": self.dtype_policy, "name": name}
        norm = keras.layers.RMSNormalization(axis=axis, **settings)
        # The heads may carry a Keras mask, of whose removal Keras would warn.
        norm.supports_masking = True
        norm.build((None, None, num_heads, self.key_dim))
        return norm

    def _normed_heads(self, x, kind):
        """`(B, T, N, H)` to `(B, N, T, H)`, normalised by `qk_norm`; `kind` is "query" or "key"."""
        if not self.qk_norm:
            return heads_first(x)
        norm = self.query_norm if kind == "query" else self.key_norm
        return heads_first(norm(x)) if self.qk_norm == "all_heads" else norm(heads_first(x))

    def _has_bias(self, name):
        return name in self.use_bias if isinstance(self.use_bias, list) else self.use_bias

    @property
    def _num_extra_keys(self):
        return int(self.add_bias_kv) + int(self.add_zero_attn)

    def _build_extra_keys(self, rank):
        if self._num_extra_keys and rank != 3:
            raise ValueError(
                f"`add_bias_kv` and `add_zero_attn` need inputs of rank 3. Received: inputs of rank {rank}"
            )
        if self.add_bias_kv:
            for name, width in (("bias_key", self.key_dim), ("bias_value", self.value_dim)):
                shape = (self.num_kv_heads, width)
                setattr(self, name, self.add_weight(name=name, shape=shape, initializer="glorot_normal"))

    def _with_extra_keys(self, k, v, mask):
        """Appends the keys and values of `add_bias_kv` and `add_zero_attn`, which every query may attend to."""
        if not self._num_extra_keys:
            return k, v, mask
        pairs = mask.pairs
        if pairs is not None:
            pairs = ops.logical_and(pairs, ops.greater_equal(_as_row(slot_numbers(k)), 0))
            seen = ops.ones_like(ops.any(pairs, axis=-1, keepdims=True))
            pairs = ops.concatenate([pairs, *[seen] * self._num_extra_keys], axis=-1)
        restrictions = dict.fromkeys(("window", "key_mask", "query_segments", "key_segments"))
        mask = dataclasses.replace(mask, causal=False, sink_tokens=0, **restrictions, explicit=pairs)
        k = self._with_extra(k, self.bias_key if self.add_bias_kv else None)
        v = self._with_extra(v, self.bias_value if self.add_bias_kv else None)
        return k, v, mask

    def _with_extra(self, x, trained):
        """`x` `(B, K, S, H)` with the extra entries appended along `S`."""
        rows = [] if trained is None else [ops.cast(trained, x.dtype)]
        if self.add_zero_attn:
            rows.append(ops.zeros((x.shape[1], x.shape[3]), x.dtype))
        shape = (axis_size(x, 0), x.shape[1], 1, x.shape[3])
        rows = [ops.broadcast_to(ops.expand_dims(ops.expand_dims(row, 1), 0), shape) for row in rows]
        return ops.concatenate([x, *rows], axis=2)

    def _bias_with_extra_keys(self, bias, k):
        """A bias `(..., S)` with zeros for the extra keys in `k`."""
        count = self._num_extra_keys
        if not count or bias is None:
            return bias
        if bias.shape[-1] == 1:
            bias = bias + ops.cast(_as_row(slot_numbers(k)[:, count:]) * 0, bias.dtype)
        return ops.pad(bias, [[0, 0]] * 3 + [[0, count]])

    def project_memory(self, value: Tensor, key: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Projects the keys and values of a memory once, for many calls with `memory_cache`.

        Args:
            value: Float `(B, S, Dv)`.
            key: Float `(B, S, Dk)`. Defaults to `value`.

        Returns:
            `(key, value)`, `(B, K, S, H)` each.

        Raises:
            ValueError: If the layer is not built.
        """
        if not self.built:
            raise ValueError(f"`project_memory` needs a layer that is built. Received: {self.name}, not built")
        key = value if key is None else key
        return self._rotated(self._project_keys(key), default_positions(key)), heads_first(self.value_dense(value))

    def empty_cache(self, batch: Tensor, length: int) -> tuple[Nest, Nest]:
        """Returns a `cache` of zeros for `batch` rows, an int or a scalar tensor, of up to `length` tokens.

        Returns:
            `(key, value)`, `(B, K, M, H)` each.
        """
        widths = self.key_dim, self.value_dim
        return kv_cache.empty(batch, length, self.num_kv_heads, widths, self.compute_dtype)

    def _projection(self, name, equation, output_shape, bias_axes, initializer=None, **kwargs):
        return Projection(
            equation,
            output_shape=output_shape,
            bias_axes=bias_axes if self._has_bias(name) else None,
            # A shared initializer instance would give all projections the same initial values.
            kernel_initializer=cloned(initializer or self.kernel_initializer),
            bias_initializer=cloned(self.bias_initializer),
            kernel_regularizer=self.kernel_regularizer,
            bias_regularizer=self.bias_regularizer,
            activity_regularizer=self._activity_regularizer,
            kernel_constraint=self.kernel_constraint,
            bias_constraint=self.bias_constraint,
            dtype=self.dtype_policy,
            name="attention_output" if name == "output" else name,
            **kwargs,
        )

    def _to_heads(self, name, input_shape, heads, **kwargs):
        projection = self._projection(name, "abc,cde->abde", (None, *heads), "de", **kwargs)
        projection.build((None, None, input_shape[-1]))
        return projection

    def _project_keys(self, key):
        return self._normed_heads(self.key_dense(key), "key")

    def _rotated(self, heads, positions):
        return heads if self.position is None else self.position.rotate(heads, positions)

    def _zero_fully_masked(self, output, mask, num_keys):
        """Zeros the output of fully masked queries, which would otherwise be the bias of the output projection.

        `num_keys` is None if there is a key for every query.
        """
        if not self._has_bias("output"):
            return output
        unmasked = mask.unmasked_queries()
        if unmasked is not None:
            unmasked = ops.squeeze(ops.any(unmasked, axis=1, keepdims=True), 1)
            for _ in output.shape[3:]:
                unmasked = ops.expand_dims(unmasked, -1)
        elif num_keys is None or (isinstance(num_keys, int) and num_keys > 0):
            return output
        else:
            unmasked = ops.greater(num_keys, 0)
        return ops.where(unmasked, output, ops.zeros_like(output))


def default_positions(x):
    """`0, 1, ..., T - 1` for `x` `(B, T, D)`: int32 `(1, T)`."""
    if x.shape[1] is None:
        return ops.expand_dims(ops.arange(axis_size(x, 1), dtype="int32"), 0)
    # Not a tensor: with static positions, kernels can skip what they hide.
    return np.arange(x.shape[1], dtype="int32")[None]


def slot_numbers(keys):
    """`0, 1, ..., M - 1` for `keys` `(B, K, M, H)`: int32 `(1, M)`."""
    return ops.expand_dims(ops.arange(axis_size(keys, 2), dtype="int32"), 0)


def _as_row(x):
    return ops.expand_dims(ops.expand_dims(x, 1), 1)


def heads_first(x):
    """`(B, T, N, H)` to `(B, N, T, H)`."""
    if x.shape[2] == 1:
        # tf2onnx turns a transpose of an axis of one into a reshape, and merges it wrongly with the previous one.
        return ops.expand_dims(ops.squeeze(x, 2), 1)
    return ops.transpose(x, (0, 2, 1, 3))
