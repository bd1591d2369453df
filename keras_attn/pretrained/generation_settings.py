"""Generation settings from `generation_config.json`, or from a `config.json` older than that file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras_attn import generation
from keras_attn.generation.generation_config import GenerationConfig

# The default of each setting that changes tokens; files may hold those that are not used here only with this value.
_DEFAULTS = {
    "max_length": 20,
    "min_length": 0,
    "min_new_tokens": None,
    "max_new_tokens": None,
    "do_sample": False,
    "num_beams": 1,
    "num_beam_groups": 1,
    "diversity_penalty": 0.0,
    "early_stopping": False,
    "length_penalty": 1.0,
    "num_return_sequences": 1,
    "temperature": 1.0,
    "top_k": 50,
    "top_p": 1.0,
    "min_p": None,
    "typical_p": 1.0,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
    "repetition_penalty": 1.0,
    "encoder_repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "encoder_no_repeat_ngram_size": 0,
    "bad_words_ids": None,
    "suppress_tokens": None,
    "begin_suppress_tokens": None,
    "forced_bos_token_id": None,
    "forced_eos_token_id": None,
}
_UNUSED = ("num_beam_groups", "diversity_penalty", "num_return_sequences")


def generation_config(entries: Mapping[str, Any], own: Mapping[str, Any], tokenizer: Any) -> GenerationConfig:
    """The settings of a model.

    Args:
        entries: The contents of `config.json`.
        own: The contents of `generation_config.json`, empty if there is no such file.
        tokenizer: The tokenizer of the model, or None.
    """
    source = own or entries
    found = {x: source[x] if source.get(x) is not None else default for x, default in _DEFAULTS.items()}
    for name in _UNUSED:
        if found[name] != _DEFAULTS[name]:
            raise ValueError(f"`generation_config.json` may have {name!r} only as {_DEFAULTS[name]}. Received: {found}")
    ids = {
        "start_id": _id(source, "decoder_start_token_id"),
        "end_id": _id(source, "eos_token_id"),
        "pad_id": _id(source, "pad_token_id"),
    }
    if tokenizer is not None:
        ids["pad_id"] = None
    elif ids["pad_id"] is None:
        # As `transformers` pads the rows that have ended.
        ends = ids["end_id"]
        ids["pad_id"] = ends[0] if isinstance(ends, tuple) else ends or 0
    length = found["max_new_tokens"] or found["max_length"]
    return GenerationConfig(max_length=length, strategy=_strategy(found), processors=_processors(found), **ids)


def _id(source, name):
    value = source.get(name)
    if isinstance(value, list) and value and all(isinstance(x, int) for x in value):
        return tuple(value) if len(value) > 1 else value[0]
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise ValueError(f"`generation_config.json` must have an integer as {name!r}. Received: {value!r}")
    return value


def _strategy(found):
    if found["num_beams"] > 1:
        if found["do_sample"]:
            raise ValueError("`generation_config.json` may have 'do_sample' only as False with 'num_beams'.")
        settings = {name: found[name] for name in ("num_beams", "length_penalty", "early_stopping")}
        return generation.BeamSearch(**settings)
    return generation.Sampling() if found["do_sample"] else None


def _processors(found):
    """In the order in which `transformers` applies them."""
    samples = found["do_sample"]
    processors = []

    def add(name, make, when=True):
        if when and found[name] != _DEFAULTS[name]:
            processors.append(make(found[name]))

    add("encoder_repetition_penalty", generation.EncoderRepetitionPenalty)
    add("repetition_penalty", generation.RepetitionPenalty)
    add("no_repeat_ngram_size", generation.NoRepeatNGram)
    add("encoder_no_repeat_ngram_size", generation.EncoderNoRepeatNGram)
    add("bad_words_ids", lambda ids: generation.BannedSequences(tuple(tuple(x) for x in ids)))
    add("min_new_tokens", generation.MinLength)
    add("min_length", generation.MinLength, found["min_new_tokens"] is None)
    add("forced_bos_token_id", lambda id: generation.ForcedPrefix((id,)))
    add("forced_eos_token_id", lambda _: generation.ForcedEnd())
    add("suppress_tokens", lambda ids: generation.BannedTokens(tuple(ids)), found["suppress_tokens"] != [])
    add("temperature", generation.Temperature, samples)
    # The default of `transformers` is no neutral value.
    if samples and found["top_k"]:
        processors.append(generation.TopK(found["top_k"]))
    add("top_p", generation.TopP, samples)
    add("min_p", generation.MinP, samples)
    add("typical_p", generation.Typical, samples)
    add("epsilon_cutoff", generation.EpsilonCutoff, samples)
    add("eta_cutoff", generation.EtaCutoff, samples)
    return tuple(processors)
