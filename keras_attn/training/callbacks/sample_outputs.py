"""Prints generated samples during training."""

from collections.abc import Sequence
from typing import Any

from keras_attn.columns import check_no_table
from keras_attn.extras import require
from keras_attn.training.callbacks.step_callback import StepCallback


class SampleOutputs(StepCallback):
    """Every `every` steps, generates from the next `count` inputs and prints the outputs with the expected ones.

    Args:
        inputs: List of strings.
        references: List of strings, the expected outputs.
        every: Number of steps between two prints.
        count: Number of inputs per print.

    Raises:
        ImportError: If rich is not installed.
        ValueError: If `inputs` is empty, or `references` is not as long.

    Example:

    >>> from keras_attn.training import SampleOutputs
    >>> callback = SampleOutputs(["en 3/5/19"], ["2019-03-05"], every=500)
    """

    def __init__(self, inputs: Sequence[str], references: Sequence[str], every: int, count: int = 4) -> None:
        check_no_table(inputs=inputs, references=references)
        if len(inputs) != len(references) or not len(inputs):
            raise ValueError(
                "`inputs` and `references` must have the same length, and not be empty. "
                f"Received: {len(inputs)} inputs and {len(references)} references"
            )
        super().__init__()
        self.inputs, self.references = list(inputs), list(references)
        self.every, self.count = every, min(count, len(inputs))
        self._console = require("rich", "train").get_console()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        super().on_train_batch_end(batch, logs)
        if self.step % self.every:
            return
        first = (self.step // self.every - 1) * self.count
        chosen = [(first + i) % len(self.inputs) for i in range(self.count)]
        outputs = self.model.generate([self.inputs[i] for i in chosen])
        for i, output in zip(chosen, outputs, strict=True):
            mark = "=" if output == self.references[i] else f"not {self.references[i]}"
            self._console.print(
                f"{self.step:6d}  {self.inputs[i]}  ->  {output}  {mark}", markup=False, highlight=False
            )
