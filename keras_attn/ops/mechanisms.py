"""The kernels behind `mechanism=...`, and which of them may answer a call."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from keras_attn.ops import loops
from keras_attn.ops.attention_mask import AttentionMask
from keras_attn.ops.blockwise_attention import blockwise_attention
from keras_attn.ops.dense_attention import dense_attention
from keras_attn.ops.linear_attention import linear_attention, linear_refusals
from keras_attn.ops.local_attention import local_attention, local_refusals, prefers_local
from keras_attn.typing import Shape


@dataclasses.dataclass(frozen=True)
class AttentionRequest:
    """What a call asks of a kernel: all that may be a reason to refuse it, or to prefer another.

    Args:
        query_shape: static shape `(B, N, T, H)` of the queries, None for what is not known.
        key_shape: static shape `(B, K, S, H)` of the keys.
        mask: the call's `AttentionMask`, or None.
        has_bias, has_soft_cap, has_sinks: whether the kernel is given such an argument.
        dropout: rate of the dropout as it acts in this call: zero outside of training.
        cached: whether the keys are the slots of a cache, so that their number is not that of the queries.
        return_scores: whether the weights are asked for.
        memory_efficient: whether the kernel must not hold all logits.
    """

    query_shape: Shape = (None, None, None, None)
    key_shape: Shape = (None, None, None, None)
    mask: AttentionMask | None = None
    has_bias: bool = False
    has_soft_cap: bool = False
    has_sinks: bool = False
    dropout: float = 0.0
    cached: bool = False
    return_scores: bool = False
    memory_efficient: bool = False


@dataclasses.dataclass(frozen=True)
class Mechanism:
    """A kernel and its own account of what it cannot do.

    Args:
        kernel: called as `kernel(q, k, v, *, mask, bias, scale, dropout, seed, training, logit_soft_cap, sinks,
            return_scores)`; returns `(B, N, T, H)`.
        refusals: maps an `AttentionRequest` to the reasons, in words, why the kernel cannot answer it.
        is_softmax: whether the kernel computes softmax attention, so that dense attention's scores are its own, and
            "auto" may choose it.
        prefers: maps an `AttentionRequest` that it does not refuse to how much it wants it: "auto" takes the highest.
    """

    kernel: Callable[..., Any]
    refusals: Callable[[AttentionRequest], list[str]]
    is_softmax: bool = True
    prefers: Callable[[AttentionRequest], int] = lambda request: 0


_MECHANISMS = {}


def register_mechanism(name: str, mechanism: Mechanism) -> None:
    """Makes `mechanism` (a `Mechanism`) selectable as `mechanism=name`."""
    _MECHANISMS[name] = mechanism


def check_mechanism(name):
    """Raises a ValueError unless `name` is "auto" or a registered mechanism."""
    if name != "auto" and name not in _MECHANISMS:
        names = ", ".join(repr(n) for n in ("auto", *sorted(_MECHANISMS)))
        raise ValueError(f"`mechanism` must be one of {names}. Received: mechanism={name!r}")


def select_mechanism(name: str, request: AttentionRequest, recording: bool = False) -> Callable[..., Any]:
    """The kernel called `name`, or for "auto" the first of those that want `request` most.

    Args:
        name: a registered name, or "auto".
        request: an `AttentionRequest`.
        recording: whether the kernel must take `return_scores=True` although `request` does not ask for scores: its
            output stays what it is without them, and dense attention computes those that it has not itself.

    Returns:
        The kernel function.

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

    def kernel(*heads, return_scores, **kwargs):
        output = mechanism.kernel(*heads, return_scores=False, **kwargs)
        # Not in training: the scores are those before dropout, and a seed must not move because somebody looks.
        return output, dense_attention(*heads, return_scores=True, **{**kwargs, "training": False})[1]

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
