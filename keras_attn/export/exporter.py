"""From a model in memory to verified artefacts in a folder."""

import contextlib
import importlib.util
import os
from pathlib import Path

from keras_attn.export import manifest, registry, staging, verification
from keras_attn.export.report import ExportError, Report
from keras_attn.extras import require

PRECISIONS = ("float32",)


def export(model, path, format, *, tasks=("generate",), tokenizer=None, precision="float32", samples=None):
    """Writes artefacts of a model and proves that they answer as the model does.

    Every artefact is written in a temporary folder inside `path`, run in a fresh process on its own runtime, and
    compared with the Keras model on the same inputs. Only when all agree are they moved into place, with the
    cases (`verification/`), `manifest.json` and `report.json`.

    Args:
        model: a functional `keras.Model`.
        path: the folder to write to. One folder is for one model; artefacts of the same name are replaced.
        format: `"saved_model"`, `"tflite"` or `"onnx"`, or a list of them.
        tasks: `"generate"` (source ids in; `tokens` and `scores` out), `"forward"` (the model's inputs in, logits
            out), or a list of them. The first is the SavedModel's default signature.
        tokenizer: a `CharacterTokenizer`, or the model's own where `None`: `generate` then takes the strings
            `source` and also returns the strings `text`.
        precision: `"float32"`.
        samples: list of strings to verify a `generate` with a tokenizer on; random ones where `None`.

    Returns:
        A `Report` with one row for each format and task.

    Raises:
        ValueError: an argument is not as described, or the model was never built.
        ImportError: a format needs an extra that is not installed; the message names it.
        ExportError: an artefact could not be made or does not agree; nothing was written.

    Example:

    >>> import keras
    >>> from keras_attn.export import export
    >>> inputs = keras.Input((3,), name="features")
    >>> model = keras.Model(inputs, keras.layers.Dense(2)(inputs))
    >>> export(model, "artefacts", "tensorrt", tasks="forward")
    Traceback (most recent call last):
    ValueError: `format` must name one or more of ['onnx', 'saved_model', 'tflite']. Received: format='tensorrt'
    """
    emitters = [registry.load("formats", name)() for name in registry.chosen("formats", "format", format)]
    task_types = [registry.load("tasks", name) for name in registry.chosen("tasks", "tasks", tasks)]
    if precision not in PRECISIONS:
        raise ValueError(f"`precision` must be one of {list(PRECISIONS)}. Received: precision={precision!r}")
    _check_model(model)
    tasks = [task_type(model, tokenizer) for task_type in task_types]
    if samples is not None and all(task.tokenizer is None for task in tasks):
        raise ValueError("`samples` must be None where no task takes strings. Received: no tokenizer to use them")
    for emitter in emitters:
        _check_installed(emitter, tasks)
    path = Path(os.fspath(path))
    with staging.workplace(path) as folder:
        (folder / "verification").mkdir()
        for task in tasks:
            verification.record(folder / "verification" / f"{task.name}.npz", task, samples)
        entries, rows = [], []
        for emitter in emitters:
            _emit(emitter, tasks, folder)
            for task in tasks:
                entries.append(manifest.entry(folder, emitter, task.name, precision))
                rows.append(verification.check(folder, entries[-1]))
                if not rows[-1]["ok"]:
                    raise ExportError(f"does not agree with the model: {rows[-1]['message']}", Report(rows))
        report = Report(rows)
        _install(folder, path, entries, report)
    return report


def _check_model(model):
    import keras

    if not isinstance(model, keras.Model) or not getattr(model, "inputs", None):
        raise ValueError(
            "`model` must be a built functional keras.Model, whose inputs have names and shapes. "
            f"Received: model={model!r}"
        )
    dtypes = {layer.compute_dtype for layer in model._flatten_layers() if not isinstance(layer, keras.Model)}
    if other := sorted(dtypes & {"float16", "bfloat16", "float64"}):
        raise ValueError(f"`model` must compute in float32. Received: layers that compute in {other}")


def _check_installed(emitter, tasks):
    text = any(task.tokenizer is not None for task in tasks)
    for module, extra in emitter.requires + (emitter.text_requires if text else ()):
        # Found and not imported: some of these runtimes must not be loaded after TensorFlow.
        if importlib.util.find_spec(module) is None:
            require(module, extra)


def _emit(emitter, tasks, folder):
    try:
        emitter.emit(tasks, folder)
    except (ExportError, ImportError):
        raise
    except Exception as error:
        names = ", ".join(task.name for task in tasks)
        summary = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ExportError(f"{emitter.name}: {names} could not be converted: {summary}") from error


def _install(folder, path, entries, report):
    """Moves everything into `path`, beside artefacts of other names that earlier exports left there."""
    artefacts = [entry["path"] for entry in entries]
    earlier = []
    with contextlib.suppress(ValueError):
        earlier = [entry for entry in manifest.read(path) if entry["path"] not in artefacts]
    manifest.write(folder, earlier + entries)
    report.save(folder / "report.json")
    cases = [entry["cases"] for entry in entries]
    staging.install(folder, dict.fromkeys([*artefacts, *cases, manifest.NAME, "report.json"]), path)
