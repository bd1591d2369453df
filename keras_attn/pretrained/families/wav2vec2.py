"""Wav2Vec2: [Baevski et al., 2020](https://arxiv.org/abs/2006.11477)."""

from typing import Any

from keras_attn.layers import AudioFrontEnd, ClassificationHead, ConvolutionalPositionEncoding, MeanPooling
from keras_attn.models import EncoderModel
from keras_attn.pretrained.activations import activation
from keras_attn.pretrained.checkpoint_config import CheckpointConfig
from keras_attn.pretrained.families.bart import attention
from keras_attn.pretrained.family import Family, Head
from keras_attn.pretrained.rows import block, convolution, weight_norm

_KERNELS = (10, 3, 3, 3, 3, 2, 2)
_WIDTHS = (512,) * 7
_STRIDES = (5, 2, 2, 2, 2, 2, 2)


def tensors(config: CheckpointConfig) -> Any:
    stable = config("do_stable_layer_norm", False)
    norm = "before" if stable else "after"
    rows = {}
    for i, size in enumerate(config("conv_kernel", _KERNELS)):
        rows[f"feature_extractor.conv_layers.{i}.conv"] = convolution(f"front_end/convolution_{i}", size)
        rows[f"feature_extractor.conv_layers.{i}.layer_norm"] = f"front_end/norm_{i}"
    layer = {
        **attention("attention", "self_attention"),
        "layer_norm": f"self_attention/norm_{norm}",
        "feed_forward.intermediate_dense": "feed_forward/network/intermediate",
        "feed_forward.output_dense": "feed_forward/network/output",
        "final_layer_norm": f"feed_forward/norm_{norm}",
    }
    return {
        **rows,
        "feature_projection.layer_norm": "front_end/output_norm",
        "feature_projection.projection": "front_end/output",
        "encoder.pos_conv_embed.conv": weight_norm("position/filters"),
        "encoder.pos_conv_embed.conv.bias": "position/bias",
        "encoder.layer_norm": "encoder/final_norm" if stable else "embedding_norm",
        **block("encoder.layers.*", "encoder/encoder_*", layer),
    }


def settings(config: CheckpointConfig) -> dict[str, Any]:
    config.only("add_adapter", False)
    config.only("use_weighted_layer_sum", False)
    config.only("adapter_attn_dim", None)
    # Of the front end too, where it is no setting.
    config.only("layer_norm_eps", 1e-5)
    # Pretraining, losses and heads that are not read, changes of the features in training.
    prefixes = ("mask_time_", "mask_feature_", "mask_channel_", "no_mask_", "num_codevector")
    prefixes += ("tdnn_", "ctc_", "adapter_", "feat_", "xvector_")
    config.ignore(*(name for name in config.entries if name.startswith(prefixes)))
    # Of the first release; they are not used.
    config.ignore("hidden_dropout_prob", "freeze_feat_extract_train")
    config.ignore("apply_spec_augment", "contrastive_logits_temperature", "num_negatives", "codevector_dim")
    config.ignore("proj_codevector_dim", "diversity_loss_weight", "num_adapter_layers", "output_hidden_size")
    config.ignore(
        "num_feat_extract_layers", "final_dropout", "vocab_size", "classifier_proj_size", "do_stable_layer_norm"
    )
    config.ignore("gradient_checkpointing", "feature_extractor_type", "conv_kernel")
    width, stable = config.size("hidden_size", 768), bool(config("do_stable_layer_norm", False))
    act = activation(config, "feat_extract_activation", "gelu")
    front = AudioFrontEnd(
        list(config("conv_dim", _WIDTHS)),
        list(config("conv_kernel", _KERNELS)),
        list(config("conv_stride", _STRIDES)),
        activation=act,
        use_bias=bool(config("conv_bias", False)),
        padding="valid",
        norm=config("feat_extract_norm", "group"),
        output_dim=width,
        name="front_end",
    )
    size, groups = config.size("num_conv_pos_embeddings", 128), config.size("num_conv_pos_embedding_groups", 16)
    return {
        "vocabulary_size": None,
        "num_layers": config.size("num_hidden_layers", 12),
        "hidden_dim": width,
        "num_heads": config.size("num_attention_heads", 12),
        "intermediate_dim": config.size("intermediate_size", 3072),
        "embeddings": front,
        "inputs": {"input_values": {"shape": [None, 1], "dtype": "float32"}},
        "activation": activation(config, "hidden_act", "gelu"),
        "norm": "pre" if stable else "post",
        "embedding_norm": not stable,
        "norm_epsilon": 1e-5,
        "dropout": config.number("hidden_dropout", 0.1),
        "attention_dropout": config.number("attention_dropout", 0.1),
        "activation_dropout": config.number("activation_dropout", 0.1),
        "position": ConvolutionalPositionEncoding(size, groups, activation=act, name="position"),
    }


def _ctc(config, num_classes):
    return {"head": ClassificationHead(num_classes, name="head")}


def classifier(config: CheckpointConfig, num_classes: Any) -> dict[str, Any]:
    """The settings of a classifier of the mean over time."""
    width = config.size("classifier_proj_size", 256)
    # The mean of projections is the projection of the mean.
    head = ClassificationHead(num_classes, MeanPooling(), hidden_dim=width, activation=None, name="head")
    return {"head": head, "labels": config.labels}


WAV2VEC2 = Family(
    EncoderModel,
    settings,
    tensors,
    {
        "base": Head("Wav2Vec2Model", ignored=(r"(quantizer|project_(q|hid))\..*",)),
        "speech_to_text": Head("Wav2Vec2ForCTC", {"lm_head": "head/classifier"}, _ctc, "lm_head.weight"),
        "audio_classification": Head(
            "Wav2Vec2ForSequenceClassification",
            {"projector": "head/hidden", "classifier": "head/classifier"},
            classifier,
            "classifier.weight",
        ),
    },
    prefix="wav2vec2",
    # Stands for masked features in training.
    ignored=("masked_spec_embed",),
)
