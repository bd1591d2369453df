"""Logit processors: constraints and filters on the next token, one a file."""

from keras_attn.generation.processors.allowed_tokens import AllowedTokens
from keras_attn.generation.processors.automaton_constraint import AutomatonConstraint
from keras_attn.generation.processors.banned_tokens import BannedTokens
from keras_attn.generation.processors.forced_end import ForcedEnd
from keras_attn.generation.processors.forced_prefix import ForcedPrefix
from keras_attn.generation.processors.logit_processor import BANNED, History, LogitProcessor
from keras_attn.generation.processors.min_length import MinLength
from keras_attn.generation.processors.min_p import MinP
from keras_attn.generation.processors.no_repeat_ngram import NoRepeatNGram
from keras_attn.generation.processors.occurrence_penalty import OccurrencePenalty
from keras_attn.generation.processors.repetition_penalty import RepetitionPenalty
from keras_attn.generation.processors.temperature import Temperature
from keras_attn.generation.processors.top_k import TopK
from keras_attn.generation.processors.top_p import TopP
from keras_attn.generation.processors.typical import Typical

__all__ = [
    "BANNED",
    "AllowedTokens",
    "AutomatonConstraint",
    "BannedTokens",
    "ForcedEnd",
    "ForcedPrefix",
    "History",
    "LogitProcessor",
    "MinLength",
    "MinP",
    "NoRepeatNGram",
    "OccurrencePenalty",
    "RepetitionPenalty",
    "Temperature",
    "TopK",
    "TopP",
    "Typical",
]
