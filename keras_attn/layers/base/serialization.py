"""Serialization of objects inside configs."""

import contextlib
import contextvars
import types

import keras

from keras_attn.lazy import register

_MADE_WITHOUT_ARGUMENTS = (keras.initializers.Initializer, keras.regularizers.Regularizer, keras.constraints.Constraint)


def deserialized(value):
    """Deserializes a `keras.saving` dict, or the entries of a dict or list; returns anything else unchanged.

    Configs may hold live objects too. As in Keras, a class of initializers, regularizers or constraints is called. A
    short config without a module is left to the layer, which knows the kind of argument.
    """
    if isinstance(value, type) and issubclass(value, _MADE_WITHOUT_ARGUMENTS):
        return value()
    if isinstance(value, list):
        return [deserialized(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    if not value.keys() >= {"class_name", "config"}:
        return {name: deserialized(entry) for name, entry in value.items()}
    if value.keys() == {"class_name", "config"} and keras.saving.get_registered_object(value["class_name"]) is None:
        return value
    register(value)
    return keras.saving.deserialize_keras_object(value)


def each_deserialized(value):
    """`deserialized`, which turns a tuple into a list of its deserialized entries."""
    return [deserialized(x) for x in value] if isinstance(value, list | tuple) else deserialized(value)


def serialized(value):
    """Serializes a value for a config: activations by name, Keras objects as dicts, plain values unchanged.

    Dicts and lists are serialized entry by entry.
    """
    if isinstance(value, types.FunctionType):
        return _serialized_function(value) if _live.get() is None else value
    if isinstance(value, dict):
        return {name: serialized(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [serialized(entry) for entry in value]
    if hasattr(value, "layer_spec"):
        return value.layer_spec()
    if isinstance(value, keras.layers.Layer) and value.built and value.weights:
        # Inside `model.save`, Keras marks an object as shared at its second occurrence, and loses the first one if that
        # was copied into another config. So the first occurrence is serialized twice.
        keras.saving.serialize_keras_object(value)
    if _live.get() is not None and not isinstance(value, keras.layers.Layer):
        return _live.get()(value)
    return keras.saving.serialize_keras_object(value) if hasattr(value, "get_config") else value


@contextlib.contextmanager
def live_objects(made=lambda value: value):
    """Scope in which configs of this package's layers hold functions themselves, not their serialized form.

    Any other value that is not a layer becomes `made(value)`.
    """
    token = _live.set(made)
    try:
        yield
    finally:
        _live.reset(token)


def layer_spec(value):
    """`serialized`, without the ids that Keras gives shared objects inside `model.save` and `load_model`."""
    return unmarked(serialized(value))


def unmarked(config):
    """A config without the ids of shared objects."""
    if isinstance(config, dict):
        return {name: unmarked(value) for name, value in config.items() if name != "shared_object_id"}
    return [unmarked(value) for value in config] if isinstance(config, list) else config


def _serialized_function(function):
    if function.__name__ == "<lambda>":
        return keras.saving.serialize_keras_object(function)
    config = keras.activations.serialize(function)
    if isinstance(config, str) and keras.activations.get(config) is not function:
        # Keras takes every function called `relu` for its own unless the config names the module.
        name = keras.saving.get_registered_name(function)
        return {"module": function.__module__, "class_name": "function", "config": name, "registered_name": name}
    return config


_live = contextvars.ContextVar("keras_attn_live_objects", default=None)
