"""Scaling of rotary frequencies to contexts longer than those in training."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from keras import ops

from keras_attn.argument_checks import is_number
from keras_attn.typing import Tensor


def rotary_frequencies(
    dim: int, base: float = 10000.0, scaling: Mapping[str, Any] | None = None, positions: Tensor | None = None
) -> tuple[Tensor, float]:
    """`base^(-2i / dim)` for the channel pairs `i = 0 .. dim / 2 - 1`, scaled according to `scaling`.

    `scaling` is a dict as in Hugging Face's configs. Its `rope_type` is one of

    * `default`: No change.
    * `linear`: Divides the frequencies by `factor` (position interpolation).
    * `ntk`: Increases the base, so that the slowest frequency is divided by `factor` and the fastest is kept.
    * `dynamic`: As `ntk`, with a factor that grows with the length beyond `original_max_position_embeddings`.
    * `yarn`: Divides slow frequencies and keeps fast ones, with a ramp between `beta_fast` and `beta_slow` rotations
      over `original_max_position_embeddings`. Sine and cosine are multiplied by `attention_factor`, by default computed
      from `factor` (and `mscale`, `mscale_all_dim`). `truncate` rounds the ends of the ramp.
    * `llama3`: As `yarn`, with the ramp in rotations: keeps frequencies from `high_freq_factor` on and divides them up
      to `low_freq_factor`.
    * `longrope`: Divides each frequency by its entry in `long_factor` if the length is above
      `original_max_position_embeddings`, else by that in `short_factor`. Sine and cosine are multiplied by
      `attention_factor`, by default `sqrt(1 + log(factor) / log(original_max_position_embeddings))`. `factor`, the
      ratio of the maximum lengths, must be given unless `attention_factor` is.

    Args:
        dim: Number of rotated channels, even.
        base: Base of the frequencies.
        scaling: Optional dict, see above.
        positions: Int `(B, T)` or `(1, T)`; needed by `dynamic` and `longrope`, whose length is the highest position of
            each row plus one.

    Returns:
        `(frequencies, amplitude)`: float32 that broadcasts to `(B, 1, T, dim / 2)`, and a float factor of sine and
        cosine.

    Raises:
        ValueError: If `scaling` has an unknown type, lacks a setting, or has one that its type does not take.

    Reference:
        [Chen et al., 2023](https://arxiv.org/abs/2306.15595) (linear);
        [Peng et al., 2023](https://arxiv.org/abs/2309.00071) (ntk, dynamic, yarn);
        [Llama 3, 2024](https://arxiv.org/abs/2407.21783);
        [Ding et al., 2024](https://arxiv.org/abs/2402.13753) (longrope)

    Example:

    >>> from keras_attn.ops import rotary_frequencies
    >>> frequencies, amplitude = rotary_frequencies(4, scaling={"rope_type": "linear", "factor": 2.0})
    >>> frequencies, amplitude
    (array([0.5  , 0.005], dtype=float32), 1.0)
    """
    frequencies = base ** (-np.arange(dim // 2, dtype="float64") * 2 / dim)
    amplitude = 1.0
    if scaling is not None:
        rule, settings = _rule(scaling)
        frequencies, amplitude = rule(frequencies, base, positions, **settings)
    if isinstance(frequencies, np.ndarray):
        frequencies = frequencies.astype("float32")
    return frequencies, amplitude


def check_scaling(scaling):
    """Raises a ValueError unless `scaling` is None or a dict that `rotary_frequencies` accepts."""
    if scaling is None:
        return
    if not hasattr(scaling, "get"):
        raise ValueError(f"`scaling` must be None or a dict with a `rope_type`. Received: scaling={scaling!r}")
    divisors = scaling.get("short_factor")
    dim = 2 * len(divisors) if isinstance(divisors, list | tuple) else 4
    rotary_frequencies(dim, scaling=scaling, positions=np.zeros((1, 1), "int32"))


def _rule(scaling):
    settings = {name: value for name, value in scaling.items() if value is not None}
    # Configs written before 2024 use `type`.
    legacy = settings.pop("type", None)
    kind = settings.pop("rope_type", legacy)
    received = f"Received: scaling={dict(scaling)}"
    if kind not in _RULES:
        kinds = ", ".join(map(repr, sorted(_RULES)))
        raise ValueError(f"`scaling` must have a `rope_type`, one of {kinds}. {received}")
    _frequencies, _base, _positions, *known = inspect.signature(_RULES[kind]).parameters.values()
    missing = [p.name for p in known if p.default is p.empty and p.name not in settings]
    unknown = sorted(settings.keys() - {p.name for p in known})
    if missing:
        raise ValueError(f"`scaling` of type {kind!r} must have {', '.join(map(repr, missing))}. {received}")
    if unknown:
        names = ", ".join(repr(p.name) for p in known) or "nothing"
        raise ValueError(f"`scaling` of type {kind!r} takes {names}, not {', '.join(map(repr, unknown))}. {received}")
    for name, value in settings.items():
        numbers = value if name in _LISTS and isinstance(value, list | tuple) else [value]
        if name != "truncate" and not all(is_number(number) and number > 0 for number in numbers):
            raise ValueError(f"`scaling` must have positive numbers, for {name!r} too. {received}")
    return _RULES[kind], settings


def _default(frequencies, base, positions):
    return frequencies, 1.0


def _linear(frequencies, base, positions, *, factor):
    return frequencies / factor, 1.0


def _ntk(frequencies, base, positions, *, factor):
    return frequencies * factor ** -_share_of_base(frequencies), 1.0


def _dynamic(frequencies, base, positions, *, factor, original_max_position_embeddings):
    length = _lengths(positions)
    ratio = ops.maximum(factor * (length / original_max_position_embeddings) - (factor - 1), 1.0)
    logarithm = ops.expand_dims(ops.expand_dims(ops.log(ratio), 1), 1)
    stretch = ops.exp(-logarithm * _share_of_base(frequencies).astype("float32"))
    return frequencies.astype("float32") * stretch, 1.0


def _yarn(
    frequencies,
    base,
    positions,
    *,
    factor,
    original_max_position_embeddings,
    attention_factor=None,
    beta_fast=32,
    beta_slow=1,
    mscale=None,
    mscale_all_dim=None,
    truncate=True,
):
    dim = 2 * len(frequencies)

    def pair_that_turns(rotations):
        wavelength = original_max_position_embeddings / rotations
        return dim * math.log(wavelength / (2 * math.pi)) / (2 * math.log(base))

    low, high = pair_that_turns(beta_fast), pair_that_turns(beta_slow)
    if truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dim - 1)
    divided = np.clip((np.arange(dim // 2) - low) / (high - low or 1e-3), 0, 1)
    if attention_factor is None:
        weights = (mscale, mscale_all_dim) if mscale and mscale_all_dim else (1.0, 0.0)
        above, below = (1 + 0.1 * weight * math.log(max(factor, 1)) for weight in weights)
        attention_factor = above / below
    return _between(frequencies, factor, divided), attention_factor


def _llama3(
    frequencies, base, positions, *, factor, low_freq_factor, high_freq_factor, original_max_position_embeddings
):
    if not high_freq_factor > low_freq_factor:
        raise ValueError(
            "`scaling` must have a `high_freq_factor` above its `low_freq_factor`. "
            f"Received: high_freq_factor={high_freq_factor}, low_freq_factor={low_freq_factor}"
        )
    rotations = original_max_position_embeddings * frequencies / (2 * math.pi)
    kept = np.clip((rotations - low_freq_factor) / (high_freq_factor - low_freq_factor), 0, 1)
    return _between(frequencies, factor, 1 - kept), 1.0


def _longrope(
    frequencies,
    base,
    positions,
    *,
    short_factor,
    long_factor,
    original_max_position_embeddings,
    factor=None,
    attention_factor=None,
):
    pairs = len(frequencies)
    for name, divisors in (("short_factor", short_factor), ("long_factor", long_factor)):
        if np.shape(divisors) != (pairs,):
            raise ValueError(
                f"`scaling` must have a list of {pairs} numbers as {name!r}, one per pair of rotated channels. "
                f"Received: {name}={divisors!r}"
            )
    if factor is None and attention_factor is None:
        raise ValueError("`scaling` of type 'longrope' must have 'factor' or 'attention_factor'. Received: neither")
    if attention_factor is None:
        growth = math.log(max(factor, 1)) / math.log(original_max_position_embeddings)
        attention_factor = math.sqrt(1 + growth)
    is_long = ops.greater(_lengths(positions), float(original_max_position_embeddings))
    short, long = ((frequencies / np.asarray(x, "float64")).astype("float32") for x in (short_factor, long_factor))
    return ops.where(ops.expand_dims(ops.expand_dims(is_long, 1), 1), long, short), attention_factor


def _lengths(positions):
    """The highest position of each row plus one, float32 `(B, 1)`."""
    return ops.cast(ops.max(positions, axis=-1, keepdims=True, initial=0), "float32") + 1.0


# A rule is called with float64 frequencies, the base and the positions; its keyword arguments are its settings.
_RULES = {
    "default": _default,
    "linear": _linear,
    "ntk": _ntk,
    "dynamic": _dynamic,
    "yarn": _yarn,
    "llama3": _llama3,
    "longrope": _longrope,
}
# The settings that are lists.
_LISTS = ("short_factor", "long_factor")


def _share_of_base(frequencies):
    """Multiplying the base by `c^(dim / (dim - 2))` divides frequency `i` by `c` to the power of this."""
    return np.arange(len(frequencies)) / max(len(frequencies) - 1, 1)


def _between(frequencies, factor, divided):
    """Frequencies of which the share `divided` is divided by `factor`."""
    return frequencies * (1 - divided) + frequencies / factor * divided
