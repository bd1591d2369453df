"""What the examples have in common: their arguments, the seconds of their parts, and the export at the end."""

import argparse
import json
import time
from pathlib import Path

import rich

import keras_attn.plot
from keras_attn.export import ExportError, export

FORMATS = ("saved_model", "tflite", "onnx")


def argument_parser(description, name):
    """The arguments that all examples take."""
    parser = argparse.ArgumentParser(description=description.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("build") / name, help="folder for the model and its artefacts")
    parser.add_argument("--steps", type=int, help="training steps; as many as the data need where not given")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jit-compile", action=argparse.BooleanOptionalAction, default=False, help="train under XLA")
    parser.add_argument(
        "--formats", nargs="*", choices=FORMATS, default=FORMATS, help="artefacts to export; none at all"
    )
    return parser


class Example:
    """The course of an example: what it found, and how long its parts took.

    Args:
        args: arguments of `argument_parser`.
    """

    def __init__(self, args):
        args.out.mkdir(parents=True, exist_ok=True)
        self.args = args
        self.report = {"arguments": {name: _plain(value) for name, value in vars(args).items()}, "seconds": {}}
        self._start = time.perf_counter()

    def lap(self, name):
        """Notes the seconds since the last one."""
        now = time.perf_counter()
        self.report["seconds"][name], self._start = round(now - self._start, 1), now

    def draw(self, history, every, steps):
        """Draws the figures of a training that were validated every so many steps, as `curves.png`; reports them.

        Args:
            history: `keras.callbacks.History` of the training.
            every: steps between two validations.
            steps: number of the last step.
        """
        at = [min(steps, every * (epoch + 1)) for epoch in history.epoch]
        names = [name for name in history.history if f"val_{name}" in history.history or name.startswith("val_")]
        figures = {name: [float(value) for value in history.history[name]] for name in names}
        self.report["curves"] = {"step": at, **figures}
        keras_attn.plot.curves(figures, self.args.out / "curves.png", x=at, xlabel="step")

    def finish(self, model, tasks, samples, labels=None):
        """Saves the model, exports it, and writes `report.json`; returns the exit status."""
        model.save(self.args.out / "model.keras")
        ok = True
        if self.args.formats:
            try:
                exported = export(model, self.args.out, self.args.formats, tasks=tasks, samples=samples, labels=labels)
            except ExportError as error:
                rich.print(f"[bold red]{error}")
                ok = False
            else:
                print(exported)
                self.report["artefacts"] = exported.rows
                ok = exported.ok
            self.lap("export")
        # `export` writes a report of its own under this name, whose rows are in here.
        (self.args.out / "report.json").write_text(json.dumps(self.report, indent=2) + "\n")
        rich.print(f"{self.report['seconds']}, everything in {self.args.out}")
        return 0 if ok else 1


def _plain(value):
    return str(value) if isinstance(value, Path) else value
