"""Copies of a layer."""

import inspect
import types
import warnings

import keras

from keras_attn.layers.base.initializer_copies import cloned
from keras_attn.layers.base.serialization import deserialized, layer_spec, live_objects, unmarked

_LAYER_ARGUMENTS = ("name", "trainable", "dtype")


class Template:
    """Creates any number of copies of a layer, which itself is never built.

    The copies use the user's own function and class objects, which need not be registered with Keras; only a saved
    config contains their names. Keras does not track the layers in a template.

    Args:
        layer: A Keras layer with a `get_config`.
        argument: Name of the argument for the layer, for error messages.

    Raises:
        ValueError: If the layer cannot be copied, or its config does not identify its functions.
    """

    def __init__(self, layer, argument):
        self.argument = argument
        # A copy, so that later changes of the user's layer have no effect.
        self._layer = self._copy(layer)

    @classmethod
    def of(cls, value, argument):
        """A template of a layer, of its config, or of another template; None for None."""
        value = value.new() if isinstance(value, cls) else deserialized(value)
        if value is not None and not isinstance(value, keras.layers.Layer):
            raise ValueError(f"`{argument}` must be a Keras layer. Received: {argument}={value!r}")
        return value if value is None else cls(value, argument)

    def new(self, *edits, **changes):
        """A new layer, not built, whose config has `changes` by name and is passed through each of `edits`."""
        return self._copy(self._layer, cloned, edits, **changes)

    def config(self):
        """The layer's config, with the user's functions and other objects themselves."""
        return self._config_of(self._layer)

    def layer_spec(self):
        """The layer's config as in `keras.saving`."""
        return layer_spec(self._layer)

    def __repr__(self):
        return repr(self._layer)

    def _config_of(self, layer, made=lambda value: value):
        with live_objects(made), warnings.catch_warnings():
            # The warning about lambdas applies only when the layer is saved.
            warnings.filterwarnings("ignore", "The object being serialized includes a `lambda`")
            try:
                return unmarked(layer.get_config())
            except NotImplementedError as error:
                raise ValueError(
                    f"`{self.argument}` must be a layer with a `get_config`, as it is copied by its "
                    f"config. Received: {self.argument}={layer!r}"
                ) from error

    def _copy(self, layer, made=lambda value: value, edits=(), **changes):
        functions, classes = _own_objects(layer)
        scope = {keras.saving.get_registered_name(cls): cls for cls in classes}
        with live_objects(made), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The object being serialized includes a `lambda`")
            config = self._with_names({**self._config_of(layer, made), **changes}, functions, scope)
        parameters = inspect.signature(type(layer).__init__).parameters.values()
        if all(parameter.kind != parameter.VAR_KEYWORD for parameter in parameters):
            taken = {parameter.name for parameter in parameters}
            config = {name: x for name, x in config.items() if name in taken or name not in _LAYER_ARGUMENTS}
        with keras.saving.custom_object_scope(scope):
            for edit in edits:
                config = edit(config)
            return type(layer).from_config(config)

    def _with_names(self, config, functions, scope):
        """`config` in which each of the user's `functions` has a unique name, under which it is in `scope`."""
        if isinstance(config, list | tuple):
            return type(config)(self._with_names(entry, functions, scope) for entry in config)
        if not isinstance(config, dict):
            return config
        if config.get("class_name") not in ("function", "__lambda__") and config.keys() != {"value"}:
            return {name: self._with_names(entry, functions, scope) for name, entry in config.items()}
        found = [function for function in functions if _describes(config, function)]
        if len(found) > 1:
            raise ValueError(
                f"`{self.argument}` must not have several functions of the same name. Register them with "
                f"`keras.saving.register_keras_serializable` under different names. Received: {found}"
            )
        if not found:
            return config
        name = f"function_{len(scope)} of {self.argument}"
        scope[name] = found[0]
        return {"module": None, "class_name": "function", "config": name, "registered_name": name}


def _own_objects(root):
    """`(functions, classes)` in a serialisable object at any depth, without the classes of Keras."""
    functions, classes, seen, left = [], set(), set(), [root]
    while left:
        value = left.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, types.FunctionType):
            functions.append(value)
        elif isinstance(value, dict):
            left += value.values()
        elif isinstance(value, list | tuple | set):
            left += value
        elif hasattr(value, "get_config") and not isinstance(value, type):
            classes.add(type(value))
            left += getattr(value, "__dict__", {}).values()
    return functions, {cls for cls in classes if cls.__module__.partition(".")[0] != "keras"}


def _describes(config, function):
    """Whether the config of a function may describe `function`."""
    if config.get("class_name") == "function":
        return config["config"] in (function.__name__, keras.saving.get_registered_name(function))
    # `keras.activations.serialize` gives only the inner part of a lambda's config, and `Lambda` another form.
    code = config.get("config", config)
    code = [code["code"]] if "code" in code else code["value"]
    if function.__name__ != "<lambda>" or not isinstance(code, list | tuple):
        return False
    return keras.saving.serialize_keras_object(function)["config"]["value"][0] == code[0]
