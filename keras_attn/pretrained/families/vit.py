"""ViT, DeiT and AST: encoders of patches.

[Dosovitskiy et al., 2021](https://arxiv.org/abs/2010.11929); [Touvron et al., 2021](https://arxiv.org/abs/2012.12877);
[Gong et al., 2021](https://arxiv.org/abs/2104.01778).
"""

from typing import Any

import keras

from keras_attn.layers import ClassificationHead, FirstTokenPooling, LearnedPositionEmbedding, PatchEmbedding
from keras_attn.models import EncoderModel
from keras_attn.pretrained.activations import activation
from keras_attn.pretrained.checkpoint_config import CheckpointConfig
from keras_attn.pretrained.family import Family, Head
from keras_attn.pretrained.rows import block, convolution, reshaped

BLOCK = {
    "layernorm_before": "self_attention/norm_before",
    "attention.attention.query": "self_attention/attention/query",
    "attention.attention.key": "self_attention/attention/key",
    "attention.attention.value": "self_attention/attention/value",
    "attention.output.dense": "self_attention/attention/attention_output",
    "layernorm_after": "feed_forward/norm_before",
    "intermediate.dense": "feed_forward/network/intermediate",
    "output.dense": "feed_forward/network/output",
}


def tensors(config: CheckpointConfig, patches: Any = "patches") -> Any:
    return {
        "embeddings.cls_token": f"{patches}/class_token",
        "embeddings.distillation_token": f"{patches}/distillation_token",
        "embeddings.patch_embeddings.projection": convolution(f"{patches}/projection", *pair(config, "patch_size", 16)),
        "embeddings.position_embeddings": reshaped("position/position_embeddings", lambda x: x[0], lambda x: x[None]),
        **block("encoder.layer.*", "encoder/encoder_*", BLOCK),
        "layernorm": "encoder/final_norm",
    }


def pair(config: CheckpointConfig, name: Any, default: Any) -> Any:
    """`(rows, columns)`, from one number or two."""
    value = config(name, default)
    found = tuple(value) if isinstance(value, list) else (value, value)
    if len(found) != 2 or not all(isinstance(x, int) and 0 < x < 2**31 for x in found):
        raise ValueError(f"`config.json` must have one or two positive integers as {name!r}. Received: {value!r}")
    return found


def common_settings(config: CheckpointConfig, num_positions: Any) -> dict[str, Any]:
    """The settings of encoders of patches."""
    return {
        "vocabulary_size": None,
        "num_layers": config.size("num_hidden_layers", 12),
        "hidden_dim": config.size("hidden_size", 768),
        "num_heads": config.size("num_attention_heads", 12),
        "intermediate_dim": config.size("intermediate_size", 3072),
        "activation": activation(config, "hidden_act", "gelu"),
        "norm": "pre",
        "embedding_norm": False,
        "norm_epsilon": config.number("layer_norm_eps", 1e-12),
        "use_attention_bias": True if config("qkv_bias", True) else ["output"],
        "dropout": config.number("hidden_dropout_prob", 0.0),
        "attention_dropout": config.number("attention_probs_dropout_prob", 0.0),
        "position": LearnedPositionEmbedding(num_positions, name="position"),
    }


def _settings(num_tokens):
    def settings(config):
        config.ignore("encoder_stride", "pooler_output_size", "pooler_act")
        (height, width), (rows, columns) = pair(config, "image_size", 224), pair(config, "patch_size", 16)
        common = common_settings(config, num_tokens + (height // rows) * (width // columns))
        two = num_tokens == 2
        return common | {
            "embeddings": PatchEmbedding(
                (rows, columns), common["hidden_dim"], class_token=True, distillation_token=two, name="patches"
            ),
            "inputs": {"images": {"shape": [height, width, config.size("num_channels", 3)], "dtype": "float32"}},
        }

    return settings


def _ast_settings(config):
    frames, bands = config.size("max_length", 1024), config.size("num_mel_bins", 128)
    sizes, strides = (
        pair(config, "patch_size", 16),
        (config.size("frequency_stride", 10), config.size("time_stride", 10)),
    )
    rows, columns = ((x - y) // z + 1 for x, y, z in zip((bands, frames), sizes, strides, strict=True))
    common = common_settings(config, rows * columns + 2)
    patches = PatchEmbedding(
        sizes, common["hidden_dim"], class_token=True, distillation_token=True, strides=strides, name="patches"
    )
    images = [keras.layers.Permute((2, 1), name="transpose"), keras.layers.Reshape((bands, frames, 1), name="image")]
    return common | {
        "embeddings": keras.Sequential([*images, patches], name="front_end"),
        "inputs": {"input_values": {"shape": [frames, bands], "dtype": "float32"}},
    }


def _teacher(config, num_classes):
    kinds = {"cls": FirstTokenPooling(), "distillation": FirstTokenPooling(index=1)}
    heads = {f"{x}_logits": ClassificationHead(num_classes, pool, name=f"{x}_head") for x, pool in kinds.items()}
    return {"head": heads}


def _ast_head(config, num_classes):
    head = ClassificationHead(
        num_classes,
        FirstTokenPooling(num_tokens=2),
        norm_layer="layer",
        norm_epsilon=config.number("layer_norm_eps", 1e-12),
        name="head",
    )
    return {"head": head, "labels": config.labels}


def _vit_head(config, num_classes):
    return {"head": ClassificationHead(num_classes, FirstTokenPooling(), name="head"), "labels": config.labels}


VIT = Family(
    EncoderModel,
    _settings(1),
    tensors,
    {
        "base": Head("ViTModel", ignored=(r"pooler\..*",)),
        "image_classification": Head(
            "ViTForImageClassification", {"classifier": "head/classifier"}, _vit_head, "classifier.weight"
        ),
    },
    prefix="vit",
)
DEIT = Family(
    EncoderModel,
    _settings(2),
    tensors,
    {
        "base": Head("DeiTModel", ignored=(r"pooler\..*", r"classifier\..*")),
        "image_classification": Head(
            "DeiTForImageClassificationWithTeacher",
            {"cls_classifier": "cls_head/classifier", "distillation_classifier": "distillation_head/classifier"},
            _teacher,
            "cls_classifier.weight",
        ),
    },
    prefix="deit",
)
AUDIO_SPECTROGRAM_TRANSFORMER = Family(
    EncoderModel,
    _ast_settings,
    lambda config: tensors(config, "front_end/patches"),
    {
        "base": Head("ASTModel"),
        "audio_classification": Head(
            "ASTForAudioClassification",
            {"classifier.layernorm": "head/norm", "classifier.dense": "head/classifier"},
            _ast_head,
            "classifier.dense.weight",
        ),
    },
    prefix="audio_spectrogram_transformer",
)
