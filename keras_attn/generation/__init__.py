"""Generation: settings, strategies, logit processors, and the loop over a cache."""

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

__getattr__, __dir__ = lazy(__name__, _HOMES)
__all__ = [
    "BANNED",
    "Decoding",
    "GenerationConfig",
    "GenerativeModel",
    "Greedy",
    "History",
    "LogitProcessor",
    "Strategy",
    "generate",
    "run",
    "score",
    *_HOMES.values(),
]
