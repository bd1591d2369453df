"""All uses of private names of Keras, TensorFlow and others, and all patches of their objects.

This is the only file to port to another release of them, with `export/formats/converter_compat.py`, which has those of
the converters. Each docstring tells what the public interface lacks. `tests/test_compat.py` has a test per name that
fails if it is missing or has changed its meaning.
"""

import contextlib
import re
import threading
import time
import types
import zipfile
from typing import Any

# Layers.


def layers_of(model, include_self=True):
    """All layers in a model or layer, at any depth; the public `layers` has only the first level of a model."""
    return model._flatten_layers(include_self=include_self)


def unnumbered(name):
    """A name or path without the numbers that Keras appends, which no function tells from those of the user."""
    return re.sub(r"_\d+(?=[_/]|$)", "", name)


def sublayers_of(layer):
    """The layers directly in a layer; only models have the public `layers`."""
    return layer._layers


def attributes_of(layer):
    """Dict of a layer's attributes, without the list in which Keras tracks sub-layers."""
    return {name: value for name, value in vars(layer).items() if name != "_layers"}


def set_untracked(layer, name, value):
    """Sets an attribute unchanged; the public `setattr` wraps dicts and lists to track layers and variables in them."""
    vars(layer)[name] = value


@contextlib.contextmanager
def overriding_call(layer, function):
    """Within the scope, `layer.call` is `function` in this thread; Keras has no hook after a call.

    Other threads, such as one that prepares batches with the same model, call what was there before. The public
    `setattr` of a layer would track the function.
    """
    thread, before, outer = threading.get_ident(), layer.call, vars(layer).get("call")

    def call(*args, **kwargs):
        return (function if threading.get_ident() == thread else before)(*args, **kwargs)

    object.__setattr__(layer, "call", call)
    try:
        yield
    finally:
        if outer is None:
            object.__delattr__(layer, "call")
        else:
            object.__setattr__(layer, "call", outer)


def takes_training(layer):
    """Whether the class's `call` takes `training`; the signature of an overridden `call` does not show it."""
    return layer._call_has_training_arg


class BuildHook:
    """Calls `after_build()` once a layer is built; the `build` of a base class ends before that of its subclass."""

    def _post_build(self):
        super()._post_build()
        self.after_build()


@contextlib.contextmanager
def before_add_weight(function):
    """Within the scope, `function(layer, shape)` runs before this thread adds a weight; Keras has no hook there."""
    from keras.layers import Layer

    original, thread = Layer.add_weight, threading.get_ident()

    def add_weight(layer, shape=None, *arguments, **options):
        if threading.get_ident() == thread:
            function(layer, shape)
        return original(layer, shape, *arguments, **options)

    Layer.add_weight = add_weight
    try:
        yield
    finally:
        Layer.add_weight = original


@contextlib.contextmanager
def without_initial_values(function, zeros):
    """As `before_add_weight`, and weights that would be drawn at random are from the initializer `zeros` instead."""
    from keras import initializers
    from keras.layers import Layer

    kept = (initializers.Zeros, initializers.Ones, initializers.Constant)
    with before_add_weight(function):
        original, thread = Layer.add_weight, threading.get_ident()

        def add_weight(layer, shape=None, initializer=None, *arguments, **options):
            if threading.get_ident() == thread and not isinstance(initializers.get(initializer), kept):
                initializer = zeros
            return original(layer, shape, initializer, *arguments, **options)

        Layer.add_weight = add_weight
        try:
            yield
        finally:
            Layer.add_weight = original


# Weights.


def own_trainable(layer):
    """The value of a layer's `trainable`; a class that overrides the public property cannot read it there."""
    return layer._trainable


def set_own_trainable(layer, value):
    """Sets `trainable` of a layer and its own weights; Keras' setter reaches sub-layers and weights under LoRA."""
    layer._trainable = value
    frozen = [stored_weights(layer)] if getattr(layer, "lora_enabled", False) else []
    if frozen and getattr(layer, "lora_as_matrix", False):
        frozen.append(layer.bias)
    for variable in layer._trainable_variables:
        variable.trainable = value and not any(variable is x for x in frozen)


def put_first(layer, names):
    """Moves a layer's own trainable variables of these names to the front; their public lists are copies."""
    layer._trainable_variables.sort(key=lambda variable: variable.name not in names)


def set_dtype_policy(layer, policy):
    """Sets only the dtype policy; the public setter also writes to policy maps and quantises weights."""
    layer._dtype_policy = policy


def build_anew(layer):
    """Replaces a layer's variables by new ones of its dtype policy; a second `build` would add variables."""
    for variable in (*layer._trainable_variables, *layer._non_trainable_variables):
        layer._untrack_variable(variable)
    layer._tracker.unlock()
    layer.built = layer.lora_enabled = False
    layer.build(**layer._build_shapes_dict)


def replace_weight(layer, name, shape, initializer):
    """Replaces a layer's weight by one of another shape; the public `add_weight` fails once a layer is built."""
    old = getattr(layer, name)
    layer._untrack_variable(old)
    layer._tracker.unlock()
    options = {"dtype": old.dtype, "regularizer": old.regularizer}
    setattr(layer, name, layer.add_weight(name=name, shape=shape, initializer=initializer, **options))
    layer._tracker.lock()


def stored_weights(layer):
    """The variable of a kernel or table, or None; the public `kernel` and `embeddings` include the LoRA product."""
    return getattr(layer, "_kernel", getattr(layer, "_embeddings", None))


def add_to_quantized(layer, name, a, b, scale):
    """Adds `scale * (a @ b)` to the quantised weights `name`, "kernel" or "embeddings"; Keras only ever saves that."""
    rank = a.shape[-1]
    borrowed = {"lora_enabled": True, "lora_rank": rank, "lora_alpha": float(scale) * rank}
    borrowed |= {f"lora_{name}_a": a, f"lora_{name}_b": b}
    own = {attribute: vars(layer)[attribute] for attribute in borrowed if attribute in vars(layer)}
    # With `setattr`, Keras would track the matrices as weights of this layer.
    vars(layer).update(borrowed)
    try:
        values = getattr(layer, f"_get_{name}_with_merged_lora")()
    finally:
        for attribute in borrowed:
            del vars(layer)[attribute]
        vars(layer).update(own)
    for attribute, value in zip((f"_{name}", f"{name}_scale", f"{name}_zero"), values, strict=True):
        if value is not None:
            getattr(layer, attribute).assign(value)


# Functional models and tensors.


class CloneHook:
    """Calls `check_clone()` before `keras.models.clone_model` copies a model, which calls no public method of it."""

    def _run_through_graph(self, inputs, operation_fn=lambda operation: operation, call_fn=None):
        if operation_fn.__module__.endswith(".models.cloning"):
            self.check_clone()
        return super()._run_through_graph(inputs, operation_fn=operation_fn, call_fn=call_fn)


def symbolic_outputs(model, inputs):
    """Specs of a functional model's outputs; the public `compute_output_spec` fails on an input that is None."""
    return model._run_through_graph(inputs, operation_fn=lambda operation: operation.compute_output_spec)


def operation_of(tensor):
    """The layer or operation that made a symbolic tensor; there is no public attribute."""
    return tensor._keras_history.operation


def operation_inputs(tensor):
    """The symbolic inputs of `operation_of(tensor)`; the public `input` of a layer is that of a single call."""
    operation, node, _ = tensor._keras_history
    return operation._inbound_nodes[node].input_tensors


def keras_mask(x):
    """The mask that a layer attached to `x`, True at real positions, or None; no public function reads it."""
    return getattr(x, "_keras_mask", None)


def attach_keras_mask(x, mask):
    """Attaches a mask to `x`; the public `compute_mask`, which Keras calls, does not get the arguments of `call`."""
    # JAX tracers do not accept attributes.
    with contextlib.suppress(AttributeError):
        x._keras_mask = mask


# Scopes and random numbers.


def current_stateless_scope():
    """The innermost `keras.StatelessScope`, or None; the public class does not expose the active one."""
    from keras.src.backend.common.stateless_scope import get_stateless_scope

    return get_stateless_scope()


def random_seed():
    """The seed passed to `keras.utils.set_random_seed`, or None; no public function returns it."""
    from keras.src.utils.rng_utils import get_random_seed

    return get_random_seed()


def in_xla_context():
    """Whether XLA compiles the graph being traced, or an outer one; TensorFlow has no public function for it."""
    import tensorflow as tf
    from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext

    return GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())


# Losses, metrics and callbacks.


def function_arguments(wrapper):
    """Arguments of the function in a Keras loss or metric; some public configs, such as that of Huber, omit them."""
    return getattr(wrapper, "_fn_kwargs", None) or {}


def is_built(metric):
    """Whether a metric has its variables; some create them at the first update, such as AUC, without a public
    `built`."""
    return getattr(metric, "_built", True)


def callback_state(callback):
    """Names of the attributes with a callback's state; Keras' callbacks have no public state."""
    import keras

    attributes = {
        keras.callbacks.EarlyStopping: ("best", "best_epoch", "best_weights", "wait", "stopped_epoch"),
        keras.callbacks.ModelCheckpoint: ("best", "_batches_seen_since_last_saving", "_last_batch_seen"),
        keras.callbacks.ReduceLROnPlateau: ("best", "wait", "cooldown_counter"),
        keras.callbacks.SwapEMAWeights: ("_ema_weights_in_model",),
    }
    return next((names for kind, names in attributes.items() if isinstance(callback, kind)), ())


def set_monitor_op(callback):
    """Sets `monitor_op`, less or greater; Keras does so at the end of an epoch, but may compare before."""
    callback._set_monitor_op()


# Optimizers.


class UpdateHooks:
    """Passes `prepared_rate(rate)` to `update_step`, which also applies the weight decay if `decays_in_update_step`.
    Keras has no public hook that runs once per step."""

    decays_in_update_step: bool = False

    def prepared_rate(self, learning_rate: Any) -> Any:
        """The learning rate argument for all calls of `update_step` in a step."""
        return learning_rate

    def _apply_weight_decay(self, variables):
        if not self.decays_in_update_step:
            super()._apply_weight_decay(variables)

    def _backend_update_step(self, grads, trainable_variables, learning_rate):
        return super()._backend_update_step(grads, trainable_variables, self.prepared_rate(learning_rate))


def is_decayed(optimizer, variable):
    """Whether the weight decay applies to a variable; `exclude_from_weight_decay` has no public getter."""
    return optimizer._use_weight_decay(variable)


def adam_moments(optimizer, variable):
    """Adam's variables `(m, v)` for a variable; the public `variables` do not tell which belong to it."""
    index = optimizer._get_variable_index(variable)
    return optimizer._momentums[index], optimizer._velocities[index]


@contextlib.contextmanager
def without_all_reduce(optimizer):
    """Within the scope, gradients are already summed over replicas; the public `apply` would sum them again."""
    optimizer._all_reduce_sum_gradients = list
    try:
        yield
    finally:
        del optimizer._all_reduce_sum_gradients


def moving_averages(optimizer):
    """The moving averages of `use_ema`, in the order of the weights; the public `variables` do not identify them."""
    return optimizer._model_variables_moving_average


def strategy_of(optimizer):
    """The `tf.distribute.Strategy` in whose scope an optimizer was created; only models have `distribute_strategy`."""
    return optimizer._distribution_strategy


# TensorFlow.


def allow_retracing(function):
    """Turns off the warning of a `tf.function` about frequent retracing; it has no public option."""
    function._omit_frequent_tracing_warning = True


def lookup_tables_of(layer):
    """The string lookup tables of a preprocessing layer; they are not variables, and have no public base class."""
    from tensorflow.python.trackable.resource import CapturableResource

    return [value for value in vars(layer).values() if isinstance(value, CapturableResource)]


# Protocol buffers.


def protobuf_implementation():
    """Name of the implementation that this process uses, as its environment variable takes it; that variable may have
    changed since it was read."""
    from google.protobuf.internal import api_implementation

    return api_implementation.Type()


# Archives of Keras and NumPy.


@contextlib.contextmanager
def years_of_archives():
    """Within the scope, archives can be written whatever the system clock; `zipfile` rejects years before 1980."""
    if 1980 <= time.localtime(time.time()).tm_year <= 2107:
        yield
        return
    zipfile.time = types.SimpleNamespace(time=lambda: 0.0, localtime=lambda *_: (1980, 1, 1, 0, 0, 0))
    try:
        yield
    finally:
        zipfile.time = time
