"""`manifest.json`: lists the artefacts of an export folder with the digest of every file."""

import hashlib
import importlib.metadata
import json
import os
import platform
import reprlib
import shutil

from keras_attn.export import registry
from keras_attn.export.folder.plain_files import files_of, is_inside, read_json

NAME = "manifest.json"
FIELDS = {"format", "task", "precision", "path", "cases", "files"}
DATA_SUFFIX = ".data"
TOOLS = ("keras_attn", "keras", "tensorflow", "numpy", "tensorflow-text", "tf2onnx", "onnx", "onnxruntime")
TOOLS += ("onnxruntime_extensions", "ai-edge-litert", "sentencepiece")


def cases_name(task_name):
    """Path of the cases of a task, relative to the export folder."""
    return f"verification/{task_name}.npz"


def own_cases_name(task_name, path):
    """Path of the cases of an artefact whose inputs differ from the last export of the task."""
    return f"verification/{task_name}.{path}.npz"


def entry(folder, writer, task_name, precision):
    """The manifest entry of one artefact and task.

    Args:
        folder: The export folder.
        writer: The `FormatWriter` of the format.
        task_name: Name of the task.
        precision: Name of the precision.

    Returns:
        A dict with `format`, `task`, `precision`, `path`, `cases`, `files` (relative name -> sha256) and `versions`.
    """
    path, cases = writer.path(task_name, precision), cases_name(task_name)
    return {
        "format": writer.name,
        "task": task_name,
        "precision": precision,
        "path": path,
        "cases": cases,
        "files": {name: sha256(folder / name) for name in (*_files(folder, path), cases)},
        "versions": versions(),
    }


def read(path):
    """Reads and checks the entries of the export folder `path`.

    Raises:
        ValueError: If there is no readable manifest, or `export` would not have written it.
    """
    try:
        entries = read_json(path, NAME)["artefacts"]
        problem = _problem(entries)
    except (OSError, ValueError, LookupError, TypeError):
        problem = ""
    if problem is None:
        return entries
    raise ValueError(
        f"`path` must be a folder with a readable {NAME}, as `export` writes. Received: path={str(path)!r}"
        + (f", {problem}" if problem else "")
    )


def earlier(path):
    """The entries of a folder to export to; empty without a manifest.

    Raises:
        ValueError: If the manifest cannot be read: entries of other artefacts would be lost.
    """
    if not os.path.lexists(path / NAME):
        return []
    try:
        return read(path)
    except ValueError as error:
        raise ValueError(
            f"`path` must be a folder whose {NAME} can be read, so that its other artefacts stay listed; export to "
            f"another folder, or delete {NAME}. Received: {error}"
        ) from error


def with_cases(entry, entries, path, folder):
    """Updates an entry of an earlier export to the cases of a new one.

    The new cases of a task apply to all its artefacts, except those with different inputs, which keep their cases.

    Args:
        entry: The entry of an artefact that is not replaced.
        entries: The entries of the new export.
        path: The export folder.
        folder: The workspace of the new export, to which kept cases are copied under a separate name.

    Returns:
        The updated entry.
    """
    new = next((other for other in entries if other["task"] == entry["task"]), None)
    if new is None:
        return entry
    before, files = entry["cases"], dict(entry["files"])
    digest = files.pop(before)
    if entry.get("inputs") in (None, new["inputs"]):
        cases, digest = new["cases"], new["files"][new["cases"]]
    else:
        cases = own_cases_name(entry["task"], entry["path"])
        if files_of(path, before):
            shutil.copyfile(path / before, folder / cases)
    return {**entry, "cases": cases, "files": {**files, cases: digest}}


def write(path, entries):
    """Writes the manifest to the folder `path`."""
    text = json.dumps({"artefacts": entries}, indent=2, ensure_ascii=False)
    (path / NAME).write_text(text + "\n", encoding="utf-8")


def damage(folder, entry):
    """Lists which files of the entry are missing or have changed, one phrase per file.

    Names in the entry are only compared with existing files, never opened.

    Raises:
        ValueError: If the artefact has files that the entry does not list, or that are not regular files.
    """
    present = {*_files(folder, entry["path"]), *files_of(folder, entry["cases"])}
    if unlisted := sorted(present - entry["files"].keys()):
        raise ValueError(
            f"`path` must be a folder whose {NAME} lists every file. Received: path={str(folder)!r}, in which "
            f"{unlisted[0]!r} of {entry['path']} is not listed"
        )
    found = []
    for name, digest in entry["files"].items():
        if name not in present:
            found.append(f"{name} is missing")
        elif sha256(folder / name) != digest:
            found.append(f"{name} has changed since it was exported")
    return found


def size(folder, path):
    """The size of an artefact in bytes."""
    return sum((folder / name).stat().st_size for name in _files(folder, path))


def sha256(path):
    """The SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def versions():
    """The installed versions of all packages involved in an export."""
    found = {"python": platform.python_version()}
    for tool in TOOLS:
        try:
            found[tool] = importlib.metadata.version(tool)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def inputs(task, case):
    """`{name: {"dtype", "shape"}}` of the inputs of a task, None for dynamic axes; `case` is one of its cases."""
    shapes = {name: task.inputs[name].shape if name in task.inputs else [None] * x.ndim for name, x in case.items()}
    return {
        name: {"dtype": "string" if x.dtype.kind in "SU" else x.dtype.name, "shape": list(shapes[name])}
        for name, x in case.items()
    }


def tokenizer(value):
    """`{"class", "vocabulary_size"}` of a tokenizer; `None` for None."""
    return value and {"class": type(value).__name__, "vocabulary_size": value.vocabulary_size}


def parts(folder, path):
    """The existing names of an artefact: its own, and the data file of a large one."""
    return [name for name in parts_of(path) if (folder / name).exists()]


def parts_of(path):
    """The names that an artefact may have: its own, and that of a data file."""
    return path, path + DATA_SUFFIX


def _files(folder, path):
    return [name for part in parts_of(path) for name in files_of(folder, part)]


def _problem(entries):
    """A description of the first problem in the entries of a manifest, or `None`."""
    if not isinstance(entries, list) or not entries:
        return "whose `artefacts` are not a list of entries"
    for index, entry in enumerate(entries):
        if problem := _problem_of(entry):
            return f"whose entry {index} {problem}"
    return None


def _problem_of(entry):
    if not isinstance(entry, dict) or not entry.keys() >= FIELDS:
        return f"lacks one of {sorted(FIELDS)}"
    for kind, field in (("formats", "format"), ("tasks", "task")):
        if entry[field] not in registry.names(kind):
            return f"has an unknown {field}, {reprlib.repr(entry[field])}"
    writer = registry.load("formats", entry["format"])()
    if entry["precision"] not in writer.precisions:
        return f"has a precision that {entry['format']} does not support, {reprlib.repr(entry['precision'])}"
    path = writer.path(entry["task"], entry["precision"])
    expected = {"path": [path], "cases": [cases_name(entry["task"]), own_cases_name(entry["task"], path)]}
    for field, names in expected.items():
        if entry[field] not in names:
            return f"has a `{field}` other than {names[0]!r}, {reprlib.repr(entry[field])}"
    return _problem_of_files(entry) or _problem_of_notes(entry)


def _problem_of_files(entry):
    files, path, cases = (entry[field] for field in ("files", "path", "cases"))
    if not isinstance(files, dict) or not all(isinstance(digest, str) for digest in files.values()):
        return "has `files` that do not map names to digests"
    names = parts_of(path)
    own = [name for name in files if is_inside(name) and (name in names or name.startswith(f"{path}/"))]
    if cases not in files or not own:
        return f"does not list {cases if own else path} in its `files`"
    if others := [name for name in files if name != cases and name not in own]:
        return f"lists a file that does not belong to {path}, {reprlib.repr(others[0])}"
    return None


def _problem_of_notes(entry):
    """A problem in the optional fields, or `None`."""
    drop, kept, tokenizer = (entry.get(field) for field in ("max_accuracy_drop", "keep_float", "tokenizer"))
    if drop is not None and (isinstance(drop, bool) or not isinstance(drop, int | float) or not 0 <= drop < 1):
        return f"has a `max_accuracy_drop` that is not a number in [0, 1), {reprlib.repr(drop)}"
    if kept is not None and (not isinstance(kept, list) or not all(isinstance(path, str) for path in kept)):
        return f"has a `keep_float` that is not a list of names, {reprlib.repr(kept)}"
    if tokenizer is not None and not _is_tokenizer(tokenizer):
        return f"has a `tokenizer` without class and size, {reprlib.repr(tokenizer)}"
    if not isinstance(inputs := entry.get("inputs", {}), dict):
        return f"has `inputs` that do not map names to shapes, {reprlib.repr(inputs)}"
    return None


def _is_tokenizer(value):
    """Whether a value could come from `tokenizer`; checked because it is printed."""
    if not isinstance(value, dict) or {*value} != {"class", "vocabulary_size"}:
        return False
    name, size = value["class"], value["vocabulary_size"]
    return isinstance(name, str) and name.isidentifier() and isinstance(size, int)
