"""OPT: [Zhang et al., 2022](https://arxiv.org/abs/2205.01068)."""

from typing import Any

from keras_attn.layers import LearnedPositionEmbedding
from keras_attn.models import LanguageModel
from keras_attn.pretrained.activations import activation
from keras_attn.pretrained.causal_heads import causal_heads
from keras_attn.pretrained.checkpoint_config import CheckpointConfig
from keras_attn.pretrained.family import Family
from keras_attn.pretrained.rows import block, skip_rows


def _tensors(config):
    norm = "norm_before" if config("do_layer_norm_before", True) else "norm_after"
    rows = {
        "self_attn_layer_norm": f"self_attention/{norm}",
        "self_attn.q_proj": "self_attention/attention/query",
        "self_attn.k_proj": "self_attention/attention/key",
        "self_attn.v_proj": "self_attention/attention/value",
        "self_attn.out_proj": "self_attention/attention/attention_output",
        "final_layer_norm": f"feed_forward/{norm}",
        "fc1": "feed_forward/network/intermediate",
        "fc2": "feed_forward/network/output",
    }
    return {
        "decoder.embed_tokens.weight": "embedding/embeddings",
        "decoder.project_in": "embedding_projection",
        "decoder.embed_positions": skip_rows("position", 2),
        **block("decoder.layers.*", "decoder/decoder_*", rows),
        "decoder.final_layer_norm": "decoder/final_norm",
        "decoder.project_out": "output_dense",
    }


def settings(config: CheckpointConfig) -> dict[str, Any]:
    width = config.size("hidden_size", 768)
    embedding_dim = config.size("word_embed_proj_dim", width)
    config.only("enable_bias", True)
    config.only("layer_norm_elementwise_affine", True)
    config.only("_remove_final_layer_norm", False)
    config.ignore("activation_dropout")
    return {
        "vocabulary_size": config.size("vocab_size", 50272),
        "num_layers": config.size("num_hidden_layers", 12),
        "hidden_dim": width,
        "num_heads": config.size("num_attention_heads", 12),
        "intermediate_dim": config.size("ffn_dim", 3072),
        "embedding_dim": None if embedding_dim == width else embedding_dim,
        "activation": activation(config, "activation_function", "relu"),
        "norm": "pre" if config("do_layer_norm_before", True) else "post",
        "norm_epsilon": 1e-5,
        "tie_output": config("tie_word_embeddings", True),
        "dropout": config.number("dropout", 0.1),
        "attention_dropout": config.number("attention_dropout", 0.0),
        "position": LearnedPositionEmbedding(config.size("max_position_embeddings", 2048), name="position"),
    }


OPT = Family(
    LanguageModel,
    settings,
    _tensors,
    causal_heads("OPTForCausalLM", {"lm_head.weight": "embedding/reverse_embeddings"}),
    prefix="model",
    tied=("lm_head.weight", "decoder.embed_tokens.weight"),
)
