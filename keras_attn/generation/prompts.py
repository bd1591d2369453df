"""Validated inputs and settings of generation."""

import copy
import dataclasses
from collections.abc import Mapping

import keras
import numpy as np
from keras import ops

from keras_attn import compat
from keras_attn.generation.generation_config import GenerationConfig
from keras_attn.generation.generative_model import as_generative, check_reads_ids, reads_ids, vocabulary_size_of
from keras_attn.generation.settings import power_of_two


class Prompts:
    """The inputs of `generate` as arrays, and its settings, validated against the model.

    Args:
        model, inputs, config, max_length: See `generate`.

    Attributes:
        model: The model as a `GenerativeModel`.
        inputs: The inputs, as given.
        prompt: Array `(B, S, ...)`: token ids, or features.
        mask: Bool array `(B, S)` of features; None for ids.
        config: `GenerationConfig`.
        tokenizer: The tokenizer that turns tokens into text if the inputs were text or features; else None.

    Raises:
        ValueError: See `generate`.
    """

    def __init__(self, model, inputs, config=None, max_length=None):
        # What completes a model does not keep it alive.
        self._given_model, model = model, as_generative(model)
        config = settings_of(model, config)
        if max_length is not None:
            config = dataclasses.replace(config, max_length=max_length)
        tokenizer = getattr(model, "tokenizer", None)
        writes_text = _are_strings(inputs) or not reads_ids(model)
        prompt, mask = (_ids(model, tokenizer, inputs), None) if reads_ids(model) else _features(model, inputs)
        strategy = config.chosen_strategy
        config.validate(vocabulary_size_of(model))
        for processor in config.processors:
            if processor.needs_source_ids:
                check_reads_ids(model, type(processor).__name__)
        strategy.validate(model, config)
        for part in (model, *strategy.models):
            part.check_prompt(prompt, config.max_length + strategy.lookahead)
        self.model, self.inputs, self.prompt, self.mask, self.config = model, inputs, prompt, mask, config
        self.tokenizer = tokenizer if writes_text else None

    @property
    def named(self):
        """The prompt, and its mask if there is one, by the names of `prompt_specs`."""
        given = (self.prompt,) if self.mask is None else (self.prompt, self.mask)
        return dict(zip(self.model.prompt_specs, given, strict=True))

    @property
    def tensors(self):
        """The arguments that graphs take: `named` as tensors."""
        specs = self.model.prompt_specs
        return tuple(ops.convert_to_tensor(x, specs[name].dtype) for name, x in self.named.items())

    def padded(self):
        """A copy with the last row repeated, and ids right-padded, to powers of two: XLA then compiles few shapes."""
        padded = copy.copy(self)
        batch, size = self.prompt.shape[:2]
        if reads_ids(self.model) and self.model.pad_id >= 0:
            limits = [layer.max_length for layer in compat.layers_of(self.model) if getattr(layer, "max_length", None)]
            length = max(size, min([power_of_two(size), *limits]))
            padded.prompt = np.pad(self.prompt, ((0, 0), (0, length - size)), constant_values=self.model.pad_id)
        rows = np.minimum(np.arange(power_of_two(batch, 1)), batch - 1)
        padded.prompt = padded.prompt[rows]
        padded.mask = None if self.mask is None else self.mask[rows]
        return padded

    def decode(self, tokens):
        """The texts of `tokens`: a list of strings for `(B, L)`, of lists of strings for `(B, n, L)`."""
        return texts_of(tokens, self.model, self.tokenizer, self.prompt)


def prompt_arguments(model, batch=None):
    """Specs of a prompt as arguments of a graph, for any batch size, or for `batch` rows."""
    return [keras.KerasTensor((batch, *spec.shape[1:]), spec.dtype) for spec in model.prompt_specs.values()]


def split_prompt(model, arguments):
    """Splits the arguments of a graph, which start with the prompt, into `((inputs, mask), further)`."""
    count = len(model.prompt_specs)
    prompt = arguments[:count] if count > 1 else (*arguments[:count], None)
    return prompt, arguments[count:]


def _are_strings(values):
    return isinstance(values, list | tuple) and len(values) > 0 and all(isinstance(x, str) for x in values)


def _ids(model, tokenizer, inputs):
    """The token ids of texts, of ids, or of a dict of ids by the name of the model's only input."""
    is_text = _are_strings(inputs)
    if isinstance(inputs, Mapping):
        inputs = _only_input(model, inputs)
    if isinstance(inputs, str) or (is_text and tokenizer is None):
        kind = "a string" if isinstance(inputs, str) else "strings, but the model carries no tokenizer"
        raise ValueError(f"`inputs` must be a list of strings, or ids of rank 2. Received: {kind}")
    ids = prompt_ids(model, tokenizer, inputs) if is_text else np.asarray(inputs)
    if ids.ndim != 2 or 0 in ids.shape or not np.issubdtype(ids.dtype, np.integer):
        raise ValueError(
            "`inputs` must be a list of strings, or integer ids (batch, length), and not empty. "
            f"Received: shape {ids.shape}, dtype {ids.dtype}"
        )
    return ids


def _only_input(model, inputs):
    """The value of a dict with only the name of a model's only input."""
    [name] = model.prompt_specs
    if inputs.keys() != {name}:
        raise ValueError(f"`inputs` must be a dict of {name!r} alone. Received: {sorted(inputs)}")
    return inputs[name]


def _features(model, inputs):
    """`(features, mask)` for a model that reads features, from an array or a dict by the names of `prompt_specs`."""
    names, specs = list(model.prompt_specs), list(model.prompt_specs.values())
    if not isinstance(inputs, Mapping):
        inputs = {names[0]: inputs}
    if names[0] not in inputs or not inputs.keys() <= set(names):
        raise ValueError(f"`inputs` must be {names[0]!r}, or a dict of {names}. Received: {sorted(map(str, inputs))}")
    features = np.asarray(inputs[names[0]])
    fits = len(features.shape) == len(specs[0].shape) and 0 not in features.shape
    fits = fits and features.dtype.kind in "fiub"
    if not fits or any(size not in (None, own) for size, own in zip(specs[0].shape, features.shape, strict=True)):
        raise ValueError(
            f"`inputs` must be {names[0]!r}, {specs[0].dtype} of shape {specs[0].shape} and not empty. "
            f"Received: shape {features.shape}, dtype {features.dtype}"
        )
    if len(names) == 1:
        return features, None
    mask = inputs.get(names[1])
    mask = np.ones(features.shape[:2], "bool") if mask is None else np.asarray(mask)
    if mask.shape != features.shape[:2] or mask.dtype != "bool":
        raise ValueError(
            f"`inputs` must have a bool {names[1]!r} of shape {features.shape[:2]}. "
            f"Received: shape {mask.shape}, dtype {mask.dtype}"
        )
    return features, mask


def prompt_ids(model, tokenizer, texts):
    """The ids of texts for a model, without the tokenizer's suffix if it continues them."""
    return tokenizer.encode(texts, add_suffix=not continues(model))


def continues(model):
    """Whether a model continues its prompts."""
    return getattr(model, "continues_prompts", False)


def texts_of(tokens, model, tokenizer, prompt):
    """The texts of generated tokens, decoded as continuations of the prompts if the model continues prompts.

    Args:
        tokens: Int array `(B, L)`, or `(B, n, L)`.
        model, tokenizer: The model that generated them, and its tokenizer.
        prompt: Array `(B, S, ...)`, the inputs of the model.

    Returns:
        List of `B` strings, or of `B` lists of `n` strings.
    """
    after = prompt if continues(model) else None
    if tokens.ndim == 2:
        return tokenizer.decode(tokens, after)
    rows, count, length = tokens.shape
    texts = tokenizer.decode(tokens.reshape(-1, length), None if after is None else np.repeat(after, count, axis=0))
    return [texts[row * count : (row + 1) * count] for row in range(rows)]


def settings_of(model, config=None, tokenizer=None):
    """`config`, that of the model, or the default one, with the ids of the tokenizer.

    Args:
        model: See `generate`.
        config: `GenerationConfig` or None.
        tokenizer: The tokenizer, if the model carries none.

    Returns:
        `GenerationConfig` whose `start_id`, unless the model continues prompts, and `pad_id` are integers.

    Raises:
        ValueError: If `config` is not a `GenerationConfig`, its ids differ from those of the tokenizer, the model has
            a different `pad_id`, or a target has no start token.
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
    config = config.resolved(tokenizer, pad_id)
    if config.start_id is None and not continues(model):
        raise ValueError(
            "`start_id` of GenerationConfig must be the token that targets start with: the tokenizer has no start "
            "token. Received: start_id=None"
        )
    return config
