"""CTC transcription: from features, such as samples, to tokens and optionally text."""

from keras_attn.export.tasks import forward, generate
from keras_attn.export.tasks.prompt_task import PromptTask


class Task(PromptTask):
    """Exports greedy decoding of a model with CTC logits per frame: `tokens` int32 `(batch, frames)`, the ids of a
    row on the left, then padding; and, with a tokenizer, `text`. The blank is the padding id of the model.
    """

    name = "transcribe"

    def check_model(self):
        self.forward = forward.Task(self.model)
        outputs = self.model.outputs
        if self.reads_ids or len(outputs) != 1 or len(outputs[0].shape) != 3:
            self.refuse("that reads features, with one output of logits (batch, frames, classes)")

    def call(self, **inputs):
        from keras_attn.ops import ctc_greedy

        [logits] = self.forward.call(**inputs).values()
        blank = self.model.pad_id
        return {"tokens": ctc_greedy(logits, blank_id=blank, pad_id=blank)}

    agreement = staticmethod(generate.Task.agreement)
    score = staticmethod(generate.Task.score)
