"""The part of a task between the text operators of its tokenizer."""

from keras_attn.export.tensor_spec import TensorSpec


class TextTask:
    """The part of a task with a tokenizer that needs no text operators. See `keras_attn.text.Tokenizer`.

    In: `source_symbols` int32 `(batch, symbols)` if the task reads texts, else its inputs. Out: those of the task, and
    with `tokens` also `text_rows` int32 from `tokenizer.text_of_ids`, one row of indices of strings per text.

    Args:
        task: A `PromptTask` with a tokenizer.
    """

    def __init__(self, task):
        self.task, self.name, self.tokenizer, self.model = task, task.name, task.tokenizer, task.model
        self.inputs = task.inputs
        if task.reads_text:
            self.inputs = {"source_symbols": TensorSpec(("batch", "symbols"), "int32")}

    def call(self, **inputs):
        from keras_attn.generation.prompts import continues

        is_prompt = continues(self.task.model)
        if self.task.reads_text:
            [name] = self.task.inputs
            inputs = {name: self.tokenizer.ids_of_symbols(inputs["source_symbols"], add_suffix=not is_prompt)}
        outputs = self.task.call(**inputs)
        if "tokens" not in outputs:
            return outputs
        after = next(iter(inputs.values())) if is_prompt else None
        return {**outputs, "text_rows": self.tokenizer.text_of_ids(outputs["tokens"], after)}
