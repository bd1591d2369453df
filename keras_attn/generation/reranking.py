"""Minimum Bayes risk decoding."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from keras_attn.argument_checks import is_integer
from keras_attn.extras import require
from keras_attn.generation.generate import generate
from keras_attn.generation.prompts import settings_of
from keras_attn.generation.sampling import Sampling
from keras_attn.typing import Tensor

if TYPE_CHECKING:
    from keras_attn.generation.generation_config import GenerationConfig
    from keras_attn.generation.generative_model import GenerativeModel


@keras.saving.register_keras_serializable(package="keras_attn")
def minimum_bayes_risk(
    model: GenerativeModel,
    inputs: Sequence[str] | Tensor,
    max_length: int | None = None,
    config: GenerationConfig | None = None,
    *,
    num_samples: int = 16,
    seed: int = 0,
    utility: Callable[[Any, Any], float] | None = None,
    jit_compile: bool = False,
    return_dict: bool = False,
) -> Any:
    """Draws samples for each row and returns the one with the highest mean utility, with the others as references.

    `argmax_i 1 / (n - 1) * sum_{j != i} utility(y_i, y_j)`, the first of equal ones.

    Args:
        model, inputs, max_length, jit_compile: See `generate`.
        config: See `generate`; its processors shape the distribution, and its strategy is replaced by `Sampling`.
        num_samples: Number of samples `n` per row, at least 2.
        seed: See `Sampling`.
        utility: `(candidate, reference) -> float`, of strings if `generate` returns strings, else of lists of token
            ids before the end token. Defaults to sentence-level chrF, which requires text and the extra "metrics".
        return_dict: Whether to return more than the tokens or strings.

    Returns:
        A list of strings if `generate` returns strings, else int32 `(B, max_length)`. With `return_dict`, a dict of
        `tokens`, `text` if there are strings, `utility` float32 `(B,)`, the highest mean, `samples` int32
        `(B, n, max_length)`, and `sample_utilities` float32 `(B, n)`.

    Raises:
        ValueError: See `generate`; also if `num_samples` is not an integer above 1, or there is no `utility` for ids.
        ImportError: If sacrebleu is not installed, and `utility` is None.

    Reference:
        [Is MAP Decoding All You Need?](https://arxiv.org/abs/2005.10283), Eikema and Aziz, 2020.

    Example:

    >>> import numpy as np
    >>> from keras_attn import Transformer
    >>> from keras_attn.generation import minimum_bayes_risk
    >>> model = Transformer(50, num_layers=1, hidden_dim=16, num_heads=2, intermediate_dim=32)
    >>> def common(candidate, reference):
    ...     return len(set(candidate) & set(reference)) / max(len(set(candidate + reference)), 1)
    >>> minimum_bayes_risk(model, np.array([[5, 6, 7]]), max_length=4, num_samples=5, utility=common).shape
    (1, 4)
    """
    if not is_integer(num_samples) or num_samples < 2:
        raise ValueError(f"`num_samples` must be an integer above 1. Received: num_samples={num_samples!r}")
    config = dataclasses.replace(settings_of(model, config), strategy=Sampling(seed, num_samples))
    drawn = generate(model, inputs, max_length, config, jit_compile=jit_compile, return_dict=True)
    if utility is None:
        if "text" not in drawn:
            raise ValueError("`utility` must be given if `inputs` are ids: chrF compares text. Received: None")
        utility = _chrf()
    samples = drawn["tokens"]
    candidates = drawn.get("text") or [[_before_end(tokens, config) for tokens in row] for row in samples]
    utilities = np.array([mean_utilities(row, utility) for row in candidates], "float32")
    # NumPy treats NaN as the largest value.
    best = np.argmax(np.where(np.isnan(utilities), -np.inf, utilities), axis=1)
    rows = np.arange(len(best))
    outputs = {"tokens": samples[rows, best]}
    if "text" in drawn:
        outputs["text"] = [row[i] for row, i in zip(candidates, best, strict=True)]
    if not return_dict:
        return outputs["text" if "text" in outputs else "tokens"]
    return {**outputs, "utility": utilities[rows, best], "samples": samples, "sample_utilities": utilities}


def mean_utilities(candidates, utility):
    """The mean utility of each candidate, with the others as references."""
    keys = [candidate if isinstance(candidate, str) else tuple(candidate) for candidate in candidates]
    known = {}
    means = []
    for i, candidate in enumerate(candidates):
        total = 0.0
        for j, reference in enumerate(candidates):
            if i != j:
                # Samples repeat, and a utility is slow.
                pair = keys[i], keys[j]
                if pair not in known:
                    known[pair] = float(utility(candidate, reference))
                total += known[pair]
        means.append(total / (len(candidates) - 1))
    return means


def _before_end(tokens, config):
    ends = np.flatnonzero(np.isin(tokens, config.end_ids))
    return tokens[: ends[0] if ends.size else None].tolist()


def _chrf():
    metric = require("sacrebleu.metrics", "metrics").CHRF()
    return lambda candidate, reference: metric.sentence_score(candidate, [reference]).score
