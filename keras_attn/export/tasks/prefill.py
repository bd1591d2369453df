"""The prefill of a prompt, for generation loops of the caller."""

import numpy as np

from keras_attn.export.tasks.prompt_task import PromptTask


class Task(PromptTask):
    """Exports the prefill of generation: ids or features in, and all inputs of `decode` out.

    * `token_ids` int32 `(batch, 1)` and `positions` int32 `(batch, 1)` or `(1, 1)`, for the first call of `decode`.
    * `present_*`: The cache, which `decode` takes as `past_*`, for `generation_config.max_length` new tokens.
    * `memory_*`: Tensors that are the same in every step.

    The caller tokenizes and chooses tokens.

    Args:
        model: See `PromptTask`.
        tokenizer: Gives the start token if the model has no tokenizer.
    """

    name = "prefill"

    def __init__(self, model, tokenizer=None):
        super().__init__(model, tokenizer)
        # Only for its special ids; the artefact takes ids.
        self.known_tokenizer, self.tokenizer = self.tokenizer, None

    def check_model(self):
        self.generative = self.checked_generative()

    def accepts(self, inputs):
        try:
            self.generative.check_prompt(self.prompt(inputs)[0], self.model.generation_config.max_length)
        except ValueError:
            return False
        return True

    def call(self, **inputs):
        """Tensors by name, see above."""
        import keras

        from keras_attn.export.tasks.step_state import named
        from keras_attn.generation.prompts import settings_of

        config = settings_of(self.model, tokenizer=self.known_tokenizer)
        prompt, mask = self.prompt(inputs)
        cache, memory = self.generative.prefill(prompt, mask, length=config.max_length)
        # The nest that `decode` builds from the tensors that it gets by name.
        self.structure = keras.tree.map_structure(lambda x: keras.KerasTensor(x.shape, x.dtype), (cache, memory))
        token, positions = self.generative.first_decoder_inputs(prompt, mask, config.start_id)
        return {"token_ids": token, "positions": positions, **named("present", cache), **named("memory", memory)}

    @staticmethod
    def agreement(inputs, expected, actual):
        """Rows that start with the same token."""
        same = np.all(expected["token_ids"] == actual["token_ids"], axis=-1)
        return int(np.sum(same)), same.size
