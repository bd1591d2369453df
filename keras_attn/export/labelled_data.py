"""Samples and references that artefacts are evaluated on."""

import numpy as np

from keras_attn.columns import check_no_table
from keras_attn.labels import Labels

BATCH_LIMIT = 32


def batches(values, size=None):
    """Splits values into batches: the first value, then all others in batches of up to `BATCH_LIMIT`.

    A single value is also batched twice, to test a second batch size. With a fixed `size`, all batches have it, and the
    rest is dropped."""
    if size is not None:
        return [values[i : i + size] for i in range(0, len(values) - size + 1, size)]
    rest = values[1:] if len(values) > 1 else np.repeat(values, 2, axis=0)
    return [values[:1], *(rest[i : i + BATCH_LIMIT] for i in range(0, len(rest), BATCH_LIMIT))]


def fits(task, samples):
    """Whether a task accepts these samples: strings, or a dict of its inputs."""
    if isinstance(samples, dict):
        return not task.reads_text and samples.keys() == task.inputs.keys()
    return task.reads_text


def cases(task, samples=None):
    """The inputs on which a task is verified.

    Args:
        task: A `Task`.
        samples: List of strings, dict of arrays with equally many rows, or `None`; ignored if the task does not accept
            them.
    """
    if samples is None or not fits(task, samples):
        return task.cases()
    if not isinstance(samples, dict):
        return task.cases(samples)
    arrays = {name: _as_input(name, rows, task.inputs[name].dtype) for name, rows in samples.items()}
    columns = {name: batches(rows, _batch_size(task)) for name, rows in arrays.items()}
    for name, spec in task.inputs.items():
        if not columns[name] or not all(spec.fits(batch.shape) for batch in columns[name]):
            raise ValueError(
                f"`samples[{name!r}]` must make arrays of shape {spec.axes}. Received: shape {arrays[name].shape}"
            )
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _as_input(name, rows, dtype):
    """Casts rows to the dtype of an input; rejects values that it cannot represent, such as float masks or ids."""
    from keras_attn.ops.boolean_mask import check_boolean

    values = np.asarray(rows)
    if values.dtype.kind in ("SU" if dtype != "string" else "biufc"):
        raise ValueError(f"`samples[{name!r}]` must be of dtype {dtype}. Received: {values.dtype.name}")
    if dtype == "string":
        return values.astype(np.str_) if values.dtype.kind != "S" else np.char.decode(values, "utf-8", "replace")
    if dtype == "bool":
        check_boolean(f"samples[{name!r}]", values)
    elif "int" in dtype:
        bounds = np.iinfo(dtype)
        strays = values[(values < bounds.min) | (values > bounds.max) | (values % 1 != 0)]
        if strays.size:
            raise ValueError(f"`samples[{name!r}]` must hold integers of {dtype}. Received: {strays[:3].tolist()}")
    return values.astype(dtype)


def check(tasks, samples, references):
    """Raises a ValueError if no task accepts the samples, or the references do not match them."""
    if samples is None:
        if references is not None:
            raise ValueError("`references` must be given together with their `samples`. Received: samples=None")
        return
    if not isinstance(samples, dict):
        check_no_table(samples=samples)
    usable = [task for task in tasks if fits(task, samples)]
    if not usable:
        wanted = " or ".join(sorted({str(sorted(task.inputs)) for task in tasks if not task.reads_text}))
        kind = f"a dict of arrays {wanted}" if wanted else "strings"
        received = f"a dict of {sorted(samples)}" if isinstance(samples, dict) else type(samples).__name__
        if not isinstance(samples, dict) and wanted:
            received += ", and no tokenizer to use strings"
        raise ValueError(f"`samples` must be {kind}. Received: {received}")
    rows = {name: len(value) for name, value in samples.items()} if isinstance(samples, dict) else {"": len(samples)}
    if len(set(rows.values())) > 1 or not min(rows.values()):
        raise ValueError(f"`samples` must hold arrays of equally many rows, one or more. Received: rows {rows}")
    if references is None:
        return
    if lacking := [task.name for task in tasks if not hasattr(task, "score")]:
        raise ValueError(f"`references` must be None for tasks without a metric. Received: task {lacking[0]!r}")
    if len(references) != max(rows.values()):
        raise ValueError(
            f"`references` must hold one answer per sample, {max(rows.values())}. Received: {len(references)}"
        )


def class_ids(tasks, references, labels):
    """Turns class names in references into class ids, for tasks that score classes.

    Integers and booleans count as names if a data set with these labels would read them as such.

    Args:
        tasks: List of `Task`s of one model.
        references: See `export`; or `None`.
        labels: The class names in order, or `None`.

    Raises:
        ValueError: If a reference is not a class.
    """
    if references is None or not tasks or not all(getattr(task, "counts_classes", False) for task in tasks):
        return references
    values, count = np.asarray(references), tasks[0].model.outputs[0].shape[-1]
    has_rows = any(task.name == "classify" for task in tasks)
    if count is not None and _are_names(values, labels):
        known = Labels(labels) if labels else Labels.numbered(count)
        # Positions may be unlabelled (negative), rows may not.
        may_be_unlabelled = values.dtype.kind in "iu" and not has_rows
        try:
            numbers = [x if may_be_unlabelled and x < 0 else known.number(str(x)) for x in values.ravel().tolist()]
            return np.array(numbers, "int64").reshape(values.shape)
        except ValueError as error:
            raise ValueError(f"`references` must be class ids, or names among `labels`. Received: {error}") from None
    if values.dtype.kind == "b":
        return values.astype("int64")
    if values.dtype.kind in "iu" and count is not None:
        stray = (values >= count) | ((values < 0) & has_rows)
        if stray.any():
            raise ValueError(
                f"`references` must be class ids from 0 to {count - 1}. Received: {values[stray][:5].tolist()}"
            )
    return references


def _are_names(values, labels):
    """Whether references are class names rather than ids."""
    kind = values.dtype.kind
    if kind == "U" or not labels or Labels(labels).are_numbered:
        return kind == "U"
    return kind == "b" or (kind in "iu" and Labels(labels).has_numbers)


def answers(task, samples, references):
    """The references of each case of `cases`, or `None` if there are none for the task."""
    if references is None or not fits(task, samples):
        return None
    values = np.asarray(references)
    if values.dtype.kind not in "iuU":
        raise ValueError(f"`references` must be strings or class ids. Received: {values.dtype.name}")
    if values.ndim == 2 and hasattr(task, "padded_references"):
        values = task.padded_references(values)
    return batches(values, _batch_size(task))


def _batch_size(task):
    size = next(iter(task.inputs.values())).axes[0]
    return size if isinstance(size, int) else None
