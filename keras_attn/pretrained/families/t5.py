"""T5: [Raffel et al., 2020](https://arxiv.org/abs/1910.10683), and mT5: [Xue et al., 2021](https://arxiv.org/abs/2010.11934)."""

import dataclasses
from typing import Any

from keras_attn.layers import FeedForward, GatedFeedForward, RelativePositionBias
from keras_attn.models import Transformer
from keras_attn.pretrained.activations import activation
from keras_attn.pretrained.checkpoint_config import CheckpointConfig
from keras_attn.pretrained.conversions import ENCODER
from keras_attn.pretrained.family import Family, Head
from keras_attn.pretrained.rows import block, scaled
from keras_attn.pretrained.seq2seq_heads import seq2seq_heads
from keras_attn.pretrained.text_heads import classifier


def _tensors(config):
    rows = {"encoder": {}, "decoder": {}}
    for side, sublayers in (("encoder", ("self", "feed")), ("decoder", ("self", "cross", "feed"))):
        for number, sublayer in enumerate(sublayers):
            if sublayer == "feed":
                name, ours = f"layer.{number}.DenseReluDense", "feed_forward/network"
                found = {"wi": "intermediate", "wi_0": "gate", "wi_1": "intermediate", "wo": "output"}
                if config("is_gated_act", False) or "gated" in config("feed_forward_proj", "relu"):
                    del found["wi"]
            else:
                theirs = "SelfAttention" if sublayer == "self" else "EncDecAttention"
                name, ours = f"layer.{number}.{theirs}", f"{sublayer}_attention/attention"
                found = {"q": "query", "k": "key", "v": "value", "o": "attention_output"}
            rows[side] |= {f"{name}.{x}": f"{ours}/{y}" for x, y in found.items()}
            norm = "feed_forward" if sublayer == "feed" else f"{sublayer}_attention"
            rows[side][f"layer.{number}.layer_norm"] = f"{norm}/norm_before"
    scale = config.size("d_model", 512) ** -0.5 if config("scale_decoder_outputs", False) else 1.0
    bias = "layer.0.SelfAttention.relative_attention_bias"
    return {
        "shared.weight": "embedding/embeddings",
        **block("encoder.block.*", "encoder/encoder_*", rows["encoder"]),
        **block("decoder.block.*", "decoder/decoder_*", rows["decoder"]),
        f"encoder.block.0.{bias}": "position",
        f"decoder.block.0.{bias}": "decoder_position",
        "encoder.final_layer_norm": "encoder/final_norm",
        "decoder.final_layer_norm": scaled("decoder/final_norm", scale),
    }


def settings(config: CheckpointConfig) -> dict[str, Any]:
    heads, width = config.size("num_heads", 8), config.size("d_ff", 2048)
    kind = config("feed_forward_proj", "relu")
    name = kind.removeprefix("gated-")
    config.entries["dense_act_fn"] = "gelu_new" if kind == "gated-gelu" else name
    act = activation(config, "dense_act_fn", name)
    config.ignore("is_gated_act", "scale_decoder_outputs", "n_positions", "output_past")
    network = GatedFeedForward if kind.startswith("gated-") else FeedForward
    layers = config.size("num_layers", 6)
    buckets = config.size("relative_attention_num_buckets", 32), config.size("relative_attention_max_distance", 128)
    return {
        "vocabulary_size": config.size("vocab_size", 32128),
        "num_layers": layers,
        "num_decoder_layers": config.size("num_decoder_layers", layers),
        "hidden_dim": config.size("d_model", 512),
        "num_heads": heads,
        "key_dim": config.size("d_kv", 64),
        "feed_forward": network(width, activation=act, use_bias=False),
        "norm": "pre",
        "norm_layer": "rms",
        "norm_epsilon": config.number("layer_norm_epsilon", 1e-6),
        "use_attention_bias": False,
        "attention_options": {"scale": 1.0},
        "decoder_options": {"cross_attention_options": {"scale": 1.0}},
        "scale_embeddings": False,
        "tie_output": config("tie_word_embeddings", True),
        "dropout": config.number("dropout_rate", 0.1),
        "position": RelativePositionBias(heads, *buckets, name="position"),
        "decoder_position": RelativePositionBias(heads, *buckets, bidirectional=False, name="decoder_position"),
    }


def _completed(entries):
    # `transformers` 5 writes `tie_word_embeddings` as True for all, and what it said before in another entry.
    return {"scale_decoder_outputs": entries.get("tie_word_embeddings") is not False, **entries}


LM_HEAD = {"lm_head.weight": "embedding/reverse_embeddings"}
# Only the logits of tokens are of scaled outputs.
_UNSCALED = {"decoder.final_layer_norm": "decoder/final_norm"}


def _shift(config):
    start_id = config.size("decoder_start_token_id", 0, minimum=0)
    return {"start_id": start_id, "end_id": config.size("eos_token_id", 1, minimum=0)}


def heads(name: Any) -> Any:
    """The heads of classes whose names begin like this. `base` is the encoder alone."""
    return {
        "seq2seq_lm": Head(f"{name}ForConditionalGeneration", LM_HEAD, has_prefix=False),
        "base": Head(
            f"{name}EncoderModel",
            ignored=(r"(decoder|lm_head|classification_head|qa_outputs|classifier)\..*",),
            conversion=ENCODER,
        ),
        "token_classification": Head(
            f"{name}ForTokenClassification",
            {"classifier": "classifier"},
            classifier("token_classification"),
            "classifier.weight",
            (r"decoder\..*",),
            conversion=ENCODER,
        ),
        **seq2seq_heads(name, _shift, _UNSCALED, qa_has_prefix=False),
    }


T5 = Family(
    Transformer,
    settings,
    _tensors,
    heads("T5"),
    prefix="transformer",
    tied=("lm_head.weight", "shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight"),
    ignored=(
        r"(en|de)coder\.embed_tokens\.weight",
        r"decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight",
    ),
    completed=_completed,
)
_MT5 = {"vocab_size": 250112, "d_ff": 1024, "num_layers": 8, "num_heads": 6, "feed_forward_proj": "gated-gelu"}
MT5 = dataclasses.replace(
    T5,
    heads=heads("MT5"),
    completed=lambda entries: {**_MT5, **entries},
)
