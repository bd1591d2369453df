"""`keras.layers.Layer` subclasses: attention, positions, embeddings, feed-forward networks and blocks."""

from keras_attn.layers.alibi_position_bias import ALiBiPositionBias
from keras_attn.layers.attention_recording import recording
from keras_attn.layers.decoder_block import DecoderBlock
from keras_attn.layers.encoder_block import EncoderBlock
from keras_attn.layers.feed_forward import FeedForward
from keras_attn.layers.learned_position_embedding import LearnedPositionEmbedding
from keras_attn.layers.multi_head_attention import MultiHeadAttention
from keras_attn.layers.padding_mask import PaddingMask
from keras_attn.layers.position_encoding import PositionEncoding
from keras_attn.layers.projection import Projection
from keras_attn.layers.relative_position_bias import RelativePositionBias
from keras_attn.layers.residual import Residual
from keras_attn.layers.rotary_position_encoding import RotaryPositionEncoding
from keras_attn.layers.sinusoidal_position_encoding import SinusoidalPositionEncoding
from keras_attn.layers.token_embedding import TokenEmbedding

__all__ = [
    "ALiBiPositionBias",
    "DecoderBlock",
    "EncoderBlock",
    "FeedForward",
    "LearnedPositionEmbedding",
    "MultiHeadAttention",
    "PaddingMask",
    "PositionEncoding",
    "Projection",
    "RelativePositionBias",
    "Residual",
    "RotaryPositionEncoding",
    "SinusoidalPositionEncoding",
    "TokenEmbedding",
    "recording",
]
