import gc
import os
import zlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# JAX knows float64, in which gradients are checked, only where it is told to.
os.environ.setdefault("JAX_ENABLE_X64", "1")
# What XLA makes of a graph is under test, and runs once; LLVM's optimisations take a quarter of its compilation.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

import keras
import pytest
import quick_graphs  # noqa: F401

pytest_plugins = ["layer_docs", "pretrained_docs"]


def pytest_collection_finish():
    """Keras collects garbage at every quantisation, TensorFlow at every conversion: not among what was imported."""
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(fixturedef):
    """What a fixture of a class, module or session draws depends on its name alone, not on the tests before it."""
    if fixturedef.scope != "function":
        keras.utils.set_random_seed(zlib.crc32(fixturedef.argname.encode()))


@pytest.fixture(autouse=True)
def _seed():
    keras.utils.set_random_seed(0)
