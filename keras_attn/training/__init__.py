"""Losses, metrics, schedules, data and `tf.distribute` for training."""

from keras_attn.lazy import lazy
from keras_attn.training import data as _data
from keras_attn.training.callbacks.progress_bar import ProgressBar
from keras_attn.training.callbacks.sample_outputs import SampleOutputs
from keras_attn.training.losses.contrastive_loss import ContrastiveLoss
from keras_attn.training.losses.masked_cross_entropy import MaskedCrossEntropy
from keras_attn.training.losses.r_drop import RDrop
from keras_attn.training.metrics.masked_accuracy import MaskedAccuracy
from keras_attn.training.metrics.perplexity import Perplexity
from keras_attn.training.optimizers.fused_adam import FusedAdam
from keras_attn.training.optimizers.fused_adam_w import FusedAdamW
from keras_attn.training.schedules.floored_schedule import FlooredSchedule
from keras_attn.training.schedules.inverse_square_root_schedule import InverseSquareRootSchedule
from keras_attn.training.schedules.linear_schedule import LinearSchedule
from keras_attn.training.schedules.one_cycle_schedule import OneCycleSchedule
from keras_attn.training.schedules.rnmt_plus_decay import RNMTPlusDecay
from keras_attn.training.schedules.rsqrt_decay import RsqrtDecay
from keras_attn.training.strategy import get_strategy

# Imported once they are asked for: module -> names in it. What a saved model's settings may name is not among them:
# Keras finds only classes that were imported.
_HOMES = {
    "checkpoints.checkpoints": "Checkpoints",
    "callbacks.text_evaluation": "TextEvaluation",
    "text_metrics": "Bleu Chrf ExactMatch Rouge TextMetric",
    "token_masking": "mask_tokens",
    "trainer": "Trainer",
    **{f"data.{module}": names for module, names in _data.HOMES.items()},
}

__getattr__, __dir__ = lazy(__name__, _HOMES)
__all__ = [
    "ContrastiveLoss",
    "FlooredSchedule",
    "FusedAdam",
    "FusedAdamW",
    "InverseSquareRootSchedule",
    "LinearSchedule",
    "MaskedAccuracy",
    "MaskedCrossEntropy",
    "OneCycleSchedule",
    "Perplexity",
    "ProgressBar",
    "RDrop",
    "RNMTPlusDecay",
    "RsqrtDecay",
    "SampleOutputs",
    "get_strategy",
    *" ".join(_HOMES.values()).split(),
]
