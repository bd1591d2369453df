"""Settings of generation."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import keras

from keras_attn.argument_checks import check_count, check_positive, check_vocabulary, is_count
from keras_attn.generation.greedy import Greedy
from keras_attn.generation.processors import LogitProcessor
from keras_attn.generation.settings import Settings
from keras_attn.generation.strategy import Strategy
from keras_attn.special_ids import END_ID, START_ID

if TYPE_CHECKING:
    from keras_attn.text.tokenizer import Tokenizer


CACHES = ("float", "int8")


@keras.saving.register_keras_serializable(package="keras_attn")
@dataclasses.dataclass(frozen=True)
class GenerationConfig(Settings):
    """Settings of generation, saved as part of the model.

    The three ids default to those of the model's tokenizer; different ids are an error. Without a tokenizer, the
    defaults are `start_id=2`, `end_id=3`, and the `pad_id` of the model.

    Args:
        max_length: Maximum number of generated tokens, including the end token.
        start_id: The first decoder input token; not part of the output. Language models continue their prompt instead.
        end_id: The token that ends a row, or a tuple of tokens that includes the tokenizer's. If it is None and the
            tokenizer has no end token, every row has length `max_length`.
        pad_id: The token after the end of a row.
        strategy: The decoding strategy, such as `Sampling()` or `BeamSearch(4)`. Defaults to `Greedy()`.
        processors: Tuple of `LogitProcessor`, applied in order.
        cache: "float" for a KV cache in the compute dtype of the model, or "int8" for a quarter of the memory.

    Raises:
        ValueError: If an argument is invalid.

    Example:

    >>> from keras_attn.generation import BeamSearch, GenerationConfig, MinLength
    >>> config = GenerationConfig(max_length=11, strategy=BeamSearch(4), processors=(MinLength(3),))
    >>> config.strategy.num_beams, config.resolved().end_id
    (4, 3)
    """

    max_length: int = 64
    start_id: int | None = None
    end_id: int | tuple[int, ...] | None = None
    pad_id: int | None = None
    strategy: Strategy | None = None
    processors: tuple[LogitProcessor, ...] = ()
    cache: str = "float"

    def __post_init__(self):
        check_positive(max_length=self.max_length)
        check_count(**{name: x for name in ("start_id", "pad_id") if (x := getattr(self, name)) is not None})
        if self.end_id is not None and (not self.end_ids or not all(map(is_count, self.end_ids))):
            raise ValueError(
                f"`end_id` must be a non-negative integer or a tuple of them. Received: end_id={self.end_id!r}"
            )
        processors = self.processors
        if not isinstance(processors, tuple) or not all(isinstance(x, LogitProcessor) for x in processors):
            raise ValueError(f"`processors` must be a tuple of LogitProcessor. Received: processors={processors!r}")
        if self.cache not in CACHES:
            raise ValueError(f"`cache` must be one of {list(CACHES)}. Received: cache={self.cache!r}")
        if self.strategy is not None and not isinstance(self.strategy, Strategy):
            raise ValueError(f"`strategy` must be a Strategy, or None. Received: strategy={self.strategy!r}")

    @property
    def chosen_strategy(self) -> Strategy:
        """`strategy`, or `Greedy()` if it is None."""
        return self.strategy or Greedy()

    @property
    def end_ids(self) -> tuple[int, ...]:
        """The tokens that end a row, as a tuple."""
        if self.end_id is None:
            return ()
        return self.end_id if isinstance(self.end_id, tuple) else (self.end_id,)

    def resolved(self, tokenizer: Tokenizer | None = None, pad_id: int | None = None) -> GenerationConfig:
        """The settings with all ids filled in.

        Args:
            tokenizer: The tokenizer of the model, or None. Ids that it lacks stay None.
            pad_id: The padding id of the model, or None; ignored if there is a tokenizer. If it is negative, inputs
                have no padding id, and rows that have ended are filled up with 0.

        Returns:
            `GenerationConfig`.

        Raises:
            ValueError: If an id differs from that of the tokenizer.
        """
        if tokenizer is None:
            known = {"start_id": START_ID, "end_id": END_ID, "pad_id": max(0, pad_id or 0)}
        else:
            known = {name: getattr(tokenizer, name) for name in ("start_id", "end_id", "pad_id")}
            for name, value in known.items():
                given = getattr(self, name)
                has = value in given if isinstance(given, tuple) else value == given
                if given is not None and value is not None and not has:
                    raise ValueError(
                        f"`{name}` of GenerationConfig must be None or that of the tokenizer, {value}. "
                        f"Received: {name}={given}"
                    )
        return dataclasses.replace(self, **{name: x for name, x in known.items() if getattr(self, name) is None})

    def validate(self, vocabulary_size: int) -> None:
        """Raises a ValueError if an id is outside the vocabulary, or a processor does not fit."""
        ids = {"start_id": self.start_id, "end_id": self.end_ids, "pad_id": self.pad_id}
        check_vocabulary(vocabulary_size, **{name: value for name, value in ids.items() if value is not None})
        for processor in self.processors:
            if processor.needs_end and not self.end_ids:
                raise ValueError(
                    f"`end_id` of GenerationConfig must be given for {type(processor).__name__}, as the tokenizer has "
                    "no end token. Received: end_id=None"
                )
            processor.validate(self, vocabulary_size)
