"""Logit processors: constraints and filters on the next token, one a file."""

from keras_attn.generation.processors.logit_processor import BANNED, History, LogitProcessor
from keras_attn.lazy import lazy

HOMES = {
    "allowed_tokens": "AllowedTokens",
    "automaton_constraint": "AutomatonConstraint",
    "banned_sequences": "BannedSequences",
    "banned_tokens": "BannedTokens",
    "encoder_no_repeat_ngram": "EncoderNoRepeatNGram",
    "encoder_repetition_penalty": "EncoderRepetitionPenalty",
    "epsilon_cutoff": "EpsilonCutoff",
    "eta_cutoff": "EtaCutoff",
    "exponential_length_decay": "ExponentialLengthDecay",
    "forced_end": "ForcedEnd",
    "forced_prefix": "ForcedPrefix",
    "min_length": "MinLength",
    "min_p": "MinP",
    "no_repeat_ngram": "NoRepeatNGram",
    "occurrence_penalty": "OccurrencePenalty",
    "repetition_penalty": "RepetitionPenalty",
    "sequence_bias": "SequenceBias",
    "stop_strings": "StopStrings",
    "temperature": "Temperature",
    "top_h": "TopH",
    "top_k": "TopK",
    "top_p": "TopP",
    "typical": "Typical",
    "watermark": "Watermark",
}

__getattr__, __dir__ = lazy(__name__, HOMES)
__all__ = ["BANNED", "History", "LogitProcessor", *HOMES.values()]
