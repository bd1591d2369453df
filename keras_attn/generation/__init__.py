"""Generation: settings, strategies, and the loop over a cache."""

from keras_attn.generation.generate import generate
from keras_attn.generation.generation_config import GenerationConfig
from keras_attn.generation.greedy import greedy

__all__ = ["GenerationConfig", "generate", "greedy"]
