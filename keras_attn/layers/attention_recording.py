"""A scope in which every attention layer leaves its scores."""

import contextlib
import contextvars

_recorder = contextvars.ContextVar("keras_attn_attention_recorder", default=None)


@contextlib.contextmanager
def recording():
    """Yields a dict that each attention layer called in the scope fills with `{layer.path: scores (B, N, T, S)}`.

    A layer called more than once leaves its last scores. Meant for eager calls: inside a compiled function the values
    would be symbolic.
    """
    scores = {}
    token = _recorder.set(scores)
    try:
        yield scores
    finally:
        _recorder.reset(token)


def recorder():
    """The dict of the innermost `recording` scope, or None."""
    return _recorder.get()
