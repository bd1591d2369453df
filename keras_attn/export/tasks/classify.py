"""Classification of a text: ids or a string in, the probability of each class out."""

import numpy as np

from keras_attn.export.tasks import forward
from keras_attn.export.tasks.id_task import IdTask


class Task(IdTask):
    """Exports a model that makes a row of logits of ids: `probabilities` float32 `(batch, classes)`, and the likeliest
    class, `label` int32 `(batch,)`.
    """

    name = "classify"
    counts_classes = True

    def check_model(self):
        self.forward = forward.Task(self.model)
        ids, outputs = list(self.forward.inputs.values()), self.model.outputs
        reads_ids = len(ids) == 1 and len(ids[0].axes) == 2 and ids[0].dtype.startswith("int")
        if not reads_ids or len(outputs) != 1 or len(outputs[0].shape) != 2:
            self.refuse("with one input of ids (batch, length) and one output of logits (batch, classes)")

    def call(self, source_ids):
        from keras import ops

        from keras_attn.generation.strategy import index_of_largest

        [name] = self.forward.inputs
        [logits] = self.forward.call(**{name: source_ids}).values()
        logits = ops.cast(logits, "float32")
        label = ops.cast(index_of_largest(logits), "int32")
        return {"probabilities": ops.softmax(logits, axis=-1), "label": label}

    @staticmethod
    def agreement(inputs, expected, actual):
        """Rows with the same label."""
        same = expected["label"] == actual["label"]
        return int(np.sum(same)), same.size

    @staticmethod
    def score(outputs, references):
        """Rows with the right label, and their number."""
        return int(np.sum(outputs["label"] == references)), len(references)
