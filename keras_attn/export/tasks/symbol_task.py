"""A task of texts, between the text operators at its two ends."""

from keras_attn.export.tensor_spec import TensorSpec


class SymbolTask:
    """What a task with a tokenizer computes of the symbols of its texts, see `keras_attn.text.Tokenizer`.

    In: `source_symbols` int32 `(batch, symbols)`. Out: as the task, and for `tokens` also `text_rows` int32, a row for
    each text: which strings of `tokenizer.text_of_ids` make it.

    Args:
        task: an `IdTask` with a tokenizer.
    """

    def __init__(self, task):
        self.task, self.name, self.tokenizer = task, task.name, task.tokenizer
        self.inputs = {"source_symbols": TensorSpec(("batch", "symbols"), "int32")}

    def call(self, source_symbols):
        from keras_attn.generation.prompts import continues

        is_prompt = continues(self.task.model)
        ids = self.tokenizer.ids_of_symbols(source_symbols, add_suffix=not is_prompt)
        outputs = self.task.call(source_ids=ids)
        if "tokens" not in outputs:
            return outputs
        after = ids if is_prompt else None
        return {**outputs, "text_rows": self.tokenizer.text_of_ids(outputs["tokens"], after)}
