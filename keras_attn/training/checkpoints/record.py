"""What a checkpoint says of itself, and whether its files are those that it was written with."""

import hashlib
import json
import os
import stat

RECORD, STATE, MODEL = "checkpoint.json", "state.npz", "model.keras"
# Some hundred bytes a variable: nobody has as many.
_LONGEST = 2**28
_KINDS = {"step": int, "dataset": (str, type(None)), "logs": dict, "shapes": dict, "sha256": dict}


def write_record(folder, record):
    """Writes the record of a checkpoint whose other files are there."""
    record["sha256"] = {name: _digest(folder / name) for name in (STATE, MODEL)}
    record["record_sha256"] = _record_digest(record)
    (folder / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def read_record(folder, step):
    """`(record, what is wrong or None)` of the checkpoint of a step, whose other files are not looked at."""
    try:
        with _open(folder / RECORD) as file:
            content = file.read(_LONGEST + 1)
        if len(content) > _LONGEST:
            return None, f"{RECORD} is longer than any that was written"
        record = json.loads(content.decode("utf-8"))
        if not isinstance(record, dict) or record.pop("record_sha256", None) != _record_digest(record):
            return None, f"{RECORD} is not what was written"
    except (OSError, ValueError, RecursionError) as error:
        return None, f"{RECORD} cannot be read ({_words(error)})"
    if not all(isinstance(record.get(name), kind) for name, kind in _KINDS.items()) or not all(
        isinstance(shape, list) for shape in record["shapes"].values()
    ):
        return None, f"{RECORD} lacks entries, or has others"
    if record["step"] != step:
        return None, f"it is a copy of the checkpoint of step {record['step']}"
    return record, None


def damage(folder, record):
    """What is wrong with the files of a checkpoint, or None."""
    for name in (STATE, MODEL):
        try:
            if _digest(folder / name) != record["sha256"].get(name):
                return f"{name} is not what was written"
        except OSError as error:
            return f"{name} cannot be read ({_words(error)})"
    return None


def _digest(path):
    with _open(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _open(path):
    """A file that is one: to open a pipe would wait for somebody to write to it."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError("no regular file")
    return os.fdopen(descriptor, "rb")


def _words(error):
    return type(error).__name__ if not isinstance(error, OSError) else error.strerror or str(error)


def _record_digest(record):
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
