"""Whether artefacts answer as their Keras model did."""

import contextlib
import os
from pathlib import Path

import numpy as np

from keras_attn.export import clients, manifest, precisions, registry
from keras_attn.export.report import Report


def verify(path):
    """Checks an export folder: the digest of every file, then every artefact on its stored cases.

    The artefacts run in fresh processes on their own runtimes. Neither Keras nor the model is needed.

    Args:
        path: a folder that `export` wrote.

    Returns:
        A `Report`. The row of an artefact that was altered, cannot be run or differs from the Keras model is not
        ok, and its `message` says why.

    Raises:
        ValueError: `path` holds no manifest.

    Example:

    >>> from keras_attn.export import verify
    >>> verify("nowhere")
    Traceback (most recent call last):
    ValueError: `path` must be a folder with a readable manifest.json, as `export` writes. Received: path='nowhere'
    """
    folder = Path(os.fspath(path))
    return Report(check(folder, entry) for entry in manifest.read(folder))


def record(path, task, samples=None):
    """Stores a task's cases with the Keras model's own outputs.

    Args:
        path: the npz file to write: `inputs/<case>/<name>` and `outputs/<case>/<name>`.
        task: a `Task`.
        samples: list of strings, or `None`.

    Raises:
        ValueError: the model itself returns NaN or infinity.
    """
    arrays = {}
    for index, case in enumerate(task.cases(samples)):
        outputs = task.reference(case)
        for name, value in outputs.items():
            if value.dtype.kind == "f" and not np.all(np.isfinite(value)):
                raise ValueError(f"`model` must return finite numbers. Received: NaN or infinity in {name!r}")
        arrays.update({f"inputs/{index}/{name}": value for name, value in case.items()})
        arrays.update({f"outputs/{index}/{name}": value for name, value in outputs.items()})
    np.savez(path, **arrays)


def check(folder, entry):
    """The report row of one manifest entry, after running its artefact.

    Args:
        folder: export folder.
        entry: a dict as `manifest.entry` returns.
    """
    row = {key: entry[key] for key in ("format", "precision", "task")}
    row |= {"bytes": manifest.size(folder, entry["path"]), "max_abs_diff": None, "identical": 0, "total": 0}
    row |= {
        "cosine": None,
        "token_agreement": None,
        "ms": None,
        "peak_bytes": None,
        "nodes": 0,
        "flex_ops": 0,
        "ok": False,
    }
    problems = manifest.damage(folder, entry) or _run(folder, entry, row)
    if problems:
        what = f"{entry['path']} ({entry['format']}, {entry['task']})"
        return {**row, "message": f"{what}: {'; '.join(problems)}"}
    return {**row, "ok": True}


def _run(folder, entry, row):
    """Fills in `row` and returns the problems."""
    artefact, cases = folder / entry["path"], folder / entry["cases"]
    with contextlib.suppress(Exception):  # a damaged file has no operators to count, and its runtime says why
        operators = registry.load("formats", entry["format"])().operators(artefact)
        row["nodes"] = operators.total()
        row["flex_ops"] = sum(count for name, count in operators.items() if name.startswith("Flex"))
    try:
        answers, row["ms"], row["peak_bytes"] = clients.run(entry["format"], artefact, entry["task"], cases)
    except clients.ClientError as error:
        return [f"does not run: {error}"]
    with np.load(cases, allow_pickle=False) as file:
        stored = {name: file[name] for name in file.files}
    task = registry.load("tasks", entry["task"])
    limits = precisions.TABLE[entry["precision"]]
    problems, row["max_abs_diff"], row["cosine"], tokens = [], 0.0, 1.0, []
    for case in sorted({name.split("/")[1] for name in stored}):
        inputs, expected = _case(stored, "inputs", case), _case(stored, "outputs", case)
        actual = _case(answers, "outputs", case)
        generated = "tokens" in expected
        for name, value in expected.items():
            problem, difference, cosine = _difference(value, actual.get(name), limits, generated)
            problems += [f"{name} of case {case} {problem}"] if problem else []
            row["max_abs_diff"] = max(row["max_abs_diff"], difference)
            row["cosine"] = min(row["cosine"], cosine)
        if all(name in actual and actual[name].shape == value.shape for name, value in expected.items()):
            identical, total = task.agreement(inputs, expected, actual)
            row["identical"], row["total"] = row["identical"] + identical, row["total"] + total
            if generated:
                tokens.append(expected["tokens"] == actual["tokens"])
    if tokens:
        row["token_agreement"] = float(np.mean(np.concatenate([same.ravel() for same in tokens])))
        if row["token_agreement"] < limits.tokens:
            problems.append(
                f"{row['token_agreement']:.1%} of the tokens are the model's, less than {limits.tokens:.0%}"
            )
    elif getattr(task, "counts_classes", False) and row["identical"] < limits.agreement * row["total"]:
        counts = f"{row['identical']} of {row['total']}"
        problems.append(f"the likeliest class is the model's in {counts}, less than {limits.agreement:.0%}")
    return problems


def _case(arrays, kind, case):
    prefix = f"{kind}/{case}/"
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}


def _difference(expected, actual, limits, generated):
    """What is wrong with an output, or `None`; the largest finite difference; and the cosine.

    Where the tokens of a quantised model differ, so do the scores that come with them: both are counted elsewhere.
    """
    if actual is None:
        return "is missing", 0.0, 1.0
    if expected.shape != actual.shape:
        return f"has shape {actual.shape}, not {expected.shape}", 0.0, 1.0
    exact = limits.max_abs_diff is not None
    if expected.dtype.kind != "f":
        wrong = expected != actual
        if not exact or not np.any(wrong):
            return None, 0.0, 1.0
        pair = f"{actual[wrong][0]!s} where the model has {expected[wrong][0]!s}"
        return f"differs in {np.sum(wrong)} of {wrong.size}, first {pair}", 0.0, 1.0
    if not np.all(np.isfinite(actual)):
        return "holds NaN or infinity", 0.0, 1.0
    difference, cosine = float(np.max(np.abs(expected - actual), initial=0.0)), _cosine(expected, actual)
    if exact:
        return (f"differs by {difference:.1e}" if difference > limits.max_abs_diff else None), difference, cosine
    if generated:
        return None, 0.0, 1.0
    return (
        (f"has cosine {cosine:.4f}, less than {limits.cosine}" if cosine < limits.cosine else None),
        difference,
        cosine,
    )


def _cosine(expected, actual):
    left, right = expected.ravel().astype("float64"), actual.ravel().astype("float64")
    lengths = np.linalg.norm(left) * np.linalg.norm(right)
    return float(np.clip(left @ right / lengths, -1, 1)) if lengths else float(np.array_equal(left, right))
