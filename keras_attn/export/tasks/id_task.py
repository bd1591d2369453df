"""What tasks of one text a row have in common: ids in, or strings where there is a tokenizer."""

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


class IdTask(SizedTask):
    """Base of the tasks that read `source_ids`; a subclass says `name`, `call`, `agreement`, and what it refuses.

    Args:
        model: a model of this package, or one whose embeddings read `source_ids`.
        tokenizer: makes the artefact take strings, and return text for `tokens`; the model's own where `None`,
            and none where `False`.

    Raises:
        ValueError: the task or the tokenizer does not fit the model.
    """

    def __init__(self, model, tokenizer=None):
        self.model = model
        self.tokenizer = checked_tokenizer(model, tokenizer)
        self.check_model()
        self.inputs = {"source_ids": TensorSpec(("batch", "source_length"), "int32")}

    def check_model(self):
        """Raises a ValueError where the model cannot do this."""

    def refuse(self, wanted):
        """Raises the ValueError that says what kind of model the task wants."""
        raise ValueError(
            f"`tasks` may hold {self.name!r} only for a model {wanted}. Received: {type(self.model).__name__}"
        )

    def cases(self, samples=None):
        """The first sample alone, then all others; or random inputs of unequal lengths."""
        if self.tokenizer is None:
            rng, spec = np.random.default_rng(0), self.inputs["source_ids"]
            batches, wanted = zip(*SIZES, strict=True)
            if isinstance(spec.axes[1], str):
                wanted = random_inputs.lengths(wanted, lambda length: self.accepts(np.ones((2, length), "int32")))
            shapes = [
                spec.sized({"batch": batch, "source_length": length}).axes
                for batch, length in zip(batches, wanted, strict=True)
            ]
            return [{"source_ids": random_inputs.of_spec(rng, self.model, spec, shape)} for shape in shapes]
        texts = random_inputs.texts(self.tokenizer, self._accepts_texts) if samples is None else list(samples)
        if not texts or not all(isinstance(text, str) for text in texts):
            raise ValueError(f"`samples` must be one or more strings. Received: samples={samples!r}")
        return [{"source": np.array(batch, dtype=np.str_)} for batch in labelled_data.batches(texts)]

    def accepts(self, ids):
        """Whether the model takes ids, int32 `(batch, length)`, which may be too many for its positions."""
        return reference.runs(self.call, {"source_ids": ids})

    def _accepts_texts(self, texts):
        return self.accepts(self._ids(texts))

    def _ids(self, texts):
        from keras_attn.generation.prompts import prompt_ids

        return np.asarray(prompt_ids(self.model, self.tokenizer, texts), "int32")

    def reference(self, case):
        """What the Keras model returns."""
        if self.tokenizer is None:
            return reference.outputs(self.graph, case)
        from keras_attn.generation.prompts import texts_of

        source_ids = self._ids(case["source"].tolist())
        outputs = reference.outputs(self.graph, {"source_ids": source_ids})
        if "tokens" in outputs:
            texts = np.array(texts_of(outputs["tokens"], self.model, self.tokenizer, source_ids), dtype=np.str_)
            # An artefact's text holds no NUL.
            outputs["text"] = np.char.replace(texts, "\0", "")
        return outputs

    @functools.cached_property
    def graph(self):
        """`call` in one graph: step by step it would take minutes for a large model."""
        import keras

        from keras_attn.ops.compiled import compiled

        return compiled(self.call, keras.KerasTensor(self.inputs["source_ids"].shape, "int32"))


def checked_tokenizer(model, tokenizer):
    """The tokenizer of an artefact: the model's own where None, and none where False.

    Raises:
        ValueError: it is no tokenizer, another one than the model's, or does not fit its layers.
    """
    own = getattr(model, "tokenizer", None)
    found = own if tokenizer is None else tokenizer or None
    if not isinstance(found, Tokenizer | None):
        raise ValueError(f"`tokenizer` must be a Tokenizer, None or False. Received: {tokenizer!r}")
    if None not in (own, found) and found != own:
        raise ValueError(
            "`tokenizer` must be the one that the model carries, None, which takes it, or False, for ids. "
            f"Received: another {found!r}"
        )
    if found is None or found is own:
        return found
    if hasattr(model, "check_tokenizer"):
        model.check_tokenizer(found)
    size = random_inputs.vocabulary_size(model)
    if found.vocabulary_size > size:
        raise ValueError(
            f"`tokenizer` must have at most as many ids as the model embeds, {size}. "
            f"Received: a tokenizer with {found.vocabulary_size}"
        )
    check_padding(model, tokenizer=found.pad_id)
    return found
