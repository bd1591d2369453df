"""Objects inside configs."""

import types

import keras


def deserialized(value):
    """An object from its `keras.saving` dict; anything else unchanged."""
    return keras.saving.deserialize_keras_object(value) if isinstance(value, dict) else value


def serialized(value):
    """What stands for a value in a config: activations by name, Keras objects as dicts, plain values unchanged."""
    if isinstance(value, types.FunctionType):
        return keras.activations.serialize(value)
    return keras.saving.serialize_keras_object(value) if hasattr(value, "get_config") else value
