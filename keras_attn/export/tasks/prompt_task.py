"""Base of the tasks that read one prompt or source per row: ids, strings with a tokenizer, or features."""

import functools

import numpy as np

from keras_attn.argument_checks import check_padding
from keras_attn.export import labelled_data
from keras_attn.export.tasks import random_inputs, reference
from keras_attn.export.tasks.sized_task import SizedTask
from keras_attn.export.tensor_spec import TensorSpec
from keras_attn.text.tokenizer import Tokenizer

# (batch, source length): unequal primes; clients are timed on the first, a single row.
SIZES = ((1, 5), (3, 7), (2, 11))


class PromptTask(SizedTask):
    """Base of the tasks whose inputs are a model's `prompt_specs`; a subclass sets `name`, `call` and `agreement`.

    Args:
        model: A model of this package, a `GenerativeModel`, or one whose embeddings read `source_ids`.
        tokenizer: Lets the artefact take strings instead of ids, and return text for `tokens`. None uses that of the
            model, False none.

    Raises:
        ValueError: If the task or the tokenizer does not match the model.
    """

    def __init__(self, model, tokenizer=None):
        self.model = model
        self.tokenizer = checked_tokenizer(model, tokenizer)
        self.check_model()
        from keras_attn.generation.generative_model import prompt_specs

        specs = prompt_specs(model).items()
        self.inputs = {name: TensorSpec(_axes(name, spec.shape), spec.dtype) for name, spec in specs}

    @property
    def reads_ids(self):
        """Whether the prompt of the model is token ids."""
        from keras_attn.generation.generative_model import reads_ids

        return reads_ids(self.model)

    @property
    def reads_text(self):
        """Whether the artefact takes strings."""
        return self.tokenizer is not None and self.reads_ids

    def check_model(self):
        """Raises a ValueError if the model does not support the task."""

    def refuse(self, wanted):
        """Raises a ValueError that names the kind of model that the task needs."""
        raise ValueError(
            f"`tasks` may hold {self.name!r} only for a model {wanted}. Received: {type(self.model).__name__}"
        )

    def checked_generative(self):
        """The model as a `GenerativeModel`; refused if it does not generate."""
        if getattr(self.model, "generation_config", None) is None:
            self.refuse("that generates and whose `generation_config` is set")
        from keras_attn.generation.generative_model import as_generative

        return as_generative(self.model)

    def prompt(self, inputs):
        """`(prompt, mask)` of inputs by name, as `prefill` and `encode` take them."""
        *names, last = self.inputs
        if not names or self.inputs[last].dtype != "bool":
            names, last = [*names, last], None
        prompt = inputs[names[0]] if len(names) == 1 else {name: inputs[name] for name in names}
        return prompt, inputs.get(last)

    def cases(self, samples=None):
        """The first sample alone, then all others; or random inputs of unequal lengths."""
        if not self.reads_text:
            rng, free = np.random.default_rng(0), [axis for axis in self.axes if axis not in ("batch", LENGTH)]
            batches, wanted = zip(*SIZES, strict=True)
            if LENGTH in self.axes:
                wanted = random_inputs.lengths(wanted, lambda length: self.accepts(self._ones(2, length)))
            return [
                self._random(rng, {"batch": batch, LENGTH: length, **dict.fromkeys(free, length + 2)})
                for batch, length in zip(batches, wanted, strict=True)
            ]
        texts = random_inputs.texts(self.tokenizer, self._accepts_texts) if samples is None else list(samples)
        if not texts or not all(isinstance(text, str) for text in texts):
            raise ValueError(f"`samples` must be one or more strings. Received: samples={samples!r}")
        return [{"source": np.array(batch, dtype=np.str_)} for batch in labelled_data.batches(texts)]

    def _random(self, rng, sizes):
        specs = {name: spec.sized(sizes) for name, spec in self.inputs.items()}
        return {name: random_inputs.of_spec(rng, self.model, spec, spec.axes) for name, spec in specs.items()}

    def _ones(self, batch, length):
        """The inputs of a batch of this size, all ones."""
        sizes = dict.fromkeys(self.axes, length) | {"batch": batch}
        return {name: np.ones(spec.sized(sizes).axes, spec.dtype) for name, spec in self.inputs.items()}

    def accepts(self, inputs):
        """Whether the model takes arrays by name; they may be too long for its positions."""
        return reference.runs(self.call, inputs)

    def _accepts_texts(self, texts):
        return self.accepts(self._of_texts(texts))

    def _of_texts(self, texts):
        from keras_attn.generation.prompts import prompt_ids

        [name] = self.inputs
        return {name: np.asarray(prompt_ids(self.model, self.tokenizer, texts), "int32")}

    def reference(self, case):
        """The outputs of the Keras model."""
        if self.tokenizer is None:
            return reference.outputs(self._run, case)
        from keras_attn.generation.prompts import texts_of

        inputs = self._of_texts(case["source"].tolist()) if self.reads_text else case
        outputs = reference.outputs(self._run, inputs)
        if "tokens" in outputs:
            after, _ = self.prompt(inputs)
            texts = np.array(texts_of(outputs["tokens"], self.model, self.tokenizer, after), dtype=np.str_)
            # Texts from artefacts contain no NUL.
            outputs["text"] = np.char.replace(texts, "\0", "")
        return outputs

    @functools.cached_property
    def graph(self):
        """`call` as a graph; run eagerly, it would take minutes for a large model."""
        import keras

        from keras_attn.ops.compiled import compiled

        specs = [keras.KerasTensor(spec.shape, spec.dtype) for spec in self.inputs.values()]
        return compiled(self._on_tensors, *specs)

    def _on_tensors(self, *tensors):
        return self.call(**dict(zip(self.inputs, tensors, strict=True)))

    def _run(self, **inputs):
        return self.graph(*(inputs[name] for name in self.inputs))


LENGTH = "source_length"


def _axes(name, shape):
    names = ("batch", LENGTH, *(f"{name}_axis_{number}" for number in range(2, len(shape))))
    return tuple(axis if size is None else size for axis, size in zip(names, shape, strict=True))


def checked_tokenizer(model, tokenizer):
    """The tokenizer of an artefact: that of the model for None, and none for False.

    Raises:
        ValueError: If it is not a tokenizer, differs from the model's, or does not match the layers.
    """
    own = getattr(model, "tokenizer", None)
    found = own if tokenizer is None else tokenizer or None
    if not isinstance(found, Tokenizer | None):
        raise ValueError(f"`tokenizer` must be a Tokenizer, None or False. Received: {tokenizer!r}")
    if None not in (own, found) and found != own:
        raise ValueError(
            f"`tokenizer` must be that of the model, None to use it, or False to take ids. Received: another {found!r}"
        )
    if found is None or found is own:
        return found
    size = random_inputs.vocabulary_size(model)
    if hasattr(model, "check_tokenizer"):
        model.check_tokenizer(found)
    elif found.vocabulary_size > size:
        raise ValueError(
            f"`tokenizer` must have at most as many ids as the model embeds, {size}. "
            f"Received: a tokenizer with {found.vocabulary_size}"
        )
    check_padding(model, tokenizer=found.pad_id)
    return found
