"""The command `keras-attn`: exports a saved model, and verifies what was exported."""

import argparse
import contextlib
import os
import sys
import zipfile
from pathlib import Path

FAILED, BAD_INPUT = 1, 2


def main(arguments=None):
    """Runs the command.

    Args:
        arguments: list of strings, `sys.argv[1:]` where `None`.

    Returns:
        The exit status: 0, 1 where an artefact does not agree with its model, 2 where the input is at fault.
    """
    options = _parser().parse_args(arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from keras_attn.export import ExportError

    try:
        with _without_noise():
            report = options.run(options)
    except ExportError as error:
        return _complain(error, FAILED)
    except (ValueError, ImportError, OSError) as error:
        return _complain(error, BAD_INPUT)
    print(report.to_json() if options.json else report)
    for message in report.failures:
        _complain(message, FAILED)
    return 0 if report.ok else FAILED


def _parser():
    parser = argparse.ArgumentParser(prog="keras-attn", description="Export Keras models, and verify exports.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    export = commands.add_parser("export", help="write verified artefacts of a .keras file")
    export.set_defaults(run=_export)
    export.add_argument("model", metavar="MODEL.keras", help="a saved Keras model")
    export.add_argument("--format", required=True, type=_names, help="saved_model, tflite, onnx; commas between")
    export.add_argument("--out", required=True, metavar="DIR", help="the folder to write to")
    export.add_argument(
        "--task", type=_names, help="generate, forward; commas between (default: generate if the model can)"
    )
    export.add_argument(
        "--precision", type=_names, default=["float32"], help="float32, float16, int8, int8_full, int4; commas between"
    )
    export.add_argument("--samples", metavar="FILE", help="strings to verify generation on, one a line")

    verify = commands.add_parser("verify", help="check the files of an export and run them again")
    verify.set_defaults(run=_verify)
    verify.add_argument("folder", metavar="DIR", help="a folder that `keras-attn export` wrote")

    for command in (export, verify):
        command.add_argument("--json", action="store_true", help="print the report as JSON")
    return parser


def _export(options):
    from keras_attn.export import export

    samples = None
    if options.samples is not None:
        samples = Path(options.samples).read_text(encoding="utf-8").splitlines()
    model = _load(options.model)
    tasks = options.task or ["generate" if getattr(model, "generation_config", None) else "forward"]
    return export(model, options.out, options.format, tasks=tasks, samples=samples, precision=options.precision)


def _verify(options):
    from keras_attn.export import verify

    return verify(options.folder)


def _load(path):
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is not there, or is not a .keras file")
    import keras

    import keras_attn.models  # noqa: F401  (registers the classes that the file may name)

    try:
        return keras.saving.load_model(path, compile=False)
    except Exception as error:
        raise ValueError(f"{path} is not a readable Keras model: {_first_line(error)}") from error


@contextlib.contextmanager
def _without_noise():
    """Within the scope nothing reaches stderr, where TensorFlow's converters report their progress."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _names(value):
    return [name.strip() for name in value.split(",") if name.strip()]


def _first_line(error):
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _complain(error, status):
    print(f"keras-attn: {_first_line(error)}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
