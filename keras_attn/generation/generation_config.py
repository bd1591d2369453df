"""How to generate."""

import dataclasses

import keras

from keras_attn.argument_checks import check_count, check_positive, check_vocabulary, is_count
from keras_attn.generation.greedy import Greedy
from keras_attn.generation.processors import LogitProcessor
from keras_attn.generation.settings import Settings
from keras_attn.generation.strategy import Strategy

CACHES = ("float", "int8")


@keras.saving.register_keras_serializable(package="keras_attn")
@dataclasses.dataclass(frozen=True)
class GenerationConfig(Settings):
    """Settings of generation, saved with the model that carries them.

    Args:
        max_length: number of tokens to generate at most, the end token included.
        start_id: the token that decoding starts from; not part of the result.
        end_id: the token that ends a row, or a tuple of several.
        pad_id: what follows the end of a row.
        strategy: how tokens are chosen, such as `Sampling()` or `BeamSearch(4)`; `Greedy()` where None.
        processors: tuple of `LogitProcessor`, applied in their order.
        cache: "float", keys and values in the dtype that the model computes in; or "int8", a quarter of the memory.

    Raises:
        ValueError: an argument is not as described; the message names it.

    Example:

    >>> from keras_attn.generation import BeamSearch, GenerationConfig, MinLength
    >>> config = GenerationConfig(max_length=11, strategy=BeamSearch(4), processors=(MinLength(3),))
    >>> config.strategy.num_beams, config.end_id
    (4, 3)
    """

    max_length: int = 64
    start_id: int = 2
    end_id: int | tuple = 3
    pad_id: int = 0
    strategy: object = None
    processors: tuple = ()
    cache: str = "float"

    def __post_init__(self):
        check_positive(max_length=self.max_length)
        check_count(start_id=self.start_id, pad_id=self.pad_id)
        if not self.end_ids or not all(map(is_count, self.end_ids)):
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
    def chosen_strategy(self):
        """`strategy`, or what stands in for None."""
        return self.strategy or Greedy()

    @property
    def end_ids(self):
        """The tokens that end a row, as a tuple."""
        return self.end_id if isinstance(self.end_id, tuple) else (self.end_id,)

    def validate(self, vocabulary_size):
        """Raises a ValueError where an id is outside of the vocabulary, or a processor does not fit."""
        check_vocabulary(vocabulary_size, start_id=self.start_id, end_id=self.end_id, pad_id=self.pad_id)
        for processor in self.processors:
            processor.validate(self, vocabulary_size)
