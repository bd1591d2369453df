"""Base of the tasks that export a decoding step."""

import numpy as np

from keras_attn.export.tasks.task import Task


class StepTask(Task):
    """Base of the tasks that return `logits` of next tokens, with the vocabulary last. They take ids."""

    counts_classes = True

    @staticmethod
    def agreement(inputs, expected, actual):
        """Positions with the same most likely next token."""
        same = np.argmax(expected["logits"], axis=-1) == np.argmax(actual["logits"], axis=-1)
        return int(np.sum(same)), same.size
