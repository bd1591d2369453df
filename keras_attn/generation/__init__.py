"""Generation: settings, decoding strategies, logit processors, and the token loop."""

from typing import TYPE_CHECKING

from keras_attn.generation import processors as _processors
from keras_attn.generation.generate import generate
from keras_attn.generation.generation_config import GenerationConfig
from keras_attn.generation.generative_model import GenerativeModel
from keras_attn.generation.greedy import Greedy
from keras_attn.generation.processors import BANNED, History, LogitProcessor
from keras_attn.generation.scoring import score
from keras_attn.generation.strategy import Decoding, Strategy, run
from keras_attn.lazy import lazy

_HOMES = {
    "automata.automaton": "TokenAutomaton",
    "beam_search": "BeamSearch",
    "classifier_free_guidance": "ClassifierFreeGuidance",
    "contrastive_search": "ContrastiveSearch",
    "diverse_beam_search": "DiverseBeamSearch",
    "prompt_lookup": "PromptLookup",
    "reranking": "minimum_bayes_risk",
    "sampling": "Sampling",
    "speculative_decoding": "SpeculativeDecoding",
    "streaming": "stream",
    **{f"processors.{module}": names for module, names in _processors.HOMES.items()},
}

if TYPE_CHECKING:
    from keras_attn.generation.automata.automaton import TokenAutomaton
    from keras_attn.generation.beam_search import BeamSearch
    from keras_attn.generation.classifier_free_guidance import ClassifierFreeGuidance
    from keras_attn.generation.contrastive_search import ContrastiveSearch
    from keras_attn.generation.diverse_beam_search import DiverseBeamSearch
    from keras_attn.generation.processors import (
        AllowedTokens,
        AutomatonConstraint,
        BannedSequences,
        BannedTokens,
        EncoderNoRepeatNGram,
        EncoderRepetitionPenalty,
        EpsilonCutoff,
        EtaCutoff,
        ExponentialLengthDecay,
        ForcedEnd,
        ForcedPrefix,
        LogitNormalization,
        MinLength,
        MinP,
        NoRepeatNGram,
        OccurrencePenalty,
        RepetitionPenalty,
        SequenceBias,
        StopStrings,
        Temperature,
        TopH,
        TopK,
        TopP,
        Typical,
        Watermark,
    )
    from keras_attn.generation.prompt_lookup import PromptLookup
    from keras_attn.generation.reranking import minimum_bayes_risk
    from keras_attn.generation.sampling import Sampling
    from keras_attn.generation.speculative_decoding import SpeculativeDecoding
    from keras_attn.generation.streaming import stream
else:
    __getattr__, __dir__ = lazy(__name__, _HOMES)

__all__ = [
    "BANNED",
    "AllowedTokens",
    "AutomatonConstraint",
    "BannedSequences",
    "BannedTokens",
    "BeamSearch",
    "ClassifierFreeGuidance",
    "ContrastiveSearch",
    "Decoding",
    "DiverseBeamSearch",
    "EncoderNoRepeatNGram",
    "EncoderRepetitionPenalty",
    "EpsilonCutoff",
    "EtaCutoff",
    "ExponentialLengthDecay",
    "ForcedEnd",
    "ForcedPrefix",
    "GenerationConfig",
    "GenerativeModel",
    "Greedy",
    "History",
    "LogitNormalization",
    "LogitProcessor",
    "MinLength",
    "MinP",
    "NoRepeatNGram",
    "OccurrencePenalty",
    "PromptLookup",
    "RepetitionPenalty",
    "Sampling",
    "SequenceBias",
    "SpeculativeDecoding",
    "StopStrings",
    "Strategy",
    "Temperature",
    "TokenAutomaton",
    "TopH",
    "TopK",
    "TopP",
    "Typical",
    "Watermark",
    "generate",
    "minimum_bayes_risk",
    "run",
    "score",
    "stream",
]
