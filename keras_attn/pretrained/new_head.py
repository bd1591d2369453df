"""The weights of a head that a checkpoint does not hold."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras

from keras_attn.labels import Labels
from keras_attn.pretrained.buffers import assign
from keras_attn.pretrained.checkpoint_config import CheckpointConfig
from keras_attn.pretrained.family import Head, Table
from keras_attn.pretrained.folder import CheckpointFolder
from keras_attn.pretrained.weights import Assignment, assignments

_UNNAMED = re.compile(r"LABEL_\d+")


def with_labels(entries: Mapping[str, Any], labels: Sequence[str]) -> dict[str, Any]:
    """The contents of `config.json` with other names of classes."""
    names = Labels(labels).names
    kept = {name: value for name, value in entries.items() if name not in ("num_labels", "problem_type")}
    return kept | {
        "id2label": {str(i): name for i, name in enumerate(names)},
        "label2id": {name: i for i, name in enumerate(names)},
    }


def check_has_classes(head: Head, task: str) -> None:
    """Raises a ValueError if a head has no classes that could be named."""
    if head.classifier is None:
        raise ValueError(
            f"`labels` must be None for task={task!r}, which has no classes of its own. For a new classifier, pass "
            "task='sequence_classification' or another task with classes"
        )


def kept_names(
    names: Mapping[str, str], files: CheckpointFolder, head: Head, config: CheckpointConfig, labels: Sequence[str]
) -> dict[str, str]:
    """The names of tensors without those of a classifier of other classes.

    Args:
        names: See `load_weights`.
        files: The folder.
        head: The head.
        config: The config of the folder.
        labels: The wanted classes.
    """
    stored = names.get(head.classifier)
    theirs = config.labels
    unnamed = theirs is None or all(map(_UNNAMED.fullmatch, theirs))
    if stored is None or (files.shapes()[stored][0] == len(labels) and (unnamed or theirs == Labels(labels).names)):
        return dict(names)
    module = head.classifier.rpartition(".")[0]
    return {name: value for name, value in names.items() if name.rpartition(".")[0] != module}


def new_entries(model: keras.Model, table: Table, names: Iterable[str], head: Head) -> list[Assignment]:
    """The assignments of a head's modules of which no tensor is there."""
    present = {name.rpartition(".")[0] for name in names}
    own = tuple(head.tensors)
    return [
        entry
        for entry in assignments(model, table)[0]
        if entry.names[0].rpartition(".")[0] not in present
        and any(entry.names[0] == x or entry.names[0].startswith(f"{x}.") for x in own)
    ]


def draw(entries: Sequence[Assignment]) -> None:
    """Draws the initial values that the layers ask for, and warns which weights are new."""
    for part in (part for entry in entries for part in entry.parts):
        initializer = getattr(part.layer, f"{part.leaf}_initializer", None)
        if initializer is not None:
            assign(part.variable, initializer(part.variable.shape, dtype=part.variable.dtype))
    if entries:
        names = sorted(name for entry in entries for name in entry.names)
        warnings.warn(f"These weights are new, with random initial values, and must be trained: {names}", stacklevel=3)
