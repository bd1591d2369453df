import functools
import gc
import inspect
import math
import os
import sys
import types
import typing
import zlib
from unittest import mock

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# JAX knows float64, in which gradients are checked, only where it is told to.
os.environ.setdefault("JAX_ENABLE_X64", "1")
# What XLA makes of a graph is under test, and runs once; LLVM's optimisations take a quarter of its compilation.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

import keras
import pytest
import tensorflow as tf
from keras.src.initializers import constant_initializers, random_initializers
from tensorflow.python.ops import gen_resource_variable_ops
from tensorflow.python.util import tf_stack

from keras_attn.export.verification import fresh_process

pytest_plugins = ["layer_docs", "pretrained_docs"]
# Graphs are millions of objects that live on, and collections that walk over them take a twentieth of the time.
gc.set_threshold(100_000, 50, 100)
# The place in the code of each operation of a graph, which only errors name, takes a fifth of the time of tracing. Not
# in processes of several replicas: their threads would read one place at the same time.
_PLACE = tf_stack.extract_stack()
tf_stack.extract_stack = lambda stacklevel=1: _PLACE
# Most graphs run once, and rewriting them takes an eighth of the time. Those of clients and trainings, in processes of
# their own, are rewritten as a user's are.
tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
# Between two exports lie other tests, and importing TensorFlow anew takes seconds.
fresh_process.IDLE_S = 1000
# A name of its own makes the eager runtime prepare the operation anew for each variable, a millisecond.
_var_handle_op = gen_resource_variable_ops.var_handle_op
gen_resource_variable_ops.var_handle_op = lambda *args, debug_name="", **kwargs: _var_handle_op(*args, **kwargs)
# Keras and TensorFlow look at each attribute of a layer for what they track, and raise two errors at each new one.
_PLAIN = {str, int, float, bool, type(None), types.FunctionType, inspect.Signature, keras.DTypePolicy}
_track_and_set = keras.Layer.__setattr__


def _set(layer, name, value):
    setter = object.__setattr__ if type(value) in _PLAIN else _track_and_set
    setter(layer, name, value)


keras.Layer.__setattr__ = _set
_delete = keras.Layer.__delattr__


def _delete_alone(layer, name):
    # Keras collects garbage after each variable, which a quantisation deletes by the dozen: up to a second each time.
    with mock.patch("gc.collect"):
        _delete(layer, name)


keras.Layer.__delattr__ = _delete_alone


def _made_once(module, names):
    """Small initial values that are the same each time, made once: each takes up to eight operations.

    Each test starts from one seed, so the variables of a layer get the values that they got in the test before.
    """
    made = dict(vars(module))
    for make in (made[name] for name in names):
        again = functools.lru_cache(maxsize=1024)(make)

        def found(shape, *, make=make, again=again, **settings):
            same = isinstance(settings.get("seed", 0), int) and math.prod(shape) <= 4096 and tf.executing_eagerly()
            return (again if same else make)(tuple(shape), **settings)

        made[make.__name__] = found
    return types.SimpleNamespace(**made)


if keras.backend.backend() == "tensorflow":
    random_initializers.random = _made_once(random_initializers.random, ["normal", "truncated_normal", "uniform"])
    constant_initializers.ops = _made_once(constant_initializers.ops, ["zeros", "ones"])
# TensorFlow tests each argument for a protocol, whose members older versions of Python collect anew each time.
if sys.version_info < (3, 12):
    typing._get_protocol_attrs = functools.cache(typing._get_protocol_attrs)


def pytest_collection_finish():
    # TensorFlow collects garbage at every conversion: not among what was imported.
    gc.freeze()
    # onnxruntime_extensions sets it, and protocol buffers in Python take seconds in each process that is started.
    os.environ.pop("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", None)


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(fixturedef):
    """What a fixture of a class, module or session draws depends on its name alone, not on the tests before it."""
    if fixturedef.scope != "function":
        keras.utils.set_random_seed(zlib.crc32(fixturedef.argname.encode()))


@pytest.fixture(autouse=True)
def _seed():
    keras.utils.set_random_seed(0)
