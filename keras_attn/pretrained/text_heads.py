"""The heads of text encoders, which differ between families in the names of their modules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras_attn.pretrained.checkpoint_config import CheckpointConfig
from keras_attn.pretrained.family import Head, Table

Options = Callable[[CheckpointConfig], dict[str, Any]]


def text_heads(
    name: str,
    pooled: Table,
    masked_lm: Table,
    *,
    choice: Table | None = None,
    body: tuple[str, ...] = (),
    pooled_options: Options = lambda config: {},
    choice_options: Options | None = None,
    masked_lm_options: Options = lambda config: {},
) -> dict[str, Head]:
    """The heads by task.

    Args:
        name: What the names of all classes start with.
        pooled: The rows of sequence classification.
        masked_lm: The rows of masked language modelling.
        choice: The rows of multiple choice. Defaults to `pooled`.
        body: Their modules in these rows that belong to the body.
        pooled_options: Function from the config to arguments of the model for sequence classification.
        choice_options: The same for multiple choice. Defaults to `pooled_options`.
        masked_lm_options: The same for masked language modelling.
    """

    def pooled_settings(config, num_classes):
        return {**classifier("sequence_classification")(config, num_classes), **pooled_options(config)}

    def choice_settings(config, _):
        return {"head": "multiple_choice", **(choice_options or pooled_options)(config)}

    def masked_lm_settings(config, _):
        config.only("tie_word_embeddings", True)
        return {"head": "masked_lm", **masked_lm_options(config)}

    choice = pooled if choice is None else choice
    return {
        "base": Head(f"{name}Model"),
        "sequence_classification": Head(
            f"{name}ForSequenceClassification", pooled, pooled_settings, classifier_of(pooled), body=body
        ),
        "multiple_choice": Head(f"{name}ForMultipleChoice", choice, choice_settings, body=body),
        "token_classification": Head(
            f"{name}ForTokenClassification",
            {"classifier": "classifier"},
            classifier("token_classification"),
            "classifier.weight",
        ),
        "question_answering": Head(
            f"{name}ForQuestionAnswering",
            {"qa_outputs": "classifier"},
            lambda config, _: {"head": "token_classification", "num_classes": 2},
        ),
        "masked_lm": Head(f"{name}ForMaskedLM", masked_lm, masked_lm_settings, ignored=(r"(.*\.)?decoder\.bias",)),
    }


def classifier(head: str) -> Callable[[CheckpointConfig, int | None], dict[str, Any]]:
    """The settings of a classifier."""
    return lambda config, num_classes: {"head": head, "num_classes": num_classes, "labels": config.labels}


def classifier_of(rows: Table) -> str:
    """The tensor whose first axis has one entry per class."""
    return next(f"{theirs}.weight" for theirs, ours in rows.items() if ours == "classifier")
