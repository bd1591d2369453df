"""Functional models built from the layers, with `encode`, `prefill` and `decode` besides `call`."""

from keras_attn.models.attention_maps import attention_maps
from keras_attn.models.encoder_model import EncoderModel
from keras_attn.models.language_model import LanguageModel
from keras_attn.models.multiple_choice_model import MultipleChoiceModel
from keras_attn.models.seq2seq_encoder_model import Seq2SeqEncoderModel
from keras_attn.models.seq2seq_rnn import Seq2SeqRNN
from keras_attn.models.transformer import Transformer
from keras_attn.models.two_tower_model import TwoTowerModel

__all__ = [
    "EncoderModel",
    "LanguageModel",
    "MultipleChoiceModel",
    "Seq2SeqEncoderModel",
    "Seq2SeqRNN",
    "Transformer",
    "TwoTowerModel",
    "attention_maps",
]
