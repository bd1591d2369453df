"""Phi 3 and the text models of Phi 4: [Abdin et al., 2024](https://arxiv.org/abs/2404.14219)."""

from typing import Any

from keras_attn.pretrained.checkpoint_config import CheckpointConfig
from keras_attn.pretrained.families import llama
from keras_attn.pretrained.layer_types import window
from keras_attn.pretrained.rope import rope_entry
from keras_attn.pretrained.rows import split

_ATTENTION, _NETWORK = "self_attention/attention", "feed_forward/network"
BLOCK = {
    "input_layernorm": "self_attention/norm_before",
    "self_attn.qkv_proj": split(f"{_ATTENTION}/query", f"{_ATTENTION}/key", f"{_ATTENTION}/value"),
    "self_attn.o_proj": f"{_ATTENTION}/attention_output",
    "post_attention_layernorm": "feed_forward/norm_before",
    "mlp.gate_up_proj": split(f"{_NETWORK}/gate", f"{_NETWORK}/intermediate"),
    "mlp.down_proj": f"{_NETWORK}/output",
}


def settings(config: CheckpointConfig) -> dict[str, Any]:
    config.set_defaults(vocab_size=32064, hidden_size=3072, intermediate_size=8192, rms_norm_eps=1e-5)
    config.set_defaults(max_position_embeddings=4096, original_max_position_embeddings=4096)
    config.only("lm_head_bias", False)
    config.ignore("embd_pdrop", "full_attn_mod", "interpolate_factor")
    scaling = rope_entry(config, "rope_scaling")
    if scaling.get("type") in ("su", "yarn"):
        # As early files call it.
        config.entries["rope_scaling"] = {**scaling, "type": "longrope"}
    found = llama.settings(config, rotates_part=True)
    return {**found, "window": window(config), "dropout": config.number("resid_pdrop", 0.0)}


PHI3 = llama.family("Phi3ForCausalLM", settings, BLOCK)
