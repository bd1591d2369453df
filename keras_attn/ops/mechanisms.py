"""The kernels behind `mechanism=...`, and which of them may answer a call."""

import dataclasses
from collections.abc import Callable

from keras_attn.ops.attention_mask import AttentionMask
from keras_attn.ops.dense_attention import dense_attention


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

    query_shape: tuple = (None, None, None, None)
    key_shape: tuple = (None, None, None, None)
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
    """

    kernel: Callable
    refusals: Callable[[AttentionRequest], list[str]]


_MECHANISMS = {}


def register_mechanism(name, mechanism):
    """Makes `mechanism` (a `Mechanism`) selectable as `mechanism=name`."""
    _MECHANISMS[name] = mechanism


def check_mechanism(name):
    """Raises a ValueError unless `name` is "auto" or a registered mechanism."""
    if name != "auto" and name not in _MECHANISMS:
        names = ", ".join(repr(n) for n in ("auto", *sorted(_MECHANISMS)))
        raise ValueError(f"`mechanism` must be one of {names}. Received: mechanism={name!r}")


def select_mechanism(name, request):
    """The kernel called `name`, or for "auto" the first that accepts `request`.

    Args:
        name: a registered name, or "auto".
        request: an `AttentionRequest`.

    Returns:
        The kernel function.

    Raises:
        ValueError: the name is unknown, or the mechanism refuses; the message holds its reasons.
    """
    check_mechanism(name)
    candidates = _MECHANISMS if name == "auto" else {name: _MECHANISMS[name]}
    reasons = []
    for candidate, mechanism in candidates.items():
        refusals = mechanism.refusals(request)
        if not refusals:
            return mechanism.kernel
        reasons += [f"{candidate}: {reason}" for reason in refusals]
    raise ValueError(f"`mechanism` cannot answer this call: {'; '.join(reasons)}. Received: mechanism={name!r}")


def _dense_refusals(request):
    if request.memory_efficient:
        return ["dense attention holds all logits, so it cannot serve flash_attention=True"]
    return []


register_mechanism("dense", Mechanism(dense_attention, _dense_refusals))
