"""Logit processors: constraints, penalties and filters on the next token, one per file."""

from typing import TYPE_CHECKING

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
    "logit_normalization": "LogitNormalization",
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

if TYPE_CHECKING:
    from keras_attn.generation.processors.allowed_tokens import AllowedTokens
    from keras_attn.generation.processors.automaton_constraint import AutomatonConstraint
    from keras_attn.generation.processors.banned_sequences import BannedSequences
    from keras_attn.generation.processors.banned_tokens import BannedTokens
    from keras_attn.generation.processors.encoder_no_repeat_ngram import EncoderNoRepeatNGram
    from keras_attn.generation.processors.encoder_repetition_penalty import EncoderRepetitionPenalty
    from keras_attn.generation.processors.epsilon_cutoff import EpsilonCutoff
    from keras_attn.generation.processors.eta_cutoff import EtaCutoff
    from keras_attn.generation.processors.exponential_length_decay import ExponentialLengthDecay
    from keras_attn.generation.processors.forced_end import ForcedEnd
    from keras_attn.generation.processors.forced_prefix import ForcedPrefix
    from keras_attn.generation.processors.logit_normalization import LogitNormalization
    from keras_attn.generation.processors.min_length import MinLength
    from keras_attn.generation.processors.min_p import MinP
    from keras_attn.generation.processors.no_repeat_ngram import NoRepeatNGram
    from keras_attn.generation.processors.occurrence_penalty import OccurrencePenalty
    from keras_attn.generation.processors.repetition_penalty import RepetitionPenalty
    from keras_attn.generation.processors.sequence_bias import SequenceBias
    from keras_attn.generation.processors.stop_strings import StopStrings
    from keras_attn.generation.processors.temperature import Temperature
    from keras_attn.generation.processors.top_h import TopH
    from keras_attn.generation.processors.top_k import TopK
    from keras_attn.generation.processors.top_p import TopP
    from keras_attn.generation.processors.typical import Typical
    from keras_attn.generation.processors.watermark import Watermark
else:
    __getattr__, __dir__ = lazy(__name__, HOMES)

__all__ = [
    "BANNED",
    "AllowedTokens",
    "AutomatonConstraint",
    "BannedSequences",
    "BannedTokens",
    "EncoderNoRepeatNGram",
    "EncoderRepetitionPenalty",
    "EpsilonCutoff",
    "EtaCutoff",
    "ExponentialLengthDecay",
    "ForcedEnd",
    "ForcedPrefix",
    "History",
    "LogitNormalization",
    "LogitProcessor",
    "MinLength",
    "MinP",
    "NoRepeatNGram",
    "OccurrencePenalty",
    "RepetitionPenalty",
    "SequenceBias",
    "StopStrings",
    "Temperature",
    "TopH",
    "TopK",
    "TopP",
    "Typical",
    "Watermark",
]
