"""A teacher's outputs as the targets of a student."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras

from keras_attn.argument_checks import check_positive
from keras_attn.replacement import replacement
from keras_attn.training.distillation.teacher_logits import fingerprint

if TYPE_CHECKING:
    from keras_attn.generation.generation_config import GenerationConfig


def teacher_texts(
    teacher: keras.Model,
    sources: Sequence[str],
    path: str | os.PathLike[str],
    config: GenerationConfig | None = None,
    batch_size: int = 64,
) -> list[tuple[str, str]]:
    """Sequence-level distillation: pairs of sources and what the teacher generates, to train a student on.

    A file keeps the pairs, so that they are generated once. If a run is interrupted, the next one goes on after the
    last complete batch.

    Args:
        teacher: A generative model with a tokenizer.
        sources: The sources.
        path: The file, JSON lines after a first line about the teacher and its settings.
        config: `GenerationConfig`, such as one with `BeamSearch(5)`. Defaults to that of the teacher.
        batch_size: Number of sources that are generated from at once.

    Returns:
        A list of `(source, text)`; the best sequence, if the strategy returns several.

    Raises:
        ValueError: If an argument is invalid, or the file is that of another teacher, other settings or other sources.

    Reference:
        [Kim and Rush, 2016](https://arxiv.org/abs/1606.07947)

    Example:

    >>> import tempfile
    >>> import keras_attn
    >>> from keras_attn.text import CharacterTokenizer
    >>> from keras_attn.training.distillation import teacher_texts
    >>> tokenizer = CharacterTokenizer("abc")
    >>> config = keras_attn.GenerationConfig(max_length=3)
    >>> teacher = keras_attn.Transformer(
    ...     tokenizer.vocabulary_size, 1, 8, 2, 16, tokenizer=tokenizer, generation_config=config)
    >>> pairs = teacher_texts(teacher, ["ab", "c"], f"{tempfile.mkdtemp()}/pairs.jsonl")
    >>> [source for source, _ in pairs]
    ['ab', 'c']
    """
    check_positive(batch_size=batch_size)
    if isinstance(sources, str):
        raise ValueError(f"`sources` must be a list of strings. Received a single one: {sources[:40]!r}")
    sources = list(sources)
    if not sources or not all(isinstance(source, str) for source in sources):
        raise ValueError(f"`sources` must be a list of strings, and not empty. Received: {sources[:3]}")
    if getattr(teacher, "tokenizer", None) is None or not hasattr(teacher, "prefill"):
        raise ValueError(f"`teacher` must be a generative model with a tokenizer. Received: {teacher!r}")
    config = teacher.generation_config if config is None else config
    if config is None:
        raise ValueError("`config` must be given for a teacher without `generation_config`. Received: config=None")
    path = pathlib.Path(path)
    head = {
        "teacher": fingerprint(teacher),
        "config": keras.saving.serialize_keras_object(config),
        "sources": hashlib.blake2b("\0".join(sources).encode(), digest_size=16).hexdigest(),
    }
    unfinished = path.with_name(f"{path.name}.unfinished")
    if path.exists():
        pairs = _read(path, head, sources)
        if len(pairs) != len(sources):
            raise ValueError(
                f"`path` must hold a pair for each of {len(sources)} sources; remove it. Received: {path} with "
                f"{len(pairs)}"
            )
        return pairs
    pairs = _read(unfinished, head, sources) if unfinished.exists() else []
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacement(unfinished) as file:
        file.write_bytes(b"".join([_line(head), *map(_line, pairs)]))
    with open(unfinished, "ab") as file:
        for start in range(len(pairs), len(sources), batch_size):
            some = sources[start : start + batch_size]
            texts = teacher.generate(some, config=config)
            texts = [text if isinstance(text, str) else text[0] for text in texts]
            pairs += zip(some, texts, strict=True)
            file.writelines(_line(pair) for pair in zip(some, texts, strict=True))
            file.flush()
    os.replace(unfinished, path)
    return pairs


def _line(entry: Any) -> bytes:
    return json.dumps(entry, ensure_ascii=False).encode() + b"\n"


def _read(path, head, sources):
    """The pairs of the complete lines of a file."""
    # What follows the last line end is a line that was cut off.
    lines = path.read_bytes().split(b"\n")[:-1]
    if not lines:
        return []
    first, *lines = lines
    if first + b"\n" != _line(head):
        raise ValueError(
            "`path` must not be a file of another teacher, other settings or other sources; give another one. "
            f"Received: {path}"
        )
    try:
        pairs = [tuple(json.loads(line)) for line in lines]
    except (ValueError, TypeError):
        pairs = [()]
    if not all(len(pair) == 2 for pair in pairs) or [pair[0] for pair in pairs] != sources[: len(lines)]:
        raise ValueError(f"`path` must hold the pairs that `teacher_texts` wrote; remove it. Received: {path}")
    return pairs
