"""Shared code of the examples: arguments, timing, and the export at the end."""

import argparse
import json
import time
from pathlib import Path

import rich

import keras_attn.plot
from keras_attn.export import ExportError, export

FORMATS = ("saved_model", "tflite", "onnx")


def positive(text):
    """An argument that is a positive integer."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"must be a positive integer. Received: {text}")
    return int(text)


def count(text):
    """An argument that is an integer of 0 or more."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be an integer, 0 or more. Received: {text}")
    return int(text)


def argument_parser(description, name):
    """The arguments of all examples."""
    parser = argparse.ArgumentParser(description=description.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("build") / name, help="folder for the model and its artefacts")
    parser.add_argument("--steps", type=positive, help="training steps (default: depends on the data)")
    parser.add_argument("--seed", type=count, default=0)
    parser.add_argument("--jit-compile", action=argparse.BooleanOptionalAction, default=False, help="train with XLA")
    parser.add_argument(
        "--formats", nargs="*", choices=FORMATS, default=FORMATS, help="formats to export to; may be empty"
    )
    return parser


class Example:
    """Collects the results and timings of an example.

    Args:
        args: The parsed arguments of `argument_parser`.
    """

    def __init__(self, args):
        try:
            args.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"--out must be a folder, which need not exist. Received: {args.out}: {error}") from None
        self.args = args
        self.report = {"arguments": {name: _plain(value) for name, value in vars(args).items()}, "seconds": {}}
        self._start = time.perf_counter()

    def lap(self, name):
        """Adds the seconds since the last call to those of `name`."""
        now, seconds = time.perf_counter(), self.report["seconds"]
        seconds[name], self._start = round(seconds.get(name, 0.0) + now - self._start, 1), now

    def draw(self, history, every, steps):
        """Plots the training curves as `curves.png`, and adds them to the report.

        Args:
            history: `keras.callbacks.History` of the training run.
            every: Number of steps between two validations.
            steps: Number of the last step.
        """
        at = [min(steps, every * (epoch + 1)) for epoch in history.epoch]
        names = [name for name in history.history if f"val_{name}" in history.history or name.startswith("val_")]
        figures = {name: [float(value) for value in history.history[name]] for name in names}
        self.report["curves"] = {"step": at, **figures}
        keras_attn.plot.curves(figures, self.args.out / "curves.png", x=at, xlabel="step")

    def export(self, model, formats, folder=None, **options):
        """Exports the model with the options of `export`, and adds the artefacts to the report.

        `folder` is that of the example by default. Returns whether they agree with the model.
        """
        try:
            exported = export(model, folder or self.args.out, formats, **options)
        except ExportError as error:
            rich.print(f"[bold red]{error}")
            return False
        finally:
            self.lap("export")
        print(exported)
        self.report.setdefault("artefacts", []).extend(exported.rows)
        return exported.ok

    def finish(self, model, tasks, samples, **options):
        """Saves the model, exports it with further options of `export`, and writes `report.json`.

        Returns the exit status.
        """
        model.save(self.args.out / "model.keras")
        options |= {"tasks": tasks, "samples": samples}
        ok = not self.args.formats or self.export(model, self.args.formats, **options)
        self.write_report()
        return 0 if ok else 1

    def write_report(self):
        """Writes `report.json`, in the place of the one of `export`, whose rows are included."""
        (self.args.out / "report.json").write_text(json.dumps(self.report, indent=2) + "\n")
        rich.print(f"{self.report['seconds']}, everything in {self.args.out}")


def _plain(value):
    return str(value) if isinstance(value, Path) else value
