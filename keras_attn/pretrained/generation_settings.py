"""Generation settings from `generation_config.json`, or from a `config.json` older than that file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras_attn import generation
from keras_attn.generation.generation_config import GenerationConfig
from keras_attn.models import Transformer
from keras_attn.pretrained.family import Family

# The default of each setting that changes tokens.
_DEFAULTS = {
    "max_length": 20,
    "min_length": 0,
    "min_new_tokens": None,
    "max_new_tokens": None,
    "do_sample": False,
    "num_beams": 1,
    "early_stopping": False,
    "length_penalty": 1.0,
    "temperature": 1.0,
    "top_k": 50,
    "top_p": 1.0,
    "min_p": None,
    "top_h": None,
    "typical_p": 1.0,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
    "sequence_bias": None,
    "repetition_penalty": 1.0,
    "encoder_repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "encoder_no_repeat_ngram_size": 0,
    "bad_words_ids": None,
    "exponential_decay_length_penalty": None,
    "suppress_tokens": None,
    "begin_suppress_tokens": None,
    "forced_bos_token_id": None,
    "forced_eos_token_id": None,
    "renormalize_logits": False,
}
# What a file may hold only with this value.
_ONLY = {
    "num_beam_groups": 1,
    "diversity_penalty": 0.0,
    "num_return_sequences": 1,
    "guidance_scale": 1.0,
    "penalty_alpha": 0.0,
}
# What does not change the tokens of a call without arguments.
_HARMLESS = {
    *("_from_model_config", "_commit_hash", "transformers_version", "trust_remote_code", "use_cache", "cache_config"),
    *("cache_implementation", "compile_config", "disable_compile", "low_memory", "return_dict_in_generate"),
    *("output_scores", "output_logits", "output_attentions", "output_hidden_states", "output_loading_info"),
    *("decoder_start_token_id", "bos_token_id", "eos_token_id", "pad_token_id", "remove_invalid_values"),
    *("num_assistant_tokens", "num_assistant_tokens_schedule", "assistant_confidence_threshold", "is_assistant"),
    *("assistant_lookbehind", "target_lookbehind", "assistant_early_exit", "max_matching_ngram_size"),
    *("token_healing", "max_cache_len", "prefill_chunk_size", "prefix_ids"),
}


def generation_config(
    family: Family, entries: Mapping[str, Any], own: Mapping[str, Any], tokenizer: Any
) -> GenerationConfig:
    """The settings with which a model generates what `generate()` of `transformers` does without arguments.

    A `max_length` counts the prompt in `transformers`. For models that continue prompts, it is here the number of new
    tokens, so a text may be longer if it does not end before.

    Args:
        family: The family.
        entries: The contents of `config.json`.
        own: The contents of `generation_config.json`, empty if there is no such file.
        tokenizer: The tokenizer of the model, or None.

    Raises:
        ValueError: If a setting cannot be expressed; the message names it.
    """
    source = family.generation(entries, dict(own or _of_model_config(entries)))
    has_decoder = issubclass(family.model, Transformer)
    _check_expressed(source, own, has_decoder)
    found = {x: source[x] if source.get(x) is not None else default for x, default in _DEFAULTS.items()}
    prefix = tuple(source.get("prefix_ids", ()))
    ids = {"end_id": _id(source, "eos_token_id"), "pad_id": _id(source, "pad_token_id")}
    _check_forced_end(found, ids["end_id"])
    if has_decoder:
        ids["start_id"] = start_id(entries, own)
    if tokenizer is not None:
        ids["pad_id"] = None
    elif ids["pad_id"] is None:
        # As `transformers` pads the rows that have ended.
        ends = ids["end_id"]
        ids["pad_id"] = ends[0] if isinstance(ends, tuple) else ends or 0
    # Theirs counts the start token, unless it is the default.
    start = 1 if has_decoder else 0
    length = found["max_length"] - (start if source.get("max_length") is not None else 0)
    if found["max_new_tokens"]:
        length = found["max_new_tokens"] + len(prefix)
    least = found["min_length"] - start
    if found["min_new_tokens"] is not None:
        least = found["min_new_tokens"] + len(prefix)
    processors = _processors(found, prefix, least, ids["end_id"])
    return GenerationConfig(max_length=length, strategy=_strategy(found), processors=processors, **ids)


def _of_model_config(entries):
    """The settings of a `config.json` older than `generation_config.json`."""
    # The first name of "forced_bos_token_id".
    forces = entries.get("force_bos_token_to_be_generated") and entries.get("bos_token_id") is not None
    return entries | ({"forced_bos_token_id": entries["bos_token_id"]} if forces else {})


def start_id(entries: Mapping[str, Any], own: Mapping[str, Any]) -> int | None:
    """The first input token of a decoder."""
    for name in ("decoder_start_token_id", "bos_token_id"):
        for source in (own, entries):
            if source.get(name) is not None:
                return _id(source, name)
    return None


def end_ids(entries: Mapping[str, Any], own: Mapping[str, Any]) -> tuple[int, ...]:
    """The tokens that end a text; empty if no file names one."""
    found = _id(own or entries, "eos_token_id")
    return found if isinstance(found, tuple) else () if found is None else (found,)


def _check_expressed(source, own, has_decoder):
    """Raises a ValueError if a setting changes tokens and is not understood."""
    only = dict(_ONLY)
    if not has_decoder:
        # They count the prompt, which is not known before.
        only |= {"min_length": 0, "forced_bos_token_id": None}
    for name, value in only.items():
        if source.get(name) is not None and source[name] != value:
            raise ValueError(f"`generation_config.json` may have {name!r} only as {value}. Received: {source[name]}")
    known = {*_DEFAULTS, *_ONLY, *_HARMLESS}
    unknown = {name: source[name] for name in own if name in source and name not in known and source[name]}
    if unknown:
        raise ValueError(
            "`generation_config.json` has entries that keras_attn does not know, and that may change the tokens. "
            f"Remove them from a copy of the file only if they change nothing. Received: {unknown}"
        )


def _check_forced_end(found, end_id):
    forced = found["forced_eos_token_id"]
    first = end_id[0] if isinstance(end_id, tuple) else end_id
    if forced is not None and forced not in (first, [first]):
        raise ValueError(
            f"`generation_config.json` may have 'forced_eos_token_id' only as {first}, the end. Received: {forced}"
        )


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


def _processors(found, prefix, least, end_id):
    """In the order in which `transformers` applies them."""
    samples = found["do_sample"]
    processors = []

    def add(name, make, when=True):
        if when and found[name] != _DEFAULTS[name] and found[name] != []:
            processors.append(make(found[name]))

    add("sequence_bias", _sequence_bias)
    add("encoder_repetition_penalty", generation.EncoderRepetitionPenalty)
    add("repetition_penalty", generation.RepetitionPenalty)
    add("no_repeat_ngram_size", generation.NoRepeatNGram)
    add("encoder_no_repeat_ngram_size", generation.EncoderNoRepeatNGram)
    ends = [[x] for x in (end_id if isinstance(end_id, tuple) else (end_id,))]
    words = tuple(tuple(x) for x in found["bad_words_ids"] or () if list(x) not in ends)
    add("bad_words_ids", lambda _: generation.BannedSequences(words), bool(words))
    if least > 0:
        processors.append(generation.MinLength(least))
    add("forced_eos_token_id", lambda _: generation.ForcedEnd())
    add("exponential_decay_length_penalty", lambda x: generation.ExponentialLengthDecay(x[0] + len(prefix), x[1]))
    add("suppress_tokens", lambda ids: generation.BannedTokens(tuple(ids)))
    if not prefix and found["forced_bos_token_id"] is not None:
        prefix = (found["forced_bos_token_id"],)
    add("begin_suppress_tokens", lambda ids: generation.BannedTokens(tuple(ids), step=len(prefix)))
    if prefix:
        processors.append(generation.ForcedPrefix(prefix))
    add("temperature", generation.Temperature, samples)
    add("top_h", generation.TopH, samples)
    # The default of `transformers` is no neutral value.
    if samples and found["top_k"]:
        processors.append(generation.TopK(found["top_k"]))
    add("top_p", generation.TopP, samples)
    add("min_p", generation.MinP, samples)
    add("typical_p", generation.Typical, samples)
    add("epsilon_cutoff", generation.EpsilonCutoff, samples)
    add("eta_cutoff", generation.EtaCutoff, samples)
    # It changes only what beams are ranked by.
    add("renormalize_logits", lambda _: generation.LogitNormalization(), found["num_beams"] > 1)
    return tuple(processors)


def _sequence_bias(pairs):
    sequences, biases = zip(*pairs, strict=True)
    return generation.SequenceBias(tuple(tuple(x) for x in sequences), tuple(float(x) for x in biases))
