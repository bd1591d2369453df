"""A progress bar for `fit`."""

import time
from typing import Any

from keras_attn.extras import require
from keras_attn.training.callbacks.step_callback import StepCallback

# Seconds between two lines of a log.
_PAUSE = 60


class ProgressBar(StepCallback):
    """Shows steps, running loss and metrics, elapsed and remaining time in one line. Use it with `fit(verbose=0)`.

    Other text printed through `rich` appears above the bar, as do the results of a validation. If the output is
    neither a terminal nor a notebook, the bar is printed at the end only, and before it a line per minute.

    Args:
        description: Text before the bar.

    Raises:
        ImportError: If rich is not installed.

    Example:

    >>> from keras_attn.training import ProgressBar
    >>> callbacks = [ProgressBar("dates")]  # for model.fit(..., verbose=0, callbacks=callbacks)
    """

    def __init__(self, description: str = "training") -> None:
        super().__init__()
        self.description = description
        self._progress = require("rich.progress", "train")

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        columns = self._progress
        self._bar = columns.Progress(
            columns.TextColumn("{task.description}"),
            columns.BarColumn(),
            columns.MofNCompleteColumn(),
            columns.TextColumn("{task.fields[logs]}"),
            columns.TimeElapsedColumn(),
            columns.TextColumn("left"),
            columns.TimeRemainingColumn(),
            console=require("rich", "train").get_console(),
            refresh_per_second=4,
        )
        steps, epochs = self.params.get("steps"), self.params.get("epochs", 1)
        # `Trainer` ends within the last epoch where the steps are no multiple of those of an epoch.
        total = self.params.get("total_steps", steps and steps * epochs)
        self._task = self._bar.add_task(self.description, total=total, logs="")
        self._bar.start()
        self._printed = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        super().on_train_batch_end(batch, logs)
        text = _shown(logs or {})
        self._bar.update(self._task, completed=self.step, logs=text)
        shows_bar = self._bar.console.is_interactive or self._bar.console.is_jupyter
        if not shows_bar and time.monotonic() - self._printed >= _PAUSE:
            self._print(text)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        results = {name: value for name, value in (logs or {}).items() if name.startswith("val_")}
        if results:
            self._print(_shown(results))

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self._bar.stop()

    def _print(self, text):
        self._printed = time.monotonic()
        self._bar.console.print(f"{self.description} {self.step:,}  {text}", highlight=False, soft_wrap=True)


def _shown(logs):
    return "  ".join(f"{name} {_number(float(value))}" for name, value in logs.items())


def _number(value):
    """Formats values with four decimals, or three digits if below 0.001, or as integers if 1000 or above."""
    if value and not 1e-3 <= abs(value) < 1e3:
        return f"{value:.3g}" if abs(value) < 1 else f"{value:,.0f}"
    return f"{value:.4f}"
