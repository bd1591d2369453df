"""Losses, metrics, schedules, data sets and distribution for training."""

from typing import TYPE_CHECKING

from keras_attn.lazy import lazy
from keras_attn.training import data as _data
from keras_attn.training.callbacks.progress_bar import ProgressBar
from keras_attn.training.callbacks.sample_outputs import SampleOutputs
from keras_attn.training.distribution_strategy import get_strategy
from keras_attn.training.losses.contrastive_loss import ContrastiveLoss
from keras_attn.training.losses.ctc_loss import CTCLoss
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

# Lazy imports: module -> its public names. Classes that a saved model's config may name are imported eagerly, because
# Keras finds only imported classes.
_HOMES = {
    "checkpoints.checkpoints": "Checkpoints",
    "losses.compiled_loss": "loss_total",
    "losses.compute_loss": "ComputeLoss",
    "callbacks.text_evaluation": "TextEvaluation",
    "text_metrics": "Bleu Chrf ExactMatch Rouge TextMetric",
    "token_masking": "mask_tokens",
    "trainer": "Trainer",
    **{f"data.{module}": names for module, names in _data.HOMES.items()},
}

if TYPE_CHECKING:
    from keras_attn.training.callbacks.text_evaluation import TextEvaluation
    from keras_attn.training.checkpoints.checkpoints import Checkpoints
    from keras_attn.training.data import (
        BucketedDataset,
        CallableTokenizer,
        Dataset,
        DataSummary,
        LabelledTextDataset,
        ParallelTextDataset,
        Records,
        TextDataset,
        TokenBlockDataset,
    )
    from keras_attn.training.losses.compiled_loss import loss_total
    from keras_attn.training.losses.compute_loss import ComputeLoss
    from keras_attn.training.text_metrics import Bleu, Chrf, ExactMatch, Rouge, TextMetric
    from keras_attn.training.token_masking import mask_tokens
    from keras_attn.training.trainer import Trainer
else:
    __getattr__, __dir__ = lazy(__name__, _HOMES)

__all__ = [
    "Bleu",
    "BucketedDataset",
    "CTCLoss",
    "CallableTokenizer",
    "Checkpoints",
    "Chrf",
    "ComputeLoss",
    "ContrastiveLoss",
    "DataSummary",
    "Dataset",
    "ExactMatch",
    "FlooredSchedule",
    "FusedAdam",
    "FusedAdamW",
    "InverseSquareRootSchedule",
    "LabelledTextDataset",
    "LinearSchedule",
    "MaskedAccuracy",
    "MaskedCrossEntropy",
    "OneCycleSchedule",
    "ParallelTextDataset",
    "Perplexity",
    "ProgressBar",
    "RDrop",
    "RNMTPlusDecay",
    "Records",
    "Rouge",
    "RsqrtDecay",
    "SampleOutputs",
    "TextDataset",
    "TextEvaluation",
    "TextMetric",
    "TokenBlockDataset",
    "Trainer",
    "get_strategy",
    "loss_total",
    "mask_tokens",
]
