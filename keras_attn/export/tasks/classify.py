"""Classification: from ids, a string or features to the probability of each class."""

import numpy as np

from keras_attn.export.tasks import forward
from keras_attn.export.tasks.encode import embedding_head
from keras_attn.export.tasks.prompt_task import PromptTask


class Task(PromptTask):
    """Exports a model that returns one row of logits per input: `probabilities` float32 `(batch, classes)`, and the
    most likely class, `label` int32 `(batch,)`.
    """

    name = "classify"
    counts_classes = True

    def check_model(self):
        self.forward = forward.Task(self.model)
        specs, outputs = list(self.forward.inputs.values()), self.model.outputs
        is_ids = len(specs) == 1 and len(specs[0].axes) == 2 and specs[0].dtype.startswith("int")
        if (self.reads_ids and not is_ids) or len(outputs) != 1 or len(outputs[0].shape) != 2:
            self.refuse("with one input of ids (batch, length) and one output of logits (batch, classes)")
        if embedding_head(self.model) is not None:
            self.refuse("with logits of classes; this one returns embeddings, which the task 'encode' exports")

    def call(self, **inputs):
        from keras import ops

        from keras_attn.generation.strategy import index_of_largest

        if self.reads_ids:
            inputs = dict(zip(self.forward.inputs, inputs.values(), strict=True))
        [logits] = self.forward.call(**inputs).values()
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
        """The number of rows with the right label, and of all rows."""
        return int(np.sum(outputs["label"] == references)), len(references)
