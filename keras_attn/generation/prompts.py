"""What generation starts from, checked."""

import dataclasses

import numpy as np

from keras_attn.generation.generation_config import GenerationConfig
from keras_attn.generation.generative_model import as_generative, vocabulary_size_of


class Prompts:
    """Inputs of `generate` as ids, and its settings, found to fit the model.

    Args:
        model, inputs, config, max_length: see `generate`.

    Attributes:
        model: the model as a `GenerativeModel`.
        inputs: as given.
        ids: int array `(B, S)`.
        config: `GenerationConfig`.
        tokenizer: what turns tokens into text, where the inputs were text; else None.

    Raises:
        ValueError: see `generate`.
    """

    def __init__(self, model, inputs, config=None, max_length=None):
        model = as_generative(model)
        config = settings_of(model, config)
        if max_length is not None:
            config = dataclasses.replace(config, max_length=max_length)
        is_text = isinstance(inputs, (list, tuple)) and len(inputs) > 0 and all(isinstance(x, str) for x in inputs)
        tokenizer = getattr(model, "tokenizer", None)
        if isinstance(inputs, str) or (is_text and tokenizer is None):
            kind = "a string" if isinstance(inputs, str) else "strings, but the model carries no tokenizer"
            raise ValueError(f"`inputs` must be a list of strings, or ids of rank 2. Received: {kind}")
        ids = prompt_ids(model, tokenizer, inputs) if is_text else np.asarray(inputs)
        if ids.ndim != 2 or 0 in ids.shape or not np.issubdtype(ids.dtype, np.integer):
            raise ValueError(
                "`inputs` must be a list of strings, or integer ids (batch, length), and not empty. "
                f"Received: shape {ids.shape}, dtype {ids.dtype}"
            )
        strategy = config.chosen_strategy
        config.validate(vocabulary_size_of(model))
        strategy.validate(model, config)
        for asked in (model, *strategy.models):
            asked.check_prompt(ids, config.max_length + strategy.lookahead)
        self.model, self.inputs, self.ids, self.config = model, inputs, ids, config
        self.tokenizer = tokenizer if is_text else None

    def decode(self, tokens):
        """A list of strings for `(B, L)`, of lists of strings for `(B, n, L)`."""
        return texts_of(tokens, self.model, self.tokenizer, self.ids)


def prompt_ids(model, tokenizer, texts):
    """The ids of texts that a model reads: without what ends a text where it continues them."""
    return tokenizer.encode(texts, add_suffix=not continues(model))


def continues(model):
    """Whether a model continues its prompts."""
    return getattr(model, "continues_prompts", False)


def texts_of(tokens, model, tokenizer, ids):
    """The texts of generated tokens, which continue the prompts where the model does.

    Args:
        tokens: int array `(B, L)`, or `(B, n, L)`.
        model, tokenizer: what generated them, and what reads them.
        ids: int array `(B, S)` that they were generated from.

    Returns:
        List of `B` strings, or of `B` lists of `n` strings.
    """
    after = ids if continues(model) else None
    if tokens.ndim == 2:
        return tokenizer.decode(tokens, after)
    rows, count, length = tokens.shape
    texts = tokenizer.decode(tokens.reshape(-1, length), None if after is None else np.repeat(after, count, axis=0))
    return [texts[row * count : (row + 1) * count] for row in range(rows)]


def settings_of(model, config=None, tokenizer=None):
    """`config`, or the model's own, or the default one, with the ids of the tokenizer.

    Args:
        model: see `generate`.
        config: `GenerationConfig` or None.
        tokenizer: that of a model which carries none.

    Returns:
        `GenerationConfig` whose `start_id`, unless the model continues prompts, and `pad_id` are integers.

    Raises:
        ValueError: `config` is no `GenerationConfig`, its ids differ from those of the tokenizer, the model takes
            another id for padding, or nothing says what a target starts with.
    """
    config = config or getattr(model, "generation_config", None) or GenerationConfig()
    if not isinstance(config, GenerationConfig):
        raise ValueError(f"`config` must be a GenerationConfig. Received: config={config!r}")
    tokenizer = getattr(model, "tokenizer", None) or tokenizer
    pad_id = getattr(model, "pad_id", None)
    if tokenizer is not None and pad_id is not None and pad_id != tokenizer.pad_id:
        raise ValueError(
            f"`pad_id` of the model must be that of the tokenizer, {tokenizer.pad_id}. Received: pad_id={pad_id}"
        )
    config = config.resolved(tokenizer, None if pad_id is None or pad_id < 0 else pad_id)
    if config.start_id is None and not continues(model):
        raise ValueError(
            "`start_id` of GenerationConfig must be the token that targets start with: the tokenizer has no start "
            "token. Received: start_id=None"
        )
    return config
