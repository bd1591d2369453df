"""What the tasks have in common."""

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
    """Base of the tasks: each says what an artefact computes. Register a task of your own with `register_task`.

    A subclass has `name`, `inputs` and `call`; the rest has defaults. Its constructor raises a ValueError if the model
    cannot do the task.

    Args:
        model: A `keras.Model`.
        tokenizer: What `export` was given: a `Tokenizer`, None for the model's own, or False for none.

    Attributes:
        name: What `export(tasks=...)` calls it.
        inputs: Dict from a name to the `TensorSpec` of an input of `call`.
        tokenizer: The `Tokenizer` that becomes part of the artefact, or None. With one the artefact takes strings,
            `source`, instead of ids, `source_ids`, and returns `text` beside `tokens`. `PromptTask` has that.
        counts_classes: Whether outputs are logits of classes on their last axis.
        formats: The runtimes that can run the task, all if empty.
        rows: Name of the first axis of all outputs, or None if they need not have one.
        output_names: Names of the outputs, if they are known before the model is called.
        output_axes: Name of an output -> names of its axes, of those that are known.

    A task may have `score(outputs, references)`, how many outputs are right and of how many, for `export(references=)`;
    `padded_references(references)`; and `companions()`, file name -> text beside the artefact.

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
        """Output name -> tensor, of tensors by name. Written in `keras.ops`."""
        raise NotImplementedError

    def reference(self, case: dict[str, Array]) -> dict[str, Array]:
        """Output name -> array: what the Keras model returns for a case."""
        return reference.outputs(self.call, case)

    def cases(self, samples: Any = None) -> list[dict[str, Array]]:
        """What the artefact is verified on: a list of dicts of arrays, of unequal sizes in every free axis."""
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
        """How many outputs say the same, and of how many: here rows of which every number is within 0.1 %, or 0.001."""
        same = [
            np.all(np.isclose(actual[name], value, rtol=1e-3, atol=1e-3), axis=tuple(range(1, value.ndim)))
            if value.dtype.kind in "fiub"
            else np.all(actual[name] == value, axis=tuple(range(1, value.ndim)))
            for name, value in expected.items()
        ]
        return int(sum(map(np.sum, same))), sum(map(np.size, same))
