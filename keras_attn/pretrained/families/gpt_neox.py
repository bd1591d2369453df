"""GPT-NeoX and Pythia: [Black et al., 2022](https://arxiv.org/abs/2204.06745)."""

from typing import Any

from keras_attn.models import LanguageModel
from keras_attn.pretrained.activations import activation
from keras_attn.pretrained.causal_heads import causal_heads
from keras_attn.pretrained.checkpoint_config import CheckpointConfig
from keras_attn.pretrained.family import Family
from keras_attn.pretrained.rope import rope
from keras_attn.pretrained.rows import block, split_by_head


def block_rows(attention: Any) -> Any:
    """The rows of a block, with the name of their attention."""
    return {
        "input_layernorm": "self_attention/norm_before",
        f"{attention}.query_key_value": split_by_head(
            *(f"self_attention/attention/{name}" for name in ("query", "key", "value"))
        ),
        f"{attention}.dense": "self_attention/attention/attention_output",
        "post_attention_layernorm": "feed_forward/norm_before",
        "mlp.dense_h_to_4h": "feed_forward/network/intermediate",
        "mlp.dense_4h_to_h": "feed_forward/network/output",
    }


TENSORS = {
    "embed_in.weight": "embedding/embeddings",
    **block("layers.*", "decoder/decoder_*", block_rows("attention")),
    "final_layer_norm": "decoder/final_norm",
}


def settings(config: CheckpointConfig) -> dict[str, Any]:
    width, num_heads = config.size("hidden_size", 6144), config.size("num_attention_heads", 64)
    for own, name, default in (("rotary_emb_base", "rope_theta", 1e4), ("rotary_pct", "partial_rotary_factor", 0.25)):
        config.entries[name] = config.number(own, config.entries.get(name, default))
    # Of the first release; they are not used.
    config.ignore("attention_probs_dropout_prob", "hidden_dropout_prob")
    in_parallel = {"parallel": "two_norms"} if config("use_parallel_residual", True) else {}
    return {
        "vocabulary_size": config.size("vocab_size", 50432),
        "num_layers": config.size("num_hidden_layers", 44),
        "hidden_dim": width,
        "num_heads": num_heads,
        "intermediate_dim": config.size("intermediate_size", 24576),
        "activation": activation(config, "hidden_act", "gelu"),
        "norm_epsilon": config.number("layer_norm_eps", 1e-5),
        "use_attention_bias": bool(config("attention_bias", True)),
        "tie_output": config("tie_word_embeddings", False),
        "dropout": config.number("hidden_dropout", 0.0),
        "attention_dropout": config.number("attention_dropout", 0.0),
        "position": rope(config, head_dim=width // num_heads),
        **in_parallel,
    }


GPT_NEOX = Family(
    LanguageModel,
    settings,
    TENSORS,
    causal_heads("GPTNeoXForCausalLM", {"embed_out.weight": "embedding/reverse_embeddings"}),
    prefix="gpt_neox",
    tied=("embed_out.weight", "embed_in.weight"),
    ignored=(r"layers\.\d+\.attention\.(bias|masked_bias|rotary_emb\.inv_freq)",),
)
