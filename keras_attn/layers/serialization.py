"""Objects inside configs."""

import keras


def deserialized(value):
    """An object from its `keras.saving` dict; anything else unchanged."""
    return keras.saving.deserialize_keras_object(value) if isinstance(value, dict) else value


def serialized(value):
    """The `keras.saving` dict of an object; None stays None."""
    return None if value is None else keras.saving.serialize_keras_object(value)
