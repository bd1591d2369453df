"""Figures of what the model generates, among those of training."""

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
    """Generates from given inputs, and puts figures of the texts into the logs, as `val_bleu` and the like.

    At the end of every epoch, or of every so many steps, and in the logs of the epochs behind. Callbacks that watch
    the figures, such as `EarlyStopping` and `ModelCheckpoint`, come behind this one in the list.

    Args:
        inputs: list of strings, what `model.generate` takes.
        references: as many strings, or lists of strings.
        metrics: `TextMetric`s, or others with a `name` that are called with outputs and references.
        every: steps between two evaluations; None for the end of each epoch.
        batch_size: inputs that are generated from at once. Those of like length go together.
        prefix: what stands before the names in the logs.
        **kwargs: further arguments of `model.generate`: `config`, `max_length`, `jit_compile`.

    Raises:
        ValueError: an argument is not as described.

    Example:

    >>> from keras_attn.training import Bleu, ExactMatch, TextEvaluation
    >>> evaluation = TextEvaluation(["en 3/5/19"], ["2019-03-05"], [Bleu(), ExactMatch()], max_length=12)
    >>> callbacks = [evaluation]  # for fit(..., callbacks=callbacks)
    """

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
                "`inputs` and `references` must be as many, and not empty. "
                f"Received: {len(inputs)} inputs and {len(references)} references"
            )
        names = [metric.name for metric in metrics]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"`metrics` must have some, of different names. Received: {names}")
        check_positive(batch_size=batch_size, every=1 if every is None else every)
        super().__init__()
        self.inputs, self.references, self.metrics = list(inputs), list(references), list(metrics)
        self.every, self.batch_size, self.prefix = every, batch_size, prefix
        self.outputs, self.figures, self.is_due = [], {}, False
        self._options = kwargs

    def evaluate(self) -> dict[str, float]:
        """Dict of the figures of the model as it is; `outputs` then are the texts, in the order of the inputs."""
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
        # One that SIGTERM has ended is made up for while the weights are those of its step.
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
