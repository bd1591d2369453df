"""What a call of an attention layer must fit."""

import keras

from keras_attn.argument_checks import check_count, check_positive
from keras_attn.layers.base.shape_checks import check_mask, check_pairs, fits
from keras_attn.layers.positions.position_encoding import PositionEncoding
from keras_attn.ops.cache import length


def check_attention(axes, tensors, stored, query_masks, value_masks, pairs):
    """Raises a ValueError that names the first argument which does not fit the others.

    Args:
        axes: The layer's `AttentionAxes`.
        tensors: `(query, value, key)`.
        stored: The `(key, value)` cache in the place of `value` and `key`, or None.
        query_masks: Name -> mask or segments `(B, T)`, or None.
        value_masks: Name -> mask or segments `(B, S)`, or None.
        pairs: Name -> mask or bias that broadcasts to `(B, N, T, S)`, or None.
    """
    query, value, key = tensors
    if len(query.shape) != axes.rank:
        raise ValueError(f"`query` must have rank {axes.rank}, as this layer was built. Received: shape {query.shape}")
    sources = value.shape[:-1]
    if stored:
        sources = (query.shape[0], length(stored))
    elif len(value.shape) != axes.rank:
        raise ValueError(f"`value` must have the query's rank. Received: shape {value.shape}")
    elif not fits(key.shape[:-1], sources):
        raise ValueError(f"`key` must have shape {(*sources, 'channels')}. Received: shape {tuple(key.shape)}")
    for shape, masks in ((query.shape[:-1], query_masks), (sources, value_masks)):
        for name, mask in masks.items():
            check_mask(name, mask, shape)
    if pairs["bias"] is not None and keras.backend.standardize_dtype(pairs["bias"].dtype) == "bool":
        raise ValueError(
            "`bias` must be float, it is added to the logits; who may attend to whom is passed as `attention_mask=`. "
            "Received: bias of dtype bool"
        )
    segments, value_segments = query_masks["segments"], value_masks["value_segments"]
    if (segments is None) != (value_segments is None):
        raise ValueError(
            "`segments` and `value_segments` go together, save in self-attention without a cache. "
            f"Received: segments={segments}, value_segments={value_segments}"
        )
    if axes.plain:
        for name, mask in pairs.items():
            check_pairs(name, mask, query.shape[1], sources[-1])


def check_position(position):
    """Raises a ValueError where an optional `position` is no `PositionEncoding`."""
    if position is not None and not isinstance(position, PositionEncoding):
        raise ValueError(f"`position` must be a PositionEncoding layer. Received: position={position!r}")


def acts_in_attention(position):
    """Whether a `PositionEncoding` does more than add to embeddings."""
    hooks = ("rotate", "logit_bias", "content_bias", "content_value")
    return any(getattr(type(position), hook) is not getattr(PositionEncoding, hook) for hook in hooks)


def check_settings(sizes, window, sink_tokens, dropout, flash_attention, logit_soft_cap, position, has_extra_keys):
    """Raises a ValueError where an argument of `MultiHeadAttention` does not fit; `sizes` are integers by name."""
    check_positive(**sizes)
    if window is not None:
        check_positive(window=window)
    check_count(sink_tokens=sink_tokens)
    if sink_tokens and window is None:
        raise ValueError(f"`sink_tokens` go with a window. Received: sink_tokens={sink_tokens}, window=None")
    num_heads, num_kv_heads = sizes["num_heads"], sizes["num_kv_heads"]
    if num_heads % num_kv_heads:
        raise ValueError(f"`num_kv_heads` must divide num_heads={num_heads}. Received: num_kv_heads={num_kv_heads}")
    if not 0 <= dropout < 1:
        raise ValueError(f"`dropout` must be in [0, 1). Received: dropout={dropout}")
    if flash_attention and dropout:
        raise ValueError(f"`flash_attention` goes without dropout. Received: dropout={dropout}")
    if logit_soft_cap is not None and not logit_soft_cap > 0:
        raise ValueError(f"`logit_soft_cap` must be positive. Received: logit_soft_cap={logit_soft_cap}")
    check_position(position)
    if (heads := getattr(position, "num_heads", num_heads)) not in (1, num_heads):
        raise ValueError(
            f"`position` must be made for the num_heads={num_heads} of the attention. Received: a "
            f"{type(position).__name__} with num_heads={heads}"
        )
    if has_extra_keys and position is not None and position.uses_scores:
        raise ValueError(
            "`add_bias_kv` and `add_zero_attn` need a `position` without values of its own, as their keys have no "
            f"position. Received: position={position!r}"
        )
