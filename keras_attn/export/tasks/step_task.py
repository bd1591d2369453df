"""What tasks of one step of a generation have in common."""

import numpy as np

from keras_attn.export.tasks.task import Task


class StepTask(Task):
    """Base of the tasks that return `logits` of next tokens, with the vocabulary last. They take ids."""

    counts_classes = True

    @staticmethod
    def agreement(inputs, expected, actual):
        """Places whose likeliest next token is the same."""
        same = np.argmax(expected["logits"], axis=-1) == np.argmax(actual["logits"], axis=-1)
        return int(np.sum(same)), same.size
