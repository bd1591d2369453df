"""What generation starts from, checked."""

import dataclasses

import numpy as np

from keras_attn.generation.generation_config import GenerationConfig


class Prompts:
    """Inputs of `generate` as ids, and its settings, found to fit the model.

    Args:
        model, inputs, config, max_length: see `generate`.

    Attributes:
        ids: int array `(B, S)`.
        config: `GenerationConfig`.
        tokenizer: what turns tokens into text, where the inputs were text; else None.

    Raises:
        ValueError: see `generate`.
    """

    def __init__(self, model, inputs, config=None, max_length=None):
        if not hasattr(model, "prefill"):
            raise ValueError(f"`model` must have `prefill` and `decode`. Received: {type(model).__name__}")
        config = settings_of(model, config)
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
        strategy = config.chosen_strategy
        config.validate(model.output.shape[-1])
        strategy.validate(model, config)
        for asked in (model, *strategy.models):
            asked.check_prompt(ids, config.max_length + strategy.lookahead)
        self.ids, self.config, self.tokenizer = ids, config, tokenizer if is_text else None

    def decode(self, tokens):
        """A list of strings for `(B, L)`, of lists of strings for `(B, n, L)`."""
        if tokens.ndim == 2:
            return self.tokenizer.decode(tokens)
        texts = iter(self.tokenizer.decode(tokens.reshape(-1, tokens.shape[-1])))
        return [[next(texts) for _ in range(tokens.shape[1])] for _ in range(tokens.shape[0])]


def settings_of(model, config):
    """`config`, or the model's own, or the default one; a ValueError where it is no `GenerationConfig`."""
    config = config or getattr(model, "generation_config", None) or GenerationConfig()
    if not isinstance(config, GenerationConfig):
        raise ValueError(f"`config` must be a GenerationConfig. Received: config={config!r}")
    return config
