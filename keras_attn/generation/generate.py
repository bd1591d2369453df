"""Generation of text or token ids."""

from __future__ import annotations

import collections
import dataclasses
import threading
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras
from keras import ops

from keras_attn.generation.prompts import Prompts, prompt_arguments, split_prompt
from keras_attn.generation.scoring import check_alignments, score
from keras_attn.generation.settings import power_of_two
from keras_attn.generation.strategy import Decoding, run
from keras_attn.ops.compiled import compiled
from keras_attn.ops.target import TENSORFLOW, XLA, tracing_for
from keras_attn.typing import Tensor

if TYPE_CHECKING:
    from keras_attn.generation.generation_config import GenerationConfig


# Graphs by model and settings, the most recently used last. Neither this table nor the graphs keep a model alive.
_graphs = weakref.WeakKeyDictionary()
# Maximum number of graphs per model: a small one takes 20 MB, and seconds to trace.
MOST_GRAPHS = 8
# Held while a graph is looked up or traced: tracing Keras layers is not thread-safe.
_lock = threading.RLock()


@keras.saving.register_keras_serializable(package="keras_attn")
def generate(
    model: keras.Model,
    inputs: Sequence[str] | Tensor,
    max_length: int | None = None,
    config: GenerationConfig | None = None,
    *,
    jit_compile: bool = False,
    return_dict: bool = False,
    return_alignments: bool = False,
) -> Any:
    """Generates with a KV cache, in a single graph.

    A graph serves every batch size and prompt length, and every `max_length` up to the next power of two. Numbers in
    the settings, such as a seed, a temperature or a penalty, are inputs of the graph. Other differences (the strategy,
    the types of processors, their tokens) require another graph, traced in seconds; a model keeps the 8 most recently
    used graphs. With `jit_compile`, XLA compiles a graph once per power of two that batch and prompt length are padded
    to, which takes seconds to minutes; later calls are about twice as fast as without.

    Several threads may generate from one model at once, with the same results as one after another; while one traces a
    graph, others that need a new one wait. No thread may change the model meanwhile: build it, train it, assign or load
    its weights, quantise it, or give it a tokenizer.

    Args:
        model: A `GenerativeModel`: a `Transformer`, `LanguageModel`, `Seq2SeqRNN`, or your own.
        inputs: Sources, or prompts to continue: a list of strings if the model carries a tokenizer; int `(B, S)` ids,
            right-padded; or, for a model that reads features, an array or a dict of arrays by the names of
            `model.prompt_specs`, a bool mask among them.
        max_length: Maximum number of generated tokens. Defaults to that of `config`.
        config: `GenerationConfig`. Defaults to that of the model, or `GenerationConfig()`.
        jit_compile: Whether to compile the loop with XLA.
        return_dict: Whether to return scores too.
        return_alignments: Whether to return the attention to the source too, which takes another pass.

    Returns:
        A list of strings for strings, and for features if the model carries a tokenizer; else int32
        `(B, max_length)`, including the end token, right-padded.
        With a strategy that returns `n` sequences per row, lists of `n` strings, or `(B, n, max_length)`. With
        `return_dict` or `return_alignments`, a dict of `text` if there are strings, `tokens`, `scores` float32 of their
        shape, the log-probability of each token, `sequence_scores` `(B,)` or `(B, n)`, by which the strategy ranks, and
        `alignments`, float32 `(B, max_length, S)`, see `keras_attn.generation.score`.

    Raises:
        ValueError: If `inputs` is empty, is invalid, does not fit the model, or is text for a model without a
            tokenizer; if `config` is not a `GenerationConfig`, or does not fit; or if the model cannot generate.

    Example:

    >>> import numpy as np
    >>> from keras_attn import Transformer
    >>> model = Transformer(50, num_layers=1, hidden_dim=16, num_heads=2, intermediate_dim=32)
    >>> model.generate(np.array([[5, 6, 7]]), max_length=4).shape
    (1, 4)
    >>> sorted(model.generate(np.array([[5, 6, 7]]), max_length=4, return_dict=True))
    ['scores', 'sequence_scores', 'tokens']
    """
    prompts = Prompts(model, inputs, config, max_length)
    model, config, count = prompts.model, prompts.config, len(prompts.prompt)
    if return_alignments:
        check_alignments(model)
    compiled_for = prompts.padded() if jit_compile else prompts
    seed = getattr(config.chosen_strategy, "seed", 0)
    graph, numbers = graph_of(model, config, jit_compile, len(compiled_for.prompt) == 1)
    outputs = graph(*compiled_for.tensors, *_int32(seed, config.max_length), *numbers)
    outputs = {name: ops.convert_to_numpy(value)[:count] for name, value in outputs.items()}
    outputs |= {name: outputs[name][..., : config.max_length] for name in ("tokens", "scores")}
    if return_alignments:
        targets = outputs["tokens"]
        outputs["alignments"] = score(model, prompts.named, targets, config, return_alignments=True)["alignments"]
    if prompts.tokenizer is not None:
        outputs["text"] = prompts.decode(outputs["tokens"])
    if return_dict or return_alignments:
        return outputs
    return outputs["tokens" if prompts.tokenizer is None else "text"]


def graph_of(model, config, jit_compile=False, is_single_prompt=False):
    """Returns `(graph, numbers)`: the graph of `run` for `model`, and the numbers of `config`.

    The graph maps `(*prompt, seed, limit, *numbers)` to a dict. XLA has a separate graph for a single prompt.
    """
    shared = SharedSettings(config)
    owner = weakref.ref(model)

    def call(*arguments):
        prompt, (seed, limit, *numbers) = split_prompt(owner(), arguments)
        return run(Decoding(owner(), shared.with_numbers(numbers), seed, limit), *prompt)

    batch, others = 1 if jit_compile and is_single_prompt else None, config.chosen_strategy.models
    specs = [*prompt_arguments(model, batch), *[keras.KerasTensor((), "int32")] * 2, *shared.specs]
    return cached_graph(model, (shared.config, jit_compile, batch), call, specs, jit_compile, others), shared.numbers


class SharedSettings:
    """Settings that share a graph: they differ only in seed, numbers, and `max_length` up to a power of two.

    Args:
        config: `GenerationConfig`.

    Attributes:
        config: `GenerationConfig` that is equal for all configs with the same graph.
        numbers: List of scalar tensors, the inputs of the graph for `config`.
        specs: A `KerasTensor` for each of them.
    """

    def __init__(self, config):
        strategy = config.chosen_strategy
        if hasattr(strategy, "seed"):
            strategy = dataclasses.replace(strategy, seed=0)
        (strategy, *processors), found = zip(*(part.shared() for part in (strategy, *config.processors)), strict=True)
        settings = {"max_length": power_of_two(config.max_length), "strategy": strategy}
        self.config = dataclasses.replace(config, **settings, processors=tuple(processors))
        self.numbers = [ops.convert_to_tensor(x) for numbers in found for x in numbers.values()]
        self.specs = [keras.KerasTensor((), x.dtype.name) for numbers in found for x in numbers.values()]
        self._names = tuple(tuple(numbers) for numbers in found)

    def with_numbers(self, numbers):
        """The settings inside a graph, with its inputs `numbers`."""
        numbers, parts = iter(numbers), (self.config.strategy, *self.config.processors)
        strategy, *processors = (
            part.unchecked(_inputs={name: next(numbers) for name in names})
            for part, names in zip(parts, self._names, strict=True)
        )
        return dataclasses.replace(self.config, strategy=strategy, processors=tuple(processors))


def cached_graph(model, key, call, specs=(), jit_compile=False, others=()):
    """`call` as a graph, cached by `key` until variables of `model` or `others` are replaced, or it is evicted.

    It takes a tensor for each of `specs`; without them, any nests of tensors.
    """
    variables = [variable for part in (model, *others) for variable in part.variables]
    with _lock:
        graphs = _graphs.setdefault(model, collections.OrderedDict())
        known, graph = graphs.pop(key, (None, None))
        # `quantize` and `enable_lora` replace variables that a graph has captured.
        if known is None or list(map(id, known)) != list(map(id, variables)):

            def traced(*arguments):
                with _lock, tracing_for(XLA if jit_compile else TENSORFLOW):
                    return call(*arguments)

            graph = _first_call_locked(compiled(traced, *specs, jit_compile=jit_compile))
        graphs[key] = variables, graph
        while len(graphs) > MOST_GRAPHS:
            graphs.popitem(last=False)
    return graph


def _first_call_locked(graph):
    """`graph` with a lock around its first call: TensorFlow would optimise it again in each concurrent first call."""
    has_run = threading.Event()

    def call(*arguments):
        if has_run.is_set():
            return graph(*arguments)
        with _lock:
            outputs = graph(*arguments)
        has_run.set()
        return outputs

    return call


def _int32(*numbers):
    return [ops.convert_to_tensor(x, "int32") for x in numbers]
