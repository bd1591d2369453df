"""The kernels behind `mechanism=...`, and which of them may answer a call."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeAlias

from keras_attn.ops import loops
from keras_attn.ops.attention_arguments import AttentionArguments, attention_kernel
from keras_attn.ops.attention_request import AttentionRequest
from keras_attn.ops.blockwise_attention import blockwise_attention
from keras_attn.ops.dense_attention import dense_attention
from keras_attn.ops.linear_attention import linear_attention, linear_refusals
from keras_attn.ops.local_attention import local_attention, local_refusals, prefers_local
from keras_attn.typing import Tensor

Kernel: TypeAlias = Callable[[Tensor, Tensor, Tensor, AttentionArguments], Any]


@dataclasses.dataclass(frozen=True)
class Mechanism:
    """A kernel and its own account of what it cannot do.

    Args:
        kernel: called as `kernel(q, k, v, arguments)` with `AttentionArguments`; returns `(B, N, T, H)`, and with
            `arguments.return_scores` the pair `(output, scores)`. One with settings of its own, such as a number of
            random features, is an instance of a dataclass of these, with `__call__`.
        refusals: maps an `AttentionRequest` to the reasons, in words, why the kernel cannot answer it.
        is_softmax: whether the kernel computes softmax attention, so that dense attention's scores are its own, and
            "auto" may choose it.
        prefers: maps an `AttentionRequest` that it does not refuse to how much it wants it: "auto" takes the highest.
    """

    kernel: Kernel
    refusals: Callable[[AttentionRequest], list[str]]
    is_softmax: bool = True
    prefers: Callable[[AttentionRequest], int] = lambda request: 0


_MECHANISMS = {}


def register_mechanism(name: str, mechanism: Mechanism) -> None:
    """Makes `mechanism` (a `Mechanism`) selectable as `mechanism=name`.

    A function of keywords, such as `f(q, k, v, *, mask, scale, **others)`, is the kernel
    `lambda q, k, v, arguments: f(q, k, v, **vars(arguments))`.

    Example:

    >>> import numpy as np
    >>> from keras import ops
    >>> from keras_attn.layers import MultiHeadAttention
    >>> from keras_attn.ops import Mechanism, dense_attention, register_mechanism
    >>> def cosine(q, k, v, arguments):
    ...     return dense_attention(ops.normalize(q), ops.normalize(k), v, arguments, scale=10.0)
    >>> def refusals(request):
    ...     return ["it holds all logits"] if request.memory_efficient else []
    >>> register_mechanism("cosine", Mechanism(cosine, refusals, is_softmax=False))
    >>> tuple(MultiHeadAttention(2, 4, mechanism="cosine")(np.ones((1, 3, 8), "float32")).shape)
    (1, 3, 8)
    """
    _MECHANISMS[name] = mechanism


def check_mechanism(name):
    """Raises a ValueError unless `name` is "auto" or a registered mechanism."""
    if name != "auto" and name not in _MECHANISMS:
        names = ", ".join(repr(n) for n in ("auto", *sorted(_MECHANISMS)))
        raise ValueError(f"`mechanism` must be one of {names}. Received: mechanism={name!r}")


def select_mechanism(name: str, request: AttentionRequest, recording: bool = False) -> Kernel:
    """The kernel called `name`, or for "auto" the first of those that want `request` most.

    Args:
        name: a registered name, or "auto".
        request: an `AttentionRequest`.
        recording: whether the kernel must take `return_scores` although `request` does not ask for scores: its
            output stays what it is without them, and dense attention computes those that it has not itself.

    Returns:
        The kernel: `kernel(q, k, v, arguments)`.

    Raises:
        ValueError: the name is unknown, or the mechanism refuses, or has no scores to record; the message says why.
    """
    check_mechanism(name)
    # What is not softmax attention gives another answer, so it must be asked for by name.
    softmaxes = {n: mechanism for n, mechanism in _MECHANISMS.items() if mechanism.is_softmax}
    candidates = softmaxes if name == "auto" else {name: _MECHANISMS[name]}
    refusals = {n: mechanism.refusals(request) for n, mechanism in candidates.items()}
    accepting = [n for n in candidates if not refusals[n]]
    if not accepting:
        reasons = "; ".join(f"{n}: {reason}" for n in candidates for reason in refusals[n])
        raise ValueError(f"`mechanism` cannot answer this call: {reasons}. Received: mechanism={name!r}")
    chosen = max(accepting, key=lambda n: candidates[n].prefers(request))
    mechanism = candidates[chosen]
    return _recorded(chosen, mechanism, request) if recording else mechanism.kernel


def _recorded(name, mechanism, request):
    """The kernel of `mechanism`, made to hand out scores."""
    refusals = mechanism.refusals(dataclasses.replace(request, return_scores=True))
    if not refusals:
        return mechanism.kernel
    if not mechanism.is_softmax:
        raise ValueError(
            "`mechanism` must be one with scores where they are recorded. "
            f"Received: mechanism={name!r}: {'; '.join(refusals)}"
        )

    @attention_kernel
    def kernel(q, k, v, arguments):
        output = mechanism.kernel(q, k, v, dataclasses.replace(arguments, return_scores=False))
        # Not in training: the scores are those before dropout, and a seed must not move because somebody looks.
        return output, dense_attention(q, k, v, arguments, return_scores=True, training=False)[1]

    return kernel


def _dense_refusals(request):
    if request.memory_efficient:
        return ["dense attention holds all logits, so it cannot serve flash_attention=True"]
    return []


def _blockwise_refusals(request):
    if request.return_scores:
        return ["blockwise attention never holds the scores, so it cannot return them"]
    return []


# Logits of one head, and numbers in all logits of a call, from where on blocks are faster than the whole.
_LONG_CAUSAL, _LONG, _LARGE = 2048**2, 8192**2, 2**29


def _prefers_blocks(request):
    """Lengths are known, blocks can loop, and they are faster, or the logits too many to hold."""
    (batch, num_heads, length, _), (_, _, num_keys, _) = request.query_shape, request.key_shape
    if None in (length, num_keys) or not loops.available():
        return False
    mask = request.mask
    skips = mask is not None and (mask.causal or mask.window is not None or mask.query_segments is not None)
    pairs = length * num_keys
    return pairs >= (_LONG_CAUSAL if skips else _LONG) or (batch or 1) * num_heads * pairs >= _LARGE


register_mechanism("dense", Mechanism(dense_attention, _dense_refusals))
register_mechanism("blockwise", Mechanism(blockwise_attention, _blockwise_refusals, prefers=_prefers_blocks))
register_mechanism("local", Mechanism(local_attention, local_refusals, prefers=lambda r: 2 * prefers_local(r)))
register_mechanism("linear", Mechanism(linear_attention, linear_refusals, is_softmax=False))
