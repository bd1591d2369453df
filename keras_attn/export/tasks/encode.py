"""The encoder: from ids, strings or features to vectors."""

import keras
import numpy as np

from keras_attn import compat
from keras_attn.export.tasks.prompt_task import PromptTask
from keras_attn.layers import EmbeddingHead


class Task(PromptTask):
    """Exports `model.encode`: `vectors` float32 `(batch, source_length, D)`, and their mean over the tokens of each
    row, `mean_vector` `(batch, D)`. Vectors at padding are zero. For a model with an `EmbeddingHead`, such as a folder
    of sentence-transformers, also the output of the model, `sentence_embedding` `(batch, D)`.
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
        outputs = {"vectors": vectors, "mean_vector": masked_mean(vectors, real)}
        if (head := embedding_head(self.model)) is not None:
            outputs["sentence_embedding"] = ops.cast(head(vectors, inputs_mask=real), "float32")
        return outputs

    @staticmethod
    def agreement(inputs, expected, actual):
        """Rows whose embeddings, or mean vectors, have a cosine similarity above 0.999."""
        name = "sentence_embedding" if "sentence_embedding" in expected else "mean_vector"
        expected, actual = expected[name], actual[name]
        lengths = np.linalg.norm(expected, axis=-1) * np.linalg.norm(actual, axis=-1)
        cosine = np.sum(expected * actual, axis=-1) / np.maximum(lengths, 1e-30)
        return int(np.sum((cosine > 0.999) | (lengths == 0))), len(cosine)


def embedding_head(model):
    """The `EmbeddingHead` whose output is that of a model, or None."""
    output = getattr(model, "output", None)
    layer = compat.operation_of(output) if isinstance(output, keras.KerasTensor) else None
    return layer if isinstance(layer, EmbeddingHead) else None
