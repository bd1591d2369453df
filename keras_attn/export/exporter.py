"""The `export` function."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_attn import compat
from keras_attn.argument_checks import is_integer, is_number
from keras_attn.export import labelled_data, memory, precisions, registry
from keras_attn.export.artefact_build import LOGGER, ArtefactBuild
from keras_attn.export.conversion import convert_or_raise, disk_errors
from keras_attn.export.folder import attachments, manifest, staging
from keras_attn.export.quantization import mixed_precision_search
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
    """Exports a model and verifies the artefacts against it.

    Every artefact is written to a temporary folder inside `path`, run by its own runtime in a fresh process, and
    compared with the Keras model on the same inputs. If all agree, they are moved to `path` together with the cases
    (`verification/`), `manifest.json` and `report.json`. This is all or nothing: the next export cleans up after one
    that was killed.

    Args:
        model: A functional `keras.Model`.
        path: The folder to write to, one per model. Artefacts of the same name are replaced.
        format: `"saved_model"`, `"tflite"`, `"onnx"`, `"onnx_fused"` (opset 23, for runtimes that support it), or a
            list of them.
        tasks: `"generate"` (source ids to `tokens` and `scores`), `"forward"` (the model's inputs to logits), `"beam"`,
            `"encode"`, `"classify"`, `"transcribe"`, `"prefill"`, `"decode"`, `"step"`, or a list of them. Each is
            documented in its file in `keras_attn/export/tasks/`. The first one is the default signature of a
            SavedModel.
        tokenizer: A `Tokenizer`; defaults to that of the model. With a tokenizer, `generate` takes strings, `source`,
            and also returns strings, `text`. `False` exports a model of ids.
        shapes: Sizes of axes to fix, by name, such as `{"batch": 1, "source_length": 32}`. All other axes are dynamic.
            Only without a tokenizer.
        precision: `"float32"`, `"float16"` (weights stored in half precision), `"int8"` (dynamic range), `"int8_full"`
            (TFLite), `"int4"` (ONNX), or a list of them. Except for float32, the precision is part of the file name, as
            in `model.int8.tflite`.
        samples: Inputs to verify on: a list of strings for tasks with a tokenizer, or a dict of input arrays with one
            row per sample. Defaults to random inputs.
        references: The expected output of each sample: strings or rows of tokens for `generate` and `beam`, class ids
            or names from `labels` for `classify`, class ids per position for `forward` (negative for none). Integers
            and booleans are names if `labels` are such, as in a data set with these labels. The report then includes
            the accuracy of the artefact and of the model.
        keep_float: Names or patterns of layers and weights that stay in float32, such as `"encoder"`, `"kernel"` or
            `"*/output/kernel"`. Not with `"int8_full"`.
        max_accuracy_drop: Maximum loss of an artefact, such as `0.01`: of accuracy if `references` are given, else of
            agreement with the model. In precisions below float32, as many weights stay in float32 as it takes, the most
            sensitive first.
        calibration: Calibration data for `"int8_full"`: a dict of arrays or a list of them, for a single task. Defaults
            to the verification cases.
        labels: Class names of the model's outputs, in order; defaults to the model's `labels`. They are stored in the
            artefact as `labels.txt`, next to `vocabulary.json` if there is a tokenizer: in the metadata of TFLite and
            ONNX, and in `assets.extra` of a SavedModel.

    Returns:
        A `Report` with one row per format, precision and task.

    Raises:
        ValueError: If an argument is invalid, the model is not built, or `path` has a manifest that cannot be read.
        ImportError: If a format needs an extra that is not installed; the message names it.
        ExportError: If an artefact cannot be written or does not agree with the model. Nothing is written then.

    Example:

    >>> import keras
    >>> from keras_attn.export import export
    >>> inputs = keras.Input((3,), name="features")
    >>> model = keras.Model(inputs, keras.layers.Dense(2)(inputs))
    >>> export(model, "artefacts", "tf", tasks="forward")
    Traceback (most recent call last):
    ValueError: `format` must name one or more of ['onnx', 'onnx_fused', 'saved_model', 'tflite']. Received: format='tf'
    """
    writers = [registry.load("formats", name)() for name in registry.chosen("formats", "format", format)]
    task_types = [registry.load("tasks", name) for name in registry.chosen("tasks", "tasks", tasks)]
    chosen = precisions.chosen(precision, writers)
    _check_model(model)
    _check_drop(max_accuracy_drop)
    _check_keep_float(keep_float, writers, chosen)
    float32_weights = precisions.float32_weights(model, keep_float)
    tasks = [task_type(model, tokenizer) for task_type in task_types]
    _check_formats(writers, tasks)
    for writer in writers:
        for task in tasks:
            _check_dtypes(writer, task)
            writer.check_names(task)
    if shapes:
        _fix(tasks, plain(shapes))
    labels = attachments.class_names(model, labels)
    labelled_data.check(tasks, samples, references)
    references = labelled_data.class_ids(tasks, references, labels)
    files = attachments.files(model, tokenizer, labels)
    cases = _calibration(tasks, calibration, samples) if "int8_full" in chosen else None
    for writer in writers:
        _check_installed(writer, tasks)
    path = Path(os.fspath(path))
    with disk_errors(path), staging.workspace(path) as folder:
        manifest.earlier(path)
        (folder / "verification").mkdir()
        for task in tasks:
            cases_path = folder / manifest.cases_name(task.name)
            answers = labelled_data.answers(task, samples, references)
            verification.record(cases_path, task, labelled_data.cases(task, samples), answers)
        done = []
        for writer in writers:
            LOGGER.info("%s: converting", writer.name)
            converted = convert_or_raise(writer, tasks, writer.convert, tasks, folder)
            memory.release()
            for name in chosen:
                build = ArtefactBuild(writer, tasks, converted, folder, name, cases, max_accuracy_drop, files)
                if max_accuracy_drop is None or name not in writer.selective:
                    build.write(float32_weights)
                else:
                    sensitivity = Sensitivity(tasks, name, writer.int8_levels, samples, references)
                    build.search(
                        mixed_precision_search.candidates(sensitivity, model, max_accuracy_drop, float32_weights)
                    )
                done.append(build)
                if not build.ok:
                    raise ExportError(build.failure(), Report(row for other in done for row in other.rows))
        report = Report(row for build in done for row in build.rows)
        _install(folder, path, [entry for build in done for entry in build.entries], report)
    return report


def _check_model(model):
    import keras

    if not isinstance(model, keras.Model) or not (getattr(model, "inputs", None) or hasattr(model, "prefill")):
        raise ValueError(
            "`model` must be a built functional keras.Model, or a model with `prefill` and `decode`. "
            f"Received: model={model!r}"
        )
    dtypes = {layer.compute_dtype for layer in compat.layers_of(model) if not isinstance(layer, keras.Model)}
    if other := sorted(dtypes & {"float16", "bfloat16", "float64"}):
        raise ValueError(f"`model` must compute in float32. Received: layers that compute in {other}")


def _check_drop(value):
    if value is not None and (not is_number(value) or not 0 <= value < 1):
        raise ValueError(f"`max_accuracy_drop` must be a number in [0, 1). Received: max_accuracy_drop={value!r}")


def _check_formats(writers, tasks):
    for task in tasks:
        formats = getattr(task, "formats", None)
        refused = [writer.name for writer in writers if formats and writer.runtime not in formats]
        if refused:
            raise ValueError(f"`tasks` may hold {task.name!r} only for {list(formats)}. Received: format={refused}")


def _check_dtypes(writer, task):
    for name, spec in task.inputs.items():
        if spec.dtype == "string" and writer.runtime != "saved_model":
            raise ValueError(
                f"`format` must be 'saved_model' for a model with string inputs, as {writer.name} does not support "
                f"Keras' preprocessing layers; or export the part of the model after them. Received: input {name!r}"
            )
        if spec.dtype not in DTYPES:
            raise ValueError(
                f"`model` must have inputs of a supported dtype, {', '.join(DTYPES)}; cast inside the model. "
                f"Received: input {name!r} of {spec.dtype}"
            )


def _fix(tasks, shapes):
    for task in tasks:
        if task.reads_text:
            raise ValueError(
                "`shapes` must be None for tasks that read texts, which have any length; pass "
                f"`tokenizer=False`. Received: shapes={shapes!r}"
            )
        if not isinstance(task, SizedTask):
            raise ValueError(
                f"`shapes` must be None for {task.name!r}, whose axes must be dynamic. Received: shapes={shapes!r}"
            )
        for name, size in shapes.items():
            if not task.axes_of(name) or not is_integer(size) or size < 1:
                raise ValueError(
                    f"`shapes` must give {task.axes} of task {task.name!r} positive sizes. Received: {name!r}: {size!r}"
                )
        task.fix(shapes)


def _check_installed(writer, tasks):
    text = any(task.tokenizer is not None for task in tasks)
    for task in tasks:
        if task.tokenizer is not None and (reason := task.tokenizer.refusal(writer.runtime)):
            raise ValueError(f"`tokenizer` must be one that {writer.name} supports. Received: {reason}")
    for module, extra in writer.requires + (writer.text_requires if text else ()):
        # Only looked up, not imported: some of these runtimes must not be loaded after TensorFlow.
        if importlib.util.find_spec(module) is None:
            require(module, extra)


def _check_keep_float(keep_float, writers, chosen):
    for writer in writers if keep_float else ():
        if all_or_none := [name for name in chosen if name != "float32" and name not in writer.selective]:
            raise ValueError(
                f"`keep_float` must be empty for format {writer.name!r} and precision {all_or_none[0]!r}, which "
                f"quantises all weights or none. Received: keep_float={keep_float!r}"
            )


def _calibration(tasks, calibration, samples):
    """The calibration cases by task name."""
    if any(task.reads_text for task in tasks):
        raise ValueError("`precision` must not be 'int8_full' for tasks with a tokenizer. Received: a tokenizer")
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
    """Moves everything into `path`, and keeps artefacts of other names from earlier exports."""
    artefacts = list(dict.fromkeys(entry["path"] for entry in entries))
    report.save(folder / "report.json")
    # Of two concurrent exports to one folder, the second must see the manifest of the first.
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
