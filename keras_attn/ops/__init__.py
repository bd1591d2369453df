"""Pure functions on arrays, written in `keras.ops`: no weights, no state.

Shapes use one legend everywhere in this package: `B` batch, `T` query length, `S` key length, `D` model width,
`N` query heads, `K` key/value heads, `H` head width, `M` cache length, `V` vocabulary. Masks are boolean,
True = may attend. Biases are float and added to the logits. Kernels work on `(B, N, T, H)`.
"""

from keras_attn.ops import cache
from keras_attn.ops.attention_mask import AttentionMask
from keras_attn.ops.dense_attention import dense_attention
from keras_attn.ops.distance_buckets import distance_buckets
from keras_attn.ops.masked_softmax import masked_softmax
from keras_attn.ops.mechanisms import AttentionRequest, Mechanism, register_mechanism, select_mechanism
from keras_attn.ops.rotary import rotary
from keras_attn.ops.sinusoid import sinusoid

__all__ = [
    "AttentionMask",
    "AttentionRequest",
    "Mechanism",
    "cache",
    "dense_attention",
    "distance_buckets",
    "masked_softmax",
    "register_mechanism",
    "rotary",
    "select_mechanism",
    "sinusoid",
]
