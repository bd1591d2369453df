"""The command `keras-attn`: imports, exports, quantises, verifies and inspects models."""

import argparse
import contextlib
import json
import logging
import os
import sys

import keras_attn
from keras_attn.lazy import COMMAND
from keras_attn.lines import read_lines
from keras_attn.replacement import replacement

FAILED, BAD_INPUT = 1, 2


def main(arguments=None):
    """Runs the command.

    Args:
        arguments: List of strings. Defaults to `sys.argv[1:]`.

    Returns:
        The exit status: 0 for success, 1 if an artefact differs from its model, 2 for invalid input.
    """
    options = _parser().parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # The encoding of a terminal may lack characters of a name.
            stream.reconfigure(errors="backslashreplace")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from keras_attn.export import ExportError

    try:
        with _without_noise() as stderr, _progress(stderr):
            text, failures = options.run(options)
    except ExportError as error:
        return _complain(error, FAILED)
    except (ValueError, ImportError, OSError) as error:
        return _complain(error, BAD_INPUT)
    print(text)
    for message in failures:
        _complain(message, FAILED)
    return FAILED if failures else 0


def _parser():
    parser = argparse.ArgumentParser(prog=COMMAND, description="Import, export, verify and inspect models.")
    parser.add_argument("--version", action="version", version=f"{COMMAND} {keras_attn.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    export = commands.add_parser("export", help="export a .keras file or a checkpoint to verified artefacts")
    export.set_defaults(run=_export)
    quantize = commands.add_parser("quantize", help="export in a lower precision, and report the effect of each weight")
    quantize.set_defaults(run=_quantize)
    for command in (export, quantize):
        command.add_argument("model", metavar="MODEL", help="a .keras file, or a folder with a Hugging Face checkpoint")
        command.add_argument(
            "--format", required=True, type=_names, help="comma-separated: saved_model, tflite, onnx, onnx_fused"
        )
        command.add_argument("--out", required=True, metavar="DIR", help="the folder to write to")
        command.add_argument(
            "--task",
            type=_names,
            help="comma-separated: generate, forward, ... (default: generate if supported, else forward)",
        )
        command.add_argument(
            "--data",
            metavar="FILE",
            help="verification data: one string per line, optionally with a tab and the expected output (text, or "
            "class name or number); or an .npz file with the task's inputs, optionally with `references`",
        )
        command.add_argument(
            "--max-accuracy-drop",
            type=float,
            metavar="X",
            help="keep as many weights in float32 as it takes to lose at most X, such as 0.01",
        )
        command.add_argument(
            "--shapes",
            type=_sizes,
            metavar="AXES",
            help="axis sizes to fix, such as batch=1,source_length=32; only with --ids",
        )
        command.add_argument(
            "--labels",
            metavar="FILE",
            help="class names for the artefacts, in order, one per line (default: those of the model)",
        )
        command.add_argument("--ids", action="store_true", help="export without the tokenizer: ids in, ids out")
    precisions = "comma-separated: float32, float16, int8, int8_full, int4"
    export.add_argument("--precision", type=_names, default=["float32"], help=precisions)
    quantize.add_argument("--precision", type=_names, default=["int8"], help=precisions)
    for command in (export, quantize):
        command.add_argument(
            "--keep-float", type=_names, default=[], metavar="NAMES", help="layers or weights to keep in float32"
        )

    verify = commands.add_parser("verify", help="check the files of an export and run them again")
    verify.set_defaults(run=_verify)
    verify.add_argument("folder", metavar="DIR", help="a folder that `keras-attn export` wrote")

    inspect = commands.add_parser("inspect", help="describe a model, an artefact or a folder of artefacts")
    inspect.set_defaults(run=_inspect)
    inspect.add_argument("path", metavar="PATH", help="a .keras file, an artefact or a folder that `export` wrote")

    convert = commands.add_parser("import", help="convert a Hugging Face checkpoint to a .keras file")
    convert.set_defaults(run=_import)
    convert.add_argument("folder", metavar="FOLDER", help="a folder with config.json and safetensors, or a hub id")
    convert.add_argument("out", metavar="MODEL.keras", help="the file to write")
    convert.add_argument("--task", help="the head: base, sequence_classification, ... (default: that of config.json)")

    for command in (export, quantize, verify, inspect, convert):
        command.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _export(options):
    report = _exported(options, *_model_and_arguments(options))
    return report.to_json() if options.json else str(report), report.failures


def _import(options):
    from keras_attn.pretrained import from_pretrained

    if not options.out.endswith(".keras"):
        raise ValueError(f"`MODEL.keras` must end with .keras. Received: {options.out}")
    model = from_pretrained(options.folder, options.task)
    with replacement(options.out) as file:
        model.save(file)
    found = {"model": type(model).__name__, "task": model.checkpoint.task, "weights": model.count_params()}
    tokenizer = getattr(model, "tokenizer", None)
    if options.json:
        return json.dumps({**found, "tokenizer": tokenizer is not None, "path": options.out}), []
    reads = "" if tokenizer is not None or getattr(model, "features", None) else "; it reads ids, without a tokenizer"
    return f"{options.out}: {found['model']} for {found['task']}, {found['weights']:,} weights{reads}", []


def _quantize(options):
    from keras_attn.export import quantization_report

    model, arguments = _model_and_arguments(options)
    reports = {
        (format, precision): quantization_report(model, precision, format=format, **arguments)
        for format in options.format
        for precision in options.precision
        if precision != "float32"
    }
    report = _exported(options, model, arguments)
    if options.json:
        weights = [{"format": format, **found.to_dict()} for (format, _), found in reports.items()]
        return json.dumps({"artefacts": report.rows, "quantization": weights}, indent=2), report.failures
    parts = [f"{format}, {precision}:\n{found}" for (format, precision), found in reports.items()]
    kept = [
        f"{row['format']}, {row['precision']}: kept in float32: {', '.join(row['keep_float'])}"
        for row in report.rows
        if row["keep_float"]
    ]
    return "\n\n".join([*parts, *dict.fromkeys(kept), str(report)]), report.failures


def _model_and_arguments(options):
    model = _model(options.model)
    tasks = options.task or ["generate" if getattr(model, "generation_config", None) else "forward"]
    samples, references = _data(options.data, class_ids=tasks == ["classify"])
    return model, {
        "tasks": tasks,
        "tokenizer": False if options.ids else None,
        "samples": samples,
        "references": references,
        "labels": options.labels and read_lines(options.labels),
    }


def _model(path):
    if os.path.isdir(path):
        from keras_attn.pretrained import from_pretrained

        return from_pretrained(path)
    if not os.path.exists(path):
        raise ValueError(
            "`MODEL` must be a .keras file, or a folder with a Hugging Face checkpoint. "
            f"Received: {path}, which does not exist"
        )
    from keras_attn.export.loading import load_model

    return load_model(path)


def _exported(options, model, arguments):
    from keras_attn.export import export

    return export(
        model,
        options.out,
        options.format,
        precision=options.precision,
        keep_float=options.keep_float,
        max_accuracy_drop=options.max_accuracy_drop,
        shapes=options.shapes,
        **arguments,
    )


def _verify(options):
    from keras_attn.export import verify

    report = verify(options.folder)
    return report.to_json() if options.json else str(report), report.failures


def _inspect(options):
    from keras_attn.export import inspect

    found = inspect(options.path)
    return found.to_json() if options.json else str(found), []


def _data(path, class_ids):
    """Reads `(samples, references)`; either may be `None`. `class_ids`: ignore spaces around class numbers."""
    if path is None:
        return None, None
    if path.endswith(".npz"):
        arrays = _arrays(path)
        references = arrays.pop("references", None)
        return arrays, references
    lines = [line.split("\t") for line in read_lines(path)]
    columns = {len(line) for line in lines}
    if not columns <= {1, 2} or len(columns) != 1:
        raise ValueError(f"{path} must have one string per line, or a string, a tab and the expected output")
    samples, *references = (list(column) for column in zip(*lines, strict=True))
    if not references:
        return samples, None
    [answers] = references
    return samples, [_class(answer) for answer in answers] if class_ids else answers


def _arrays(path):
    """The arrays of an .npz file, by name."""
    import zipfile
    import zlib

    import numpy as np

    from keras_attn.export.report import reason

    with open(path, "rb") as file:
        try:
            with zipfile.ZipFile(file):
                pass
            with np.load(file, allow_pickle=False) as stored:
                return dict(stored)
        except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(
                f"{path} must be a whole .npz file of numbers and strings, as `numpy.savez` writes. "
                f"Received: {reason(error)}"
            ) from error


def _class(answer):
    number = answer.strip()
    return number if number.isdecimal() else answer


@contextlib.contextmanager
def _progress(stderr):
    """Shows progress if stderr is a terminal."""
    if not stderr.isatty():
        yield
        return
    try:
        from rich.console import Console
    except ImportError:
        yield
        return
    logger, handler = logging.getLogger("keras_attn.export"), logging.Handler()
    level, propagate = logger.level, logger.propagate
    with Console(file=stderr).status("reading the model") as status:
        handler.emit = lambda record: status.update(record.getMessage())
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False
        try:
            yield
        finally:
            logger.removeHandler(handler)
            logger.setLevel(level)
            logger.propagate = propagate


@contextlib.contextmanager
def _without_noise():
    """Within the scope, output to stderr, as from TensorFlow's converters, is discarded. Yields the real stderr."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        with open(kept, "w", encoding="utf-8", closefd=False) as stderr:
            yield stderr
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _names(value):
    return [name.strip() for name in value.split(",") if name.strip()]


def _sizes(value):
    sizes = {}
    for pair in _names(value):
        name, _, size = (part.strip() for part in pair.partition("="))
        if not name or not size.isdecimal() or name in sizes:
            raise argparse.ArgumentTypeError(
                f"each axis must have one size, such as batch=1,source_length=32. Received: {pair!r}"
            )
        sizes[name] = int(size)
    return sizes


def _complain(error, status):
    from keras_attn.export.report import reason

    print(f"{COMMAND}: {reason(error)}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
