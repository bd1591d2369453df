"""The tokenizer of a checkpoint."""

from __future__ import annotations

from typing import Any

from keras_attn.pretrained.folder import CheckpointFolder


def tokenizer_of(files: CheckpointFolder, limit: int | None, max_length: int | None) -> Any:
    """The tokenizer in a folder, or None if there are no such files."""
    return None
