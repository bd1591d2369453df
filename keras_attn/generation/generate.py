"""Text or ids in, text or ids out."""

import dataclasses
import weakref

import keras
import numpy as np
from keras import ops

from keras_attn.generation.generation_config import GenerationConfig
from keras_attn.generation.greedy import greedy
from keras_attn.ops import cache as kv_cache
from keras_attn.ops.compiled import compiled

# One graph a model and config. Weak, so that a model can go; its graph holds it only while it lives.
_graphs = weakref.WeakKeyDictionary()


@keras.saving.register_keras_serializable(package="keras_attn")
def generate(model, inputs, max_length=None, config=None):
    """Generates greedily with a key/value cache, in one graph that serves every batch size and length.

    Args:
        model: a model with `prefill`, `begin` and `decode`, as `keras_attn.models.Transformer` or `LanguageModel`.
        inputs: a list of strings, where the model carries a tokenizer; or int `(B, S)` ids, padded behind: sources, or
            prompts to continue.
        max_length: number of tokens to generate at most; that of `config` where None.
        config: `GenerationConfig`; the model's own, or the default one, where None.

    Returns:
        A list of strings for strings; for ids, int32 `(B, max_length)` with the end token included and padding behind.

    Raises:
        ValueError: `inputs` is empty, is of another kind, does not fit the model, or is text for a model without a
            tokenizer; `config` is no `GenerationConfig`; or the model cannot generate.

    Example:

    >>> import numpy as np
    >>> from keras_attn import Transformer
    >>> model = Transformer(50, num_layers=1, hidden_dim=16, num_heads=2, intermediate_dim=32)
    >>> model.generate(np.array([[5, 6, 7]]), max_length=4).shape
    (1, 4)
    """
    if not hasattr(model, "prefill"):
        raise ValueError(f"`model` must have `prefill` and `decode`. Received: {type(model).__name__}")
    config = config or getattr(model, "generation_config", None) or GenerationConfig()
    if not isinstance(config, GenerationConfig):
        raise ValueError(f"`config` must be a GenerationConfig. Received: config={config!r}")
    if max_length is not None:
        config = dataclasses.replace(config, max_length=max_length)
    is_text = isinstance(inputs, (list, tuple)) and len(inputs) > 0 and all(isinstance(x, str) for x in inputs)
    tokenizer = getattr(model, "tokenizer", None)
    if isinstance(inputs, str) or (is_text and tokenizer is None):
        kind = "a string" if isinstance(inputs, str) else "strings, but the model carries no tokenizer"
        raise ValueError(f"`inputs` must be a list of strings, or ids of rank 2. Received: {kind}")
    ids = tokenizer.encode(inputs) if is_text else np.asarray(inputs)
    if ids.ndim != 2 or 0 in ids.shape or not np.issubdtype(ids.dtype, np.integer):
        raise ValueError(
            "`inputs` must be a list of strings, or integer ids (batch, length), and not empty. "
            f"Received: shape {ids.shape}, dtype {ids.dtype}"
        )
    model.check_prompt(ids, config.max_length)
    tokens = ops.convert_to_numpy(_graph(model, config)(ops.convert_to_tensor(ids, "int32"))["tokens"])
    return tokenizer.decode(tokens) if is_text else tokens


def _graph(model, config):
    graphs = _graphs.setdefault(model, {})
    variables = model.variables
    known, _ = graphs.get(config, (None, None))
    # `quantize` and `enable_lora` put other variables in place of those that a graph has captured.
    if known is None or list(map(id, known)) != list(map(id, variables)):
        owner = weakref.ref(model)

        def run(source_ids):
            with kv_cache.writing("slice"):
                return greedy(owner(), source_ids, config)

        graphs[config] = variables, compiled(run, keras.KerasTensor((None, None), "int32"))
    return graphs[config][1]
