"""Objects inside configs."""

import types

import keras

from keras_attn.lazy import register


def deserialized(value):
    """An object from its `keras.saving` dict, or a dict of them; anything else unchanged."""
    register(value)
    return keras.saving.deserialize_keras_object(value) if isinstance(value, dict) else value


def each_deserialized(value):
    """`deserialized`, and of a list or tuple a list of what each entry stands for."""
    return [deserialized(x) for x in value] if isinstance(value, list | tuple) else deserialized(value)


def serialized(value):
    """What stands for a value in a config: activations by name, Keras objects as dicts, plain values unchanged.

    Dicts and lists are taken apart.
    """
    if isinstance(value, types.FunctionType):
        return keras.activations.serialize(value)
    if isinstance(value, dict):
        return {name: serialized(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [serialized(entry) for entry in value]
    if isinstance(value, keras.layers.Layer) and value.built and value.weights:
        # Inside `model.save`, Keras marks an object as shared when it meets it again, and leaves out the first mention
        # where that was copied into another config. So the first mention comes twice.
        keras.saving.serialize_keras_object(value)
    return keras.saving.serialize_keras_object(value) if hasattr(value, "get_config") else value


def blueprint(layer):
    """What `deserialized` builds layers like this one from, any number of times; None for None.

    Without the marks that Keras puts on shared objects inside `model.save` and `load_model`.
    """
    return _unmarked(serialized(layer))


def _unmarked(config):
    if isinstance(config, dict):
        return {name: _unmarked(value) for name, value in config.items() if name != "shared_object_id"}
    return [_unmarked(value) for value in config] if isinstance(config, list) else config
