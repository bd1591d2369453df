"""BLOOM: [BigScience Workshop, 2022](https://arxiv.org/abs/2211.05100)."""

from typing import Any

from keras_attn.layers import ALiBiPositionBias
from keras_attn.models import LanguageModel
from keras_attn.ops import gelu_tanh
from keras_attn.pretrained.causal_heads import causal_heads
from keras_attn.pretrained.checkpoint_config import CheckpointConfig
from keras_attn.pretrained.families import gpt_neox
from keras_attn.pretrained.family import Family
from keras_attn.pretrained.rows import block

TENSORS = {
    "word_embeddings.weight": "embedding/embeddings",
    "word_embeddings_layernorm": "embedding_norm",
    **block("h.*", "decoder/decoder_*", gpt_neox.block_rows("self_attention")),
    "ln_f": "decoder/final_norm",
}
# Settings of the code that BLOOM was trained with.
_OF_TRAINING = ("attention_softmax_in_fp32", "bias_dropout_fusion", "masked_softmax_fusion", "skip_bias_add")
_OF_TRAINING += ("skip_bias_add_qkv", "offset_alibi", "seq_length", "slow_but_exact")


def settings(config: CheckpointConfig) -> dict[str, Any]:
    width = config.size("n_embed", config.size("hidden_size", 64))
    num_heads = config.size("n_head", config.size("num_attention_heads", 8))
    config.only("apply_residual_connection_post_layernorm", False)
    config.ignore(*_OF_TRAINING)
    return {
        "vocabulary_size": config.size("vocab_size", 250880),
        "num_layers": config.size("n_layer", config.size("num_hidden_layers", 2)),
        "hidden_dim": width,
        "num_heads": num_heads,
        "intermediate_dim": 4 * width,
        "activation": gelu_tanh,
        "embedding_norm": True,
        "norm_epsilon": config.number("layer_norm_epsilon", 1e-5),
        "tie_output": config("tie_word_embeddings", True),
        "dropout": config.number("hidden_dropout", 0.0),
        "attention_dropout": config.number("attention_dropout", 0.0),
        "position": ALiBiPositionBias(num_heads, name="position"),
    }


BLOOM = Family(
    LanguageModel,
    settings,
    TENSORS,
    causal_heads("BloomForCausalLM", {"lm_head.weight": "embedding/reverse_embeddings"}),
    prefix="transformer",
    tied=("lm_head.weight", "word_embeddings.weight"),
)
