"""Describes a model file, an artefact or a folder of artefacts."""

from __future__ import annotations

import contextlib
import json
import math
import os
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from keras_attn.export import registry
from keras_attn.export.folder import manifest
from keras_attn.export.report import aligned, reason, size_text
from keras_attn.typing import PathLike

LARGEST = 10


class Inspection:
    """The result of `inspect`.

    Args:
        items: List of dicts, one per file: `path`, `format`, `precision`, `bytes`, `digest` (whether the files match
            the manifest), `tokenizer` (`None`, or a dict of its `class` and `vocabulary_size`), `attached` (size of
            each attached text, by name), `signatures` (name -> `inputs` and `outputs`, lists of `name`, `shape` and
            `dtype`), `operators` (name -> count) and `weights` (`name`, `shape`, `dtype`, `bytes`). Unknown values are
            `None`.
    """

    def __init__(self, items: Iterable[dict[str, Any]]) -> None:
        self.items = list(items)

    def to_json(self) -> str:
        """The result as JSON text, `{"files": [...]}`."""
        return json.dumps({"files": self.items}, indent=2, allow_nan=False)

    def __str__(self) -> str:
        return "\n\n".join(map(_text, self.items))


def inspect(path: PathLike) -> Inspection:
    """Describes a `.keras` file, an artefact or an export folder without running it.

    In a folder with a manifest, only the files that it lists are read.

    Args:
        path: A file or folder.

    Returns:
        An `Inspection`.

    Raises:
        ValueError: If `path` is none of these or cannot be read.

    Example:

    >>> from keras_attn.export import inspect
    >>> inspect("nowhere")
    Traceback (most recent call last):
    ValueError: `path` must be a .keras file, an artefact or a folder of artefacts. Received: path='nowhere'
    """
    path = Path(os.fspath(path))
    if path.is_file() and path.suffix == ".keras" and zipfile.is_zipfile(path):
        with _readable(path):
            return Inspection([_model(path)])
    if (path / manifest.NAME).is_file():
        names = dict.fromkeys(entry["path"] for entry in manifest.read(path))
        return Inspection(_artefact(path / name) for name in names)
    if (path.is_file() or path.is_dir()) and _writer_of(path) is not None:
        return Inspection([_artefact(path)])
    raise ValueError(
        f"`path` must be a .keras file, an artefact or a folder of artefacts. Received: path={str(path)!r}"
    )


@contextlib.contextmanager
def _readable(path):
    """Scope in which any error becomes a ValueError: the file may have any content."""
    try:
        yield
    except ImportError:
        raise
    except Exception as error:
        why = reason(error)
        raise ValueError(f"`path` must be a file that can be read ({why}). Received: path={str(path)!r}") from error


def _writer_of(path):
    writers = (registry.load("formats", name)() for name in registry.names("formats"))
    return next((writer for writer in writers if writer.reads(path)), None)


def _artefact(path):
    entries = []
    if (path.parent / manifest.NAME).is_file():
        entries = [entry for entry in manifest.read(path.parent) if entry["path"] == path.name]
    known = entries[0] if entries else {}
    writer = registry.load("formats", known["format"])() if entries else _writer_of(path)
    where = path if entries else path.resolve()
    damage = list(dict.fromkeys(phrase for entry in entries for phrase in manifest.damage(path.parent, entry)))
    item = {
        "path": str(path),
        "format": writer.name,
        "precision": known.get("precision"),
        "bytes": manifest.size(where.parent, where.name),
        "digest": ("; ".join(damage) or "as exported") if entries else None,
        "tokenizer": known.get("tokenizer"),
    }
    if damage:
        # A changed file may have any content, so do not parse it.
        return {**item, "attached": {}, "signatures": {}, "operators": {}, "weights": []}
    with _readable(path):
        attached = {name: len(text.encode()) for name, text in writer.attached(path).items()}
        signatures, weights = writer.contents(path)
        operators = dict(writer.operators(path).most_common())
    return {**item, "attached": attached, "signatures": signatures, "operators": operators, "weights": weights}


def _model(path):
    from keras_attn.export.loading import load_model

    model = load_model(path)
    sides = {}
    for side in ("inputs", "outputs"):
        names = getattr(model, "output_names", ()) if side == "outputs" else [tensor.name for tensor in model.inputs]
        sides[side] = [
            {"name": name, "shape": list(tensor.shape), "dtype": tensor.dtype}
            for name, tensor in zip(names, getattr(model, side), strict=True)
        ]
    weights = [
        {
            "name": v.path,
            "shape": list(v.shape),
            "dtype": v.dtype,
            "bytes": int(v.value.dtype.size) * math.prod(v.shape),
        }
        for v in model.variables
    ]
    return {
        "path": str(path),
        "format": type(model).__name__,
        "precision": "float32",
        "bytes": path.stat().st_size,
        "digest": None,
        "tokenizer": manifest.tokenizer(getattr(model, "tokenizer", None)),
        "attached": {},
        "signatures": {"call": sides},
        "operators": {},
        "weights": weights,
    }


def _text(item):
    tokenizer = item["tokenizer"]
    facts = [item["format"], item["precision"], size_text(item["bytes"]), item["digest"]]
    facts += [f"{tokenizer['class']} of {tokenizer['vocabulary_size']}"] if tokenizer else []
    lines = [f"{item['path']}: {', '.join(fact for fact in facts if fact)}"]
    lines += [f"  {name}, {size_text(size)}" for name, size in item["attached"].items()]
    for name, signature in item["signatures"].items():
        for side, arrow in (("inputs", "<-"), ("outputs", "->")):
            tensors = (f"{t['name']} {t['dtype']} ({', '.join(map(str, t['shape']))})" for t in signature[side])
            lines.append(f"  {name} {arrow} {'; '.join(tensors)}")
    if item["operators"]:
        lines.append(
            f"  {sum(item['operators'].values())} operators: "
            + ", ".join(f"{name} {count}" for name, count in item["operators"].items())
        )
    largest = sorted(item["weights"], key=lambda weight: -weight["bytes"])
    if largest:
        total = size_text(sum(weight["bytes"] for weight in largest))
        lines.append(f"  {len(largest)} weights of {total}, the largest:")
        cells = [(w["name"], w["dtype"], "x".join(map(str, w["shape"])), size_text(w["bytes"])) for w in largest]
        table = aligned(("name", "dtype", "shape", "size"), cells[:LARGEST], left=("name", "dtype"))
        lines += [f"    {line}" for line in table.split("\n")]
    return "\n".join(lines)
