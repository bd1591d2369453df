"""The `verify` function: compares artefacts with stored outputs of their Keras model."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from keras_attn.export import precisions, registry
from keras_attn.export.folder import manifest
from keras_attn.export.report import Report, reason
from keras_attn.export.verification import clients, comparison
from keras_attn.typing import PathLike


def verify(path: PathLike) -> Report:
    """Verifies an export folder: checks the digest of every file, then runs every artefact on its stored cases.

    The artefacts run in fresh processes on their own runtimes. Neither Keras nor the model is needed.

    The manifest is not trusted: it must list every file of its artefacts, and no file outside the folder is read, not
    even through links. The artefacts themselves are trusted, as they are executed. Digests detect damage; they do not
    authenticate the author.

    Args:
        path: A folder written by `export`.

    Returns:
        A `Report`. The row of an artefact that was altered, cannot be run or differs from the Keras model is not ok;
        its `message` gives the reason.

    Raises:
        ValueError: If `path` has no manifest, one that `export` would not have written, an unlisted file, or a link.

    Example:

    >>> from keras_attn.export import verify
    >>> verify("nowhere")
    Traceback (most recent call last):
    ValueError: `path` must be a folder with a readable manifest.json, as `export` writes. Received: path='nowhere'
    """
    folder = Path(os.fspath(path))
    return Report(check(folder, manifest.read(folder)))


def record(path, task, cases, references=None):
    """Stores the cases of a task with the outputs of the Keras model.

    Args:
        path: The npz file to write, with `inputs/<case>/<name>`, `outputs/<case>/<name>` and optionally
            `references/<case>`.
        task: A `Task`.
        cases: List of dicts of arrays.
        references: The expected outputs of each case, or `None`.

    Raises:
        ValueError: If the model itself returns NaN or infinity.
    """
    arrays = {}
    for index, case in enumerate(cases):
        outputs = task.reference(case)
        for name, value in outputs.items():
            if value.dtype.kind == "f" and not np.all(np.isfinite(value)):
                raise ValueError(f"`model` must return finite numbers. Received: NaN or infinity in {name!r}")
        arrays.update({f"inputs/{index}/{name}": value for name, value in case.items()})
        arrays.update({f"outputs/{index}/{name}": value for name, value in outputs.items()})
    if references is not None:
        arrays.update({f"references/{index}": value for index, value in enumerate(references)})
    np.savez(path, **arrays)


def check(folder, entries):
    """Runs the artefacts of manifest entries and returns their report rows.

    Args:
        folder: Export folder.
        entries: Dicts as returned by `manifest.entry`.
    """
    damages = [manifest.damage(folder, entry) for entry in entries]
    answers = _answers(folder, [entry for entry, damage in zip(entries, damages, strict=True) if not damage])
    return [_row(folder, entry, damage, answers) for entry, damage in zip(entries, damages, strict=True)]


def _answers(folder, entries):
    """`(path, task)` -> the result of `clients.run` for the task, or its error message."""
    artefacts, answers = {}, {}
    for entry in entries:
        artefacts.setdefault((entry["format"], entry["path"]), {})[entry["task"]] = folder / entry["cases"]
    for (format, path), cases in artefacts.items():
        answers |= {(path, task): answer for task, answer in _run(format, folder / path, cases).items()}
    return answers


def _run(format, artefact, cases):
    try:
        return clients.run(format, artefact, cases)
    except clients.ClientError as error:
        if len(cases) == 1:
            return dict.fromkeys(cases, f"does not run: {error}")
        # Run each task separately, so that a crash in one does not hide the results of others.
        return {task: _run(format, artefact, {task: file})[task] for task, file in cases.items()}


def _row(folder, entry, damage, answers):
    row = {key: entry[key] for key in ("format", "precision", "task")}
    row |= {"bytes": manifest.size(folder, entry["path"]), "max_abs_diff": None, "identical": 0, "total": 0}
    row |= dict.fromkeys(("cosine", "token_agreement", "accuracy", "model_accuracy", "ms", "peak_bytes"))
    row |= {"keep_float": entry.get("keep_float", []), "nodes": 0, "flex_ops": 0, "ok": False}
    try:
        problems = damage or _compare(folder, entry, row, answers[entry["path"], entry["task"]])
    except Exception as error:  # stored cases may hold anything
        problems = [f"cannot be compared with its cases: {reason(error)}"]
    if problems:
        what = f"{entry['path']} ({entry['format']}, {entry['task']})"
        return {**row, "message": f"{what}: {'; '.join(problems)}"}
    return {**row, "ok": True}


def accuracy_drop(row):
    """The loss of accuracy of a report row; without accuracies, the share of outputs that differ from the model."""
    if row["accuracy"] is not None:
        return row["model_accuracy"] - row["accuracy"]
    return 1 - row["identical"] / row["total"] if row["total"] else 1.0


def stored_case(path, index):
    """The inputs of one stored case."""
    with np.load(path, allow_pickle=False) as file:
        return _case({name: file[name] for name in file.files}, "inputs", str(index))


def empty_tensors(path):
    """Names of the inputs and outputs with an axis of size 0 in any stored case."""
    with np.load(path, allow_pickle=False) as file:
        return sorted(
            {
                name.split("/", 2)[2]
                for name in file.files
                if not name.startswith("references") and 0 in file[name].shape
            }
        )


def _compare(folder, entry, row, answer):
    """Fills in `row` and returns the problems."""
    if isinstance(answer, str):
        return [answer]
    answers, row["ms"], row["peak_bytes"] = answer
    # Read only after a successful run: an artefact that no runtime reads has no operators.
    operators = registry.load("formats", entry["format"])().operators(folder / entry["path"])
    row["nodes"] = operators.total()
    row["flex_ops"] = sum(count for name, count in operators.items() if name.startswith("Flex"))
    with np.load(folder / entry["cases"], allow_pickle=False) as file:
        stored = {name: file[name] for name in file.files}
    return _differences(entry, row, stored, answers)


def _differences(entry, row, stored, answers):
    task = registry.load("tasks", entry["task"])
    limits = precisions.TABLE[entry["precision"]]
    problems, row["max_abs_diff"], row["cosine"] = [], 0.0, 1.0
    tokens, scores = [], []
    for case in sorted({name.split("/")[1] for name in stored if name.startswith("inputs/")}, key=int):
        inputs, expected = _case(stored, "inputs", case), _case(stored, "outputs", case)
        if not expected:
            problems.append(f"case {case} has no outputs to compare with")
        actual = _case(answers, "outputs", case)
        generated = "tokens" in expected
        for name, value in expected.items():
            problem, difference, cosine = comparison.difference(value, actual.get(name), limits, generated)
            if problem:
                problems.append(f"{name} of case {case} {problem}")
                row.setdefault("case", int(case))
            row["max_abs_diff"] = max(row["max_abs_diff"], difference)
            row["cosine"] = min(row["cosine"], cosine)
        if any(name not in actual or actual[name].shape != value.shape for name, value in expected.items()):
            continue
        actual = {name: actual[name] for name in expected}
        identical, total = task.agreement(inputs, expected, actual)
        row["identical"], row["total"] = row["identical"] + identical, row["total"] + total
        if generated:
            tokens.append((expected["tokens"] == actual["tokens"]).ravel())
        if (references := stored.get(f"references/{case}")) is not None:
            scores.append((*task.score(expected, references), *task.score(actual, references)))
    if scores:
        right, total, own_right, _ = np.sum(scores, axis=0)
        # Without answers there is no accuracy; NaN would pass any limit.
        if total:
            row["model_accuracy"], row["accuracy"] = float(right / total), float(own_right / total)
    if tokens:
        row["token_agreement"] = float(np.mean(np.concatenate(tokens)))
    return problems + _shortfalls(entry, row, limits, getattr(task, "counts_classes", False))


def _shortfalls(entry, row, limits, counts_classes):
    """Problems that concern all cases together."""
    problems, agreement = [], row["token_agreement"]
    # With few answers, a single difference is within the limit.
    allowed = max(1, (1 - limits.agreement) * row["total"])
    if agreement is not None and agreement < limits.tokens:
        problems.append(f"only {agreement:.1%} of the tokens are those of the model, less than {limits.tokens:.0%}")
    elif agreement is None and counts_classes and row["total"] - row["identical"] > allowed:
        counts = f"{row['identical']} of {row['total']}"
        problems.append(f"the top class is that of the model in only {counts}, less than {limits.agreement:.0%}")
    limit = entry.get("max_accuracy_drop")
    if limit is not None and accuracy_drop(row) > limit:
        what = "accuracy" if row["accuracy"] is not None else "agreement with the model"
        problems.append(f"loses {accuracy_drop(row):.2%} of {what}, more than {limit:.2%}")
    return problems


def _case(arrays, kind, case):
    prefix = f"{kind}/{case}/"
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}
