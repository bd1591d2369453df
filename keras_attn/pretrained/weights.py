"""Reads the weights of a model from a checkpoint and writes them back, both by the table of its family."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_attn import compat
from keras_attn.models import TwoTowerModel
from keras_attn.pretrained.buffers import assign
from keras_attn.pretrained.folder import CheckpointFolder
from keras_attn.pretrained.layouts import Part
from keras_attn.pretrained.rows import Row, row

# Names that a message lists before it says how many more there are.
_LISTED = 12


@dataclasses.dataclass(frozen=True)
class Assignment:
    """Tensors of theirs and the variables that hold the same numbers."""

    names: list[str]
    parts: list[Part]
    row: Row

    def read(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        """The values of the variables from those of the tensors."""
        for transform in self.row.transforms:
            arrays = transform.read(arrays, self.parts)
        return [part.to_ours(x) for part, x in zip(self.parts, arrays, strict=True)]

    def write(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        """The values of the tensors from those of the variables."""
        arrays = [part.to_theirs(x) for part, x in zip(self.parts, arrays, strict=True)]
        for transform in reversed(self.row.transforms):
            arrays = transform.write(arrays, self.parts)
        return arrays

    def tensors(self) -> dict[str, np.ndarray]:
        """The tensors by name, from the present values of the variables."""
        arrays = [np.asarray(keras.ops.convert_to_numpy(part.variable)) for part in self.parts]
        # `np.ascontiguousarray` gives scalars an axis.
        written = (np.asarray(x, order="C") for x in self.write(arrays))
        return dict(zip(self.names, written, strict=True))

    def shapes(self) -> list[tuple[int, ...]]:
        """The shapes of the tensors."""
        empty = [np.broadcast_to(np.int8(0), part.variable.shape) for part in self.parts]
        return [tuple(x.shape) for x in self.write(empty)]


def assignments(model: keras.Model, table: Mapping[str, str | Row]) -> tuple[list[Assignment], list[str]]:
    """The assignments of all variables that the table names, and the paths of those that it does not name."""
    owners = {id(x): layer for layer in compat.layers_of(model) for x in layer.weights}
    paths = _paths(model)
    groups, missing = {}, []
    rows = [(theirs, row(ours)) for theirs, ours in table.items()]
    patterns = [[_pattern(path) for path in ours.paths] for _, ours in rows]
    for variable in model.weights:
        part = Part(owners[id(variable)], variable)
        found = _find(part, paths[id(variable)], patterns)
        if found is None:
            missing.append(paths[id(variable)])
            continue
        number, place, index, parameter = found
        groups.setdefault((number, index, parameter), {})[place] = part
    result = []
    for (number, index, parameter), places in groups.items():
        theirs, ours = rows[number]
        name = theirs.replace("*", index) + (f".{parameter}" if parameter else "")
        parts = [places[place] for place in sorted(places)]
        names = [name]
        for transform in ours.transforms:
            names = [x for name in names for x in transform.names(name, parts)]
        result.append(Assignment(names, parts, ours))
    return result, missing


def load_weights(
    model: keras.Model,
    folder: CheckpointFolder,
    table: Mapping[str, str | Row],
    names: Mapping[str, str],
    ignored: Iterable[str] = (),
    zeros: Iterable[str] = (),
    shared: Sequence[str] = (),
) -> None:
    """Assigns the tensors of a folder to the variables of a model.

    Args:
        model: A model that is built.
        folder: The folder.
        table: The table of the family.
        names: The name in the folder of each tensor, by its name in the table.
        ignored: Regular expressions of further tensors that may be there.
        zeros: Names of tensors that are zero if they are missing.
        shared: Names of one tensor, of which a file may hold any.

    Raises:
        ValueError: If a variable has no tensor, a tensor no variable, or a shape differs; one message lists them all.
    """
    plan, unnamed = assignments(model, table)
    shapes = folder.shapes()
    wanted = {name for entry in plan for name in entry.names}
    names = {**_found_elsewhere(wanted, names, shared), **names}
    faults = [f"no row of the table for {path}" for path in unnamed]
    faults += [f"no tensor {name!r}" for name in sorted(wanted - names.keys() - set(zeros))]
    unused = sorted(names[name] for name in names.keys() - wanted if not _any_matches(ignored, name))
    faults += [f"no weight for tensor {name!r} {shapes[name]}" for name in unused]
    for entry in plan:
        for name, shape in zip(entry.names, entry.shapes(), strict=True):
            if name in names and shapes[names[name]] != shape:
                faults.append(f"tensor {names[name]!r} has shape {shapes[names[name]]}, the model needs {shape}")
    what = "a tensor for each weight of the model that its config.json describes, and no other"
    check_faults(f"{what}. Received: {folder.path}", faults)
    for entry in plan:
        stored = zip(entry.names, entry.shapes(), strict=True)
        values = entry.read(
            [folder.read(names[x]) if x in names else np.zeros(shape, "float32") for x, shape in stored]
        )
        for part, value in zip(entry.parts, values, strict=True):
            assign(part.variable, value)


def _found_elsewhere(wanted, names, shared):
    """The names in the file of tensors that it has under another of their names."""
    other = next((names[x] for x in shared if x in names and x not in wanted), None)
    return {x: other for x in shared if x in wanted and x not in names and other is not None}


def check_faults(what: str, faults: list[str]) -> None:
    """Raises a ValueError that lists all faults of a folder, if there are any."""
    if faults:
        more = f", and {len(faults) - _LISTED} more" if len(faults) > _LISTED else ""
        raise ValueError(f"`folder` must hold {what}, with {'; '.join(faults[:_LISTED])}{more}")


def tensors_of(model: keras.Model, table: Mapping[str, str | Row]) -> dict[str, np.ndarray]:
    """Their tensors by name, from the weights of a model.

    Raises:
        ValueError: If the table does not name a weight.
    """
    plan, unnamed = assignments(model, table)
    if unnamed:
        raise ValueError(
            "`model` must have only the weights that checkpoints of its family have: call "
            "`keras_attn.pretrained.merge_lora(model)` after LoRA, and save before you quantise. "
            f"Received: {unnamed[:_LISTED]}"
        )
    found = {}
    for entry in plan:
        found |= entry.tensors()
    return found


def _pattern(path):
    return re.compile(re.escape(path).replace(r"\*", r"(\d+)") + "$")


def _paths(model):
    """The paths of variables by their ids, in two towers after the name of the tower."""
    found = {id(x): _plain(x.path) for x in model.weights}
    for tower in (x for x in model.layers if isinstance(model, TwoTowerModel) and isinstance(x, keras.Model)):
        found |= {id(x): f"{tower.name}/{_plain(x.path)}" for x in tower.weights}
    return found


def _find(part, path, patterns) -> tuple[int, int, str, str | None] | None:
    """`(row, place in the row, index of the block, parameter)` of a variable; None if no row names it."""
    layer = path.rpartition("/")[0]
    for wanted, parameter in ((path, None), (layer, part.parameter)):
        for number, places in enumerate(patterns):
            for place, pattern in enumerate(places):
                if (wanted == path or parameter) and (match := pattern.match(wanted)):
                    return number, place, match.group(1) if match.groups() else "", parameter
    return None


def _plain(path: str) -> str:
    """A path in which sub-layers have the same name in parallel as one after another."""
    return re.sub("/(side_by_side|parallel)(?=/)", "", path)


def _any_matches(patterns: Iterable[str], name: str) -> Any:
    return any(re.fullmatch(pattern, name) for pattern in patterns)
