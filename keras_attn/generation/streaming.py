"""Streaming of generated tokens or text."""

from __future__ import annotations

import time
import weakref
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

from keras_attn.argument_checks import check_positive, check_positive_number
from keras_attn.generation import strategy
from keras_attn.generation.generate import SharedSettings, cached_graph
from keras_attn.generation.prompts import Prompts, prompt_arguments, split_prompt
from keras_attn.generation.single_sequence import SingleSequence
from keras_attn.generation.strategy import Decoding
from keras_attn.typing import Tensor

if TYPE_CHECKING:
    from keras_attn.generation.generation_config import GenerationConfig
    from keras_attn.generation.generative_model import GenerativeModel


def stream(
    model: GenerativeModel,
    inputs: Sequence[str] | Tensor,
    max_length: int | None = None,
    config: GenerationConfig | None = None,
    *,
    every: int = 1,
    max_time: float | None = None,
) -> Iterator[Any]:
    """Yields the output of `generate` in pieces, from two graphs: one starts, the other continues.

    Both count among the graphs that a model keeps. For threads, see `generate`.

    Args:
        model, inputs, max_length, config: See `generate`; the strategy must have one sequence per row and no
            `lookahead`, such as `Greedy`, or `Sampling` of one sequence.
        every: Number of tokens per piece.
        max_time: Number of seconds after which no new piece is started; the first always is. No limit if None.

    Yields:
        For ids, int32 `(B, every)`, or shorter at the end; concatenated, they equal the output of `generate` up to the
        step at which all rows had ended, or `max_time` had passed. For strings, a list of strings, the new text of each
        row without incomplete characters; concatenated, they equal the output of `generate` if time did not run out.

    Raises:
        ValueError: See `generate`; raised when the first piece is requested.

    Example:

    >>> import numpy as np
    >>> from keras_attn import Transformer
    >>> from keras_attn.generation import stream
    >>> model = Transformer(50, num_layers=1, hidden_dim=16, num_heads=2, intermediate_dim=32)
    >>> pieces = list(stream(model, np.array([[5, 6, 7]]), max_length=4))
    >>> bool((np.concatenate(pieces, axis=1) == model.generate(np.array([[5, 6, 7]]), max_length=4)).all())
    True
    """
    prompts = Prompts(model, inputs, config, max_length)
    config, chosen = prompts.config, prompts.config.chosen_strategy
    if not isinstance(chosen, SingleSequence) or getattr(chosen, "num_sequences", 1) != 1 or chosen.lookahead:
        raise ValueError(
            "`config` must have a strategy of one sequence per row and without `lookahead`, such as Greedy(). "
            f"Received: strategy={chosen!r}"
        )
    check_positive(every=every)
    if max_time is not None:
        check_positive_number(max_time=max_time)
    deadline = float("inf") if max_time is None else time.monotonic() + max_time
    start, run_until, numbers = _graphs(prompts.model, config)
    seed, limit = (ops.convert_to_tensor(x, "int32") for x in (getattr(chosen, "seed", 0), config.max_length))
    fixed, state = start(*prompts.tensors, seed, limit, *numbers)
    step, previous, is_last = 0, [""] * len(prompts.prompt), False
    while not is_last and (step == 0 or time.monotonic() < deadline):
        until = min(step + every, config.max_length)
        state = run_until(fixed, state, limit, ops.convert_to_tensor(until, "int32"), *numbers)
        until = int(state.step)
        tokens, done = ops.convert_to_numpy(state.tokens), ops.convert_to_numpy(state.done)
        is_last = until >= config.max_length or np.all(done)
        if prompts.tokenizer is None:
            yield tokens[:, step:until]
        else:
            texts = [x if is_last else whole_characters(x) for x in prompts.decode(tokens[:, :until])]
            yield [text[len(old) :] for text, old in zip(texts, previous, strict=True)]
            previous = texts
        step = until


def whole_characters(text):
    """`text` without the replacement characters at its end, which are the bytes of an incomplete character."""
    return text.rstrip("\ufffd")


def _graphs(model, config):
    shared, owner = SharedSettings(config), weakref.ref(model)

    def start(*arguments):
        prompt, (seed, limit, *numbers) = split_prompt(owner(), arguments)
        return strategy.start(Decoding(owner(), shared.with_numbers(numbers), seed, limit), *prompt)

    def run_until(fixed, state, limit, until, *numbers):
        return strategy.run_until(Decoding(owner(), shared.with_numbers(numbers), limit=limit), fixed, state, until)

    specs = [*prompt_arguments(model), *[keras.KerasTensor((), "int32")] * 2, *shared.specs]
    return (
        cached_graph(model, (shared.config, "start"), start, specs),
        cached_graph(model, (shared.config, "run_until"), run_until),
        shared.numbers,
    )
