"""Llama: [Touvron et al., 2023](https://arxiv.org/abs/2302.13971)."""

from typing import Any

from keras_attn.layers import GatedFeedForward
from keras_attn.models import LanguageModel
from keras_attn.pretrained.activations import activation
from keras_attn.pretrained.causal_heads import causal_heads
from keras_attn.pretrained.checkpoint_config import CheckpointConfig
from keras_attn.pretrained.family import Family
from keras_attn.pretrained.rope import rope
from keras_attn.pretrained.rows import block

ATTENTION = {
    "input_layernorm": "self_attention/norm_before",
    "self_attn.q_proj": "self_attention/attention/query",
    "self_attn.k_proj": "self_attention/attention/key",
    "self_attn.v_proj": "self_attention/attention/value",
    "self_attn.o_proj": "self_attention/attention/attention_output",
    "post_attention_layernorm": "feed_forward/norm_before",
}
BLOCK = {
    **ATTENTION,
    "mlp.gate_proj": "feed_forward/network/gate",
    "mlp.up_proj": "feed_forward/network/intermediate",
    "mlp.down_proj": "feed_forward/network/output",
}
CAUSAL_LM = {"lm_head.weight": "embedding/reverse_embeddings"}


def settings(config: CheckpointConfig, rotates_part: Any = False) -> dict[str, Any]:
    num_heads, width = config.size("num_attention_heads", 32), config.size("hidden_size", 4096)
    config.only("rope_interleaved", False)
    config.ignore("is_llama_config", "max_sequence_length")
    key_dim = config.size("head_dim", width // num_heads)
    act, bias = activation(config, "hidden_act", "silu"), bool(config("mlp_bias", False))
    return {
        "vocabulary_size": config.size("vocab_size", 32000),
        "num_layers": config.size("num_hidden_layers", 32),
        "hidden_dim": width,
        "num_heads": num_heads,
        "num_kv_heads": config.size("num_key_value_heads", num_heads),
        "key_dim": key_dim,
        "feed_forward": GatedFeedForward(config.size("intermediate_size", 11008), activation=act, use_bias=bias),
        "norm_layer": "rms",
        "norm_epsilon": config.number("rms_norm_eps", 1e-6),
        "use_attention_bias": bool(config("attention_bias", False)),
        "tie_output": config("tie_word_embeddings", False),
        "attention_dropout": config.number("attention_dropout", 0.0),
        "position": rope(config, head_dim=key_dim if rotates_part else None),
    }


def family(
    architecture: Any, settings: Any, rows: Any = BLOCK, final_norm: Any = "decoder/final_norm", name: Any = None
) -> Any:
    """A family with the names of Llama's tensors."""
    return Family(
        LanguageModel,
        settings,
        {
            "embed_tokens.weight": "embedding/embeddings",
            **block("layers.*", "decoder/decoder_*", rows),
            "norm": final_norm,
        },
        causal_heads(architecture, CAUSAL_LM, name),
        prefix="model",
        tied=("lm_head.weight", "embed_tokens.weight"),
        ignored=(r"layers\.\d+\.self_attn\.rotary_emb\.inv_freq",),
    )


LLAMA = family("LlamaForCausalLM", settings)
