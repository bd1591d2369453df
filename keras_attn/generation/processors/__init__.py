"""Logit processors: constraints and filters on the next token, one a file."""

from keras_attn.generation.processors.logit_processor import BANNED, History, LogitProcessor
from keras_attn.lazy import lazy

HOMES = {
    "allowed_tokens": "AllowedTokens",
    "automaton_constraint": "AutomatonConstraint",
    "banned_tokens": "BannedTokens",
    "forced_end": "ForcedEnd",
    "forced_prefix": "ForcedPrefix",
    "min_length": "MinLength",
    "min_p": "MinP",
    "no_repeat_ngram": "NoRepeatNGram",
    "occurrence_penalty": "OccurrencePenalty",
    "repetition_penalty": "RepetitionPenalty",
    "temperature": "Temperature",
    "top_k": "TopK",
    "top_p": "TopP",
    "typical": "Typical",
}

__getattr__, __dir__ = lazy(__name__, HOMES)
__all__ = ["BANNED", "History", "LogitProcessor", *HOMES.values()]
