"""The heads of encoder-decoders that are not for generation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras_attn.pretrained.checkpoint_config import CheckpointConfig
from keras_attn.pretrained.conversions import SEQ2SEQ_ENCODER
from keras_attn.pretrained.family import Head, Table
from keras_attn.pretrained.text_heads import classifier

CLASSIFIER = {"classification_head.dense": "pooler", "classification_head.out_proj": "classifier"}
QA_OUTPUTS = {"qa_outputs": "classifier"}


def seq2seq_heads(
    name: str,
    settings: Callable[[CheckpointConfig], dict[str, Any]],
    body: Table | None = None,
    qa_has_prefix: bool = True,
) -> dict[str, Head]:
    """The heads of classes whose decoder reads the text that the encoder reads, by task.

    Args:
        name: What the names of the classes start with.
        settings: Function from the config to `start_id` and `end_id`.
        body: Rows of the body that replace those of the family.
        qa_has_prefix: See `Head.has_prefix`, for question answering.
    """
    body = {} if body is None else body
    shared = {"conversion": SEQ2SEQ_ENCODER, "body": tuple(body)}
    return {
        "sequence_classification": Head(
            f"{name}ForSequenceClassification",
            {**body, **CLASSIFIER},
            lambda config, num_classes: {
                **classifier("sequence_classification")(config, num_classes),
                **settings(config),
            },
            "classification_head.out_proj.weight",
            **shared,
        ),
        "question_answering": Head(
            f"{name}ForQuestionAnswering",
            {**body, **QA_OUTPUTS},
            lambda config, _: {"head": "token_classification", "num_classes": 2, **settings(config)},
            has_prefix=qa_has_prefix,
            **shared,
        ),
    }
