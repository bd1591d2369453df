"""Generation: settings, strategies, logit processors, and the loop over a cache."""

from keras_attn.generation import processors as _processors
from keras_attn.generation.automaton import TokenAutomaton
from keras_attn.generation.beam_search import BeamSearch
from keras_attn.generation.generate import generate
from keras_attn.generation.generation_config import GenerationConfig
from keras_attn.generation.greedy import Greedy
from keras_attn.generation.processors import *  # noqa: F403
from keras_attn.generation.sampling import Sampling
from keras_attn.generation.scoring import score
from keras_attn.generation.strategy import Decoding, Strategy, run

__all__ = [
    "BeamSearch",
    "Decoding",
    "GenerationConfig",
    "Greedy",
    "Sampling",
    "Strategy",
    "TokenAutomaton",
    "generate",
    "run",
    "score",
    *_processors.__all__,
]
