"""`keras.layers.Layer` subclasses: attention, positions, embeddings, feed-forward networks and blocks."""

from keras_attn.layers.attention.disentangled_attention import DisentangledAttention
from keras_attn.layers.attention.multi_head_attention import MultiHeadAttention
from keras_attn.layers.base.padding_mask import PaddingMask
from keras_attn.layers.base.projection import Projection
from keras_attn.layers.embeddings.audio_front_end import AudioFrontEnd
from keras_attn.layers.embeddings.convolutional_embedding import ConvolutionalEmbedding
from keras_attn.layers.embeddings.log_mel_spectrogram import LogMelSpectrogram
from keras_attn.layers.embeddings.patch_embedding import PatchEmbedding
from keras_attn.layers.embeddings.token_embedding import TokenEmbedding
from keras_attn.layers.embeddings.token_type_embedding import TokenTypeEmbedding
from keras_attn.layers.heads.classification_head import ClassificationHead
from keras_attn.layers.heads.embedding_head import EmbeddingHead
from keras_attn.layers.heads.pointer_generator import PointerGenerator
from keras_attn.layers.heads.similarity import Similarity
from keras_attn.layers.pooling.attention_pooling import AttentionPooling
from keras_attn.layers.pooling.first_token_pooling import FirstTokenPooling
from keras_attn.layers.pooling.last_token_pooling import LastTokenPooling
from keras_attn.layers.pooling.max_pooling import MaxPooling
from keras_attn.layers.pooling.mean_pooling import MeanPooling
from keras_attn.layers.pooling.sequence_pooling import SequencePooling
from keras_attn.layers.positions.alibi_position_bias import ALiBiPositionBias
from keras_attn.layers.positions.axial_rotary_position_encoding import AxialRotaryPositionEncoding
from keras_attn.layers.positions.convolutional_position_encoding import ConvolutionalPositionEncoding
from keras_attn.layers.positions.disentangled_position_embedding import DisentangledPositionEmbedding
from keras_attn.layers.positions.learned_position_embedding import LearnedPositionEmbedding
from keras_attn.layers.positions.position_encoding import PositionEncoding
from keras_attn.layers.positions.relative_position_bias import RelativePositionBias
from keras_attn.layers.positions.rotary_position_encoding import RotaryPositionEncoding
from keras_attn.layers.positions.shaw_relative_position import ShawRelativePosition
from keras_attn.layers.positions.sinusoidal_position_encoding import SinusoidalPositionEncoding
from keras_attn.layers.positions.sinusoidal_position_encoding_2d import SinusoidalPositionEncoding2D
from keras_attn.layers.recurrent.additive_attention import AdditiveAttention
from keras_attn.layers.recurrent.alignment import Alignment
from keras_attn.layers.recurrent.attention_cell import AttentionCell
from keras_attn.layers.recurrent.attention_rnn import AttentionRNN
from keras_attn.layers.recurrent.guided_alignment import GuidedAlignment
from keras_attn.layers.recurrent.location_sensitive_attention import LocationSensitiveAttention
from keras_attn.layers.recurrent.luong_attention import LuongAttention
from keras_attn.layers.recurrent.monotonic_attention import MonotonicAttention
from keras_attn.layers.recurrent.recurrence import Recurrence
from keras_attn.layers.recurrent.scheduled_sampling import ScheduledSampling
from keras_attn.layers.transformer.decoder import Decoder
from keras_attn.layers.transformer.decoder_block import DecoderBlock
from keras_attn.layers.transformer.encoder import Encoder
from keras_attn.layers.transformer.encoder_block import EncoderBlock
from keras_attn.layers.transformer.feed_forward import FeedForward
from keras_attn.layers.transformer.gated_feed_forward import GatedFeedForward
from keras_attn.layers.transformer.mixture_of_experts import MixtureOfExperts
from keras_attn.layers.transformer.parallel import Parallel
from keras_attn.layers.transformer.residual import Residual
from keras_attn.ops.attention_recording import recording

__all__ = [
    "ALiBiPositionBias",
    "AdditiveAttention",
    "Alignment",
    "AttentionCell",
    "AttentionPooling",
    "AttentionRNN",
    "AudioFrontEnd",
    "AxialRotaryPositionEncoding",
    "ClassificationHead",
    "ConvolutionalEmbedding",
    "ConvolutionalPositionEncoding",
    "Decoder",
    "DecoderBlock",
    "DisentangledAttention",
    "DisentangledPositionEmbedding",
    "EmbeddingHead",
    "Encoder",
    "EncoderBlock",
    "FeedForward",
    "FirstTokenPooling",
    "GatedFeedForward",
    "GuidedAlignment",
    "LastTokenPooling",
    "LearnedPositionEmbedding",
    "LocationSensitiveAttention",
    "LogMelSpectrogram",
    "LuongAttention",
    "MaxPooling",
    "MeanPooling",
    "MixtureOfExperts",
    "MonotonicAttention",
    "MultiHeadAttention",
    "PaddingMask",
    "Parallel",
    "PatchEmbedding",
    "PointerGenerator",
    "PositionEncoding",
    "Projection",
    "Recurrence",
    "RelativePositionBias",
    "Residual",
    "RotaryPositionEncoding",
    "ScheduledSampling",
    "SequencePooling",
    "ShawRelativePosition",
    "Similarity",
    "SinusoidalPositionEncoding",
    "SinusoidalPositionEncoding2D",
    "TokenEmbedding",
    "TokenTypeEmbedding",
    "recording",
]
