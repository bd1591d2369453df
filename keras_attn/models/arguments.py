"""What the constructors of the models do with their arguments."""

import inspect
from collections.abc import Mapping

import keras
import numpy as np

from keras_attn.argument_checks import check_vocabulary
from keras_attn.layers import Decoder, DecoderBlock, EncoderBlock, PointerGenerator
from keras_attn.layers.attention.attention_checks import check_position
from keras_attn.layers.base.serialization import deserialized
from keras_attn.layers.transformer.placement import deepnorm
from keras_attn.layers.transformer.stack import with_templates

# What a decoder's options cannot change, and the argument of the model to use instead.
_FIXED = {"num_layers": "num_decoder_layers", "position": "decoder_position", "dtype": "dtype", "name": None}
_FIXED |= {"causal": None, "cross_attention": None}


def symbolic_inputs(*ids, masks, optional_ids=(), features=(), choices=False):
    """The inputs of a model by name: int32 `(B, T)` for each of `ids`, and optional ones; `(B, C, T)` with `choices`.

    Args:
        *ids, optional_ids: Names.
        masks: Rank, without the batch, of optional boolean inputs by name.
        features: Mapping from names to the specs of further inputs, which come first.
    """
    inputs = {name: keras.Input(features[name].shape[1:], dtype=features[name].dtype, name=name) for name in features}
    more = (None,) if choices else ()
    inputs |= {name: keras.Input((*more, None), dtype="int32", name=name) for name in ids}
    for name, rank in masks.items():
        inputs[name] = keras.Input(more + (None,) * rank, dtype="bool", name=name, optional=True)
    for name in optional_ids:
        inputs[name] = keras.Input((*more, None), dtype="int32", name=name, optional=True)
    return inputs


def check_no_texts(inputs, model):
    """Raises a ValueError if a call is given texts instead of ids."""
    if any(spec.dtype == "string" for spec in model.features.values()):
        return
    for x in keras.tree.flatten(inputs):
        dtype = getattr(x, "dtype", None)
        is_text = dtype.kind in "OSU" if isinstance(dtype, np.dtype) else getattr(dtype, "name", None) == "string"
        if is_text or isinstance(x, str | bytes):
            how = "`model.tokenizer.encode(texts)` makes them" if model.tokenizer else "the model has no tokenizer"
            how += ", and `model.generate` takes texts" if model.tokenizer and model.generation_config else ""
            received = str(dtype) if is_text else repr(x)
            raise ValueError(f"`inputs` must be numbers, not texts; {how}. Received: {received}")


def checked_position(name, position):
    """Deserialises an optional `PositionEncoding`; raises a ValueError if it is anything else."""
    position = deserialized(position)
    check_position(position, name)
    return position


def checked_pointer_generator(layer, vocabulary_size, source_vocabulary_size, features=()):
    """Deserialises an optional `PointerGenerator`; raises a ValueError if the model cannot copy with it."""
    layer = deserialized(layer)
    if layer is None:
        return None
    if not isinstance(layer, PointerGenerator):
        raise ValueError(f"`pointer_generator` must be a PointerGenerator layer. Received: pointer_generator={layer!r}")
    if features or source_vocabulary_size is not None:
        raise ValueError(
            "`pointer_generator` needs a source of the target's tokens: use it without `embeddings` and "
            f"`source_vocabulary_size`. Received: inputs={list(features)}, "
            f"source_vocabulary_size={source_vocabulary_size}"
        )
    if layer.extended_size:
        check_vocabulary(vocabulary_size, unknown_id=layer.unknown_id)
    return layer


def split_options(kwargs):
    """Splits further keyword arguments of a model: `(those of keras.Model, those of its stacks)`.

    Layers among the latter become templates, since a model tracks its layers.
    """
    own = {name: value for name, value in kwargs.items() if name in ("name", "trainable", "checkpoint")}
    options = with_templates({name: value for name, value in kwargs.items() if name not in own})
    if options.get("layer_options") is not None:
        options["layer_options"] = [with_templates(entry) for entry in options["layer_options"]]
    return own, options


def size_of_heads(num_heads, options):
    """`num_heads` as a size of the model; nothing if it is None and the blocks have an `attention` of their own."""
    return {} if num_heads is None and options.get("attention") is not None else {"num_heads": num_heads}


def stack_arguments(options, intermediate_dim, **settings):
    """Arguments of an `Encoder` or `Decoder`; a template for `feed_forward` replaces `intermediate_dim`."""
    width = {} if options.get("feed_forward") is not None else {"intermediate_dim": intermediate_dim}
    return {**options, **settings, **width}


def encoder_and_decoder(stack, num_decoder_layers, decoder_options):
    """Arguments of an `Encoder` and of a `Decoder` that reads its output, from those of both, without positions."""
    decoder = {**stack, **decoder_options}
    if num_decoder_layers is not None:
        decoder["num_layers"] = num_decoder_layers
    norm = stack["norm"]
    # The encoder's constants of DeepNorm depend on the decoder's depth.
    constants = deepnorm(stack["num_layers"], decoder["num_layers"])[0] if norm == "deepnorm" else {}
    encoder = {**constants, **stack}
    if isinstance(norm, Mapping):
        encoder["norm"] = {name: value for name, value in norm.items() if name != "cross_attention"}
    pattern = stack.get("layer_options") or []
    if "layer_options" not in decoder_options and len(pattern) <= max(encoder["num_layers"], decoder["num_layers"]):
        # The shorter stack may end before the pattern does.
        for side in (encoder, decoder):
            side["layer_options"] = pattern[: side["num_layers"]]
    return encoder, decoder


def checked_decoder_options(options):
    """The arguments of `Decoder`, with templates; raises a ValueError if one is unknown or has another place."""
    if not isinstance(options, Mapping | None):
        raise ValueError(f"`decoder_options` must be a dict of arguments of `Decoder`. Received: {options!r}")
    known = {name for layer in (Decoder, DecoderBlock, EncoderBlock) for name in inspect.signature(layer).parameters}
    known -= {"options", "kwargs"}
    for name in options or {}:
        if name in _FIXED:
            instead = f"use the argument `{_FIXED[name]}`" if _FIXED[name] else "the model needs its own value"
            raise ValueError(f"`decoder_options` must not contain {name!r}: {instead}. Received: {options}")
        if name not in known:
            raise ValueError(
                f"`decoder_options` must be a dict of arguments of `Decoder`, {sorted(known - _FIXED.keys())}. "
                f"Received: {name!r}"
            )
    return split_options(options or {})[1]
