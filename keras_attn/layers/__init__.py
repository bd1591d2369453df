"""`keras.layers.Layer` subclasses: attention, positions, embeddings, feed-forward networks and blocks."""

from keras_attn.layers.additive_attention import AdditiveAttention
from keras_attn.layers.alibi_position_bias import ALiBiPositionBias
from keras_attn.layers.alignment import Alignment
from keras_attn.layers.attention_cell import AttentionCell
from keras_attn.layers.attention_pooling import AttentionPooling
from keras_attn.layers.attention_rnn import AttentionRNN
from keras_attn.layers.audio_front_end import AudioFrontEnd
from keras_attn.layers.axial_rotary_position_encoding import AxialRotaryPositionEncoding
from keras_attn.layers.decoder import Decoder
from keras_attn.layers.decoder_block import DecoderBlock
from keras_attn.layers.encoder import Encoder
from keras_attn.layers.encoder_block import EncoderBlock
from keras_attn.layers.feed_forward import FeedForward
from keras_attn.layers.first_token_pooling import FirstTokenPooling
from keras_attn.layers.gated_feed_forward import GatedFeedForward
from keras_attn.layers.guided_alignment import GuidedAlignment
from keras_attn.layers.learned_position_embedding import LearnedPositionEmbedding
from keras_attn.layers.location_sensitive_attention import LocationSensitiveAttention
from keras_attn.layers.luong_attention import LuongAttention
from keras_attn.layers.mean_pooling import MeanPooling
from keras_attn.layers.mixture_of_experts import MixtureOfExperts
from keras_attn.layers.monotonic_attention import MonotonicAttention
from keras_attn.layers.multi_head_attention import MultiHeadAttention
from keras_attn.layers.padding_mask import PaddingMask
from keras_attn.layers.parallel import Parallel
from keras_attn.layers.patch_embedding import PatchEmbedding
from keras_attn.layers.position_encoding import PositionEncoding
from keras_attn.layers.projection import Projection
from keras_attn.layers.recurrence import Recurrence
from keras_attn.layers.relative_position_bias import RelativePositionBias
from keras_attn.layers.residual import Residual
from keras_attn.layers.rotary_position_encoding import RotaryPositionEncoding
from keras_attn.layers.scheduled_sampling import ScheduledSampling
from keras_attn.layers.shaw_relative_position import ShawRelativePosition
from keras_attn.layers.sinusoidal_position_encoding import SinusoidalPositionEncoding
from keras_attn.layers.sinusoidal_position_encoding_2d import SinusoidalPositionEncoding2D
from keras_attn.layers.token_embedding import TokenEmbedding
from keras_attn.layers.token_type_embedding import TokenTypeEmbedding
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
    "Decoder",
    "DecoderBlock",
    "Encoder",
    "EncoderBlock",
    "FeedForward",
    "FirstTokenPooling",
    "GatedFeedForward",
    "GuidedAlignment",
    "LearnedPositionEmbedding",
    "LocationSensitiveAttention",
    "LuongAttention",
    "MeanPooling",
    "MixtureOfExperts",
    "MonotonicAttention",
    "MultiHeadAttention",
    "PaddingMask",
    "Parallel",
    "PatchEmbedding",
    "PositionEncoding",
    "Projection",
    "Recurrence",
    "RelativePositionBias",
    "Residual",
    "RotaryPositionEncoding",
    "ScheduledSampling",
    "ShawRelativePosition",
    "SinusoidalPositionEncoding",
    "SinusoidalPositionEncoding2D",
    "TokenEmbedding",
    "TokenTypeEmbedding",
    "recording",
]
