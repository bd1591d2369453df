"""From a model in memory to verified artefacts in a folder."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_attn import compat
from keras_attn.argument_checks import is_integer, is_number
from keras_attn.export import labelled_data, precisions, registry
from keras_attn.export.attempt import LOGGER, Attempt
from keras_attn.export.conversion import space_for, tried
from keras_attn.export.folder import attachments, manifest, staging
from keras_attn.export.quantization import float_search
from keras_attn.export.quantization.sensitivity import Sensitivity
from keras_attn.export.report import ExportError, Report
from keras_attn.export.tasks.sized_task import SizedTask
from keras_attn.export.verification import verification
from keras_attn.extras import require
from keras_attn.plain_numbers import plain
from keras_attn.typing import PathLike

if TYPE_CHECKING:
    import keras

    from keras_attn.text.tokenizer import Tokenizer


DTYPES = ("float16", "float32", "float64", "bool", "string")
DTYPES += tuple(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64))


def export(
    model: keras.Model,
    path: PathLike,
    format: str | Sequence[str],
    *,
    tasks: str | Sequence[str] = ("generate",),
    tokenizer: Tokenizer | bool | None = None,
    shapes: Mapping[str, int] | None = None,
    precision: str | Sequence[str] = "float32",
    samples: Any = None,
    references: Any = None,
    keep_float: Sequence[str] = (),
    max_accuracy_drop: float | None = None,
    calibration: Any = None,
    labels: Sequence[str] | None = None,
) -> Report:
    """Writes artefacts of a model and proves that they answer as the model does.

    Every artefact is written in a temporary folder inside `path`, run in a fresh process on its own runtime, and
    compared with the Keras model on the same inputs. Only when all agree are they moved into place, with the
    cases (`verification/`), `manifest.json` and `report.json`: all of them, or none if anything ends the export before.
    What a kill leaves is put in order by the next export.

    Args:
        model: a functional `keras.Model`.
        path: the folder to write to. One folder is for one model; artefacts of the same name are replaced.
        format: `"saved_model"`, `"tflite"`, `"onnx"` or `"onnx_fused"` (opset 23, for runtimes that know it), or a list
            of them.
        tasks: `"generate"` (source ids in; `tokens` and `scores` out), `"forward"` (the model's inputs in, logits
            out), `"beam"`, `"encode"`, `"classify"`, `"prefill"`, `"decode"`, `"step"`, or a list of them; each is
            described in its file in `keras_attn/export/tasks/`. The first is the SavedModel's default signature.
        tokenizer: a `Tokenizer`, or the model's own where `None`: `generate` then takes the strings
            `source` and also returns the strings `text`. `False` exports ids in and out.
        shapes: sizes of axes that are to be fixed, by name, as `{"batch": 1, "source_length": 32}`; all others may have
            any size. For ids only: a text has any length.
        precision: `"float32"`, `"float16"` (weights are stored in half precision), `"int8"` (dynamic range),
            `"int8_full"` (TFLite), `"int4"` (ONNX), or a list of them. Artefacts of other precisions than
            float32 say it in their name, as `model.int8.tflite`.
        samples: what to verify on, random inputs where `None`: a list of strings for tasks with a tokenizer, or a dict
            of the arrays that a task takes, one row a sample.
        references: the right answer to each sample: strings or rows of tokens for `generate` and `beam`, class ids or
            names among `labels` for `classify`, class ids of each place for `forward` (negative where there is none).
            Integers and booleans are names if `labels` are such, as in a data set with these labels.
            The report then has the accuracy of the artefact and of the model.
        keep_float: names or patterns of layers and weights that stay in float32, as `"encoder"`, `"kernel"` or
            `"*/output/kernel"`; not with `"int8_full"`.
        max_accuracy_drop: most that an artefact may lose, as `0.01`: of the accuracy on `references` where given, else
            of the agreement with the model's answers. In other precisions than float32, the weights that hurt most
            stay in float32 until it loses no more.
        calibration: what `"int8_full"` measures ranges on: a dict of arrays or a list of them, for a single task; the
            cases that the artefact is verified on where `None`.
        labels: names of the classes of the model's outputs, in order; the model's own `labels` where `None`. They lie
            in the artefact as `labels.txt`, as does the vocabulary of a model with a tokenizer as `vocabulary.json`: in
            the metadata of TFLite and ONNX, and in `assets.extra` of a SavedModel.

    Returns:
        A `Report` with one row for each format and task.

    Raises:
        ValueError: an argument is not as described, or the model was never built, or `path` has a manifest that cannot
            be read.
        ImportError: a format needs an extra that is not installed; the message names it.
        ExportError: an artefact could not be made or does not agree; nothing was written.

    Example:

    >>> import keras
    >>> from keras_attn.export import export
    >>> inputs = keras.Input((3,), name="features")
    >>> model = keras.Model(inputs, keras.layers.Dense(2)(inputs))
    >>> export(model, "artefacts", "tf", tasks="forward")
    Traceback (most recent call last):
    ValueError: `format` must name one or more of ['onnx', 'onnx_fused', 'saved_model', 'tflite']. Received: format='tf'
    """
    emitters = [registry.load("formats", name)() for name in registry.chosen("formats", "format", format)]
    task_types = [registry.load("tasks", name) for name in registry.chosen("tasks", "tasks", tasks)]
    chosen = precisions.chosen(precision, emitters)
    _check_model(model)
    _check_drop(max_accuracy_drop)
    _check_keep_float(keep_float, emitters, chosen)
    keep = precisions.kept(model, keep_float)
    tasks = [task_type(model, tokenizer) for task_type in task_types]
    _check_formats(emitters, tasks)
    for emitter in emitters:
        for task in tasks:
            _check_dtypes(emitter, task)
            emitter.check_names(task)
    if shapes:
        _fix(tasks, plain(shapes))
    labels = attachments.class_names(model, labels)
    labelled_data.check(tasks, samples, references)
    references = labelled_data.class_ids(tasks, references, labels)
    files = attachments.files(model, tokenizer, labels)
    cases = _calibration(tasks, calibration, samples) if "int8_full" in chosen else None
    for emitter in emitters:
        _check_installed(emitter, tasks)
    path = Path(os.fspath(path))
    with space_for(path), staging.workplace(path) as folder:
        manifest.earlier(path)
        (folder / "verification").mkdir()
        for task in tasks:
            cases_path = folder / manifest.cases_name(task.name)
            answers = labelled_data.answers(task, samples, references)
            verification.record(cases_path, task, labelled_data.cases(task, samples), answers)
        done = []
        for emitter in emitters:
            LOGGER.info("%s: converting", emitter.name)
            converted = tried(emitter, tasks, emitter.convert, tasks, folder)
            for name in chosen:
                attempt = Attempt(emitter, tasks, converted, folder, name, cases, max_accuracy_drop, files)
                if max_accuracy_drop is None or name not in emitter.selective:
                    attempt.write(keep)
                else:
                    sensitivity = Sensitivity(tasks, name, emitter.int8_levels, samples, references)
                    attempt.search(float_search.mixes(sensitivity, model, max_accuracy_drop, keep))
                done.append(attempt)
                if not attempt.ok:
                    raise ExportError(attempt.failure(), Report(row for other in done for row in other.rows))
        report = Report(row for attempt in done for row in attempt.rows)
        _install(folder, path, [entry for attempt in done for entry in attempt.entries], report)
    return report


def _check_model(model):
    import keras

    if not isinstance(model, keras.Model) or not (getattr(model, "inputs", None) or hasattr(model, "prefill")):
        raise ValueError(
            "`model` must be a built functional keras.Model, whose inputs have names and shapes, or must generate. "
            f"Received: model={model!r}"
        )
    dtypes = {layer.compute_dtype for layer in compat.layers_of(model) if not isinstance(layer, keras.Model)}
    if other := sorted(dtypes & {"float16", "bfloat16", "float64"}):
        raise ValueError(f"`model` must compute in float32. Received: layers that compute in {other}")


def _check_drop(value):
    if value is not None and (not is_number(value) or not 0 <= value < 1):
        raise ValueError(f"`max_accuracy_drop` must be a number in [0, 1). Received: max_accuracy_drop={value!r}")


def _check_formats(emitters, tasks):
    for task in tasks:
        formats = getattr(task, "formats", None)
        refused = [emitter.name for emitter in emitters if formats and emitter.runtime not in formats]
        if refused:
            raise ValueError(f"`tasks` may hold {task.name!r} only for {list(formats)}. Received: format={refused}")


def _check_dtypes(emitter, task):
    for name, spec in task.inputs.items():
        if spec.dtype == "string" and emitter.runtime != "saved_model":
            raise ValueError(
                f"`format` must be 'saved_model' for a model that reads strings, as {emitter.name} lacks the operators "
                f"of Keras' preprocessing; or export the part of the model behind it. Received: input {name!r}"
            )
        if spec.dtype not in DTYPES:
            raise ValueError(
                f"`model` must have inputs of a dtype that artefacts know, {', '.join(DTYPES)}; cast inside of the "
                f"model. Received: input {name!r} of {spec.dtype}"
            )


def _fix(tasks, shapes):
    for task in tasks:
        if task.reads_text:
            raise ValueError(f"`shapes` goes with `tokenizer=False`, as a text has any length. Received: {shapes!r}")
        if not isinstance(task, SizedTask):
            raise ValueError(f"`shapes` must be None for {task.name!r}, whose runtimes choose. Received: {shapes!r}")
        for name, size in shapes.items():
            if not task.axes_of(name) or not is_integer(size) or size < 1:
                raise ValueError(
                    f"`shapes` must give {task.axes} of task {task.name!r} positive sizes. Received: {name!r}: {size!r}"
                )
        task.fix(shapes)


def _check_installed(emitter, tasks):
    text = any(task.tokenizer is not None for task in tasks)
    for task in tasks:
        if task.tokenizer is not None and (reason := task.tokenizer.refusal(emitter.runtime)):
            raise ValueError(f"`tokenizer` must be one that {emitter.name} can hold. Received: {reason}")
    for module, extra in emitter.requires + (emitter.text_requires if text else ()):
        # Found and not imported: some of these runtimes must not be loaded after TensorFlow.
        if importlib.util.find_spec(module) is None:
            require(module, extra)


def _check_keep_float(keep_float, emitters, chosen):
    for emitter in emitters if keep_float else ():
        if all_or_none := [name for name in chosen if name != "float32" and name not in emitter.selective]:
            raise ValueError(
                f"`keep_float` must be empty for format {emitter.name!r} and precision {all_or_none[0]!r}, which "
                f"quantises all weights or none. Received: keep_float={keep_float!r}"
            )


def _calibration(tasks, calibration, samples):
    """Cases by task name."""
    if any(task.reads_text for task in tasks):
        raise ValueError("`precision` may be 'int8_full' only where no task takes strings. Received: a tokenizer")
    if calibration is None:
        return {task.name: labelled_data.cases(task, samples) for task in tasks}
    cases = [calibration] if isinstance(calibration, dict) else list(calibration)
    names = sorted(tasks[0].inputs)
    if len(tasks) > 1 or not cases or any(sorted(case) != names for case in cases):
        raise ValueError(
            f"`calibration` must hold cases, dicts of the arrays {names}, for a single task. "
            f"Received: tasks {[task.name for task in tasks]} and cases of {[sorted(case) for case in cases[:1]]}"
        )
    return {tasks[0].name: cases}


def _install(folder, path, entries, report):
    """Moves everything into `path`, beside artefacts of other names that earlier exports left there."""
    artefacts = list(dict.fromkeys(entry["path"] for entry in entries))
    report.save(folder / "report.json")
    # Of two exports to one folder, the second reads what the first has written.
    with staging.locked(path):
        earlier = manifest.earlier(path)
        stay = [entry for entry in earlier if entry["path"] not in artefacts]
        known = [manifest.with_cases(entry, entries, path, folder) for entry in stay] + entries
        manifest.write(folder, known)
        moved = [name for artefact in artefacts for name in manifest.parts_of(artefact)]
        cases = dict.fromkeys(entry["cases"] for entry in known)
        moved += [name for name in cases if (folder / name).exists()]
        moved += [entry["cases"] for entry in earlier if entry["cases"] not in cases]
        staging.install(folder, [*moved, manifest.NAME, "report.json"], path)
