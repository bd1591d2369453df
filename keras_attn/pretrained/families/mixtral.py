"""Mixtral: [Jiang et al., 2024](https://arxiv.org/abs/2401.04088)."""

import dataclasses
from typing import Any

from keras_attn.layers import MixtureOfExperts
from keras_attn.pretrained.activations import activation
from keras_attn.pretrained.checkpoint_config import CheckpointConfig
from keras_attn.pretrained.families import llama, mistral
from keras_attn.pretrained.rows import stacked
from keras_attn.pretrained.stored_experts import FusedExperts

BLOCK = {
    **llama.ATTENTION,
    "block_sparse_moe.gate": "feed_forward/network",
    "block_sparse_moe.experts.#.w1": stacked("feed_forward/network/gate"),
    "block_sparse_moe.experts.#.w2": stacked("feed_forward/network/output", axis=1),
    "block_sparse_moe.experts.#.w3": stacked("feed_forward/network/intermediate"),
}


def settings(config: CheckpointConfig) -> dict[str, Any]:
    config.set_defaults(rope_theta=1e6, rms_norm_eps=1e-5, sliding_window=None)
    experts = MixtureOfExperts(
        config.size("num_local_experts", 8),
        config.size("intermediate_size", 14336),
        activation=activation(config, "hidden_act", "silu"),
        top_k=config.size("num_experts_per_tok", 2),
        load_balancing_loss=balance(config),
        router_z_loss=0.0,
        router_jitter=config.number("router_jitter_noise", 0.0),
    )
    return {**mistral.settings(config), "feed_forward": experts}


def balance(config: CheckpointConfig) -> Any:
    """The factor of the loss that balances the use of the experts."""
    factor = config.number("router_aux_loss_coef", 0.001)
    return factor if config("output_router_logits", False) else 0.0


MIXTRAL = dataclasses.replace(llama.family("MixtralForCausalLM", settings, BLOCK), folder=FusedExperts)
