"""Argument checks of attention layers."""

import keras

from keras_attn.argument_checks import check_count, check_positive, check_positive_number
from keras_attn.layers.base.shape_checks import check_mask, check_pairs, fits
from keras_attn.layers.positions.position_encoding import PositionEncoding
from keras_attn.ops.cache import length


def check_attention(axes, tensors, stored, query_masks, value_masks, pairs):
    """Raises a ValueError that names the first argument that does not match the others.

    Args:
        axes: `AttentionAxes` of the layer.
        tensors: `(query, value, key)`.
        stored: The `(key, value)` cache that replaces `value` and `key`, or None.
        query_masks: Dict from names to masks or segments `(B, T)`, or None.
        value_masks: Dict from names to masks or segments `(B, S)`, or None.
        pairs: Dict from names to masks or biases that broadcast to `(B, N, T, S)`, or None.
    """
    query, value, key = tensors
    if len(query.shape) != axes.rank:
        raise ValueError(f"`query` must have rank {axes.rank}, as in `build`. Received: shape {query.shape}")
    sources = value.shape[:-1]
    if stored:
        sources = (query.shape[0], length(stored))
    elif len(value.shape) != axes.rank:
        raise ValueError(f"`value` must have the rank of the query. Received: shape {value.shape}")
    elif not fits(key.shape[:-1], sources):
        raise ValueError(f"`key` must have shape {(*sources, 'channels')}. Received: shape {tuple(key.shape)}")
    for shape, masks in ((query.shape[:-1], query_masks), (sources, value_masks)):
        for name, mask in masks.items():
            check_mask(name, mask, shape)
    if pairs["bias"] is not None and keras.backend.standardize_dtype(pairs["bias"].dtype) == "bool":
        raise ValueError(
            "`bias` must be float, to be added to the logits; pass a boolean mask as `attention_mask=`. "
            "Received: bias of dtype bool"
        )
    segments, value_segments = query_masks["segments"], value_masks["value_segments"]
    if (segments is None) != (value_segments is None):
        raise ValueError(
            "`segments` and `value_segments` must be given together, except in self-attention without a cache. "
            f"Received: segments={segments}, value_segments={value_segments}"
        )
    if axes.plain:
        for name, mask in pairs.items():
            check_pairs(name, mask, query.shape[1], sources[-1])


def check_position(position, name="position"):
    """Raises a ValueError that names the argument if an optional position is not a `PositionEncoding`."""
    if position is not None and not isinstance(position, PositionEncoding):
        raise ValueError(f"`{name}` must be a PositionEncoding layer. Received: {name}={position!r}")


def acts_in_attention(position):
    """Whether a `PositionEncoding` does more than add to embeddings."""
    hooks = ("rotate", "logit_bias", "content_bias", "content_value")
    return any(getattr(type(position), hook) is not getattr(PositionEncoding, hook) for hook in hooks)


def check_settings(sizes, window, sink_tokens, dropout, flash_attention, logit_soft_cap, position, has_extra_keys):
    """Raises a ValueError if an argument of `MultiHeadAttention` is invalid; `sizes` are integers by name."""
    check_positive(**sizes)
    if window is not None:
        check_positive(window=window)
    check_count(sink_tokens=sink_tokens)
    if sink_tokens and window is None:
        raise ValueError(f"`sink_tokens` must be 0 without a window. Received: sink_tokens={sink_tokens}, window=None")
    num_heads, num_kv_heads = sizes["num_heads"], sizes["num_kv_heads"]
    if num_heads % num_kv_heads:
        raise ValueError(f"`num_kv_heads` must divide num_heads={num_heads}. Received: num_kv_heads={num_kv_heads}")
    if not 0 <= dropout < 1:
        raise ValueError(f"`dropout` must be in [0, 1). Received: dropout={dropout}")
    if flash_attention and dropout:
        raise ValueError(f"`flash_attention` must be False or None with dropout. Received: dropout={dropout}")
    if logit_soft_cap is not None and not logit_soft_cap > 0:
        raise ValueError(f"`logit_soft_cap` must be positive. Received: logit_soft_cap={logit_soft_cap}")
    check_position(position)
    if (heads := getattr(position, "num_heads", num_heads)) not in (1, num_heads):
        raise ValueError(
            f"`position` must have the num_heads={num_heads} of the attention. Received: a "
            f"{type(position).__name__} with num_heads={heads}"
        )
    if has_extra_keys and position is not None and position.uses_scores:
        raise ValueError(
            "`add_bias_kv` and `add_zero_attn` need a `position` that adds nothing to values, as their keys have no "
            f"position. Received: position={position!r}"
        )


_PROJECTIONS = ("query", "key", "value", "gate", "output")


def check_projections(use_bias, qk_norm, qk_norm_epsilon, scale):
    """Raises a ValueError if an argument of `MultiHeadAttention` about its projections or the scale is invalid."""
    if isinstance(use_bias, str) or (not isinstance(use_bias, int) and not set(_PROJECTIONS).issuperset(use_bias)):
        raise ValueError(
            f"`use_bias` must be True, False or a list of some of {', '.join(map(repr, _PROJECTIONS))}. "
            f"Received: use_bias={use_bias!r}"
        )
    if qk_norm not in (False, True, "all_heads"):
        raise ValueError(f"`qk_norm` must be False, True or 'all_heads'. Received: qk_norm={qk_norm!r}")
    check_positive_number(qk_norm_epsilon=qk_norm_epsilon, scale=1 if scale is None else scale)
