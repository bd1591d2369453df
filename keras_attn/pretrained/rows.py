"""The rows of a family's table: from their tensors to our layers, by transforms that can be undone.

A table maps the name of their module or tensor to the path of our layer or variable, or to a `Row`. In both, `*` stands
for the index of a block. What a layer holds follows from its kind (`layouts.py`): `weight` and `bias` of their module.
Transforms apply to their layout, in which the first axis is that of the outputs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Arrays = list[np.ndarray]


@dataclasses.dataclass(frozen=True)
class Transform:
    """A change of layout between their tensors and ours, both of them in the layout of PyTorch.

    Args:
        read: Function from `(arrays, parts)` to arrays: of their tensors, as many as their names, to one for each path
            of the row.
        write: Its inverse. `parts` describes the variables of the paths.
        names: Function from the name in the table and `parts` to the names of all tensors that are read.
        lora: How it applies to the LoRA matrices of a module: "outputs" if to the second one as to the kernel, "layout"
            if not at all, None if there is no such rule.
    """

    read: Callable[[Arrays, Any], Arrays]
    write: Callable[[Arrays, Any], Arrays]
    names: Callable[[str, Any], list[str]] = lambda name, parts: [name]
    lora: str | None = None


@dataclasses.dataclass(frozen=True)
class Row:
    """Paths of our layers or variables, and the transforms from their tensors, in the order of reading."""

    paths: tuple[str, ...]
    transforms: tuple[Transform, ...] = ()


def row(target: str | Row) -> Row:
    """A path as a `Row`."""
    return target if isinstance(target, Row) else Row((target,))


def block(theirs: str, ours: str, rows: Mapping[str, str | Row]) -> dict[str, Row]:
    """The rows of a block, with the prefixes of their module and of our layer."""
    found = {}
    for name, target in rows.items():
        target = row(target)
        paths = tuple(f"{ours}/{path}" for path in target.paths)
        found[f"{theirs}.{name}"] = dataclasses.replace(target, paths=paths)
    return found


def split(*paths: str) -> Row:
    """Several of our layers from one module, whose outputs are theirs one after another."""
    return Row(paths, (Transform(_split, lambda arrays, parts: [np.concatenate(arrays)], lora="outputs"),))


def split_by_head(*paths: str) -> Row:
    """As `split`, for outputs `(num_heads, len(paths), head_dim)`."""
    return Row(paths, (Transform(_split_by_head, _join_by_head, lora="outputs"),))


def interleaved(*paths: str) -> Row:
    """As `split`, for outputs that alternate between our layers."""

    def read(arrays, parts):
        return [arrays[0][i :: len(paths)] for i in range(len(paths))]

    def write(arrays, parts):
        return [np.stack(arrays, axis=1).reshape(-1, *arrays[0].shape[1:])]

    return Row(paths, (Transform(read, write, lora="outputs"),))


def transposed(target: str | Row) -> Row:
    """For weights that are stored as `(inputs, outputs)`."""
    return _before(target, lambda x: x.T, lambda x: x.T, "layout")


def offset(target: str | Row, value: float) -> Row:
    """Ours is theirs plus `value`."""
    return _before(target, lambda x: x + np.float32(value), lambda x: x - np.float32(value))


def scaled(target: str | Row, factor: float) -> Row:
    """Ours is theirs times `factor`."""
    return _before(target, lambda x: x * np.float32(factor), lambda x: x / np.float32(factor), "outputs")


def skip_rows(target: str | Row, count: int) -> Row:
    """Theirs has `count` rows more in front, which no input uses. They are written as zeros."""
    return _before(target, lambda x: x[count:], lambda x: np.concatenate([np.zeros((count, *x.shape[1:]), x.dtype), x]))


def reshaped(target: str | Row, read: Callable, write: Callable) -> Row:
    """Ours is `read(theirs)`, theirs is `write(ours)`."""
    return _before(target, read, write)


def convolution(target: str | Row, *kernel_size: int) -> Row:
    """For our matrix products of windows: ours is a matrix, theirs the kernel of a convolution."""

    def read(x):
        return x if x.ndim == 1 else np.moveaxis(x, 1, -1).reshape(len(x), -1)

    def write(x):
        return x if x.ndim == 1 else np.moveaxis(x.reshape(len(x), *kernel_size, -1), -1, 1)

    return _before(target, read, write)


def weight_norm(path: str) -> Row:
    """Filters `(kernel_size, inputs, outputs)` from a convolution with weight `g v / |v|`, a norm for each offset."""

    def names(name, parts):
        return [f"{name}.parametrizations.weight.original{i}" for i in range(2)]

    def norm(x):
        return np.sqrt(np.sum(np.square(x, dtype="float64"), axis=(0, 1), keepdims=True)).astype("float32")

    def read(arrays, parts):
        g, v = arrays
        return [(v * (g / norm(v))).transpose(2, 1, 0)]

    def write(arrays, parts):
        v = arrays[0].transpose(2, 1, 0)
        return [norm(v), v]

    return Row((path,), (Transform(read, write, names),))


def stacked(path: str, axis: int = 0) -> Row:
    """One kernel of all experts from a module for each, whose number is `#` in its name.

    `axis` is 0 if the kernel is `(inputs, experts, outputs)`, and 1 if it is `(experts, inputs, outputs)`.
    """

    def names(name, parts):
        return [name.replace("#", str(i)) for i in range(_num_experts(parts))]

    def read(arrays, parts):
        return [np.concatenate(arrays, axis)]

    def write(arrays, parts):
        return np.split(arrays[0], _num_experts(parts), axis)

    def _num_experts(parts):
        return parts[0].variable.shape[1 - axis]

    return Row((path,), (Transform(read, write, names),))


def _before(target, read, write, lora=None):
    each = Transform(
        lambda arrays, _: [read(x) for x in arrays], lambda arrays, _: [write(x) for x in arrays], lora=lora
    )
    return dataclasses.replace(row(target), transforms=(each, *row(target).transforms))


def _split(arrays, parts):
    return np.split(arrays[0], np.cumsum([part.shape[0] for part in parts])[:-1])


def _split_by_head(arrays, parts):
    (x,) = arrays
    x = x.reshape(parts[0].num_heads, len(parts), -1, *x.shape[1:])
    return [x[:, i].reshape(-1, *x.shape[3:]) for i in range(len(parts))]


def _join_by_head(arrays, parts):
    heads = [x.reshape(parts[0].num_heads, -1, *x.shape[1:]) for x in arrays]
    return [np.stack(heads, axis=1).reshape(-1, *arrays[0].shape[1:])]
