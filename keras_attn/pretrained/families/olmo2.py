"""OLMo 2: [Walsh et al., 2024](https://arxiv.org/abs/2501.00656)."""

from typing import Any

from keras_attn.pretrained.checkpoint_config import CheckpointConfig
from keras_attn.pretrained.families import llama, qwen3

BLOCK = {
    **llama.BLOCK,
    **qwen3.HEAD_NORMS,
    "post_attention_layernorm": "self_attention/norm_branch",
    "post_feedforward_layernorm": "feed_forward/norm_branch",
}
del BLOCK["input_layernorm"]


def settings(config: CheckpointConfig) -> dict[str, Any]:
    config.set_defaults(vocab_size=50304, rms_norm_eps=1e-5)
    found = llama.settings(config)
    options = {"qk_norm": "all_heads", "qk_norm_epsilon": found["norm_epsilon"]}
    return {**found, "norm": "res_post", "attention_options": options}


OLMO2 = llama.family("Olmo2ForCausalLM", settings, BLOCK)
