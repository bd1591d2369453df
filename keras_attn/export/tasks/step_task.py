"""What tasks of one step of a generation have in common."""

import numpy as np

from keras_attn.export.tasks import reference


class StepTask:
    """Base of the tasks that return `logits` of next tokens, with the vocabulary last. They take ids."""

    tokenizer = None
    counts_classes = True

    def reference(self, case):
        """The Keras model's own step."""
        return reference.outputs(self.call, case)

    @staticmethod
    def agreement(inputs, expected, actual):
        """Places whose likeliest next token is the same."""
        same = np.argmax(expected["logits"], axis=-1) == np.argmax(actual["logits"], axis=-1)
        return int(np.sum(same)), same.size
