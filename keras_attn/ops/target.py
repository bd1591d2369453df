"""The runtime that a graph is traced for, as a scope."""

import contextlib
import contextvars
import dataclasses

CACHE_WRITES = ("concat", "in_place", "select", "slice")
CACHE_STORAGES = ("float", "int8")


@dataclasses.dataclass(frozen=True)
class Target:
    """The abilities of a runtime, and the operations that are fast on it.

    Args:
        cache_writes: How to write new keys and values to a cache:

            * `"select"`: Compare and select. Any slots, every runtime.
            * `"slice"`: One slice update if all rows write to the same consecutive slots, else as `"select"`. In place
              in XLA and TFLite.
            * `"in_place"`: As `"slice"`, by an operation of TensorFlow that overwrites a buffer without other readers;
              there, `"slice"` copies the cache at every step. Not supported by any converter.
            * `"concat"`: Appends the update to the cache. For step models that return their cache.
        cache_storage: Storage of a new cache: `"float"` for the tensors themselves, `"int8"` for pairs of int8 and a
            float scale per slot and head, which take about a quarter of the memory of float32.
        has_unequal_loops: Whether kernels may loop over blocks of different sizes. See `loops.available`, which also
            checks whether XLA compiles the graph.
        has_tensor_arrays: Whether a scan can collect its outputs in a TensorArray; otherwise it writes slices.
        scatter_adds: Whether a scatter adds values of the same index; otherwise it keeps one of them.
        packs_weights: Parts of generation in which projections read weights that were packed to matrices before:
            `"prompt"`, `"loop"`, both or none.

    Raises:
        ValueError: If `cache_writes` or `cache_storage` is unknown.

    Example:

    >>> from keras_attn.ops.target import TFLITE, current, tracing_for
    >>> with tracing_for(TFLITE):
    ...     current().has_tensor_arrays
    False
    """

    cache_writes: str = "select"
    cache_storage: str = "float"
    has_unequal_loops: bool = True
    has_tensor_arrays: bool = True
    scatter_adds: bool = True
    packs_weights: tuple = ()

    def __post_init__(self):
        for name, known in (("cache_writes", CACHE_WRITES), ("cache_storage", CACHE_STORAGES)):
            if getattr(self, name) not in known:
                raise ValueError(f"`{name}` must be one of {list(known)}. Received: {name}={getattr(self, name)!r}")


EAGER = Target()
# Graphs that run in this process, in TensorFlow and compiled by XLA.
TENSORFLOW = Target("in_place", packs_weights=("loop",))
XLA = Target("slice", has_tensor_arrays=False, packs_weights=("prompt", "loop"))
# Exported graphs, with the dense form of kernels.
SAVED_MODEL = dataclasses.replace(TENSORFLOW, has_unequal_loops=False)
TFLITE = Target("slice", has_unequal_loops=False, has_tensor_arrays=False)
ONNX = Target("select", has_unequal_loops=False, scatter_adds=False)


def current():
    """The target of the current scope."""
    return _target.get()


@contextlib.contextmanager
def tracing_for(target, **changes):
    """Scope that traces for a `Target`, optionally with some of its fields changed."""
    token = _target.set(dataclasses.replace(target, **changes))
    try:
        yield
    finally:
        _target.reset(token)


_target = contextvars.ContextVar("keras_attn_target", default=EAGER)
