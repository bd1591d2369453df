"""What a family of checkpoints is: its settings, its table, and its heads."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any

from keras_attn.pretrained.checkpoint_config import CheckpointConfig
from keras_attn.pretrained.conversions import Conversion
from keras_attn.pretrained.folder import CheckpointFolder
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
    "pretraining": ("ForPreTraining",),
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
        conversion: The class of the model, if it is not that of the family.
        has_prefix: Whether the names of the body's tensors have the family's prefix in this class.
    """

    architecture: str
    tensors: Table = dataclasses.field(default_factory=dict)
    settings: Callable[[CheckpointConfig, int | None], dict[str, Any]] | None = None
    classifier: str | None = None
    ignored: tuple[str, ...] = ()
    body: tuple[str, ...] = ()
    zeros: tuple[str, ...] = ()
    conversion: Conversion | None = None
    has_prefix: bool = True


@dataclasses.dataclass(frozen=True)
class Family:
    """A family of checkpoints that one table describes.

    Args:
        model: Class of `keras_attn.models`.
        settings: Function from the config to arguments of `model`.
        tensors: The table of the body, without the prefix; or a function from the config to it.
        heads: The head for each task.
        prefix: Name of the body in the classes with a head. The class without one has no prefix.
        other_prefixes: Names of the body in files that are read, before `prefix` is tried.
        tied: Names, without the prefix, of the output projection and the embedding table, or of several tables of which
            the first that the file has counts. They are one variable if the file has only the table, or the same
            numbers twice; the entry `tie_word_embeddings` then follows the file, which may hold any of them.
        ignored: Regular expressions of tensors, without the prefix, that no model needs.
        generation: Function from the contents of `config.json` and the generation settings to settings without the
            family's own. `prefix_ids` are the tokens that every output starts with, as in `ForcedPrefix`.
        folder: Class that reads the files.
        completed: Function from the contents of `config.json` to them with entries that follow from others in the file.
    """

    model: type
    settings: Callable[[CheckpointConfig], dict[str, Any]]
    tensors: Table | Callable[[CheckpointConfig], Table]
    heads: Mapping[str, Head]
    prefix: str = ""
    other_prefixes: tuple[str, ...] = ()
    tied: tuple[str, ...] | None = None
    ignored: tuple[str, ...] = ()
    generation: Callable[[Mapping[str, Any], dict[str, Any]], dict[str, Any]] = lambda entries, source: source
    folder: type[CheckpointFolder] = CheckpointFolder
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
            raise ValueError(
                f"`task` must be one of {list(self.heads)} for this checkpoint, or 'sentence_embedding' for a folder "
                f"of sentence-transformers, which has a modules.json. Received: task={task!r}"
            )
        return task, self.heads[task]

    def _task_of(self, architecture):
        """The task of a class, whose name may be one of early releases; None if it is unknown."""
        named = str(architecture).replace("WithLMHeadModel", "ForConditionalGeneration").lower()
        return next((task for task, head in self.heads.items() if head.architecture.lower() == named), None)

    def model_of(self, head: Head) -> type:
        """The class of the model with a head."""
        return self.model if head.conversion is None else head.conversion.model

    def ignorable(self, head: Head) -> tuple[str, ...]:
        """Regular expressions of tensors that a model with this head may leave unread: those of any head, and others.

        What the heads name in `ignored` may only be left out by models of the same class: the encoder of a translator
        needs no decoder.
        """
        names = sorted({name for other in self.heads.values() for name in other.tensors})
        rows = (rf"{re.escape(name)}(\..*)?".replace(r"\*", r"\d+") for name in names)
        same = (other for other in (head, *self.heads.values()) if other.conversion == head.conversion)
        ignored = dict.fromkeys(pattern for other in same for pattern in other.ignored)
        return (*self.ignored, *(() if self.tied is None else self.tied[:1]), *rows, *ignored)

    def table(self, config: CheckpointConfig, head: Head) -> Table:
        """The table of the body and the head."""
        body = self.tensors(config) if callable(self.tensors) else self.tensors
        return {**(body if head.conversion is None else head.conversion.table(body)), **head.tensors}

    def arguments(self, config: CheckpointConfig, head: Head, num_classes: int | None) -> dict[str, Any]:
        """The arguments of the model; raises a ValueError if an entry of the config is not understood."""
        arguments = self.settings(config)
        if head.conversion is not None:
            arguments = head.conversion.arguments(arguments)
        if head.settings is not None:
            arguments |= head.settings(config, num_classes)
        if len(arguments.get("labels") or ()) != num_classes:
            # Configs have two names unless somebody gave others.
            arguments.pop("labels", None)
        config.check_all_used()
        return arguments

    def names(self, tensors: Any) -> dict[str, str]:
        """The names of tensors in a file, by those in the tables."""
        prefixes = [f"{x}." for x in (*self.other_prefixes, self.prefix) if x]
        found = {}
        for name in tensors:
            plain = name.removeprefix(next(filter(name.startswith, prefixes), ""))
            module, _, parameter = plain.rpartition(".")
            # As in files older than PyTorch 1.0's own layer norm.
            found[f"{module}.{_OLD_NAMES[parameter]}" if parameter in _OLD_NAMES else plain] = name
        return found


_OLD_NAMES = {"gamma": "weight", "beta": "bias"}
_OLD_NAMES |= {f"weight_{x}": f"parametrizations.weight.original{i}" for i, x in enumerate("gv")}
