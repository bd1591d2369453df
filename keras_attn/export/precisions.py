"""Precisions of artefact weights, and the tolerance of verification for each.

A `FormatWriter` lists the precisions that it supports. To add one, add a line here and a function to these formats.
"""

import dataclasses
import fnmatch


@dataclasses.dataclass(frozen=True)
class Precision:
    """Limits of verification for a precision; `None` sets no limit.

    Args:
        name: Name for `export`; part of the file name of an artefact.
        max_abs_diff: Maximum difference of float outputs, apart from the rounding of large ones; if given, all other
            outputs must be identical.
        cosine: Minimum cosine similarity of each float output and the model's.
        agreement: Minimum share of positions with the same top class.
        tokens: Minimum share of identical generated tokens. One different token changes all later ones.
    """

    name: str
    max_abs_diff: float | None = None
    cosine: float = -1.0
    agreement: float = 0.0
    tokens: float = 0.0


# int8 is dynamic-range quantisation: int8 weights, float activations outside of matrix products. int8_full has
# activation ranges from calibration.
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


def chosen(value, writers):
    """`value`, one or more names, as a list of precisions that all `writers` support.

    Raises:
        ValueError: If a name is unknown, there is none, or a format does not support the precision.
    """
    wanted = list(dict.fromkeys([value] if isinstance(value, str) else value))
    if not wanted or not all(name in TABLE for name in wanted):
        raise ValueError(f"`precision` must name one or more of {list(TABLE)}. Received: precision={value!r}")
    for writer in writers:
        if lacking := [name for name in wanted if name not in writer.precisions]:
            raise ValueError(
                f"`precision` of format {writer.name!r} must be one of {list(writer.precisions)}. "
                f"Received: precision={lacking[0]!r}"
            )
    return wanted


def float32_weights(model, patterns):
    """The variables of a model that match `patterns`.

    Args:
        model: `keras.Model`.
        patterns: One or more strings: the name of a layer or weight, consecutive names of its path joined by `/`, or an
            `fnmatch` pattern for whole paths.

    Raises:
        ValueError: If a pattern matches nothing.
    """
    found = {}
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        matching = [v for v in model.variables if _matches(v.path, pattern)]
        if not matching:
            raise ValueError(f"`keep_float` must name layers or weights of the model. Received: {pattern!r}")
        found.update({variable.path: variable for variable in matching})
    return list(found.values())


def suffixed(name, precision):
    """`name` with the precision before its extension; unchanged for float32."""
    if precision == "float32":
        return name
    stem, dot, suffix = name.rpartition(".")
    return f"{stem}.{precision}.{suffix}" if dot else f"{name}.{precision}"


def _matches(path, pattern):
    return f"/{pattern}/" in f"/{path}/" or fnmatch.fnmatchcase(path, pattern)
