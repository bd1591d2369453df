"""How to generate."""

import dataclasses

import keras


@keras.saving.register_keras_serializable(package="keras_attn")
@dataclasses.dataclass(frozen=True)
class GenerationConfig:
    """Settings of generation, saved with the model that carries them.

    Args:
        max_length: number of tokens to generate at most, the end token included.
        start_id: the token that decoding starts from; not part of the result.
        end_id: the token that ends a row.
        pad_id: what follows the end of a row.

    Raises:
        ValueError: `max_length` is not a positive integer, or an id is negative.

    Example:

    >>> from keras_attn.generation import GenerationConfig
    >>> GenerationConfig(max_length=11)
    GenerationConfig(max_length=11, start_id=2, end_id=3, pad_id=0)
    """

    max_length: int = 64
    start_id: int = 2
    end_id: int = 3
    pad_id: int = 0

    def __post_init__(self):
        if not isinstance(self.max_length, int) or self.max_length <= 0:
            raise ValueError(f"`max_length` must be a positive integer. Received: max_length={self.max_length!r}")
        for name in ("start_id", "end_id", "pad_id"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 0:
                raise ValueError(f"`{name}` must be a non-negative integer. Received: {name}={value!r}")

    def get_config(self):
        return dataclasses.asdict(self)

    @classmethod
    def from_config(cls, config):
        return cls(**config)
