"""Text metrics. Each has a `name` and is called with outputs and references."""

from keras_attn.training.text_metrics.bleu import Bleu
from keras_attn.training.text_metrics.chrf import Chrf
from keras_attn.training.text_metrics.exact_match import ExactMatch
from keras_attn.training.text_metrics.rouge import Rouge
from keras_attn.training.text_metrics.text_metric import TextMetric

__all__ = ["Bleu", "Chrf", "ExactMatch", "Rouge", "TextMetric"]
