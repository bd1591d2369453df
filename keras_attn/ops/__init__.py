"""Stateless functions on tensors, written in `keras.ops`.

Shapes use the same letters in the whole package: `B` batch, `T` query length, `S` key length, `D` model width,
`N` query heads, `K` key/value heads, `H` head width, `M` cache length, `V` vocabulary. Masks are boolean,
True = may attend. Biases are float and added to the logits. Kernels work on `(B, N, T, H)`.
"""

from keras_attn.ops import cache
from keras_attn.ops.activations import gelu_tanh, hugging_face_activation, quick_gelu, squared_relu
from keras_attn.ops.attention_arguments import AttentionArguments
from keras_attn.ops.attention_mask import AttentionMask
from keras_attn.ops.attention_request import AttentionRequest
from keras_attn.ops.attention_rollout import attention_rollout
from keras_attn.ops.blockwise_attention import blockwise_attention
from keras_attn.ops.ctc import ctc_beam_search, ctc_greedy, ctc_losses
from keras_attn.ops.dense_attention import dense_attention
from keras_attn.ops.expert_routing import expert_routing, load_balancing_loss, router_z_loss
from keras_attn.ops.linear_attention import linear_attention
from keras_attn.ops.linear_cross_entropy import linear_cross_entropy
from keras_attn.ops.local_attention import local_attention
from keras_attn.ops.masked_softmax import masked_softmax
from keras_attn.ops.mechanisms import Mechanism, register_mechanism, select_mechanism
from keras_attn.ops.monotonic import hard_monotonic, soft_monotonic
from keras_attn.ops.pooling import first_token, last_token, masked_max, masked_mean, normalized
from keras_attn.ops.positions import bucket_logits, distance_buckets, grid_cells, relative_logits, relative_values
from keras_attn.ops.rotary import rotary
from keras_attn.ops.rotary_scaling import rotary_frequencies
from keras_attn.ops.scan import scan
from keras_attn.ops.sinusoid import sinusoid
from keras_attn.ops.windows import image_patches, overlapping_patches, sequence_windows, valid_windows

__all__ = [
    "AttentionArguments",
    "AttentionMask",
    "AttentionRequest",
    "Mechanism",
    "attention_rollout",
    "blockwise_attention",
    "bucket_logits",
    "cache",
    "ctc_beam_search",
    "ctc_greedy",
    "ctc_losses",
    "dense_attention",
    "distance_buckets",
    "expert_routing",
    "first_token",
    "gelu_tanh",
    "grid_cells",
    "hard_monotonic",
    "hugging_face_activation",
    "image_patches",
    "last_token",
    "linear_attention",
    "linear_cross_entropy",
    "load_balancing_loss",
    "local_attention",
    "masked_max",
    "masked_mean",
    "masked_softmax",
    "normalized",
    "overlapping_patches",
    "quick_gelu",
    "register_mechanism",
    "relative_logits",
    "relative_values",
    "rotary",
    "rotary_frequencies",
    "router_z_loss",
    "scan",
    "select_mechanism",
    "sequence_windows",
    "sinusoid",
    "soft_monotonic",
    "squared_relu",
    "valid_windows",
]
