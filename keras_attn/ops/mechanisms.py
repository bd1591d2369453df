"""Registry of attention kernels and selection by `mechanism=...`."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, TypeAlias

from keras_attn.ops import loops
from keras_attn.ops.attention_arguments import AttentionArguments, attention_kernel
from keras_attn.ops.attention_request import AttentionRequest
from keras_attn.ops.blockwise_attention import blockwise_attention
from keras_attn.ops.dense_attention import dense_attention
from keras_attn.ops.linear_attention import linear_attention, linear_unsupported_reasons
from keras_attn.ops.local_attention import local_attention, local_priority, local_unsupported_reasons
from keras_attn.typing import Tensor

Kernel: TypeAlias = Callable[[Tensor, Tensor, Tensor, AttentionArguments], Any]


@dataclasses.dataclass(frozen=True)
class Mechanism:
    """An attention kernel and the requests that it supports.

    Args:
        kernel: Called as `kernel(q, k, v, arguments)` with `AttentionArguments`; returns `(B, N, T, H)`, or the pair
            `(output, scores)` if `arguments.return_scores`. A kernel with settings, such as a number of random
            features, is an instance of a dataclass with `__call__`. A function with fewer than four positional
            parameters, such as `kernel(q, k, v, *, mask, scale, **others)`, gets the fields of `arguments` as keywords.
        unsupported_reasons: Maps an `AttentionRequest` to the reasons why the kernel does not support it.
        is_softmax: Whether the kernel computes softmax attention. Only then may "auto" choose it, and dense attention
            compute its scores.
        priority: Maps a supported `AttentionRequest` to a number; "auto" chooses the kernel with the highest one.
    """

    kernel: Kernel
    unsupported_reasons: Callable[[AttentionRequest], list[str]]
    is_softmax: bool = True
    priority: Callable[[AttentionRequest], int] = lambda request: 0

    def __post_init__(self) -> None:
        if _takes_keywords(self.kernel):
            object.__setattr__(self, "kernel", _with_keywords(self.kernel))


def _takes_keywords(kernel):
    """Whether a kernel is a function without a fourth positional parameter for `AttentionArguments`."""
    if not inspect.isfunction(kernel):
        return False
    kinds = [parameter.kind for parameter in inspect.signature(kernel).parameters.values()]
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return inspect.Parameter.VAR_POSITIONAL not in kinds and sum(kind in positional for kind in kinds) < 4


def _with_keywords(kernel):
    return lambda q, k, v, arguments: kernel(q, k, v, **vars(arguments))


_MECHANISMS = {}


def register_mechanism(name: str, mechanism: Mechanism) -> None:
    """Registers a `Mechanism`, to be selected as `mechanism=name`.

    Example:

    >>> import numpy as np
    >>> from keras import ops
    >>> from keras_attn.layers import MultiHeadAttention
    >>> from keras_attn.ops import Mechanism, dense_attention, register_mechanism
    >>> def cosine(q, k, v, arguments):
    ...     return dense_attention(ops.normalize(q), ops.normalize(k), v, arguments, scale=10.0)
    >>> def unsupported_reasons(request):
    ...     return ["it holds all logits"] if request.memory_efficient else []
    >>> register_mechanism("cosine", Mechanism(cosine, unsupported_reasons, is_softmax=False))
    >>> tuple(MultiHeadAttention(2, 4, mechanism="cosine")(np.ones((1, 3, 8), "float32")).shape)
    (1, 3, 8)
    """
    if not isinstance(name, str) or name == "auto":
        raise ValueError(f"`name` must be a string other than 'auto', which selects a mechanism. Received: {name!r}")
    if not isinstance(mechanism, Mechanism):
        raise ValueError(
            "`mechanism` must be a `Mechanism(kernel, unsupported_reasons, is_softmax)`. "
            f"Received: mechanism={mechanism!r}"
        )
    _MECHANISMS[name] = mechanism


def check_mechanism(name):
    """Raises a ValueError unless `name` is "auto" or a registered mechanism."""
    if name != "auto" and name not in _MECHANISMS:
        names = ", ".join(repr(n) for n in ("auto", *sorted(_MECHANISMS)))
        raise ValueError(f"`mechanism` must be one of {names}. Received: mechanism={name!r}")


def select_mechanism(name: str, request: AttentionRequest, recording: bool = False) -> Kernel:
    """Returns the kernel called `name`, or for "auto" the first of those with the highest priority.

    Args:
        name: A registered name, or "auto".
        request: An `AttentionRequest`.
        recording: Whether the kernel must support `return_scores` even if `request` does not ask for scores. Its output
            does not change; dense attention computes the scores if the kernel cannot.

    Returns:
        The kernel, `kernel(q, k, v, arguments)`.

    Raises:
        ValueError: If the name is unknown, or the mechanism does not support the request or has no scores to record;
            the message says why.
    """
    check_mechanism(name)
    # Other mechanisms give other results, so they must be selected by name.
    softmaxes = {n: mechanism for n, mechanism in _MECHANISMS.items() if mechanism.is_softmax}
    candidates = softmaxes if name == "auto" else {name: _MECHANISMS[name]}
    unsupported = {n: mechanism.unsupported_reasons(request) for n, mechanism in candidates.items()}
    supporting = [n for n in candidates if not unsupported[n]]
    if not supporting:
        reasons = "; ".join(f"{n}: {reason}" for n in candidates for reason in unsupported[n])
        raise ValueError(f"`mechanism` must support this call: {reasons}. Received: mechanism={name!r}")
    chosen = max(supporting, key=lambda n: candidates[n].priority(request))
    mechanism = candidates[chosen]
    return _recorded(chosen, mechanism, request) if recording else mechanism.kernel


def _recorded(name, mechanism, request):
    """The kernel of `mechanism`, extended to return scores if it cannot."""
    reasons = mechanism.unsupported_reasons(dataclasses.replace(request, return_scores=True))
    if not reasons:
        return mechanism.kernel
    if not mechanism.is_softmax:
        raise ValueError(
            "`mechanism` must be one that returns scores, to record them. "
            f"Received: mechanism={name!r}: {'; '.join(reasons)}"
        )

    @attention_kernel
    def kernel(q, k, v, arguments):
        output = mechanism.kernel(q, k, v, dataclasses.replace(arguments, return_scores=False))
        # Scores are those before dropout, and recording must not advance the seed: so not in training mode.
        return output, dense_attention(q, k, v, arguments, return_scores=True, training=False)[1]

    return kernel


def _dense_unsupported_reasons(request):
    if request.memory_efficient:
        return ["dense attention holds all logits, so it does not support flash_attention=True"]
    return []


def _blockwise_unsupported_reasons(request):
    if request.return_scores:
        return ["blockwise attention never computes the scores, so it cannot return them"]
    return []


# Logits per head from which on blocks are faster, with and without skipped blocks.
_LONG_CAUSAL, _LONG = 2048**2, 8192**2
# Logits per head from which on blocks are no slower, and of a call, from which on it matters that they hold few of
# them: 256 MB in float32. Of shorter rows, 2 GB are too many.
_MEDIUM, _LARGE, _HUGE = 1024**2, 2**26, 2**29


def _blockwise_priority(request):
    """1 if lengths are known, loops are available, and blocks are faster or the logits too large; else 0."""
    (batch, num_heads, length, _), (_, _, num_keys, _) = request.query_shape, request.key_shape
    if None in (length, num_keys) or not loops.available():
        return False
    mask = request.mask
    skips = mask is not None and (mask.causal or mask.window is not None or mask.query_segments is not None)
    pairs = length * num_keys
    if pairs >= (_LONG_CAUSAL if skips else _LONG):
        return True
    return (batch or 1) * num_heads * pairs >= (_LARGE if pairs >= _MEDIUM else _HUGE)


register_mechanism("dense", Mechanism(dense_attention, _dense_unsupported_reasons))
register_mechanism(
    "blockwise", Mechanism(blockwise_attention, _blockwise_unsupported_reasons, priority=_blockwise_priority)
)
register_mechanism("local", Mechanism(local_attention, local_unsupported_reasons, priority=local_priority))
register_mechanism("linear", Mechanism(linear_attention, linear_unsupported_reasons, is_softmax=False))
