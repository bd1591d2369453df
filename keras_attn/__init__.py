"""Attention and Transformer layers for Keras 3 on TensorFlow."""

from keras_attn import export, generation, layers, models, ops, plot, text, training
from keras_attn.generation import GenerationConfig
from keras_attn.models import EncoderModel, LanguageModel, Seq2SeqRNN, Transformer, attention_maps

__version__ = "0.1.0"

__all__ = [
    "EncoderModel",
    "GenerationConfig",
    "LanguageModel",
    "Seq2SeqRNN",
    "Transformer",
    "attention_maps",
    "export",
    "generation",
    "layers",
    "models",
    "ops",
    "plot",
    "text",
    "training",
]
