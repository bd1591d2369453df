"""CLIP and SigLIP: images and texts.

[Radford et al., 2021](https://arxiv.org/abs/2103.00020); [Zhai et al., 2023](https://arxiv.org/abs/2303.15343).
"""

from keras_attn.layers import (
    AttentionPooling,
    EmbeddingHead,
    FirstTokenPooling,
    LastTokenPooling,
    LearnedPositionEmbedding,
    PatchEmbedding,
)
from keras_attn.models import EncoderModel, TwoTowerModel
from keras_attn.pretrained.activations import activation
from keras_attn.pretrained.checkpoint_config import CheckpointConfig
from keras_attn.pretrained.families.bart import attention
from keras_attn.pretrained.family import Family, Head
from keras_attn.pretrained.rows import block, convolution, reshaped, split

_BLOCK = {
    "layer_norm1": "self_attention/norm_before",
    **attention("self_attn", "self_attention"),
    "layer_norm2": "feed_forward/norm_before",
    "mlp.fc1": "feed_forward/network/intermediate",
    "mlp.fc2": "feed_forward/network/output",
}


def _blocks(theirs, ours):
    return block(f"{theirs}.encoder.layers.*", f"{ours}/encoder/encoder_*", _BLOCK)


def _tensors(config):
    size = _part(config, "vision_config").size("patch_size", _PATCHES[config("model_type")])
    images, texts = "image_encoder", "text_encoder"
    return {
        "vision_model.embeddings.patch_embedding": convolution(f"{images}/patches/projection", size, size),
        "vision_model.embeddings.position_embedding": f"{images}/position",
        "vision_model.post_layernorm": f"{images}/encoder/final_norm",
        **_blocks("vision_model", images),
        "text_model.embeddings.token_embedding.weight": f"{texts}/embedding/embeddings",
        "text_model.embeddings.position_embedding": f"{texts}/position",
        "text_model.final_layer_norm": f"{texts}/encoder/final_norm",
        **_blocks("text_model", texts),
    }


_PATCHES = {"clip": 32, "siglip": 16}
_CLIP = {
    "vision_model.embeddings.class_embedding": reshaped(
        "image_encoder/patches/class_token", lambda x: x[None, None], lambda x: x[0, 0]
    ),
    "vision_model.pre_layrnorm": "image_encoder/embedding_norm",
    "visual_projection": "image_encoder/head/projection",
    "text_projection": "text_encoder/head/projection",
    "logit_scale": "similarity/logit_scale",
}


def _scalar(name):
    return reshaped(f"similarity/{name}", lambda x: x.reshape(()), lambda x: x.reshape(1))


_POOLING = "image_encoder/head/pooling"
_SIGLIP = {
    "vision_model.head.probe": f"{_POOLING}/query",
    **{
        f"vision_model.head.attention.in_proj_{theirs}": split(
            *(f"{_POOLING}/attention/{name}/{ours}" for name in ("query", "key", "value"))
        )
        for theirs, ours in (("weight", "kernel"), ("bias", "bias"))
    },
    "vision_model.head.attention.out_proj": f"{_POOLING}/attention/attention_output",
    "vision_model.head.layernorm": f"{_POOLING}/norm",
    "vision_model.head.mlp.fc1": f"{_POOLING}/intermediate",
    "vision_model.head.mlp.fc2": f"{_POOLING}/output",
    "text_model.head": "text_encoder/head/projection",
    "logit_scale": _scalar("logit_scale"),
    "logit_bias": _scalar("logit_bias"),
}


def _part(config, name):
    # `transformers` 4 wrote some settings a second time.
    again = config(f"{name}_dict", None) or {}
    return CheckpointConfig({**config.part(name).entries, **again})


def _encoder(config, sizes, act, epsilon):
    """The settings that images and texts share; `sizes` are the defaults of width, inner width and heads."""
    config.ignore("projection_dim", "projection_size", "dropout", "tie_word_embeddings")
    config.only("pruned_heads", {})
    width, inner, heads = sizes
    return {
        "num_layers": config.size("num_hidden_layers", 12),
        "hidden_dim": config.size("hidden_size", width),
        "num_heads": config.size("num_attention_heads", heads),
        "intermediate_dim": config.size("intermediate_size", inner),
        "activation": activation(config, "hidden_act", act),
        "norm": "pre",
        "norm_epsilon": config.number("layer_norm_eps", epsilon),
        "dropout": 0.0,
        "attention_dropout": config.number("attention_dropout", 0.0),
    }


def _image_encoder(config, common, head, is_clip, patch):
    size, patch = config.size("image_size", 224), config.size("patch_size", patch)
    width = common["hidden_dim"]
    encoder = EncoderModel(
        None,
        **common,
        embeddings=PatchEmbedding(patch, width, class_token=is_clip, use_bias=not is_clip, name="patches"),
        inputs={"images": {"shape": [size, size, config.size("num_channels", 3)], "dtype": "float32"}},
        position=LearnedPositionEmbedding((size // patch) ** 2 + is_clip, name="position"),
        embedding_norm=is_clip,
        head=head,
        name="image_encoder",
    )
    config.check_all_used()
    return encoder


def _text_encoder(config, common, width, length, **options):
    encoder = EncoderModel(
        config.size("vocab_size", options.pop("size")),
        **common,
        **options,
        position=LearnedPositionEmbedding(config.size("max_position_embeddings", length), name="position"),
        embedding_norm=False,
        head=EmbeddingHead(LastTokenPooling(), width, use_bias=not options.get("end_id"), normalize=False, name="head"),
        name="text_encoder",
    )
    config.check_all_used()
    return encoder


def _clip(config):
    images, texts = _part(config, "vision_config"), _part(config, "text_config")
    config.ignore("logit_scale_init_value")
    width = config.size("projection_dim", 512)
    head = EmbeddingHead(FirstTokenPooling(), width, use_bias=False, normalize=False, name="head")
    common = _encoder(images, (768, 3072, 12), "quick_gelu", 1e-5)
    # Old configs have an end token that is not the vocabulary's: theirs is then the largest id.
    end_id = texts("eos_token_id", 49407)
    options = {"attention_options": {"causal": True}, "end_id": "largest" if end_id == 2 else end_id, "size": 49408}
    text = _encoder(texts, (512, 2048, 8), "quick_gelu", 1e-5)
    return {
        "image_encoder": _image_encoder(images, common, head, True, 32),
        "text_encoder": _text_encoder(texts, text, width, 77, **options),
    }


def _siglip(config):
    images, texts = _part(config, "vision_config"), _part(config, "text_config")
    images.only("vision_use_head", True)
    sizes = (768, 3072, 12)
    common = _encoder(images, sizes, "gelu_pytorch_tanh", 1e-6)
    pooling = AttentionPooling(
        common["num_heads"],
        intermediate_dim=common["intermediate_dim"],
        activation=common["activation"],
        norm_epsilon=common["norm_epsilon"],
    )
    head = EmbeddingHead(pooling, normalize=False, name="head")
    text = _encoder(texts, sizes, "gelu_pytorch_tanh", 1e-6)
    width = texts.size("projection_size", text["hidden_dim"])
    return {
        "image_encoder": _image_encoder(images, common, head, False, 16),
        "text_encoder": _text_encoder(texts, text, width, 64, mask_padding=False, size=32000),
        "use_bias": True,
    }


IGNORED = (r"(text|vision)_model\.embeddings\.position_ids",)
CLIP = Family(TwoTowerModel, _clip, _tensors, {"image_text_similarity": Head("CLIPModel", _CLIP)}, ignored=IGNORED)
SIGLIP = Family(
    TwoTowerModel, _siglip, _tensors, {"image_text_similarity": Head("SiglipModel", _SIGLIP)}, ignored=IGNORED
)
