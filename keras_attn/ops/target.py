"""What a graph is made for: one scope says it, and code asks it for what it needs to know."""

import contextlib
import contextvars
import dataclasses

CACHE_WRITES = ("concat", "in_place", "select", "slice")
CACHE_STORAGES = ("float", "int8")


@dataclasses.dataclass(frozen=True)
class Target:
    """What the runtime of a graph has, and what it runs well.

    Args:
        cache_writes: how new keys and values enter a cache:

            * `"select"`: compare and choose. Any slots, every runtime.
            * `"slice"`: one slice update if all rows write to the same, consecutive slots, else as `"select"`. In place
              in XLA and TFLite.
            * `"in_place"`: the same by an operation of TensorFlow's own, which overwrites a buffer that nobody else
              reads, where `"slice"` copies the cache at every step. No converter knows it.
            * `"concat"`: the update is appended, and the cache grows. For step models that return their cache.
        cache_storage: what a new cache keeps: `"float"`, the tensors as they are, or `"int8"`, pairs of int8 and a
            float scale per slot and head, about a quarter of the memory of float32.
        has_unequal_loops: whether kernels may loop over blocks of different sizes. See `loops.available`, which knows
            besides whether XLA compiles what is traced.
        has_tensor_arrays: whether a loop over time can gather its outputs in a TensorArray; else it writes slices.
        packs_weights: which parts of generation read the weights of projections as matrices that are made before:
            `"prompt"`, `"loop"`, both or none.

    Raises:
        ValueError: there is no such `cache_writes` or `cache_storage`.

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
    packs_weights: tuple = ()

    def __post_init__(self):
        for name, known in (("cache_writes", CACHE_WRITES), ("cache_storage", CACHE_STORAGES)):
            if getattr(self, name) not in known:
                raise ValueError(f"`{name}` must be one of {list(known)}. Received: {name}={getattr(self, name)!r}")


EAGER = Target()
# Graphs that this process runs: by TensorFlow, and compiled by XLA.
TENSORFLOW = Target("in_place", packs_weights=("loop",))
XLA = Target("slice", has_tensor_arrays=False, packs_weights=("prompt", "loop"))
# Artefacts. Their graphs have the kernels' dense forms.
SAVED_MODEL = dataclasses.replace(TENSORFLOW, has_unequal_loops=False)
TFLITE = Target("slice", has_unequal_loops=False, has_tensor_arrays=False)
ONNX = Target("select", has_unequal_loops=False)


def current():
    """The target of the scope."""
    return _target.get()


@contextlib.contextmanager
def tracing_for(target, **changes):
    """Within the scope, what is traced is for `target`, a `Target`, or for that with some of its fields changed."""
    token = _target.set(dataclasses.replace(target, **changes))
    try:
        yield
    finally:
        _target.reset(token)


_target = contextvars.ContextVar("keras_attn_target", default=EAGER)
