"""Losses, metrics, schedules and `tf.distribute` for training."""

from keras_attn.training.inverse_square_root_schedule import InverseSquareRootSchedule
from keras_attn.training.masked_accuracy import MaskedAccuracy
from keras_attn.training.masked_cross_entropy import MaskedCrossEntropy
from keras_attn.training.progress_bar import ProgressBar
from keras_attn.training.sample_outputs import SampleOutputs
from keras_attn.training.strategy import get_strategy

__all__ = [
    "InverseSquareRootSchedule",
    "MaskedAccuracy",
    "MaskedCrossEntropy",
    "ProgressBar",
    "SampleOutputs",
    "get_strategy",
]
