"""Base class of the export tasks."""

from __future__ import annotations

import types
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_attn.export.tasks import random_inputs, reference
from keras_attn.export.tensor_spec import TensorSpec

if TYPE_CHECKING:
    import keras

    from keras_attn.text.tokenizer import Tokenizer
    from keras_attn.typing import Array, Tensor


class Task:
    """Base of the tasks, which define what an artefact computes. Register your own with `register_task`.

    A subclass must define `name`, `inputs` and `call`. Its constructor raises a ValueError if the model does not
    support the task.

    Args:
        model: A `keras.Model`.
        tokenizer: Argument of `export`: a `Tokenizer`, None for that of the model, or False for none.

    Attributes:
        name: Name of the task in `export(tasks=...)`.
        inputs: Dict of the `TensorSpec` of each input of `call`, by name.
        tokenizer: The `Tokenizer` that becomes part of the artefact, or None. With one, a `PromptTask` takes strings,
            `source`, instead of ids, `source_ids`, and also returns `text` if it returns `tokens`.
        counts_classes: Whether outputs are logits of classes on their last axis.
        formats: The formats that support the task, all if empty.
        rows: Name of the first axis of all outputs, or None if they need not share one.
        output_names: Names of the outputs, if known before the model is called.
        output_axes: Dict of the names of the axes of outputs, if known.

    Optional methods: `score(outputs, references)`, the number of correct outputs and of all, for `export(references=)`;
    `padded_references(references)`; and `companions()`, the text of files next to the artefact by file name.

    Example:

    >>> import keras
    >>> from keras_attn.export import registry
    >>> x = keras.Input((None, 3), name="x")
    >>> task = registry.load("tasks", "forward")(keras.Model(x, keras.layers.Dense(2)(x)))
    >>> task.inputs["x"].axes
    ('batch', 'x_length', 3)
    """

    name: str
    inputs: dict[str, TensorSpec]
    tokenizer: Tokenizer | None = None
    counts_classes: bool = False
    formats: tuple[str, ...] = ()
    rows: str | None = "batch"
    output_names: tuple[str, ...] = ()
    output_axes: Mapping[str, tuple[str, ...]] = types.MappingProxyType({})

    def __init__(self, model: keras.Model, tokenizer: Tokenizer | bool | None = None) -> None:
        self.model = model

    @property
    def reads_text(self) -> bool:
        """Whether the artefact takes strings."""
        return self.tokenizer is not None

    def call(self, **inputs: Tensor) -> dict[str, Tensor]:
        """Computes outputs by name from tensors by name, in `keras.ops`."""
        raise NotImplementedError

    def reference(self, case: dict[str, Array]) -> dict[str, Array]:
        """The outputs of the Keras model for a case, by name."""
        return reference.outputs(self.call, case)

    def cases(self, samples: Any = None) -> list[dict[str, Array]]:
        """Inputs for verification: a list of dicts of arrays, with unequal sizes of the free axes."""
        rng, cases = np.random.default_rng(0), []
        free = sorted({axis for spec in self.inputs.values() for axis in spec.axes if isinstance(axis, str)})
        for number in range(3):
            # The first is a single row, on which clients are timed.
            sizes = {axis: 2 + place + 2 * number for place, axis in enumerate(free)} | ({} if number else {"batch": 1})
            shapes = {name: spec.sized(sizes).axes for name, spec in self.inputs.items()}
            cases.append(
                {n: random_inputs.of_spec(rng, self.model, spec, shapes[n]) for n, spec in self.inputs.items()}
            )
        return cases

    @staticmethod
    def agreement(inputs: dict[str, Array], expected: dict[str, Array], actual: dict[str, Array]) -> tuple[int, int]:
        """The number of equal outputs, and of all; here rows with all numbers within 0.1 % or 0.001."""
        same = [
            np.all(np.isclose(actual[name], value, rtol=1e-3, atol=1e-3), axis=tuple(range(1, value.ndim)))
            if value.dtype.kind in "fiub"
            else np.all(actual[name] == value, axis=tuple(range(1, value.ndim)))
            for name, value in expected.items()
        ]
        return int(sum(map(np.sum, same))), sum(map(np.size, same))
