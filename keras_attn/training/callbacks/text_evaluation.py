"""Text metrics of generated outputs in the training logs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from keras_attn.argument_checks import check_positive
from keras_attn.columns import check_no_table
from keras_attn.training.callbacks.sigterm import TerminationError, check_interrupted
from keras_attn.training.callbacks.step_callback import StepCallback

if TYPE_CHECKING:
    from keras_attn.training.text_metrics.text_metric import TextMetric


class TextEvaluation(StepCallback):
    """Generates from given inputs and adds metrics of the texts to the logs, such as `val_bleu`.

    Runs at the end of every epoch, or every `every` steps; the logs of later epochs repeat the last values. Put
    callbacks that monitor these metrics, such as `EarlyStopping` and `ModelCheckpoint`, after this one in the list.

    Args:
        inputs: List of strings, the inputs of `model.generate`.
        references: One string, or list of strings, per input.
        metrics: `TextMetric`s, or other callables `(outputs, references)` with a `name`.
        every: Number of steps between two evaluations. If None, evaluates at the end of each epoch.
        batch_size: Number of inputs per call of `model.generate`. Inputs are sorted by length.
        prefix: Prefix of the names in the logs.
        **kwargs: More arguments of `model.generate`: `config`, `max_length`, `jit_compile`.

    Raises:
        ValueError: If an argument is not as described.

    Example:

    >>> from keras_attn.training import Bleu, ExactMatch, TextEvaluation
    >>> evaluation = TextEvaluation(["en 3/5/19"], ["2019-03-05"], [Bleu(), ExactMatch()], max_length=12)
    >>> callbacks = [evaluation]  # for fit(..., callbacks=callbacks)
    """

    checkpointed = ("figures", "is_due")

    def __init__(
        self,
        inputs: Sequence[str],
        references: Sequence[str] | Sequence[Sequence[str]],
        metrics: Sequence[TextMetric | Callable[..., float]],
        every: int | None = None,
        batch_size: int = 64,
        prefix: str = "val_",
        **kwargs: Any,
    ) -> None:
        check_no_table(inputs=inputs, references=references)
        if len(inputs) != len(references) or not len(inputs):
            raise ValueError(
                "`inputs` and `references` must have the same length, and not be empty. "
                f"Received: {len(inputs)} inputs and {len(references)} references"
            )
        names = [metric.name for metric in metrics]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"`metrics` must not be empty, and have different names. Received: {names}")
        check_positive(batch_size=batch_size, every=1 if every is None else every)
        super().__init__()
        self.inputs, self.references, self.metrics = list(inputs), list(references), list(metrics)
        self.every, self.batch_size, self.prefix = every, batch_size, prefix
        self.outputs, self.figures, self.is_due = [], {}, False
        self._options = kwargs

    def evaluate(self) -> dict[str, float]:
        """Evaluates the current model and returns a dict of metrics. Sets `outputs` to the texts, in input order."""
        order = sorted(range(len(self.inputs)), key=lambda i: len(self.inputs[i]))
        outputs = [None] * len(order)
        for start in range(0, len(order), self.batch_size):
            check_interrupted()
            chosen = order[start : start + self.batch_size]
            texts = self.model.generate([self.inputs[i] for i in chosen], **self._options)
            for i, text in zip(chosen, texts, strict=True):
                outputs[i] = text
        self.outputs = outputs
        self.figures = {self.prefix + metric.name: metric(outputs, self.references) for metric in self.metrics}
        self.is_due = False
        return self.figures

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        # Repeat an evaluation that SIGTERM interrupted while the weights are still those of its step.
        if self.is_due:
            self.evaluate()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        super().on_train_batch_end(batch, logs)
        if self.every is not None and self.step % self.every == 0:
            self.is_due = True
            with contextlib.suppress(TerminationError):
                self._put(self.evaluate(), logs)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._put(self.evaluate() if self.every is None or self.is_due else self.figures, logs)

    @staticmethod
    def _put(figures, logs):
        if logs is not None:
            logs.update(figures)
