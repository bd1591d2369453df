"""What comes before the first step of a generation that its caller drives."""

import numpy as np

from keras_attn.export.tasks.prompt_task import PromptTask


class Task(PromptTask):
    """Exports the start of a generation: ids or features in, and everything that `decode` takes out.

    * `token_ids` int32 `(batch, 1)` and `positions` int32 `(batch, 1)` or `(1, 1)`, for the first call of `decode`.
    * `present_*`: the cache, which `decode` takes as `past_*`. It holds `generation_config.max_length` new tokens.
    * `memory_*`: what stays the same from step to step.

    Choosing tokens is the caller's, and so is the tokenizer.

    Args:
        model: See `PromptTask`.
        tokenizer: Says the start token, if the model carries no tokenizer.
    """

    name = "prefill"

    def __init__(self, model, tokenizer=None):
        super().__init__(model, tokenizer)
        # It says which ids there are; the artefact takes ids.
        self.known_tokenizer, self.tokenizer = self.tokenizer, None

    def check_model(self):
        if getattr(self.model, "generation_config", None) is None:
            self.refuse("whose `generation_config` is set")
        from keras_attn.generation.generative_model import as_generative

        self.generative = as_generative(self.model)

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
        # What `decode` makes of the tensors that it gets by name.
        self.structure = keras.tree.map_structure(lambda x: keras.KerasTensor(x.shape, x.dtype), (cache, memory))
        token, positions = self.generative.first_decoder_inputs(prompt, mask, config.start_id)
        return {"token_ids": token, "positions": positions, **named("present", cache), **named("memory", memory)}

    @staticmethod
    def agreement(inputs, expected, actual):
        """Rows that start with the same token."""
        same = np.all(expected["token_ids"] == actual["token_ids"], axis=-1)
        return int(np.sum(same)), same.size
