"""Attention and Transformer layers for Keras 3 on TensorFlow."""

from typing import TYPE_CHECKING

from keras_attn.lazy import is_command, lazy

__version__ = "0.1.0"

# Keras finds the classes of a saved model only if they were imported. The command answers `--help` without Keras.
if not is_command():
    from keras_attn import export, generation, layers, models, ops, plot, pretrained, text, training
    from keras_attn.generation import GenerationConfig
    from keras_attn.models import (
        EncoderModel,
        LanguageModel,
        MultipleChoiceModel,
        Seq2SeqEncoderModel,
        Seq2SeqRNN,
        Transformer,
        TwoTowerModel,
        attention_maps,
    )

if TYPE_CHECKING:
    from keras_attn.pretrained.loading import from_pretrained
else:
    __getattr__, __dir__ = lazy(__name__, {"pretrained.loading": "from_pretrained"})

__all__ = [
    "EncoderModel",
    "GenerationConfig",
    "LanguageModel",
    "MultipleChoiceModel",
    "Seq2SeqEncoderModel",
    "Seq2SeqRNN",
    "Transformer",
    "TwoTowerModel",
    "attention_maps",
    "export",
    "from_pretrained",
    "generation",
    "layers",
    "models",
    "ops",
    "plot",
    "pretrained",
    "text",
    "training",
]
