"""Text or ids in, text or ids out."""

import contextlib
import dataclasses
import weakref

import keras
import numpy as np
from keras import ops

from keras_attn.generation.prompts import Prompts
from keras_attn.generation.scoring import check_alignments, score
from keras_attn.generation.strategy import Decoding, run
from keras_attn.ops import cache as kv_cache
from keras_attn.ops.compiled import compiled

# Graphs of a model by their settings. Weak, so that a model can go; its graphs hold it only while it lives.
_graphs = weakref.WeakKeyDictionary()


@keras.saving.register_keras_serializable(package="keras_attn")
def generate(
    model, inputs, max_length=None, config=None, *, jit_compile=False, return_dict=False, return_alignments=False
):
    """Generates with a key/value cache, in one graph.

    A graph serves every batch size and prompt length, and all `max_length` up to the next power of two. Under
    `jit_compile`, XLA compiles it once for each power of two that batch and prompt length are padded to, which takes
    seconds to minutes; later calls are about twice as fast as without.

    Args:
        model: a model with `prefill`, `begin` and `decode`: a `Transformer`, `LanguageModel` or `Seq2SeqRNN`.
        inputs: a list of strings, where the model carries a tokenizer; or int `(B, S)` ids, padded behind: sources, or
            prompts to continue.
        max_length: number of tokens to generate at most; that of `config` where None.
        config: `GenerationConfig`; the model's own, or the default one, where None.
        jit_compile: whether XLA compiles the loop.
        return_dict: whether scores are returned as well.
        return_alignments: whether the attention to the source is, too; takes another pass.

    Returns:
        A list of strings for strings; for ids, int32 `(B, max_length)` with the end token included and padding behind.
        With a strategy that gives `n` sequences a row, lists of `n` strings, or `(B, n, max_length)`. With
        `return_dict` or `return_alignments`, a dict of `text` for strings, `tokens`, `scores` float32 of their shape,
        the log-probability of each token, `sequence_scores` `(B,)` or `(B, n)`, what the strategy ranks by, and
        `alignments`, float32 `(B, max_length, S)`, see `keras_attn.generation.score`.

    Raises:
        ValueError: `inputs` is empty, is of another kind, does not fit the model, or is text for a model without a
            tokenizer; `config` is no `GenerationConfig`, or does not fit; or the model cannot generate.

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
    config, ids = prompts.config, prompts.ids
    if return_alignments:
        check_alignments(model)
    padded = _padded(model, ids) if jit_compile else ids
    graph = graph_of(model, config, jit_compile, len(padded) == 1)
    seed = getattr(config.chosen_strategy, "seed", 0)
    outputs = graph(*(ops.convert_to_tensor(x, "int32") for x in (padded, seed, config.max_length)))
    outputs = {name: ops.convert_to_numpy(value)[: len(ids)] for name, value in outputs.items()}
    outputs |= {name: outputs[name][..., : config.max_length] for name in ("tokens", "scores")}
    if return_alignments:
        outputs["alignments"] = score(model, ids, outputs["tokens"], config, return_alignments=True)["alignments"]
    if prompts.tokenizer is not None:
        outputs["text"] = prompts.decode(outputs["tokens"])
    if return_dict or return_alignments:
        return outputs
    return outputs["tokens" if prompts.tokenizer is None else "text"]


def graph_of(model, config, jit_compile=False, is_alone=False):
    """The graph of `run` for `model`: `(ids, seed, limit)` to a dict; made once for its settings.

    XLA has a graph of its own for a prompt that `is_alone`.
    """
    config, owner = shared_settings(config), weakref.ref(model)

    def call(ids, seed, limit):
        with owner().prepared() if jit_compile else contextlib.nullcontext():
            return run(Decoding(owner(), config, seed, limit), ids)

    batch, others = 1 if jit_compile and is_alone else None, config.chosen_strategy.models
    shapes = [(batch, None), (), ()]
    return cached_graph(model, (config, jit_compile, batch), call, shapes, jit_compile, others)


def shared_settings(config):
    """`config` as it is for every seed and for near `max_length`: a graph is given these when it runs."""
    strategy = config.chosen_strategy
    if hasattr(strategy, "seed"):
        strategy = dataclasses.replace(strategy, seed=0)
    return dataclasses.replace(config, max_length=power_of_two(config.max_length), strategy=strategy)


def cached_graph(model, key, call, shapes=(), jit_compile=False, others=()):
    """`call` as a graph, kept by `key` until the variables of `model` or of `others` are others.

    It takes an int32 tensor for each of `shapes`; without them, any nests of tensors.
    """
    graphs = _graphs.setdefault(model, {})
    variables = [variable for asked in (model, *others) for variable in asked.variables]
    known, graph = graphs.get(key, (None, None))
    # `quantize` and `enable_lora` put other variables in place of those that a graph has captured.
    if known is None or list(map(id, known)) != list(map(id, variables)):

        def traced(*arguments):
            with kv_cache.writing("slice" if jit_compile else "in_place"):
                return call(*arguments)

        specs = [keras.KerasTensor(shape, "int32") for shape in shapes]
        graph = compiled(traced, *specs, jit_compile=jit_compile)
        graphs[key] = variables, graph
    return graph


def power_of_two(size, least=16):
    """The next power of two, `least` at the least."""
    return max(least, 1 << (size - 1).bit_length())


def _padded(model, ids):
    """`ids` with padding behind and last rows repeated, up to powers of two."""
    batch, size = ids.shape
    length = power_of_two(size)
    limits = [layer.max_length for layer in model._flatten_layers() if getattr(layer, "max_length", None)]
    length = max(size, min([length, *limits])) if model.pad_id >= 0 else size
    ids = np.pad(ids, ((0, 0), (0, length - size)), constant_values=model.pad_id)
    return ids[np.minimum(np.arange(power_of_two(batch, 1)), batch - 1)]
