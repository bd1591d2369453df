"""Multi-head attention."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
from keras import constraints, initializers, ops, regularizers

from keras_attn.layers.attention.attention_checks import check_attention, check_projections, check_settings
from keras_attn.layers.attention.head_projections import HeadProjections, default_positions, heads_first, slot_numbers
from keras_attn.layers.base.configurable import Configurable
from keras_attn.layers.base.implicit_mask import implicit_mask
from keras_attn.layers.base.serialization import deserialized
from keras_attn.layers.positions.position_encoding import PositionEncoding
from keras_attn.ops import AttentionArguments, AttentionMask, AttentionRequest, select_mechanism
from keras_attn.ops import cache as kv_cache
from keras_attn.ops.arrays import add, axis_size
from keras_attn.ops.attention_axes import AttentionAxes
from keras_attn.ops.attention_recording import recorder
from keras_attn.ops.boolean_mask import boolean, both
from keras_attn.ops.mechanisms import check_mechanism
from keras_attn.typing import Constraint, Initializer, Nest, Regularizer, Seed, Shape, Tensor


@keras.saving.register_keras_serializable(package="keras_attn")
class MultiHeadAttention(Configurable, HeadProjections):
    """`concat(head_1, ..., head_N) W_o` with `head_n = softmax(q_n k_n^T / sqrt(key_dim)) v_n`.

    A drop-in replacement for `keras.layers.MultiHeadAttention`, with the same arguments and with weights of the same
    shapes in the same order, so that `set_weights` works with its weights. The one difference: a fully masked query
    returns exactly zero and passes no gradient.

    Args:
        num_heads: Number of query heads `N`.
        key_dim: Width `H` of the query and key heads.
        value_dim: Width of the value heads. Defaults to `key_dim`.
        dropout: Dropout rate of the attention weights.
        use_bias: Whether the projections have biases, or a list of those that do: "query", "key", "value", "gate",
            "output".
        output_shape: Int or tuple, channels of the output. Defaults to those of the query.
        attention_axes: Int or tuple, the axes to attend over. Defaults to all between batch and channels.
        sliding_window: Keras' name for `window`.
        flash_attention: True requires a mechanism that never materialises all logits, or raises an error.
        kernel_initializer, bias_initializer: Initializers of the projections.
        kernel_regularizer, bias_regularizer, activity_regularizer: Regularizers of the projections.
        kernel_constraint, bias_constraint: Constraints of the projections.
        use_gate: Whether to multiply the outputs of the heads by a sigmoid projection of the query.
        seed: Seed of the dropout.
        num_kv_heads: Number `K` of key/value heads, a divisor of `num_heads`; each is used by
            `num_heads / num_kv_heads` query heads. Defaults to `num_heads`.
        position: Optional `PositionEncoding`, used for queries, keys, logits and scores.
        causal: Whether to hide keys at later positions in every call.
        window: Optional int; keys at this distance or further are hidden.
        mechanism: Name of the kernel, or "auto".
        logit_soft_cap: Optional `c`: logits become `c * tanh(logits / c)`.
        qk_norm: Whether to RMS-normalise each query and key head, with a trained scale; "all_heads" normalises over all
            heads together, as OLMo 2 does.
        qk_norm_epsilon: Added to the mean square in `qk_norm`.
        scale: Factor of the logits. Defaults to `key_dim ** -0.5`.
        sinks: Whether each head has a trained logit that takes part in the softmax and attends to nothing.
        sink_tokens: Number of first positions that `window` never hides.
        value_initializer: Initializer of the value and output kernels. Defaults to `kernel_initializer`.
        add_bias_kv: Whether to append a trained key and value to those of the inputs, as in
            `torch.nn.MultiheadAttention`. Every query may attend to it, even if its other keys are all masked.
        add_zero_attn: Whether to append a key and a value of zeros in the same way.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        query: Float `(B, T, D)`, or of higher rank.
        value: Float `(B, S, Dv)`. Defaults to the query (self-attention).
        key: Float `(B, S, Dk)`. Defaults to `value`.
        query_mask, value_mask, key_mask: Optional bool `(B, T)`, `(B, S)`, `(B, S)`, False at padding. Default to
            the Keras masks of the inputs. With `cache`, `value_mask` and `key_mask` are over its slots, `(B, M)`.
        attention_mask: Optional bool that broadcasts to `(B, N, T, S)`; may also be `(T, S)` or `(B, T, S)`.
        return_attention_scores: Whether to also return the weights.
        training: Whether to apply dropout.
        use_causal_mask: As `causal`, for this call.
        bias: Optional float, added to the logits; shapes as for `attention_mask`.
        positions: Optional int32 `(B, T)` or `(1, T)`, positions of the queries, and of the keys in self-attention.
            Defaults to `0, 1, ...`; required with `cache`.
        cache: Optional `(key, value)` from `empty_cache` or the previous call. The keys and values of the call are
            written to `slots`, and each query attends to all slots at its own or earlier positions. `()` marks the
            first call, which attends to its own keys and returns them as stored by `keras_attn.ops.cache.store`.
        slots: Optional pair `(write_slots, slot_positions)` if slots differ from positions: int32 `(1, T)`, the slots
            to write, and int32 `(B, M)` or `(1, M)`, the position of each slot after that. See
            `keras_attn.ops.cache_slots`.
        memory_cache: Optional result of `project_memory`, which replaces `value` and `key`.
        segments: Optional int32 `(B, T)`, the segment of each query in a row of several packed sequences; a query may
            attend only to keys of the same segment.
        value_segments: Optional int32 `(B, S)`, the segments of the keys. Defaults to those of the queries.

    Returns:
        `output` `(B, T, D)`; with `return_attention_scores`, `(output, scores)` with scores `(B, N, T, S)`. With
        `cache`, the new cache is appended: `(output, cache)` or `(output, scores, cache)`.

    Raises:
        ValueError: If an argument, a rank or the shape of a mask is invalid; the message names it.

    Reference:
        [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762); grouped heads
        [Ainslie et al., 2023](https://arxiv.org/abs/2305.13245); sink tokens
        [Xiao et al., 2024](https://arxiv.org/abs/2309.17453)

    Example:

    >>> import numpy as np
    >>> from keras_attn.layers import MultiHeadAttention
    >>> attention = MultiHeadAttention(num_heads=4, key_dim=8, causal=True)
    >>> x = np.ones((2, 5, 32), "float32")
    >>> output, scores = attention(x, return_attention_scores=True)
    >>> tuple(output.shape), tuple(scores.shape)
    ((2, 5, 32), (2, 4, 5, 5))
    """

    def __init__(
        self,
        num_heads: int,
        key_dim: int,
        value_dim: int | None = None,
        dropout: float = 0.0,
        use_bias: bool | Sequence[str] = True,
        output_shape: int | Sequence[int] | None = None,
        attention_axes: int | Sequence[int] | None = None,
        sliding_window: int | None = None,
        flash_attention: bool | None = None,
        kernel_initializer: Initializer = "glorot_uniform",
        bias_initializer: Initializer = "zeros",
        kernel_regularizer: Regularizer | None = None,
        bias_regularizer: Regularizer | None = None,
        activity_regularizer: Regularizer | None = None,
        kernel_constraint: Constraint | None = None,
        bias_constraint: Constraint | None = None,
        use_gate: bool = False,
        seed: Seed | None = None,
        *,
        num_kv_heads: int | None = None,
        position: PositionEncoding | None = None,
        causal: bool = False,
        window: int | None = None,
        mechanism: str = "auto",
        logit_soft_cap: float | None = None,
        qk_norm: bool | str = False,
        qk_norm_epsilon: float = 1e-6,
        scale: float | None = None,
        sinks: bool = False,
        sink_tokens: int = 0,
        value_initializer: Initializer | None = None,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        **kwargs: Any,
    ) -> None:
        window = sliding_window if window is None else window
        value_dim = key_dim if value_dim is None else value_dim
        num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        position = deserialized(position)
        sizes = {"num_heads": num_heads, "key_dim": key_dim, "value_dim": value_dim, "num_kv_heads": num_kv_heads}
        extra = add_bias_kv or add_zero_attn
        check_settings(sizes, window, sink_tokens, dropout, flash_attention, logit_soft_cap, position, extra)
        check_projections(use_bias, qk_norm, qk_norm_epsilon, scale)
        check_mechanism(mechanism)
        super().__init__(**kwargs)
        self.supports_masking = True
        self.num_heads, self.key_dim, self.value_dim = num_heads, key_dim, value_dim
        self.dropout, self.use_bias = dropout, list(use_bias) if isinstance(use_bias, list | tuple) else use_bias
        # `output_shape` is a property of every Keras layer.
        self._output_shape = (output_shape,) if isinstance(output_shape, int) else output_shape
        self.attention_axes = (attention_axes,) if isinstance(attention_axes, int) else attention_axes
        self.flash_attention = flash_attention
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        # Under Keras' name for it, the layer would apply it to its output as well.
        self._activity_regularizer = regularizers.get(activity_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)
        self.bias_constraint = constraints.get(bias_constraint)
        self.use_gate, self.seed = use_gate, seed
        self.num_kv_heads, self.position, self.mechanism = num_kv_heads, position, mechanism
        self.causal, self.sink_tokens = causal, sink_tokens
        self.window = self.sliding_window = window
        self.logit_soft_cap, self.scale, self._sinks = logit_soft_cap, scale, sinks
        self.qk_norm, self.qk_norm_epsilon = qk_norm, qk_norm_epsilon
        self.value_initializer = initializers.get(value_initializer)
        self.add_bias_kv, self.add_zero_attn = add_bias_kv, add_zero_attn
        self.seed_generator = keras.random.SeedGenerator(seed) if dropout else None

    def build(self, query_shape: Shape, value_shape: Shape | None = None, key_shape: Shape | None = None) -> None:
        value_shape = query_shape if value_shape is None else value_shape
        key_shape = value_shape if key_shape is None else key_shape
        rank = len(query_shape)
        if rank < 3 or len(value_shape) != rank or len(key_shape) != rank:
            raise ValueError(
                "`query`, `value` and `key` must have the same rank, 3 (batch, length, channels) or more. "
                f"Received shapes: query={query_shape}, value={value_shape}, key={key_shape}"
            )
        if tuple(value_shape[1:-1]) != tuple(key_shape[1:-1]):
            raise ValueError(
                "`value` and `key` must have the same size in all axes but the last. "
                f"Received shapes: value={value_shape}, key={key_shape}"
            )
        self._axes = AttentionAxes(rank, self.attention_axes)
        self._build_projections(query_shape, value_shape, key_shape)
        if self._sinks:
            self.sinks = self.add_weight(name="sinks", shape=(self.num_heads,), initializer="zeros")
        self._build_extra_keys(rank)
        if self.position is not None and not self.position.built:
            self.position.build((None, None, query_shape[-1]))

    def __call__(
        self, query: Tensor, value: Tensor | None = None, key: Tensor | None = None, *args: Any, **kwargs: Any
    ) -> Any:
        # The same tensor given twice is only visible here, before Keras converts the dtype of each argument.
        value = None if value is query else value
        key = None if value is None and key is query else key
        return super().__call__(query, value, key, *args, **kwargs)

    def call(
        self,
        query: Tensor,
        value: Tensor | None = None,
        key: Tensor | None = None,
        query_mask: Tensor | None = None,
        value_mask: Tensor | None = None,
        key_mask: Tensor | None = None,
        attention_mask: Tensor | None = None,
        return_attention_scores: bool = False,
        training: bool | None = None,
        use_causal_mask: bool = False,
        *,
        bias: Tensor | None = None,
        positions: Tensor | None = None,
        cache: Nest | None = None,
        slots: Nest | None = None,
        memory_cache: Nest | None = None,
        segments: Tensor | None = None,
        value_segments: Tensor | None = None,
    ) -> Tensor | tuple[Nest, ...]:
        is_self_attention = memory_cache is None and value is None
        query_mask = implicit_mask(query, query_mask)
        if value is None:
            value = query
            value_mask = query_mask if value_mask is None and cache is None and memory_cache is None else value_mask
        key = value if key is None else key
        is_cached = bool(cache)
        if cache is not None and positions is None:
            raise ValueError("`positions` must be given with `cache`. Received: positions=None")
        if segments is not None and value_segments is None and is_self_attention and cache is None:
            value_segments = segments
        check_attention(
            self._axes,
            (query, value, key),
            cache or memory_cache,
            query_masks={"query_mask": query_mask, "segments": segments},
            value_masks={"value_mask": value_mask, "key_mask": key_mask, "value_segments": value_segments},
            pairs={"attention_mask": attention_mask, "bias": bias},
        )

        axes = self._axes
        x, memory = axes.fold(query), axes.fold(value)
        if positions is None:
            positions = default_positions(x)
        q = self._rotated(self._normed_heads(self.query_dense(x), "query"), positions)
        rotates_cache = cache is not None and self.position is not None and self.position.rotates_cache
        if memory_cache is not None:
            k, v = memory_cache
        else:
            key_positions = positions if is_self_attention else default_positions(memory)
            k = self._project_keys(axes.fold(key))
            k = k if rotates_cache else self._rotated(k, key_positions)
            v = heads_first(self.value_dense(memory))
        if is_cached:
            write_slots, slot_positions = slots or (positions, None)
            cache = tuple(kv_cache.write(*pair, write_slots) for pair in zip(cache, (k, v), strict=True))
            k, v = (kv_cache.load(x, self.compute_dtype) for x in cache)
            key_positions = slot_numbers(k) if slot_positions is None else slot_positions
        elif cache is not None:
            cache = kv_cache.store(k), kv_cache.store(v)
        elif memory_cache is not None:
            key_positions = slot_numbers(k)
        if rotates_cache:
            k = self.position.rotate_cache(k, key_positions, positions)

        mask = AttentionMask(
            query_positions=positions,
            key_positions=key_positions,
            # Unwritten slots have later positions than any query, so causality hides them.
            causal=self.causal or use_causal_mask or cache is not None,
            window=self.window,
            sink_tokens=self.sink_tokens,
            query_mask=boolean("query_mask", axes.fold_padding(query_mask)),
            key_mask=both(
                boolean("value_mask", axes.fold_padding(value_mask)), boolean("key_mask", axes.fold_padding(key_mask))
            ),
            query_segments=axes.fold_padding(segments),
            key_segments=axes.fold_padding(value_segments),
            explicit=boolean("attention_mask", axes.fold_mask(attention_mask, query, key)),
        )
        k, v, mask = self._with_extra_keys(k, v, mask)
        records = recorder()
        recording = records is not None and not return_attention_scores
        bias = axes.fold_mask(bias, query, key)
        heads, scores = self._attend(q, k, v, mask, bias, is_cached, return_attention_scores, recording, bool(training))
        if return_attention_scores or recording:
            scores = axes.unfold_scores(scores, query, key)
        if records is not None:
            records[self.path] = scores
        heads = ops.transpose(heads, (0, 2, 1, 3))
        if self.use_gate:
            heads = ops.multiply(heads, self.gate_dense(x))
        # In self-attention and with a cache, every query has at least its own key.
        num_keys = None if is_self_attention or cache is not None else axis_size(k, 2)
        output = self._zero_fully_masked(self.output_dense(heads), mask, num_keys)
        output = axes.unfold(output, query)
        results = (
            output,
            *([scores] if return_attention_scores else []),
            *([cache] if cache is not None else []),
        )
        return results[0] if len(results) == 1 else results

    @property
    def _scale(self):
        return self.key_dim**-0.5 if self.scale is None else self.scale

    def _attend(self, q, k, v, mask, bias, cached, wants_scores, recording, training):
        """`(heads, scores)`, `(B, N, T, Hv)` and `(B, N, T, S)`; scores are None if they are not needed."""
        position, scale = self.position, self._scale
        positions = mask.query_positions, mask.key_positions
        if position is not None:
            for hook in (position.logit_bias(*positions), position.content_bias(q * scale, *positions)):
                bias = hook if bias is None else bias if hook is None else add(bias, hook)
        bias = self._bias_with_extra_keys(bias, k)
        uses_scores = position is not None and position.uses_scores
        arguments = AttentionArguments(
            mask=mask,
            bias=bias,
            scale=scale,
            dropout=self.dropout,
            seed=self.seed_generator,
            training=training,
            logit_soft_cap=self.logit_soft_cap,
            sinks=self.sinks if self._sinks else None,
            return_scores=wants_scores or uses_scores,
        )
        request = AttentionRequest.of(q, k, arguments, cached, memory_efficient=bool(self.flash_attention))
        recording = recording and not arguments.return_scores
        kernel = select_mechanism(self.mechanism, request, recording)
        arguments = dataclasses.replace(arguments, return_scores=arguments.return_scores or recording)
        heads = kernel(q, k, v, arguments)
        heads, scores = heads if arguments.return_scores else (heads, None)
        if uses_scores:
            heads = add(heads, position.content_value(scores, *positions))
        return heads, scores

    def compute_output_shape(
        self, query_shape: Shape, value_shape: Shape | None = None, key_shape: Shape | None = None
    ) -> Shape:
        if self._output_shape is None:
            return tuple(query_shape)
        return (*query_shape[:-1], *self._output_shape)

    def compute_output_spec(
        self,
        query: Tensor,
        value: Tensor | None = None,
        key: Tensor | None = None,
        *args: Any,
        return_attention_scores: bool = False,
        cache: Nest | None = None,
        memory_cache: Nest | None = None,
        **kwargs: Any,
    ) -> Nest:
        return_attention_scores = args[4] if len(args) > 4 else return_attention_scores
        results = [keras.KerasTensor(self.compute_output_shape(query.shape), dtype=self.compute_dtype)]
        if return_attention_scores:
            axes = AttentionAxes(len(query.shape), self.attention_axes)
            source = query if value is None else value
            keys = [source.shape[axis] for axis in axes.axes]
            if stored := cache or memory_cache:
                keys = [kv_cache.length(stored)]
            batch, queries = ([query.shape[axis] for axis in group] for group in (axes.batch_axes, axes.axes))
            keys[-1] = None if keys[-1] is None else keys[-1] + self._num_extra_keys
            shape = (*batch, self.num_heads, *queries, *keys)
            results.append(keras.KerasTensor(shape, dtype=self.compute_dtype))
        if cache is not None:
            results.append(keras.tree.map_structure(lambda x: keras.KerasTensor(x.shape, dtype=x.dtype), cache))
        return results[0] if len(results) == 1 else tuple(results)
