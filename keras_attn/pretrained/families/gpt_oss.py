"""GPT-OSS: [OpenAI, 2025](https://arxiv.org/abs/2508.10925). Experts in MXFP4 become floats."""

import dataclasses
from typing import Any

import numpy as np

from keras_attn.layers import MixtureOfExperts
from keras_attn.ops import quick_gelu
from keras_attn.pretrained.checkpoint_config import CheckpointConfig
from keras_attn.pretrained.families import llama, mixtral
from keras_attn.pretrained.layer_types import SLIDING, layer_options, layer_types, window
from keras_attn.pretrained.rows import Row, Transform, reshaped
from keras_attn.pretrained.stored_experts import Mxfp4Experts

_NETWORK = "feed_forward/network"


def _gate_and_up(leaf):
    """Gate and up projection, which alternate, of all experts: `(experts, 2 outputs, ...)`."""

    def read(arrays, parts):
        return [arrays[0][:, i::2].reshape(-1, *arrays[0].shape[2:]) for i in range(2)]

    def write(arrays, parts):
        num_experts = parts[0].variable.shape[-2]
        each = [x.reshape(num_experts, -1, *x.shape[1:]) for x in arrays]
        return [np.stack(each, axis=2).reshape(num_experts, -1, *arrays[0].shape[1:])]

    return Row((f"{_NETWORK}/gate/{leaf}", f"{_NETWORK}/intermediate/{leaf}"), (Transform(read, write),))


def _swapped(x):
    return x.swapaxes(1, 2)


def _down():
    """The output projections of all experts, `(experts, inputs, outputs)`."""

    def write(arrays, parts):
        return [arrays[0].T.reshape(parts[0].variable.shape)]

    return Row((f"{_NETWORK}/output/kernel",), (Transform(lambda x, _: [x[0].reshape(-1, x[0].shape[-1]).T], write),))


BLOCK = {
    **llama.ATTENTION,
    "self_attn.sinks": "self_attention/attention/sinks",
    "mlp.router.weight": f"{_NETWORK}/router",
    "mlp.router.bias": f"{_NETWORK}/router_bias",
    "mlp.experts.gate_up_proj": reshaped(_gate_and_up("kernel"), _swapped, _swapped),
    "mlp.experts.gate_up_proj_bias": _gate_and_up("bias"),
    "mlp.experts.down_proj": _down(),
    "mlp.experts.down_proj_bias": f"{_NETWORK}/output_bias",
}
_ROPE = {"rope_type": "yarn", "factor": 32.0, "truncate": False, "original_max_position_embeddings": 4096}


def settings(config: CheckpointConfig) -> dict[str, Any]:
    config.set_defaults(vocab_size=201088, hidden_size=2880, intermediate_size=2880, num_hidden_layers=36, head_dim=64)
    config.set_defaults(num_attention_heads=64, num_key_value_heads=8, sliding_window=128, attention_bias=True)
    config.set_defaults(rope_theta=150000.0, rope_parameters=_ROPE, rms_norm_eps=1e-5)
    config.only("swiglu_alpha", 1.702)
    config.ignore("experts_per_token", "initial_context_length")
    if config("quantization_config", None):
        raise ValueError(
            "`folder` must hold GPT-OSS in MXFP4, or without quantisation. Received 'quantization_config' in "
            f"config.json: {config('quantization_config')}"
        )
    experts = MixtureOfExperts(
        config.size("num_local_experts", 128),
        config.size("intermediate_size"),
        activation=quick_gelu,
        top_k=config.size("num_experts_per_tok", 4),
        gate_limit=config.number("swiglu_limit", 7.0),
        gated_offset=1.0,
        load_balancing_loss=mixtral.balance(config),
        router_z_loss=0.0,
        use_bias=True,
        use_router_bias=True,
    )
    types = layer_types(config, lambda i: i % 2 == 0)
    return {
        **llama.settings(config),
        **layer_options(types, {SLIDING: {"window": window(config)}}),
        "feed_forward": experts,
        "attention_options": {"sinks": True},
    }


def _without_mxfp4(entries):
    quantization = entries.get("quantization_config")
    if not isinstance(quantization, dict) or quantization.get("quant_method") != "mxfp4":
        return entries
    return {name: value for name, value in entries.items() if name != "quantization_config"}


GPT_OSS = dataclasses.replace(
    llama.family("GptOssForCausalLM", settings, BLOCK), folder=Mxfp4Experts, completed=_without_mxfp4
)
