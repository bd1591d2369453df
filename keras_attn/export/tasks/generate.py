"""Generation in the graph: from ids, strings or features to tokens, scores and optionally text."""

import numpy as np

from keras_attn.export.tasks.prompt_task import PromptTask


class Task(PromptTask):
    """Exports generation with the model's `generation_config`."""

    name = "generate"

    def check_model(self):
        self.generative = self.checked_generative()
        self.config.validate(self.vocabulary_size)
        self.config.chosen_strategy.validate(self.generative, self.config)
        self.check_length()

    def check_length(self):
        """Raises a ValueError if the model has too few positions for `max_length` tokens after the shortest input."""
        spec = next(iter(self.generative.prompt_specs.values()))
        shape = [1, *(size or 1 for size in spec.shape[1:])]
        self._check_prompt(np.full(shape, 0 if self.generative.pad_id else 1, spec.dtype))

    def accepts(self, inputs):
        try:
            self._check_prompt(self.prompt(inputs)[0])
        except ValueError:
            return False
        return True

    def _check_prompt(self, prompt):
        self.generative.check_prompt(prompt, self.config.max_length + self.config.chosen_strategy.lookahead)

    def padded_references(self, references):
        """References of tokens, int `(N, L)`, padded to the length of the outputs."""
        width = max(references.shape[1], self.config.max_length)
        pad = ((0, 0), (0, width - references.shape[1]))
        return np.pad(references, pad, constant_values=self.config.pad_id)

    @property
    def config(self):
        """The `GenerationConfig` of the artefact."""
        from keras_attn.generation.prompts import settings_of

        return settings_of(self.model, tokenizer=self.tokenizer)

    @property
    def vocabulary_size(self):
        """The number of tokens that may be generated."""
        from keras_attn.generation.generative_model import vocabulary_size_of

        return vocabulary_size_of(self.model, self.tokenizer)

    def call(self, **inputs):
        """`tokens` int32 and `scores` float32, both `(batch, target_length)`, or `(batch, n, target_length)`."""
        from keras_attn.generation import Decoding, run

        decoding = Decoding(self.model, self.config, vocabulary_size=self.vocabulary_size)
        return run(decoding, *self.prompt(inputs))

    @staticmethod
    def agreement(inputs, expected, actual):
        """Sequences with the same tokens and the same text."""
        same = np.all(expected["tokens"] == actual["tokens"], axis=-1)
        if "text" in expected:
            same &= expected["text"] == actual["text"]
        return int(np.sum(same)), same.size

    @staticmethod
    def score(outputs, references):
        """The number of fully correct outputs, and of all; of several sequences per row, the first one counts."""
        made = outputs["text" if references.dtype.kind == "U" else "tokens"]
        if made.ndim > references.ndim:
            made = made[:, 0]
        if references.dtype.kind == "U":
            return int(np.sum(made == references)), len(references)
        width = max(made.shape[1], references.shape[1])
        made, references = (np.pad(ids, ((0, 0), (0, width - ids.shape[1]))) for ids in (made, references))
        return int(np.sum(np.all(made == references, axis=1))), len(references)
