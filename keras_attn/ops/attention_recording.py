"""A scope in which every attention layer leaves its scores."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator

from keras_attn.typing import Tensor

_recorder = contextvars.ContextVar("keras_attn_attention_recorder", default=None)


class _Records(dict):
    """A dict in which nothing is overwritten: a key set again is kept as `key#2`, `key#3`, ..."""

    def __setitem__(self, key, value):
        name, count = key, 1
        while name in self:
            count += 1
            name = f"{key}#{count}"
        super().__setitem__(name, value)


@contextlib.contextmanager
def recording() -> Iterator[dict[str, Tensor]]:
    """Yields a dict that each attention layer called in the scope fills with `{layer.path: scores (B, N, T, S)}`.

    Calls stand in their order. A path that is met again, because blocks share their weights or because nested models
    have layers of one name, leaves its scores under `path#2`, `path#3`, ... Meant for eager calls: inside a compiled
    function the values would be symbolic.
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
