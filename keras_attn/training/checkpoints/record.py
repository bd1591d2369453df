"""The JSON record of a checkpoint, and the verification of its files."""

import hashlib
import json
import os
import stat

RECORD, STATE, MODEL = "checkpoint.json", "state.npz", "model.keras"
# Far above any real record, which has some hundred bytes per variable.
_LONGEST = 2**28
_KINDS = {"step": int, "dataset": (str, type(None)), "logs": dict, "shapes": dict, "sha256": dict}


def write_record(folder, record):
    """Writes the record of a checkpoint. The other files must exist."""
    record["sha256"] = {name: _digest(folder / name) for name in (STATE, MODEL)}
    record["record_sha256"] = _record_digest(record)
    (folder / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def read_record(folder, step):
    """Reads `(record, problem or None)` of the checkpoint of a step. The other files are not checked."""
    try:
        with _open(folder / RECORD) as file:
            content = file.read(_LONGEST + 1)
        if len(content) > _LONGEST:
            return None, f"{RECORD} is too long"
        record = json.loads(content.decode("utf-8"))
        if not isinstance(record, dict) or record.pop("record_sha256", None) != _record_digest(record):
            return None, f"{RECORD} does not have its original content"
    except (OSError, ValueError, RecursionError) as error:
        return None, f"{RECORD} cannot be read ({_words(error)})"
    if not all(isinstance(record.get(name), kind) for name, kind in _KINDS.items()) or not all(
        isinstance(shape, list) for shape in record["shapes"].values()
    ):
        return None, f"{RECORD} has missing or invalid entries"
    if record["step"] != step:
        return None, f"it is a copy of the checkpoint of step {record['step']}"
    return record, None


def damage(folder, record):
    """Describes what is wrong with the files of a checkpoint, or returns None."""
    for name in (STATE, MODEL):
        try:
            if _digest(folder / name) != record["sha256"].get(name):
                return f"{name} does not have its original content"
        except OSError as error:
            return f"{name} cannot be read ({_words(error)})"
    return None


def _digest(path):
    with _open(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _open(path):
    """Opens a regular file. Opening a pipe would block until something is written to it."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError("not a regular file")
    return os.fdopen(descriptor, "rb")


def _words(error):
    return type(error).__name__ if not isinstance(error, OSError) else error.strerror or str(error)


def _record_digest(record):
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
