"""BART and mBART: [Lewis et al., 2020](https://arxiv.org/abs/1910.13461)."""

from typing import Any

from keras_attn.layers import LearnedPositionEmbedding
from keras_attn.models import Transformer
from keras_attn.pretrained.activations import activation
from keras_attn.pretrained.checkpoint_config import CheckpointConfig
from keras_attn.pretrained.conversions import SEQ2SEQ_ENCODER
from keras_attn.pretrained.family import Family, Head
from keras_attn.pretrained.rows import block, reshaped, skip_rows
from keras_attn.pretrained.seq2seq_heads import seq2seq_heads


def attention(theirs: Any, ours: Any) -> Any:
    """The rows of an attention sub-layer of a block, without its norm."""
    layer = f"{ours}/attention"
    names = {"q_proj": "query", "k_proj": "key", "v_proj": "value", "out_proj": "attention_output"}
    return {f"{theirs}.{name}": f"{layer}/{path}" for name, path in names.items()}


def tensors(norm: Any) -> Any:
    """The table of the blocks and embeddings, with norms "before" or "after" the sub-layers."""
    sides = {"encoder": {"self_attn": "self_attention"}}
    sides["decoder"] = {**sides["encoder"], "encoder_attn": "cross_attention"}
    rows = {"shared.weight": "embedding/embeddings"}
    for side, sublayers in sides.items():
        found = {"fc1": "feed_forward/network/intermediate", "fc2": "feed_forward/network/output"}
        found["final_layer_norm"] = f"feed_forward/norm_{norm}"
        for theirs, ours in sublayers.items():
            found |= attention(theirs, ours) | {f"{theirs}_layer_norm": f"{ours}/norm_{norm}"}
        rows |= block(f"{side}.layers.*", f"{side}/{side}_*", found)
        rows[f"{side}.layer_norm"] = f"{side}/final_norm"
    return rows


# Two rows of the position tables come before the first position.
_EMBEDDINGS = {
    "encoder.embed_positions.weight": skip_rows("position/position_embeddings", 2),
    "decoder.embed_positions.weight": skip_rows("decoder_position/position_embeddings", 2),
    "encoder.layernorm_embedding": "embedding_norm",
    "decoder.layernorm_embedding": "decoder_embedding_norm",
}


def common_settings(
    config: CheckpointConfig, act: Any = "gelu", scale: Any = False, attention_dropout: Any = 0.0
) -> dict[str, Any]:
    """The settings of all families that have the tensors of BART's blocks."""
    config.ignore("num_hidden_layers", "extra_pos_embeddings", "classif_dropout", "force_bos_token_to_be_generated")
    layers, heads = config.size("encoder_layers", 12), config.size("encoder_attention_heads", 16)
    width = config.size("encoder_ffn_dim", 4096)
    return {
        "vocabulary_size": config.size("vocab_size", 50265),
        "num_layers": layers,
        "num_decoder_layers": config.size("decoder_layers", layers),
        "hidden_dim": config.size("d_model", 1024),
        "num_heads": heads,
        "intermediate_dim": width,
        "decoder_options": {
            "num_heads": config.size("decoder_attention_heads", heads),
            "intermediate_dim": config.size("decoder_ffn_dim", width),
        },
        "activation": activation(config, "activation_function", act),
        "norm_epsilon": 1e-5,
        "scale_embeddings": bool(config("scale_embedding", scale)),
        "tie_output": config("tie_word_embeddings", True),
        "dropout": config.number("dropout", 0.1),
        "attention_dropout": config.number("attention_dropout", attention_dropout),
        "activation_dropout": config.number("activation_dropout", 0.0),
    }


def _settings(norm):
    def settings(config):
        config.only("normalize_before", norm == "pre")
        config.only("add_final_layer_norm", norm == "pre")
        config.only("normalize_embedding", True)
        config.only("static_position_embeddings", False)
        config.only("add_bias_logits", False)
        length = config.size("max_position_embeddings", 1024)
        return common_settings(config) | {
            "norm": norm,
            "embedding_norm": True,
            "output_bias": True,
            "position": LearnedPositionEmbedding(length, name="position"),
            "decoder_position": LearnedPositionEmbedding(length, name="decoder_position"),
        }

    return settings


LM_HEAD = {"lm_head.weight": "embedding/reverse_embeddings"}
BIASED_HEAD = LM_HEAD | {"final_logits_bias": reshaped("embedding/bias", lambda x: x[0], lambda x: x[None])}
TIED = ("lm_head.weight", "shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
IGNORED = (r"(en|de)coder\.embed_tokens\.weight", r"(en|de)coder\.version")


def seq2seq_lm(architecture: Any, table: Any = BIASED_HEAD) -> Any:
    """The heads: generation of text from text."""
    zeros = ("final_logits_bias",) if table is BIASED_HEAD else ()
    return {"seq2seq_lm": Head(architecture, table, zeros=zeros)}


def _heads(name, start_id):
    def settings(config):
        first = config.size("decoder_start_token_id", 2, minimum=0) if start_id is None else start_id
        return {"start_id": first, "end_id": config.size("eos_token_id", 2, minimum=0)}

    # What `BartModel` returns for a text alone.
    base = Head(
        f"{name}Model",
        settings=lambda config, _: settings(config),
        conversion=SEQ2SEQ_ENCODER,
    )
    return {**seq2seq_lm(f"{name}ForConditionalGeneration"), "base": base, **seq2seq_heads(name, settings)}


BART = Family(
    Transformer,
    _settings("post"),
    tensors("after") | _EMBEDDINGS,
    _heads("Bart", None),
    prefix="model",
    tied=TIED,
    ignored=IGNORED,
)
MBART = Family(
    Transformer,
    _settings("pre"),
    tensors("before") | _EMBEDDINGS,
    _heads("MBart", "last"),
    prefix="model",
    tied=TIED,
    ignored=IGNORED,
)
