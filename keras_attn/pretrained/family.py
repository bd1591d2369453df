"""What a family of checkpoints is: its settings, its table, and its heads."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any

from keras_attn.models import EncoderModel
from keras_attn.pretrained.causal_encoder import causal_encoder, encoder_table
from keras_attn.pretrained.checkpoint_config import CheckpointConfig
from keras_attn.pretrained.rows import Row

Table = Mapping[str, str | Row]

# The tasks, and how the names of their classes in `transformers` end.
TASKS = {
    "base": ("Model",),
    "sequence_classification": ("ForSequenceClassification",),
    "next_sentence_prediction": ("ForNextSentencePrediction",),
    "token_classification": ("ForTokenClassification",),
    "multiple_choice": ("ForMultipleChoice",),
    "question_answering": ("ForQuestionAnswering",),
    "masked_lm": ("ForMaskedLM",),
    "replaced_token_detection": ("ForPreTraining",),
    "causal_lm": ("ForCausalLM", "LMHeadModel"),
    "seq2seq_lm": ("ForConditionalGeneration", "MTModel", "MTForConditionalGeneration"),
    "sentence_embedding": (),
    "image_classification": ("ForImageClassification", "ForImageClassificationWithTeacher"),
    "image_text_similarity": (),
    "speech_to_text": ("ForConditionalGeneration", "ForCTC"),
    "audio_classification": ("ForAudioClassification", "ForSequenceClassification"),
}


@dataclasses.dataclass(frozen=True)
class Head:
    """The part of a model that depends on the task.

    Args:
        architecture: Name of the class in `transformers`.
        tensors: Rows of the table; names as in the file of this class.
        settings: Function from the config and the number of classes to arguments of the model; None for none.
        classifier: The tensor whose first axis has one entry per class.
        ignored: Regular expressions of tensors in the file that the task does not need.
        body: Modules among those of `tensors` that belong to the body: the class with a head gives them its prefix.
        zeros: Names of tensors that are zero if the file lacks them.
        encodes: For families of language models, whether the model is an `EncoderModel` with causal attention.
    """

    architecture: str
    tensors: Table = dataclasses.field(default_factory=dict)
    settings: Callable[[CheckpointConfig, int | None], dict[str, Any]] | None = None
    classifier: str | None = None
    ignored: tuple[str, ...] = ()
    body: tuple[str, ...] = ()
    zeros: tuple[str, ...] = ()
    encodes: bool = False


@dataclasses.dataclass(frozen=True)
class Family:
    """A family of checkpoints that one table describes.

    Args:
        model: Class of `keras_attn.models`.
        settings: Function from the config to arguments of `model`.
        tensors: The table of the body, without the prefix; or a function from the config to it.
        heads: The head for each task.
        prefix: Name of the body in the classes with a head. The class without one has no prefix.
        tied: Names, without the prefix, of the output projection and the embedding table, or of several tables of which
            the first that the file has counts. They are one variable if the file has only the table, or the same
            numbers twice; the entry `tie_word_embeddings` then follows the file, which may hold any of them.
        ignored: Regular expressions of tensors, without the prefix, that no model needs.
        generation: Function from the contents of `config.json` and the generation settings to settings without the
            family's own. `prefix_ids` are the tokens that every output starts with, as in `ForcedPrefix`.
        completed: Function from the contents of `config.json` to them with entries that follow from others in the file.
    """

    model: type
    settings: Callable[[CheckpointConfig], dict[str, Any]]
    tensors: Table | Callable[[CheckpointConfig], Table]
    heads: Mapping[str, Head]
    prefix: str = ""
    tied: tuple[str, ...] | None = None
    ignored: tuple[str, ...] = ()
    generation: Callable[[Mapping[str, Any], dict[str, Any]], dict[str, Any]] = lambda entries, source: source
    completed: Callable[[dict[str, Any]], dict[str, Any]] = dict

    def head_of(self, architectures: Any, task: str | None) -> tuple[str, Head]:
        """`(task, head)` for a task, by default the one of the class that `config.json` names, or else "base"."""
        if task is None:
            task = self._task_of(architectures[0]) if isinstance(architectures, list) and architectures else "base"
            if task not in self.heads:
                raise ValueError(
                    f"`task` must be one of {list(self.heads)}, as config.json does not tell it. "
                    f"Received: task=None, architectures={architectures}"
                )
        if task not in self.heads:
            raise ValueError(f"`task` must be one of {list(self.heads)} for this checkpoint. Received: task={task!r}")
        return task, self.heads[task]

    def _task_of(self, architecture):
        """The task of a class, whose name may be one of early releases; None if it is unknown."""
        named = str(architecture).replace("WithLMHeadModel", "ForConditionalGeneration").lower()
        return next((task for task, head in self.heads.items() if head.architecture.lower() == named), None)

    def model_of(self, head: Head) -> type:
        """The class of the model with a head."""
        return EncoderModel if head.encodes else self.model

    @property
    def ignorable(self) -> tuple[str, ...]:
        """Regular expressions of tensors that a model may leave unread: those of any head, and those of `ignored`."""
        names = sorted({name for other in self.heads.values() for name in other.tensors})
        rows = (rf"{re.escape(name)}(\..*)?".replace(r"\*", r"\d+") for name in names)
        others = (x for other in self.heads.values() for x in other.ignored)
        return (*self.ignored, *(() if self.tied is None else self.tied[:1]), *rows, *others)

    def table(self, config: CheckpointConfig, head: Head) -> Table:
        """The table of the body and the head."""
        body = self.tensors(config) if callable(self.tensors) else self.tensors
        return {**(encoder_table(body) if head.encodes else body), **head.tensors}

    def arguments(self, config: CheckpointConfig, head: Head, num_classes: int | None) -> dict[str, Any]:
        """The arguments of the model; raises a ValueError if an entry of the config is not understood."""
        arguments = self.settings(config)
        if head.encodes:
            arguments = causal_encoder(arguments)
        if head.settings is not None:
            arguments |= head.settings(config, num_classes)
        if len(arguments.get("labels") or ()) != num_classes:
            # Configs have two names unless somebody gave others.
            arguments.pop("labels", None)
        config.check_all_used()
        return arguments

    def names(self, tensors: Any) -> dict[str, str]:
        """The names of tensors in a file, by those in the tables."""
        found = {}
        for name in tensors:
            plain = name.removeprefix(f"{self.prefix}.") if self.prefix else name
            module, _, parameter = plain.rpartition(".")
            # As in files older than PyTorch 1.0's own layer norm.
            found[f"{module}.{_OLD_NAMES[parameter]}" if parameter in _OLD_NAMES else plain] = name
        return found


_OLD_NAMES = {"gamma": "weight", "beta": "bias"}
_OLD_NAMES |= {f"weight_{x}": f"parametrizations.weight.original{i}" for i, x in enumerate("gv")}
