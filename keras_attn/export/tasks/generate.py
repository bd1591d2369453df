"""Generation in the graph: source ids or strings in, tokens, scores and perhaps text out."""

import functools

import numpy as np

from keras_attn.export import random_inputs, reference
from keras_attn.export.tensor_spec import TensorSpec

# (batch, source length): unequal primes; clients are timed on the first, a single row.
SIZES = ((1, 5), (3, 7), (2, 11))
BATCH_LIMIT = 32


class Task:
    """Exports generation under the model's own `generation_config`.

    Args:
        model: a model with `generation_config` set.
        tokenizer: makes the artefact take and return strings; the model's own where `None`.

    Raises:
        ValueError: the model cannot generate.
    """

    name = "generate"

    def __init__(self, model, tokenizer=None):
        self.model = model
        self.config = getattr(model, "generation_config", None)
        if self.config is None:
            raise ValueError(
                "`tasks` may hold 'generate' only for a model whose `generation_config` is set. "
                f"Received: {type(model).__name__} without one"
            )
        self.tokenizer = getattr(model, "tokenizer", None) if tokenizer is None else tokenizer
        if self.tokenizer is not None and self.tokenizer.vocabulary_size != model.output.shape[-1]:
            raise ValueError(
                f"`tokenizer` must have as many ids as the model has logits, {model.output.shape[-1]}. "
                f"Received: a tokenizer with {self.tokenizer.vocabulary_size}"
            )
        self.inputs = {"source_ids": TensorSpec(("batch", "source_length"), "int32")}

    def call(self, source_ids):
        """`tokens` int32 and `scores` float32, both `(batch, target_length)`."""
        from keras_attn.generation import Decoding, run

        return run(Decoding(self.model, self.config), source_ids)

    def cases(self, samples=None):
        """The first sample alone, then all others; or random inputs of unequal lengths."""
        if self.tokenizer is None:
            rng, limit = np.random.default_rng(0), random_inputs.vocabulary_size(self.model)
            return [{"source_ids": random_inputs.padded(rng, size, "int32", limit)} for size in SIZES]
        texts = random_inputs.texts(self.tokenizer) if samples is None else list(samples)
        if not texts or not all(isinstance(text, str) for text in texts):
            raise ValueError(f"`samples` must be one or more strings. Received: samples={samples!r}")
        rest = texts[1:] or texts[:1] * 2
        batches = [texts[:1], *(rest[i : i + BATCH_LIMIT] for i in range(0, len(rest), BATCH_LIMIT))]
        return [{"source": np.array(batch, dtype=np.str_)} for batch in batches]

    def reference(self, case):
        """What generation in Keras returns."""
        if self.tokenizer is None:
            return reference.outputs(self.graph, case)
        source_ids = np.asarray(self.tokenizer.encode(case["source"].tolist()), "int32")
        outputs = reference.outputs(self.graph, {"source_ids": source_ids})
        return {**outputs, "text": np.array(self.tokenizer.decode(outputs["tokens"]), dtype=np.str_)}

    @functools.cached_property
    def graph(self):
        """`call` as `model.generate` runs it: step by step it would take minutes for a large model."""
        import keras

        from keras_attn.ops.compiled import compiled

        return compiled(self.call, keras.KerasTensor((None, None), "int32"))

    @staticmethod
    def agreement(inputs, expected, actual):
        """Sequences with the same tokens and the same text."""
        same = np.all(expected["tokens"] == actual["tokens"], axis=-1)
        if "text" in expected:
            same &= expected["text"] == actual["text"]
        return int(np.sum(same)), same.size
