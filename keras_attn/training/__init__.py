"""Losses, metrics, schedules, data and `tf.distribute` for training."""

from keras_attn.lazy import lazy
from keras_attn.training import data as _data
from keras_attn.training.contrastive_loss import ContrastiveLoss
from keras_attn.training.floored_schedule import FlooredSchedule
from keras_attn.training.fused_adam import FusedAdam
from keras_attn.training.fused_adam_w import FusedAdamW
from keras_attn.training.inverse_square_root_schedule import InverseSquareRootSchedule
from keras_attn.training.linear_schedule import LinearSchedule
from keras_attn.training.masked_accuracy import MaskedAccuracy
from keras_attn.training.masked_cross_entropy import MaskedCrossEntropy
from keras_attn.training.one_cycle_schedule import OneCycleSchedule
from keras_attn.training.perplexity import Perplexity
from keras_attn.training.progress_bar import ProgressBar
from keras_attn.training.r_drop import RDrop
from keras_attn.training.rnmt_plus_decay import RNMTPlusDecay
from keras_attn.training.rsqrt_decay import RsqrtDecay
from keras_attn.training.sample_outputs import SampleOutputs
from keras_attn.training.strategy import get_strategy

# Imported once they are asked for: module -> names in it. What a saved model's settings may name is not among them:
# Keras finds only classes that were imported.
_HOMES = {
    "checkpoints": "Checkpoints",
    "text_evaluation": "TextEvaluation",
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
