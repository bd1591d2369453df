"""GPT-2: [Radford et al., 2019](https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf)."""

from typing import Any

from keras_attn.layers import LearnedPositionEmbedding
from keras_attn.models import LanguageModel
from keras_attn.pretrained.activations import activation
from keras_attn.pretrained.causal_heads import causal_heads
from keras_attn.pretrained.checkpoint_config import CheckpointConfig
from keras_attn.pretrained.family import Family
from keras_attn.pretrained.rows import block, split, transposed

# Kernels are stored as `(inputs, outputs)`.
_PROJECTIONS = ("query", "key", "value")
BLOCK = {
    "ln_1": "self_attention/norm_before",
    "attn.c_attn": transposed(split(*(f"self_attention/attention/{name}" for name in _PROJECTIONS))),
    "attn.c_proj": transposed("self_attention/attention/attention_output"),
    "ln_2": "feed_forward/norm_before",
    "mlp.c_fc": transposed("feed_forward/network/intermediate"),
    "mlp.c_proj": transposed("feed_forward/network/output"),
}
EMBEDDINGS = {"wte.weight": "embedding/embeddings", "wpe": "position", "ln_f": "decoder/final_norm"}
CAUSAL_LM = {"lm_head.weight": "embedding/reverse_embeddings"}
TIED = ("lm_head.weight", "wte.weight")
# Of a head with two outputs.
SUMMARY = tuple(f"summary_{x}" for x in ("type", "use_proj", "activation", "proj_to_labels"))


def settings(config: CheckpointConfig) -> dict[str, Any]:
    width = config.size("n_embd", 768)
    config.only("scale_attn_weights", True)
    config.only("scale_attn_by_inverse_layer_idx", False)
    config.ignore("reorder_and_upcast_attn", "n_ctx", "embd_pdrop", "n_special", "predict_special_tokens", *SUMMARY)
    return {
        "vocabulary_size": config.size("vocab_size", 50257),
        "num_layers": config.size("n_layer", 12),
        "hidden_dim": width,
        "num_heads": config.size("n_head", 12),
        "intermediate_dim": config.size("n_inner", 4 * width),
        "activation": activation(config, "activation_function", "gelu_new"),
        "norm_epsilon": config.number("layer_norm_epsilon", 1e-5),
        "tie_output": config("tie_word_embeddings", True),
        "dropout": config.number("resid_pdrop", 0.1),
        "attention_dropout": config.number("attn_pdrop", 0.1),
        "position": LearnedPositionEmbedding(config.size("n_positions", 1024), name="position"),
    }


GPT2 = Family(
    LanguageModel,
    settings,
    {**EMBEDDINGS, **block("h.*", "decoder/decoder_*", BLOCK)},
    causal_heads("GPT2LMHeadModel", CAUSAL_LM, "GPT2"),
    prefix="transformer",
    tied=TIED,
    ignored=(r"h\.\d+\.attn\.(bias|masked_bias)",),
)
