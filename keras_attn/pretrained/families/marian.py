"""Marian, Pegasus, M2M100 and NLLB: blocks as in BART, sinusoidal positions.

[Junczys-Dowmunt et al., 2018](https://arxiv.org/abs/1804.00344);
[Zhang et al., 2020](https://arxiv.org/abs/1912.08777); [Fan et al., 2020](https://arxiv.org/abs/2010.11125);
[NLLB Team, 2022](https://arxiv.org/abs/2207.04672).
"""

from keras_attn.layers import SinusoidalPositionEncoding
from keras_attn.models import Transformer
from keras_attn.pretrained.families.bart import IGNORED, LM_HEAD, TIED, common_settings, seq2seq_lm, tensors
from keras_attn.pretrained.family import Family

_IGNORED = (*IGNORED, r"(en|de)coder\.embed_positions\.weights?")


def _only_sinusoidal(config, norm):
    config.only("normalize_before", norm == "pre")
    config.only("add_final_layer_norm", norm == "pre")
    config.only("normalize_embedding", False)
    config.only("static_position_embeddings", True)
    config.only("add_bias_logits", False)
    config.ignore("max_position_embeddings")


def _separate_embeddings(config):
    return not config("share_encoder_decoder_embeddings", True)


def _marian_settings(config):
    _only_sinusoidal(config, "post")
    separate, size = _separate_embeddings(config), config.size("vocab_size", 58101)
    target = config.size("decoder_vocab_size", size)
    if not separate and target != size:
        raise ValueError(
            "`config.json` must have 'decoder_vocab_size' equal to 'vocab_size' for shared embeddings. "
            f"Received: {target} and {size}"
        )
    return common_settings(config) | {
        "vocabulary_size": target,
        "source_vocabulary_size": size if separate else None,
        "norm": "post",
        "output_bias": True,
        "position": SinusoidalPositionEncoding(interleaved=False, name="position"),
    }


def _marian_tensors(config):
    found = tensors("after")
    if _separate_embeddings(config):
        found["decoder.embed_tokens.weight"] = found.pop("shared.weight")
        found["encoder.embed_tokens.weight"] = "source_embedding/embeddings"
    return found


def _pegasus_settings(config):
    _only_sinusoidal(config, "pre")
    return common_settings(config) | {
        "norm": "pre",
        "output_bias": True,
        "position": SinusoidalPositionEncoding(interleaved=False, name="position"),
    }


def _m2m_100_settings(config):
    _only_sinusoidal(config, "pre")
    # Positions start after that of padding.
    first = config("pad_token_id", 1) + 1
    position = SinusoidalPositionEncoding(interleaved=False, offset=first, endpoint=True, name="position")
    return common_settings(config, "relu", True, 0.1) | {"norm": "pre", "position": position}


MARIAN = Family(
    Transformer,
    _marian_settings,
    _marian_tensors,
    seq2seq_lm("MarianMTModel"),
    prefix="model",
    tied=("lm_head.weight", "decoder.embed_tokens.weight", "shared.weight", "encoder.embed_tokens.weight"),
    ignored=_IGNORED,
)
PEGASUS = Family(
    Transformer,
    _pegasus_settings,
    tensors("before"),
    seq2seq_lm("PegasusForConditionalGeneration"),
    prefix="model",
    tied=TIED,
    ignored=_IGNORED,
)
M2M_100 = Family(
    Transformer,
    _m2m_100_settings,
    tensors("before"),
    seq2seq_lm("M2M100ForConditionalGeneration", LM_HEAD),
    prefix="model",
    tied=TIED,
    ignored=_IGNORED,
)
