"""Llama: [Touvron et al., 2023](https://arxiv.org/abs/2302.13971)."""

from keras_attn.layers import GatedFeedForward, RotaryPositionEncoding
from keras_attn.models import LanguageModel
from keras_attn.pretrained.activations import activation
from keras_attn.pretrained.family import Family, Head
from keras_attn.pretrained.rope import rope
from keras_attn.pretrained.rows import block

BLOCK = {
    "input_layernorm": "self_attention/norm_before",
    "self_attn.q_proj": "self_attention/attention/query",
    "self_attn.k_proj": "self_attention/attention/key",
    "self_attn.v_proj": "self_attention/attention/value",
    "self_attn.o_proj": "self_attention/attention/attention_output",
    "post_attention_layernorm": "feed_forward/norm_before",
    "mlp.gate_proj": "feed_forward/network/gate",
    "mlp.up_proj": "feed_forward/network/intermediate",
    "mlp.down_proj": "feed_forward/network/output",
}
TENSORS = {
    "embed_tokens.weight": "embedding/embeddings",
    **block("layers.*", "decoder/decoder_*", BLOCK),
    "norm": "decoder/final_norm",
}
CAUSAL_LM = {"lm_head.weight": "embedding/reverse_embeddings"}
TIED = ("lm_head.weight", "embed_tokens.weight")


def settings(config):
    num_heads, width = config.size("num_attention_heads", 32), config.size("hidden_size", 4096)
    config.only("mlp_bias", False)
    act = activation(config, "hidden_act", "silu")
    return {
        "vocabulary_size": config.size("vocab_size", 32000),
        "num_layers": config.size("num_hidden_layers", 32),
        "hidden_dim": width,
        "num_heads": num_heads,
        "num_kv_heads": config.size("num_key_value_heads", num_heads),
        "key_dim": config.size("head_dim", width // num_heads),
        "feed_forward": GatedFeedForward(config.size("intermediate_size", 11008), activation=act, use_bias=False),
        "norm_layer": "rms",
        "norm_epsilon": config.number("rms_norm_eps", 1e-6),
        "use_attention_bias": bool(config("attention_bias", False)),
        "tie_output": config("tie_word_embeddings", False),
        "attention_dropout": config.number("attention_dropout", 0.0),
        "position": RotaryPositionEncoding(**rope(config), name="position"),
    }


LLAMA = Family(
    LanguageModel,
    settings,
    TENSORS,
    {"causal_lm": Head("LlamaForCausalLM", CAUSAL_LM)},
    prefix="model",
    tied=TIED,
    ignored=(r"layers\.\d+\.self_attn\.rotary_emb\.inv_freq",),
)
