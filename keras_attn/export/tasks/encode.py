"""The encoder: from ids, strings or features to vectors."""

import numpy as np

from keras_attn.export.tasks.prompt_task import PromptTask


class Task(PromptTask):
    """Exports `model.encode`: `vectors` float32 `(batch, source_length, D)`, and their mean over the tokens of each
    row, `mean_vector` `(batch, D)`. Vectors at padding are zero.
    """

    name = "encode"

    def check_model(self):
        if not hasattr(self.model, "encode") or not hasattr(self.model, "padding_mask"):
            self.refuse("of this package with an encoder")

    def call(self, **inputs):
        from keras import ops

        from keras_attn.ops import masked_mean

        prompt, mask = self.prompt(inputs)
        if hasattr(self.model, "encode_with_mask"):
            vectors, real = self.model.encode_with_mask(prompt, mask)
        else:
            real = self.model.padding_mask(prompt, mask)
            vectors = self.model.encode(prompt, real)
        vectors = ops.cast(vectors, "float32")
        vectors = ops.where(ops.expand_dims(real, -1), vectors, ops.zeros_like(vectors))
        return {"vectors": vectors, "mean_vector": masked_mean(vectors, real)}

    @staticmethod
    def agreement(inputs, expected, actual):
        """Rows whose mean vectors have a cosine similarity above 0.999."""
        expected, actual = expected["mean_vector"], actual["mean_vector"]
        lengths = np.linalg.norm(expected, axis=-1) * np.linalg.norm(actual, axis=-1)
        cosine = np.sum(expected * actual, axis=-1) / np.maximum(lengths, 1e-30)
        return int(np.sum((cosine > 0.999) | (lengths == 0))), len(cosine)
