"""GPT-Neo: [Black et al., 2021](https://doi.org/10.5281/zenodo.5297715)."""

from typing import Any

from keras_attn.layers import LearnedPositionEmbedding
from keras_attn.models import LanguageModel
from keras_attn.pretrained.activations import activation
from keras_attn.pretrained.causal_heads import causal_heads
from keras_attn.pretrained.checkpoint_config import CheckpointConfig
from keras_attn.pretrained.families import gpt2
from keras_attn.pretrained.family import Family
from keras_attn.pretrained.rows import block

BLOCK = {
    "ln_1": "self_attention/norm_before",
    "attn.attention.q_proj": "self_attention/attention/query",
    "attn.attention.k_proj": "self_attention/attention/key",
    "attn.attention.v_proj": "self_attention/attention/value",
    "attn.attention.out_proj": "self_attention/attention/attention_output",
    "ln_2": "feed_forward/norm_before",
    "mlp.c_fc": "feed_forward/network/intermediate",
    "mlp.c_proj": "feed_forward/network/output",
}


def settings(config: CheckpointConfig) -> dict[str, Any]:
    width, count = config.size("hidden_size", 2048), config.size("num_layers", 24)
    options = {"global": {}, "local": {"window": config.size("window_size", 256)}}
    config.ignore("embed_dropout", "attention_layers", *gpt2.SUMMARY)
    return {
        "vocabulary_size": config.size("vocab_size", 50257),
        "num_layers": count,
        "hidden_dim": width,
        "num_heads": config.size("num_heads", 16),
        "intermediate_dim": config.size("intermediate_size", 4 * width),
        "activation": activation(config, "activation_function", "gelu_new"),
        "norm_epsilon": config.number("layer_norm_epsilon", 1e-5),
        "use_attention_bias": ["output"],
        "attention_options": {"scale": 1.0},
        "layer_options": [options[kind] for kind in _kinds(config, count)],
        "tie_output": config("tie_word_embeddings", True),
        "dropout": config.number("resid_dropout", 0.0),
        "attention_dropout": config.number("attention_dropout", 0.0),
        "position": LearnedPositionEmbedding(config.size("max_position_embeddings", 2048), name="position"),
    }


def _kinds(config, count):
    """ "global" or "local" for each layer, from pairs of some kinds and how often they repeat."""
    given = config("attention_types", [[["global", "local"], 12]])
    try:
        pairs = [(list(kinds), int(repeats)) for kinds, repeats in given]
    except (TypeError, ValueError):
        pairs = []
    fits = sum(len(kinds) * repeats for kinds, repeats in pairs) == count and min(x for _, x in pairs) > 0
    found = [kind for kinds, repeats in pairs for kind in repeats * kinds] if fits else []
    if not found or not all(kind in ("global", "local") for kind in found):
        raise ValueError(
            "`config.json` must have lists such as [[['global', 'local'], 12]] as 'attention_types', for "
            f"num_layers={count}. Received: {given!r}"
        )
    return found


GPT_NEO = Family(
    LanguageModel,
    settings,
    {**gpt2.EMBEDDINGS, **block("h.*", "decoder/decoder_*", BLOCK)},
    causal_heads("GPTNeoForCausalLM", gpt2.CAUSAL_LM),
    prefix="transformer",
    tied=gpt2.TIED,
    ignored=(r"h\.\d+\.attn\.attention\.(bias|masked_bias)",),
)
