"""Takes heads and channels out of a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_attn import compat
from keras_attn.argument_checks import check_finite, check_positive
from keras_attn.layers.base.template import Template
from keras_attn.layers.transformer.stack import stacks_of
from keras_attn.training.pruning.units import units_of
from keras_attn.typing import Array


def prune_structure(
    model: keras.Model,
    scores: Mapping[str, Array],
    heads: float = 0.0,
    channels: float = 0.0,
    *,
    channel_multiple: int = 8,
) -> keras.Model:
    """A smaller model without the least important heads and feed-forward channels.

    The shares are of the whole model: layers whose units matter more keep more of them, and at least one. The model
    that is returned really has smaller matrices, with other widths per layer in its config (`layer_options`): it is
    saved, trained, exported and run as any other. Its outputs are those of the given model with the units set to zero.
    The self- and cross-attention of a decoder's block keep equally many heads, and the experts of a
    `MixtureOfExperts` the same channels. A model that was read from a checkpoint is no longer the one that its
    config.json describes.

    Args:
        model: An `EncoderModel`, `LanguageModel` or `Transformer`. It does not change.
        scores: Dict from the paths of layers to the importance of their units, from `importance`.
        heads: Share of the heads to take out, at least 0 and below 1.
        channels: Share of the inner channels of the feed-forward networks to take out.
        channel_multiple: The number of channels that a layer keeps is rounded to a multiple of this, if the layer is as
            wide and loses any: matrix products are fast in such sizes.

    Returns:
        A model of the same class with copies of the remaining weights.

    Raises:
        ValueError: If an argument is invalid, or units are tied to something that stays: a position bias per head, a
            norm over all heads, a layer of the user, LoRA or quantised weights.

    Example:

    >>> import numpy as np
    >>> import keras_attn
    >>> from keras_attn.training import MaskedCrossEntropy
    >>> from keras_attn.training.pruning import importance, prune_structure
    >>> model = keras_attn.EncoderModel(20, 2, 8, 4, 16, head="sequence_classification", num_classes=3)
    >>> batch = {"token_ids": np.array([[4, 5], [6, 7]])}, np.array([0, 2])
    >>> scores = importance(model, [batch], MaskedCrossEntropy())
    >>> small = prune_structure(model, scores, heads=0.5, channels=0.5)
    >>> sum(block.num_heads for block in small.encoder.blocks), small.count_params() < model.count_params()
    (4, True)
    """
    check_finite(heads=heads, channels=channels)
    for name, share in (("heads", heads), ("channels", channels)):
        if not 0 <= share < 1:
            raise ValueError(f"`{name}` must be a share, at least 0 and below 1. Received: {name}={share}")
    check_positive(channel_multiple=channel_multiple)
    units = units_of(model)
    for name, stack in stacks_of(model).items():
        if stack.share_weights and len(stack.blocks) > 1:
            raise ValueError(
                "`model` must share the weights of all layers or of none, since layers that share some have no sizes "
                f"of their own. Received: {name} with share_weights={stack.share_weights}"
            )
    for layer in compat.layers_of(model):
        if getattr(layer, "lora_enabled", False) or getattr(layer, "quantization_mode", None) is not None:
            raise ValueError(
                "`model` must have merged LoRA and float weights; prune before `quantize`. "
                f"Received: {layer.path} with lora_enabled={layer.lora_enabled}, "
                f"quantization_mode={layer.quantization_mode!r}"
            )
    if not isinstance(scores, Mapping):
        raise ValueError(f"`scores` must be a dict, as `importance` returns it. Received: scores={scores!r}")
    if others := set(scores) - {unit.layer.path for unit in units}:
        raise ValueError(
            f"`scores` must be of this model, as `importance` returns them. Received: some of {min(others)!r}, which "
            "it lacks"
        )
    for unit in units:
        found = np.shape(scores.get(unit.layer.path))
        if found != (unit.count,):
            raise ValueError(
                f"`scores` must have {unit.count} numbers for {unit.layer.path!r}, as `importance` returns them. "
                f"Received: {'none' if found == () else f'shape {found}'}"
            )
        if not np.isfinite(scores[unit.layer.path]).all():
            raise ValueError(f"`scores` must be finite. Received: NaN or infinity for {unit.layer.path!r}")
    kept = {unit.layer.path: np.arange(unit.count) for unit in units}
    if heads:
        blocks = _tied(units)
        if not blocks:
            raise ValueError(f"`heads` must be 0 for a model without `MultiHeadAttention`. Received: heads={heads}")
        _check_heads(blocks)
        kept |= _chosen(blocks, scores, heads, 1)
    if channels:
        groups = [[unit] for unit in units if unit.kind == "channels"]
        if not groups:
            raise ValueError(f"`channels` must be 0 for a model without `FeedForward`. Received: channels={channels}")
        kept |= _chosen(groups, scores, channels, channel_multiple)
    small = type(model).from_config(_config(model, units, kept))
    _copy_weights(model, small, units, kept)
    return small


def _tied(units):
    """The attention layers by block: those of one block keep equally many heads."""
    blocks = {}
    for unit in units:
        if unit.kind == "heads":
            blocks.setdefault((unit.stack, unit.index), []).append(unit)
    return list(blocks.values())


def _check_heads(blocks):
    for block in blocks:
        counts = [unit.count for unit in block]
        if len(set(counts)) > 1:
            raise ValueError(
                "`heads` must be 0 for blocks whose self- and cross-attention have other numbers of key/value heads. "
                f"Received: {counts} of them in block {block[0].index} of the {block[0].stack}"
            )
    for layer in (unit.layer for block in blocks for unit in block):
        reason = "qk_norm='all_heads'" if layer.qk_norm == "all_heads" else None
        if getattr(layer.position, "num_heads", None) is not None:
            reason = f"a position with a bias per head, {type(layer.position).__name__}"
        if reason is not None:
            raise ValueError(
                f"`heads` must be 0 if something else depends on all heads. Received: {layer.path} with {reason}"
            )


def _chosen(groups, scores, share, multiple):
    """The units that each layer keeps, `{path: sorted indices}`.

    The layers of a group take out their `i`-th least important units together. What is ranked over the whole model is
    the mean of the scores of these. The most important `multiple` units of a layer always stay.
    """
    ranked, total = [], 0
    for number, group in enumerate(groups):
        count = group[0].count
        orders = [np.sort(scores[unit.layer.path])[: count - min(count, multiple)] for unit in group]
        ranked += [(float(np.mean(values)), number) for values in zip(*orders, strict=True)]
        total += count
    out = sorted(ranked)[: round(share * total)]
    kept = {}
    for number, group in enumerate(groups):
        count = group[0].count
        lost = sum(owner == number for _, owner in out)
        left = count - lost
        if lost and count >= multiple:
            left = max(multiple, multiple * round(left / multiple))
        left = min(count, left)
        for unit in group:
            best = np.argsort(-np.asarray(scores[unit.layer.path]), kind="stable")[:left]
            kept[unit.layer.path] = np.sort(best)
    return kept


def _config(model, units, kept):
    """The config of the smaller model."""
    config = dict(model.get_config())
    if "checkpoint" in config:
        config["checkpoint"] = None
    by_block = {}
    for unit in units:
        by_block.setdefault((unit.stack, unit.index), []).append(unit)
    for stack in dict.fromkeys(unit.stack for unit in units):
        layers = getattr(model, stack)
        # What a decoder's options leave out is what the encoder has.
        is_second = stack == "decoder" and "decoder_options" in config
        own = [_options(layers, i, by_block.get((stack, i), ()), kept, is_second) for i in range(len(layers.blocks))]
        options = {"layer_options": own}
        if layers.share_weights:
            options = {**own[0], "layer_options": None}
        if is_second:
            config["decoder_options"] = {**(config["decoder_options"] or {}), **options}
        else:
            config |= options
    return config


def _options(stack, index, units, kept, all_sizes):
    """The arguments of a block that differ from those of the stack: those given, and the remaining sizes."""
    given = stack.layer_options
    options = dict(given[index % len(given)]) if given else {}
    block = stack.blocks[index]
    for unit in units:
        count = len(kept[unit.layer.path])
        if count == unit.count and (not all_sizes or (unit.kind == "heads" and block._attention is not None)):
            continue
        if unit.kind == "heads":
            options |= _head_options(block, unit.layer, count)
        elif block._feed_forward is None:
            options["intermediate_dim"] = count
        else:
            options["feed_forward"] = block._feed_forward.new(intermediate_dim=count)
    return {name: x.new() if isinstance(x, Template) else x for name, x in options.items()}


def _head_options(block, layer, count):
    """The arguments of a block whose attention layer has `count` key/value heads."""
    if block._attention is not None:
        raise ValueError(f"`heads` must be 0 for blocks with an `attention` of their own. Received: {layer.path}")
    options = {"num_heads": count * layer.num_heads // layer.num_kv_heads, "key_dim": layer.key_dim}
    is_cross = layer not in compat.layers_of(block.side_by_side if block.parallel else block.self_attention)
    name = "cross_attention_options" if is_cross else "attention_options"
    own = getattr(block, name) or {}
    if own.get("num_kv_heads") is not None:
        options[name] = {**own, "num_kv_heads": count}
    elif block.num_kv_heads is not None:
        options["num_kv_heads"] = count
    return options


def _copy_weights(model, small, units, kept):
    """Gives the smaller model the remaining weights."""
    cut: dict[str, Any] = {}
    for unit in units:
        cut |= _cut_weights(unit, kept[unit.layer.path])
    old = [(v.path, v) for v in model.variables]
    for (path, source), target in zip(old, small.variables, strict=True):
        value = cut.get(path)
        value = keras.ops.convert_to_numpy(source) if value is None else value
        if tuple(target.shape) != tuple(value.shape):
            raise ValueError(
                "`model` must have no weights that depend on the number of heads or channels besides those of its "
                f"projections. Received: {path} of shape {tuple(source.shape)}"
            )
        target.assign(value)


def _cut_weights(unit, kept):
    """The weights of a layer that have an axis of units, without those taken out, by path."""
    layer, found = unit.layer, {}

    def cut(weight, axis, indices):
        if weight is not None:
            found[weight.path] = np.take(keras.ops.convert_to_numpy(weight), indices, axis=axis)

    if unit.kind == "channels":
        for dense in (layer.intermediate_dense, getattr(layer, "gate_dense", None)):
            if dense is not None:
                cut(dense.kernel, -1, kept)
                cut(dense.bias, -1, kept)
        cut(layer.output_dense.kernel, -2, kept)
        return found
    group = layer.num_heads // layer.num_kv_heads
    queries = (kept[:, None] * group + np.arange(group)).reshape(-1)
    sides = [(layer.query_dense, queries), (layer.key_dense, kept), (layer.value_dense, kept)]
    if layer.use_gate:
        sides.append((layer.gate_dense, queries))
    for dense, indices in sides:
        cut(dense.kernel, -2, indices)
        cut(dense.bias, -2, indices)
    cut(layer.output_dense.kernel, 0, queries)
    if layer._sinks:
        cut(layer.sinks, 0, queries)
    for name in ("bias_key", "bias_value") if layer.add_bias_kv else ():
        cut(getattr(layer, name), 0, kept)
    return found
