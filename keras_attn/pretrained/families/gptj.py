"""GPT-J: [Wang and Komatsuzaki, 2021](https://github.com/kingoflolz/mesh-transformer-jax)."""

from typing import Any

from keras_attn.layers import RotaryPositionEncoding
from keras_attn.models import LanguageModel
from keras_attn.pretrained.activations import activation
from keras_attn.pretrained.causal_heads import causal_heads
from keras_attn.pretrained.checkpoint_config import CheckpointConfig
from keras_attn.pretrained.families import gpt2
from keras_attn.pretrained.family import Family
from keras_attn.pretrained.rows import block

BLOCK = {
    "ln_1": "norm_before",
    "attn.q_proj": "attention/query",
    "attn.k_proj": "attention/key",
    "attn.v_proj": "attention/value",
    "attn.out_proj": "attention/attention_output",
    "mlp.fc_in": "network/intermediate",
    "mlp.fc_out": "network/output",
}
TENSORS = {
    "wte.weight": "embedding/embeddings",
    **block("h.*", "decoder/decoder_*", BLOCK),
    "ln_f": "decoder/final_norm",
}


def settings(config: CheckpointConfig) -> dict[str, Any]:
    width = config.size("n_embd", 4096)
    config.only("rotary", True)
    config.only("scale_attn_weights", True)
    config.ignore("embd_pdrop", "n_positions", "n_ctx", *gpt2.SUMMARY)
    rotary_dim = None if config("rotary_dim", 64) is None else config.size("rotary_dim", 64)
    return {
        "vocabulary_size": config.size("vocab_size", 50400),
        "num_layers": config.size("n_layer", 28),
        "hidden_dim": width,
        "num_heads": config.size("n_head", 16),
        "intermediate_dim": config.size("n_inner", 4 * width),
        "activation": activation(config, "activation_function", "gelu_new"),
        "norm_epsilon": config.number("layer_norm_epsilon", 1e-5),
        "parallel": True,
        "use_attention_bias": False,
        "tie_output": config("tie_word_embeddings", False),
        "output_bias": True,
        "dropout": config.number("resid_pdrop", 0.0),
        "attention_dropout": config.number("attn_pdrop", 0.0),
        "position": RotaryPositionEncoding(rotary_dim=rotary_dim, interleaved=True, name="position"),
    }


GPTJ = Family(
    LanguageModel,
    settings,
    TENSORS,
    causal_heads("GPTJForCausalLM", {**gpt2.CAUSAL_LM, "lm_head.bias": "embedding/bias"}),
    prefix="transformer",
    tied=gpt2.TIED,
    ignored=(r"h\.\d+\.attn\.(bias|masked_bias|embed_positions)",),
)
