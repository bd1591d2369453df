"""A single decoding step, for generation loops of the caller."""

import numpy as np

from keras_attn.export.tasks import prefill
from keras_attn.export.tasks.sized_task import SizedTask
from keras_attn.export.tasks.step_task import StepTask
from keras_attn.export.tensor_spec import TensorSpec


class Task(StepTask, SizedTask):
    """Exports one step: `token_ids` and `positions` int32 `(batch, 1)`, `past_*` and `memory_*` in; `logits` float32
    `(batch, V)` of the next token, and `present_*` out, the `past_*` of the next step. `prefill` returns the first.

    Args:
        model: See `prefill`.
        tokenizer: Gives the vocabulary size if the model has no tokenizer.

    Raises:
        ValueError: If the model cannot generate.
    """

    name = "decode"

    def __init__(self, model, tokenizer=None):
        self.model = model
        self.prefill = prefill.Task(model, tokenizer)
        self._follow()

    @property
    def axes(self):
        return self.prefill.axes

    def fix(self, shapes):
        """Fixes the size of axes of `prefill`, by name, and of the axes of the step that depend on them."""
        self.prefill.fix(shapes)
        del self.prefill.graph
        self._follow()

    def _follow(self):
        outputs = self.prefill.graph.get_concrete_function().structured_outputs
        self.inputs = {
            _as_past(name): TensorSpec(_axes(_as_past(name), tensor.shape.as_list()), tensor.dtype.name)
            for name, tensor in outputs.items()
        }

    def call(self, token_ids, positions, **state):
        """Tensors by name, see above."""
        from keras import ops

        from keras_attn.export.tasks.step_state import named, nested
        from keras_attn.generation.generative_model import vocabulary_size_of

        cache, memory = self.prefill.structure
        cache, memory = nested("past", cache, state), nested("memory", memory, state)
        logits, cache = self.model.decode(token_ids, positions, cache, memory)
        logits = ops.squeeze(logits, 1)[:, : vocabulary_size_of(self.model, self.prefill.known_tokenizer)]
        return {"logits": logits, **named("present", cache)}

    def cases(self, samples=None):
        """The first steps after each case of `prefill`, and a second step after the last."""
        cases = []
        for case in self.prefill.cases():
            cases.append({_as_past(name): value for name, value in self.prefill.reference(case).items()})
        last = cases[-1]
        outputs = self.reference(last)
        second = {**last, **{_as_past(name): value for name, value in outputs.items() if name != "logits"}}
        second["token_ids"] = np.argmax(outputs["logits"], axis=-1).astype("int32")[:, None]
        return [*cases, {**second, "positions": second["positions"] + 1}]


def _as_past(name):
    return name.replace("present", "past", 1)


def _axes(name, shape):
    """Only the batch axis is known to be the same in all tensors."""
    return tuple(("batch" if i == 0 else f"{name}_axis_{i}") if size is None else size for i, size in enumerate(shape))
