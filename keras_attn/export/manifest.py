"""`manifest.json`: what an export folder holds, with the digest of every file."""

import hashlib
import importlib.metadata
import json
import platform

NAME = "manifest.json"
DATA_SUFFIX = ".data"
TOOLS = ("keras_attn", "keras", "tensorflow", "numpy", "tensorflow-text", "tf2onnx", "onnx", "onnxruntime")
TOOLS += ("onnxruntime_extensions", "ai-edge-litert", "sentencepiece")


def cases_name(task_name):
    """Where the cases of a task lie, relative to the export folder."""
    return f"verification/{task_name}.npz"


def entry(folder, emitter, task_name, precision):
    """The manifest's record of one artefact and task.

    Args:
        folder: export folder.
        emitter: the format's `Emitter`.
        task_name: name of the task.
        precision: name of the precision.

    Returns:
        A dict with `format`, `task`, `precision`, `path`, `cases`, `files` (relative name -> sha256) and `versions`.
    """
    path, cases = emitter.path(task_name, precision), cases_name(task_name)
    return {
        "format": emitter.name,
        "task": task_name,
        "precision": precision,
        "path": path,
        "cases": cases,
        "files": {name: sha256(folder / name) for name in (*_files(folder, path), cases)},
        "versions": versions(),
    }


def read(path):
    """The entries of the export folder `path`.

    Raises:
        ValueError: there is no readable manifest.
    """
    try:
        entries = json.loads((path / NAME).read_text(encoding="utf-8"))["artefacts"]
        if all({"format", "task", "precision", "path", "cases", "files"} <= set(entry) for entry in entries):
            return entries
    except (OSError, ValueError, LookupError, TypeError):
        pass
    raise ValueError(
        f"`path` must be a folder with a readable {NAME}, as `export` writes. Received: path={str(path)!r}"
    )


def write(path, entries):
    """Writes the manifest into the folder `path`."""
    text = json.dumps({"artefacts": entries}, indent=2, ensure_ascii=False)
    (path / NAME).write_text(text + "\n", encoding="utf-8")


def damage(folder, entry):
    """What has happened to the entry's files since they were written, one phrase a file; empty if nothing."""
    found = []
    for name, digest in entry["files"].items():
        if not (folder / name).is_file():
            found.append(f"{name} is missing")
        elif sha256(folder / name) != digest:
            found.append(f"{name} has changed since it was exported")
    return found


def size(folder, path):
    """The bytes of an artefact, a file or a folder."""
    return sum((folder / name).stat().st_size for name in _files(folder, path))


def sha256(path):
    """The SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def versions():
    """The installed versions of the tools that an artefact may come from."""
    found = {"python": platform.python_version()}
    for tool in TOOLS:
        try:
            found[tool] = importlib.metadata.version(tool)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def tokenizer(value):
    """`{"class", "vocabulary_size"}` of a tokenizer, `None` of none."""
    return value and {"class": type(value).__name__, "vocabulary_size": value.vocabulary_size}


def parts(folder, path):
    """The names that an artefact takes up in its folder: its own, and that of the weights beside a large one."""
    return [name for name in (path, path + DATA_SUFFIX) if (folder / name).exists()]


def _files(folder, path):
    if not (folder / path).is_dir():
        return parts(folder, path)
    return sorted(str(file.relative_to(folder)) for file in (folder / path).rglob("*") if file.is_file())
