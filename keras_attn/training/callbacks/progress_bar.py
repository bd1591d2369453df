"""A progress bar for `fit`."""

from typing import Any

from keras_attn.extras import require
from keras_attn.training.callbacks.step_callback import StepCallback


class ProgressBar(StepCallback):
    """Shows steps, running loss and metrics, elapsed and remaining time in one line. Use it with `fit(verbose=0)`.

    Other text printed through `rich` appears above the bar. If the output is not a terminal, only the final state is
    printed.

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
        self._task = self._bar.add_task(self.description, total=steps and steps * epochs, logs="")
        self._bar.start()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        super().on_train_batch_end(batch, logs)
        text = "  ".join(f"{name} {_shown(float(value))}" for name, value in (logs or {}).items())
        self._bar.update(self._task, completed=self.step, logs=text)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self._bar.stop()


def _shown(value):
    """Formats values with four decimals, or three digits if below 0.001, or as integers if 1000 or above."""
    if value and not 1e-3 <= abs(value) < 1e3:
        return f"{value:.3g}" if abs(value) < 1 else f"{value:,.0f}"
    return f"{value:.4f}"
