"""Command line of the clients: runs lines of text or stored cases. Imports neither keras_attn, Keras nor a runtime."""

import argparse
import mmap
import os
import statistics
import sys
import time

import numpy as np

try:
    import resource
except ImportError:  # not on Windows
    resource = None

# Timing ends here, but not before the third call.
TIMED_MS = 500


def lines_of(text):
    """The lines of `labels.txt`. Names may contain other characters at which `str.splitlines` would split."""
    return text.removesuffix("\n").split("\n") if text else []


def texts(value, decode=False):
    """Converts strings for a runtime; invalid UTF-8 is replaced as by `bytes.decode(errors="replace")`.

    This concerns bytes that are not UTF-8, also if decoded with `surrogateescape`, and lone surrogates.

    Args:
        value: An array of str or bytes.
        decode: Whether to decode bytes to str.

    Returns:
        An array of objects.

    Raises:
        ValueError: If the array is empty, which crashes the tokenizers of some runtimes.
    """
    if not value.size:
        raise ValueError(f"A text input must hold at least one text. Received: shape {value.shape}")
    return np.array([_text(item, decode) for item in value.ravel().tolist()], object).reshape(value.shape)


def _text(item, decode):
    if isinstance(item, str):
        decode = True
        try:
            item = item.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            item = item.encode("utf-8", "surrogatepass")
    return item.decode("utf-8", "replace") if decode else item


def arrays(inputs, dtypes):
    """The inputs of a call; lists become arrays.

    Args:
        inputs: Arrays or lists by name.
        dtypes: The types of the inputs of an artefact by name.

    Raises:
        ValueError: If there are other inputs than those of the artefact.
    """
    if set(inputs) != set(dtypes):
        raise ValueError(f"The inputs must be named {sorted(dtypes)}. Received: {sorted(inputs)}")
    return {
        name: value if isinstance(value, np.ndarray) else _array(value, dtypes[name]) for name, value in inputs.items()
    }


def _array(value, dtype):
    return np.array(value, object if np.dtype(dtype).kind in "OSU" else dtype)


def contains(path, text):
    """Whether bytes occur in a file, which is mapped and not read into memory."""
    with open(path, "rb") as file:
        # An empty file cannot be mapped.
        if not os.fstat(file.fileno()).st_size:
            return False
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return content.find(text) >= 0


def answer(artefact, line):
    """Runs one line of input, text or ids separated by spaces, and returns one line."""
    if len(artefact.inputs) > 1:
        raise ValueError(f"this task has the inputs {sorted(artefact.inputs)}: use --cases")
    name, dtype = next(iter(artefact.inputs.items()))
    if np.dtype(dtype).kind in "OSU":
        # A text is a row; some models have an additional axis of size 1.
        outputs = artefact({name: np.array([line]).reshape([1] * getattr(artefact, "ranks", {}).get(name, 1))})
    else:
        outputs = artefact({name: np.array([line.split()]).astype(dtype)})
    if "label" in outputs and artefact.labels:
        return artefact.labels[int(outputs["label"][0])]
    if "text" in outputs:
        return str(outputs["text"][0])
    value = outputs.get("tokens", next(iter(outputs.values())))[0]
    return " ".join(str(item) for item in np.ravel(value))


def run_cases(artefact, path, repeat):
    """The outputs of every stored case, the median milliseconds per call on the first case, and the peak memory."""
    with np.load(path, allow_pickle=False) as stored:
        cases = {}
        for key in stored.files:
            kind, case, *name = key.split("/", 2)
            if kind == "inputs":
                cases.setdefault(case, {})[name[0]] = stored[key]
    results = {}
    for case, inputs in cases.items():
        results.update({f"outputs/{case}/{name}": value for name, value in artefact(inputs).items()})
    durations = []
    while len(durations) < repeat and (len(durations) < 3 or sum(durations) < TIMED_MS):
        start = time.perf_counter()
        artefact(cases["0"])
        durations.append(1000 * (time.perf_counter() - start))
    ms = statistics.median(durations) if durations else np.nan
    return {**results, "ms": np.array(ms), "peak_bytes": np.array(peak_bytes())}


def peak_bytes():
    """The peak memory of this process, or 0 if unknown."""
    try:
        # On Linux, the value from `getrusage` is inherited from the parent process.
        with open("/proc/self/status", encoding="ascii") as status:
            return next(1024 * int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        pass
    if resource is None:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main(load, description):
    """Runs a client's command line.

    Args:
        load: Function of the path of an artefact and the name of a task or None. It returns a thread-safe callable from
            arrays by name to arrays by name, with the attributes `inputs`, name -> dtype, and `labels`, a list of class
            names, which may be empty.
        description: Description for `--help`.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("artefact", help="artefact written by `keras-attn export`")
    parser.add_argument("lines", nargs="*", help="text, or ids separated by spaces; one output per line")
    parser.add_argument("--task", action="append", help="task of the artefact to run")
    parser.add_argument("--cases", action="append", default=[], help="npz file of inputs, one per --task")
    parser.add_argument("--out", action="append", default=[], help="npz file for outputs, one per --cases")
    parser.add_argument("--repeat", type=int, default=20, help="number of timed calls, fewer where they are slow")
    # Lines may follow the options.
    arguments = parser.parse_intermixed_args()
    tasks = arguments.task or [None]
    if len(arguments.cases) != len(arguments.out):
        parser.error("--cases and --out must be given equally often")
    if len(tasks) != (len(arguments.cases) or 1):
        parser.error("each --task needs its own --cases and --out; lines of input need a single task")
    sys.stdout.reconfigure(encoding="utf-8")
    for task, cases, out in zip(tasks, arguments.cases, arguments.out, strict=False):
        np.savez(out, **run_cases(load(arguments.artefact, task), cases, arguments.repeat))
    if arguments.lines:
        artefact = load(arguments.artefact, tasks[0])
        for line in arguments.lines:
            # Arguments that are not UTF-8 contain surrogates.
            print(answer(artefact, os.fsencode(line).decode("utf-8", "replace")))
