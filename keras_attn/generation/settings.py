"""Settings that a model carries: compared by value, and saved with it."""

import dataclasses

import keras

from keras_attn.lazy import register
from keras_attn.plain_numbers import PlainNumbers


@dataclasses.dataclass(frozen=True)
class Settings(PlainNumbers):
    """Base of frozen dataclasses that Keras can save; fields may hold further ones, and tuples of them.

    A subclass is registered with `keras.saving.register_keras_serializable(package="keras_attn")`.
    """

    def __post_init__(self):
        """Refuses values that do not fit."""

    def get_config(self):
        return {
            field.name: keras.saving.serialize_keras_object(getattr(self, field.name))
            for field in dataclasses.fields(self)
        }

    @classmethod
    def from_config(cls, config):
        register(config)
        return cls(**{name: _frozen(keras.saving.deserialize_keras_object(value)) for name, value in config.items()})


def _frozen(value):
    """JSON knows lists only, and a list has no hash."""
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
