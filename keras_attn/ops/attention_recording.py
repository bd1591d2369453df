"""Scope that records the scores of all attention layers."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator

from keras_attn.typing import Tensor

_recorder = contextvars.ContextVar("keras_attn_attention_recorder", default=None)


class _Records(dict):
    """A dict that overwrites nothing: a key that is set again is stored as `key#2`, `key#3`, ..."""

    def __setitem__(self, key, value):
        name, count = key, 1
        while name in self:
            count += 1
            name = f"{key}#{count}"
        super().__setitem__(name, value)


@contextlib.contextmanager
def recording() -> Iterator[dict[str, Tensor]]:
    """Yields a dict that the attention layers called in the scope fill with `{layer.path: scores (B, N, T, S)}`.

    Entries are in the order of the calls. Further scores of the same path, from shared weights or from nested models
    with layers of the same name, are stored as `path#2`, `path#3`, ... Meant for eager calls: in a compiled function
    the values would be symbolic.
    """
    scores = _Records()
    token = _recorder.set(scores)
    try:
        yield scores
    finally:
        _recorder.reset(token)


def recorder():
    """The dict of the innermost `recording` scope, or None."""
    return _recorder.get()
