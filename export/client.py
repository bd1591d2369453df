"""What the clients share: lines or stored cases in, answers out. Never imports keras_attn, Keras or a runtime."""

import argparse
import os
import statistics
import sys
import time

import numpy as np

try:
    import resource
except ImportError:  # Windows has none
    resource = None


def lines_of(text):
    """The lines of `labels.txt`: a name may hold any other character at which `str.splitlines` cuts."""
    return text.removesuffix("\n").split("\n") if text else []


def texts(value, decode=False):
    """Strings that a runtime can take: what UTF-8 cannot say is replaced, as Python does in decoding.

    That is what `surrogateescape` makes of bytes that are not UTF-8, and what half a pair of surrogates is.

    Args:
        value: an array of str or bytes.
        decode: whether bytes become strings too.

    Returns:
        An array of objects.

    Raises:
        ValueError: there are none, which ends the process in the tokenizers of some runtimes.
    """
    if not value.size:
        raise ValueError(f"An input of texts must hold one or more. Received: shape {value.shape}")
    return np.array([_text(item, decode) for item in value.ravel().tolist()], object).reshape(value.shape)


def _text(item, decode):
    if isinstance(item, str):
        decode = True
        try:
            item = item.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            item = item.encode("utf-8", "surrogatepass")
    return item.decode("utf-8", "replace") if decode else item


def answer(artefact, line):
    """One line in (text, or ids separated by spaces), one line out."""
    if len(artefact.inputs) > 1:
        raise ValueError(f"this task takes {sorted(artefact.inputs)}: use --cases")
    name, dtype = next(iter(artefact.inputs.items()))
    if np.dtype(dtype).kind in "OSU":
        # A text is a row, and in some models the only column of one.
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
    """The outputs of every stored case, and the median milliseconds of a call on the first."""
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
    for _ in range(repeat):
        start = time.perf_counter()
        artefact(cases["0"])
        durations.append(1000 * (time.perf_counter() - start))
    ms = statistics.median(durations) if durations else np.nan
    return {**results, "ms": np.array(ms), "peak_bytes": np.array(peak_bytes())}


def peak_bytes():
    """The most memory that this process has taken, or 0 where the system does not say."""
    try:
        # Linux hands the figure of `getrusage` down from the process that started this one.
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
        load: called with the artefact's path and the task's name or None; returns a callable from arrays by name to
            arrays by name, with attributes `inputs`, name -> dtype, and `labels`, the names of classes, if it has any.
            Threads may share it.
        description: what the client runs.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("artefact", help="what `keras-attn export` wrote")
    parser.add_argument("lines", nargs="*", help="text, or ids separated by spaces; one output a line")
    parser.add_argument("--task", action="append", help="which of the artefact's tasks to run")
    parser.add_argument("--cases", action="append", default=[], help="npz file of inputs; once for each --task")
    parser.add_argument("--out", action="append", default=[], help="npz file for the outputs of each --cases")
    parser.add_argument("--repeat", type=int, default=20, help="timed calls")
    # Lines may come behind the options.
    arguments = parser.parse_intermixed_args()
    tasks = arguments.task or [None]
    if len(arguments.cases) != len(arguments.out):
        parser.error("--cases and --out go together")
    if len(tasks) != (len(arguments.cases) or 1):
        parser.error("each --task needs --cases and --out of its own, and lines are for one task")
    sys.stdout.reconfigure(encoding="utf-8")
    for task, cases, out in zip(tasks, arguments.cases, arguments.out, strict=False):
        np.savez(out, **run_cases(load(arguments.artefact, task), cases, arguments.repeat))
    if arguments.lines:
        artefact = load(arguments.artefact, tasks[0])
        for line in arguments.lines:
            # What is no UTF-8 comes in surrogates.
            print(answer(artefact, os.fsencode(line).decode("utf-8", "replace")))
