"""Models that share the stacks of a family's own model, and have other heads."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from keras_attn.models import EncoderModel, Seq2SeqEncoderModel
from keras_attn.pretrained.rows import Row, row

# Arguments of models that concern the logits of their tokens.
_OF_LOGITS = ("tie_output", "output_bias", "logit_soft_cap")
_OF_DECODERS = ("num_decoder_layers", "decoder_options", "decoder_position")


@dataclasses.dataclass(frozen=True)
class Conversion:
    """Another class of model for the weights of a family.

    Args:
        model: The class.
        arguments: Function from the arguments of the family's own class to those of `model`.
        table: Function from the table of the family's own class to that of `model`.
    """

    model: type
    arguments: Callable[[Mapping[str, Any]], dict[str, Any]]
    table: Callable[[Mapping[str, str | Row]], Mapping[str, str | Row]] = dict


def _causal(arguments):
    found = _without(arguments, _OF_LOGITS)
    found["attention_options"] = {**found.get("attention_options", {}), "causal": True}
    return {"norm": "pre", "dropout": 0.0, "embedding_norm": False, **found}


def _renamed(table):
    rows = {name: row(target) for name, target in table.items()}
    return {
        name: dataclasses.replace(x, paths=tuple(path.replace("decoder", "encoder") for path in x.paths))
        for name, x in rows.items()
    }


def _encoder(arguments):
    found = _without(arguments, (*_OF_LOGITS, *_OF_DECODERS))
    if "embeddings" in found:
        found["vocabulary_size"] = None
    return {"embedding_norm": False, **found}


def _both(arguments):
    return {"embedding_norm": False, **_without(arguments, _OF_LOGITS)}


def _without(arguments, names):
    return {name: value for name, value in arguments.items() if name not in names}


# The blocks of a `LanguageModel`, with causal attention.
CAUSAL_ENCODER = Conversion(EncoderModel, _causal, _renamed)
# The encoder of a `Transformer`.
ENCODER = Conversion(EncoderModel, _encoder)
# Both stacks of a `Transformer`, which read the same text.
SEQ2SEQ_ENCODER = Conversion(Seq2SeqEncoderModel, _both)
