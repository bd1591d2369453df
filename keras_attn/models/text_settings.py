"""The text settings of a model: its tokenizer, its generation config, and their special ids."""

from __future__ import annotations

import dataclasses
import inspect
import warnings
from typing import TYPE_CHECKING, Any

import keras

from keras_attn.argument_checks import is_integer
from keras_attn.layers.base.serialization import deserialized
from keras_attn.models.prompt_mask import PromptMask
from keras_attn.special_ids import END_ID, padding_label

if TYPE_CHECKING:
    from keras_attn.generation.generation_config import GenerationConfig
    from keras_attn.text.tokenizer import Tokenizer


class TextSettings:
    """The tokenizer, the `GenerationConfig` and the pad id of a model, which always match.

    Must precede the Keras class among the bases. The constructor of the model calls `_keep_texts`.
    """

    def _keep_texts(self, vocabulary_size, pad_id, tokenizer, settings):
        """Stores the arguments of a constructor, and returns the pad id."""
        if tokenizer is not None:
            check_tokenizer(tokenizer, vocabulary_size, pad_id)
        if pad_id is None:
            pad_id = 0 if tokenizer is None else tokenizer.pad_id
        if settings is not None:
            settings.resolved(tokenizer, pad_id)
        self._tokenizer, self._generation_config = tokenizer, settings
        return pad_id

    @property
    def pad_id(self) -> int:
        """The padding id, from the constructor."""
        return self.padding_mask.pad_id

    @property
    def tokenizer(self) -> Tokenizer | None:
        """The tokenizer of the model, or None; a new one must have the same pad id and not more ids than the tables."""
        return self._tokenizer

    @tokenizer.setter
    def tokenizer(self, tokenizer: Tokenizer | None) -> None:
        if tokenizer is not None:
            self.check_tokenizer(tokenizer)
            if self.generation_config is not None:
                self.generation_config.resolved(tokenizer, self.pad_id)
        self._tokenizer = tokenizer

    @property
    def generation_config(self) -> GenerationConfig | None:
        """The `GenerationConfig` of the model, or None."""
        return self._generation_config

    @generation_config.setter
    def generation_config(self, settings: GenerationConfig | None) -> None:
        if settings is not None:
            settings.resolved(self.tokenizer, self.pad_id)
        self._generation_config = settings

    @property
    def max_lengths(self) -> dict[str, int | None]:
        """Maximum length of each input of ids by name, or None if it is unlimited."""
        positions = {"token_ids": "position", "source_ids": "position", "target_ids": "decoder_position"}
        found = {name: getattr(self, positions[name], None) for name in self.vocabularies}
        return {name: getattr(position, "max_length", None) for name, position in found.items()}

    def check_tokenizer(self, tokenizer: Tokenizer) -> None:
        """Raises a ValueError if the model cannot read or write the texts of a tokenizer."""
        # A model of features without ids writes tokens as classes, as for CTC.
        check_tokenizer(tokenizer, min(self.vocabularies.values(), default=self.outputs[0].shape[-1]), self.pad_id)
        limit, length = next(iter(self.max_lengths.values()), None), tokenizer.max_length
        if limit is not None and length is not None and length > limit:
            raise ValueError(
                f"`tokenizer` must have a `max_length` of at most the {limit} positions of the model. "
                f"Received: max_length={length}"
            )
        starts_with_padding = self.continues_prompts and tokenizer.pad_id in tokenizer.prefix
        if starts_with_padding and not isinstance(self.padding_mask, PromptMask):
            raise ValueError(
                "`tokenizer` must be given to the constructor of the model if texts start with the padding id. "
                f"Received: {tokenizer!r} for a model without one"
            )

    @property
    def end_ids(self) -> tuple[int, ...]:
        """The ids that end a text, a tuple: from `generation_config`, else the tokenizer, else the default."""
        settings = self.generation_config
        if settings is not None and settings.end_ids:
            return settings.end_ids
        if self.tokenizer is None:
            return (END_ID,)
        return () if self.tokenizer.end_id is None else (self.tokenizer.end_id,)

    @property
    def padding_label(self) -> int | None:
        """The label of padding, or None if labels are not tokens. See `keras_attn.special_ids`."""
        return padding_label(self.pad_id, self.end_ids)

    def check_ignored(self, ignore_id: int | None) -> None:
        """Raises a ValueError if a loss would ignore a token that the model must learn."""
        if not is_integer(ignore_id) or self.padding_label is None:
            return
        if self.tokenizer is not None:
            padding_label(self.pad_id, self.end_ids, ignore_id)
        elif self.generation_config is not None and ignore_id in self.generation_config.end_ids:
            padding_label(ignore_id, self.end_ids, ignore_id)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """As `keras.Model.compile`; losses and metrics whose `ignore_id` is "auto" ignore the label of padding."""
        rated = _rated(inspect.signature(super().compile).bind(*args, **kwargs).arguments)
        # As an attribute, Keras would track the metrics twice.
        self._compiled_rated = lambda: rated
        for x in rated:
            self.check_ignored(getattr(x, "given_ignore_id", getattr(x, "ignore_class", None)))
            if hasattr(x, "bind_ignore_id"):
                x.bind_ignore_id(self.padding_label, is_final=False)
        super().compile(*args, **kwargs)

    def bind_labels(self, dataset: Any) -> None:
        """Makes the losses and metrics of `compile` ignore the padding label of a dataset, if it has `ignore_id`."""
        for x in self._compiled_rated() if hasattr(dataset, "ignore_id") else ():
            if hasattr(x, "bind_ignore_id"):
                x.bind_ignore_id(dataset.ignore_id)

    def compile_from_config(self, config: dict[str, Any]) -> None:
        # Keras does this for models that do not override `compile`.
        config = keras.saving.deserialize_keras_object(config)
        for x in _rated(config):
            try:
                self.check_ignored(getattr(x, "given_ignore_id", None))
            except ValueError:
                # Files older than "auto" contain the earlier default.
                words = "ignores a token of the model; it now ignores padding"
                warnings.warn(f"{x.name!r}, as it was saved, {words}", stacklevel=2)
                x.set_ignore_id("auto")
        self.compile(**config)
        if getattr(self, "optimizer", None) is not None and self.built:
            self.optimizer.build(self.trainable_variables)


def _rated(arguments):
    """Losses and metrics among the arguments of `compile`."""
    return keras.tree.flatten([arguments.get(name) for name in ("loss", "metrics", "weighted_metrics")])


def check_tokenizer(tokenizer, vocabulary_size, pad_id):
    """Raises a ValueError if a tokenizer does not match the embedding table and the pad id of a model."""
    if not hasattr(tokenizer, "vocabulary_size"):
        raise ValueError(f"`tokenizer` must be a tokenizer of keras_attn.text. Received: tokenizer={tokenizer!r}")
    if tokenizer.vocabulary_size > vocabulary_size:
        raise ValueError(
            f"`vocabulary_size` must be at least that of the tokenizer, {tokenizer.vocabulary_size}. "
            f"Received: vocabulary_size={vocabulary_size}"
        )
    if pad_id is not None and pad_id != tokenizer.pad_id:
        raise ValueError(
            f"`pad_id` of the model must be that of the tokenizer, {tokenizer.pad_id}; pass only `tokenizer=` to the "
            f"constructor. Received: pad_id={pad_id}"
        )


def check_extension(tokenizer, vocabulary_size, extended_size):
    """Raises a ValueError unless an extension, if there is one, is the last tokens of an optional tokenizer."""
    if extended_size and tokenizer is not None and tokenizer.vocabulary_size != vocabulary_size + extended_size:
        raise ValueError(
            "`vocabulary_size` must leave out the tokens that can only be copied, the last `extended_size` of the "
            f"{tokenizer.vocabulary_size} of the tokenizer. "
            f"Received: vocabulary_size={vocabulary_size}, extended_size={extended_size}"
        )


def with_ids_of_tokenizer(config):
    """A model's config without ids that its tokenizer does not have, which older files may contain."""
    tokenizer, settings = (deserialized(config.get(name)) for name in ("tokenizer", "generation_config"))
    if tokenizer is None:
        return config
    found, words = {}, []
    if config.get("pad_id") not in (None, tokenizer.pad_id):
        found["pad_id"] = None
        words.append(f"pad_id={config['pad_id']}")
    for name in ("start_id", "end_id", "pad_id") if settings is not None else ():
        try:
            dataclasses.replace(type(settings)(), **{name: getattr(settings, name)}).resolved(tokenizer)
        except ValueError:
            words.append(f"{name}={getattr(settings, name)} of generation_config")
            settings = dataclasses.replace(settings, **{name: None})
            found["generation_config"] = settings
    if words:
        warnings.warn(
            f"The saved model has ids that its tokenizer does not have, {', '.join(words)}; the tokenizer's are used",
            stacklevel=3,
        )
    return {**config, **found}
