"""The number formats that an artefact's weights may be kept in, and how close each must come to its Keras model.

A format's `Emitter` lists those that it can write. A new one is a line here and a function in the formats that have it.
"""

import dataclasses
import fnmatch


@dataclasses.dataclass(frozen=True)
class Precision:
    """What verification asks of a precision; `None` asks for nothing.

    Args:
        name: as `export` takes it; part of an artefact's file name.
        max_abs_diff: most that a float output may differ; where given, all other outputs must be the same.
        cosine: least cosine between each float output and the model's.
        agreement: least part of positions with the same likeliest class.
        tokens: least part of generated tokens that are the same. One flipped token changes all that follow it.
    """

    name: str
    max_abs_diff: float | None = None
    cosine: float = -1.0
    agreement: float = 0.0
    tokens: float = 0.0


# int8 is dynamic range: weights are int8, activations float outside of matrix products. int8_full has activations
# whose ranges come from calibration.
TABLE = {
    precision.name: precision
    for precision in (
        Precision("float32", max_abs_diff=1e-4),
        Precision("float16", cosine=0.9999, agreement=0.95, tokens=0.5),
        Precision("int8", cosine=0.995, agreement=0.9, tokens=0.25),
        Precision("int8_full", cosine=0.99, agreement=0.85),
        Precision("int4", cosine=0.95, agreement=0.7),
    )
}


def chosen(value, emitters):
    """`value`, a name or several, as a list of names that all `emitters` can write.

    Raises:
        ValueError: a name is unknown, there is none, or a format has no such precision.
    """
    wanted = list(dict.fromkeys([value] if isinstance(value, str) else value))
    if not wanted or not all(name in TABLE for name in wanted):
        raise ValueError(f"`precision` must name one or more of {list(TABLE)}. Received: precision={value!r}")
    for emitter in emitters:
        if lacking := [name for name in wanted if name not in emitter.precisions]:
            raise ValueError(
                f"`precision` of format {emitter.name!r} must be one of {list(emitter.precisions)}. "
                f"Received: precision={lacking[0]!r}"
            )
    return wanted


def kept(model, patterns):
    """The variables of a model that stay in float32.

    Args:
        model: `keras.Model`.
        patterns: a string or several: the name of a layer or weight, some names of its path joined by `/`, or a
            pattern of whole paths as `fnmatch` reads it.

    Raises:
        ValueError: nothing is called so.
    """
    found = {}
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        matching = [v for v in model.variables if _matches(v.path, pattern)]
        if not matching:
            raise ValueError(f"`keep_float` must name layers or weights of the model. Received: {pattern!r}")
        found.update({variable.path: variable for variable in matching})
    return list(found.values())


def suffixed(name, precision):
    """`name` with the precision before its last suffix; as it is for float32."""
    if precision == "float32":
        return name
    stem, dot, suffix = name.rpartition(".")
    return f"{stem}.{precision}.{suffix}" if dot else f"{name}.{precision}"


def _matches(path, pattern):
    return f"/{pattern}/" in f"/{path}/" or fnmatch.fnmatchcase(path, pattern)
