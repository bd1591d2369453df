"""The settings of a training run, stored in checkpoints to report differences when it resumes."""

import json
import re
import warnings

import keras

from keras_attn import compat
from keras_attn.training.data import batch_sharding
from keras_attn.training.losses.compiled_loss import FunctionLoss

# Connections of layers and modules of classes, which are not settings or show in the variables' names.
_LEFT_OUT = {
    *("build_config", "compile_config", "module", "registered_name", "shared_object_id"),
    *("inbound_nodes", "input_layers", "output_layers"),
}
_MOST_VALUES, _MOST_NAMED = 40, 8


def run_settings(trainer):
    """The arguments of a `Trainer`, as JSON values."""
    described = {
        "accumulation_steps": trainer.accumulation_steps,
        "optimizer": _serialized(trainer.optimizer),
        "loss": _serialized(trainer.loss.function if isinstance(trainer.loss, FunctionLoss) else trainer.loss),
        "compute_loss": _function_name(trainer.compute_loss),
        "metrics": [_serialized(metric) for metric in trainer.metrics.plain],
        "weighted_metrics": [_serialized(metric) for metric in trainer.metrics.weighted],
        "jit_compile": trainer.jit_compile,
        "replicas": trainer.strategy.num_replicas_in_sync,
        "random_seed": compat.random_seed(),
        "model": _serialized(trainer.model),
    }
    return json.loads(json.dumps(_plain(described)))


def data_settings(dataset, validation_data, validation_freq):
    """The arguments of `Trainer.fit`, as JSON values."""
    described = {"dataset": batch_sharding.batch_settings(dataset), "validation_freq": validation_freq}
    if validation_data is not None:
        known = {"fingerprint": batch_sharding.fingerprint(validation_data)}
        described["validation_data"] = known | batch_sharding.batch_settings(validation_data)
    return json.loads(json.dumps(_plain(described)))


def differences(then, now):
    """`{name: (then, now)}` of settings that differ. Settings that only one side has are ignored."""
    return dict(_differences("", then or {}, now or {}))


def format_differences(changes):
    """Formats differences as "`name` was x and is y; ..."."""
    named = [f"`{name}` was {_shown(then)} and is {_shown(now)}" for name, (then, now) in changes.items()]
    more = len(named) - _MOST_NAMED
    return "; ".join(named[:_MOST_NAMED]) + (f"; and {more} more" if more > 0 else "")


def keeps_new_value(variable, changes):
    """Whether a variable keeps its new value instead of that in the checkpoint."""
    if variable.startswith("seeds/"):
        return any(name == "random_seed" or re.fullmatch(r"model\..*\.seed", name) for name in changes)
    return _is_learning_rate(variable) and any(map(_is_learning_rate, changes))


def metrics_changed(changes):
    """Whether the loss or the metrics have changed, so that running sums are invalid."""
    return any(name.split(".")[0] in ("loss", "compute_loss", "metrics", "weighted_metrics") for name in changes)


def _is_learning_rate(name):
    """Whether a setting or variable is a learning rate."""
    return name.startswith("optimizer") and name.endswith("learning_rate")


def _differences(name, then, now):
    if isinstance(then, dict) and isinstance(now, dict) and then.get("class_name") == now.get("class_name"):
        pairs = [(f"{name}.{key}", then[key], now[key]) for key in now if key in then]
    elif isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        pairs = [(f"{name}.{i}", a, b) for i, (a, b) in enumerate(zip(then, now, strict=True))]
    else:
        if then != now:
            yield name.removeprefix("."), (then, now)
        return
    for pair in pairs:
        yield from _differences(*pair)


def _function_name(function):
    """The qualified name of a function, or of the class of an object that is called, or None."""
    return None if function is None else getattr(function, "__qualname__", type(function).__qualname__)


def _serialized(thing):
    """The class and config of an object, or the object itself if it has no config."""
    if not hasattr(thing, "get_config"):
        return thing
    try:
        with warnings.catch_warnings():
            # It warns about functions that cannot be deserialised, which is not needed.
            warnings.simplefilter("ignore")
            described = keras.saving.serialize_keras_object(thing)
        # Some Keras losses and metrics omit arguments from their config, such as `delta` of Huber.
        if arguments := compat.function_arguments(thing):
            described["config"] = {**arguments, **described["config"]}
        return described
    except Exception:  # a user's own class may raise anything, and only settings are left unnamed
        return type(thing).__name__


def _plain(value):
    """Flattens class and config to one dict, replaces long values by checksums, and removes numbers from names."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, dict):
        if isinstance(config := value.get("config"), dict) and "class_name" in value:
            value = {"class_name": value["class_name"], **config}
        plain = {str(k): _plain(v) for k, v in value.items() if k not in _LEFT_OUT}
        return (
            plain
            if len(plain) <= _MOST_VALUES or _is_nested(plain.values())
            else batch_sharding.checksum(sorted(plain))
        )
    if isinstance(value, (list, tuple)):
        plain = [_plain(x) for x in value]
        return plain if len(plain) <= _MOST_VALUES or _is_nested(plain) else batch_sharding.checksum(plain)
    if isinstance(value, str):
        return compat.unnumbered(value) if len(value) <= 200 else batch_sharding.checksum(value)
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return getattr(value, "__name__", type(value).__name__)


def _is_nested(values):
    return any(isinstance(value, (dict, list)) for value in values)


def _shown(value):
    if isinstance(value, dict) and "class_name" in value:
        return f"{value['class_name']}({', '.join(f'{k}={v!r}' for k, v in value.items() if k != 'class_name')})"
    return repr(value)
