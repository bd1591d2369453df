"""Reads a Hugging Face checkpoint into a model."""

from __future__ import annotations

import contextlib
import inspect
import os
from collections.abc import Sequence

import keras
import numpy as np

from keras_attn import compat
from keras_attn.argument_checks import check_positive
from keras_attn.models import Transformer
from keras_attn.pretrained import new_head
from keras_attn.pretrained.buffers import zero_initializer
from keras_attn.pretrained.checkpoint import Checkpoint
from keras_attn.pretrained.checkpoint_config import CheckpointConfig
from keras_attn.pretrained.families import family_of
from keras_attn.pretrained.folder import CheckpointFolder
from keras_attn.pretrained.generation_settings import end_ids, generation_config, start_id
from keras_attn.pretrained.hub import checkpoint_path
from keras_attn.pretrained.sentence_modules import TASK as SENTENCE_EMBEDDING
from keras_attn.pretrained.sentence_modules import SentenceModules
from keras_attn.pretrained.tokenizers import tokenizer_of
from keras_attn.pretrained.weights import load_weights

# Weights that a model may hold beyond the tensors of its file: tied ones, and those of a new head.
_SLACK = 2**16


def from_pretrained(
    folder: str | os.PathLike[str],
    task: str | None = None,
    dtype: str | keras.DTypePolicy | None = None,
    max_length: int | None = None,
    labels: Sequence[str] | None = None,
) -> keras.Model:
    """Reads a Hugging Face checkpoint, without PyTorch, into a functional model with its tokenizer.

    Reads `config.json`, safetensors files and tokenizer files. Every tensor must have its weight in the model and every
    entry of the config its meaning; anything else is an error, never ignored.

    Args:
        folder: A folder, or the id of a repository on the Hugging Face Hub, such as "bert-base-uncased", which
            `huggingface_hub` downloads.
        task: One of `keras_attn.pretrained.TASKS`. Defaults to that of the class which `config.json` names, or to
            "base" if it names none. A folder of sentence-transformers (with `modules.json`) defaults to
            "sentence_embedding": one vector `(B, D)` per text, pooled and normalised as its modules say.
        dtype: Dtype or dtype policy of all layers. Defaults to Keras' global policy; weights are stored in its
            variable dtype.
        max_length: Optional maximum number of tokens per text, special tokens included, at most that of the tokenizer.
        labels: Optional names of the classes in order, for a checkpoint without classifier, or with one of other
            classes. What the classifier lacks is drawn at random, and a warning names it. The file's own classifier
            is kept if its config has the same labels, or none and as many classes.

    Returns:
        An `EncoderModel`, `LanguageModel` or `Transformer` with `tokenizer` and `generation_config`, whose
        `save_pretrained(folder)` writes the checkpoint again.

    Raises:
        ValueError: If the folder is not a checkpoint of a known family, a file is damaged or unsafe, or an argument is
            invalid; the message names it.
        ImportError: If an optional package is missing; the message names the extra to install.

    Example:

    >>> import keras_attn
    >>> keras_attn.from_pretrained("no/such/folder")  # doctest: +IGNORE_EXCEPTION_DETAIL
    Traceback (most recent call last):
    ValueError: `folder` must be a folder, ...

    A new classifier on a pretrained encoder, to be trained:

    >>> model = keras_attn.from_pretrained(
    ...     "bert-base-uncased", "sequence_classification", labels=["bad", "good"])  # doctest: +SKIP
    """
    check_positive(max_length=1 if max_length is None else max_length)
    path = checkpoint_path(folder)
    modules = SentenceModules.of(path) if task in (None, SENTENCE_EMBEDDING) else None
    files = CheckpointFolder(path) if modules is None else modules.folder(path)
    entries = files.json("config.json")
    family = family_of(entries.get("model_type"))
    if modules is None:
        files = family.folder(path)
        task, head = family.head_of(entries.get("architectures"), task)
    else:
        task, head = SENTENCE_EMBEDDING, modules.head(family)
    entries = family.completed(entries)
    if labels is not None:
        new_head.check_has_classes(head, task)
        # Their order is checked before the old ones are forgotten.
        old, entries = CheckpointConfig(entries), new_head.with_labels(entries, labels)
    names = family.names(files.shapes())
    if labels is not None:
        names = new_head.kept_names(names, files, head, old, labels)
    if family.tied is not None and head.conversion is None:
        tied = _is_tied(entries, files, names, *family.tied)
        entries = {**entries, "tie_word_embeddings": tied}
    config = CheckpointConfig(entries)
    budget = _Budget(files)
    # The settings of two towers are models.
    with _default_policy(dtype), compat.without_initial_values(budget.spend, zero_initializer):
        num_classes = _num_classes(files, names, head) if labels is None else len(labels)
        arguments = family.arguments(config, head, num_classes)
    generation = files.json("generation_config.json", {})
    model_class = family.model_of(head)
    generates = "generation_config" in inspect.signature(model_class).parameters
    first = start_id(entries, generation) if issubclass(model_class, Transformer) else None
    # The positions of text: features have a limit of their own.
    position = arguments.get("decoder_position" if "embeddings" in arguments else "position")
    text_encoder = arguments.get("text_encoder")
    position = position if text_encoder is None else text_encoder.position
    limits = getattr(position, "max_length", None), modules and modules.max_length()
    tokenizer = None
    if "embeddings" not in arguments or first is not None:
        limit = min(filter(None, limits), default=None)
        size = arguments.get("source_vocabulary_size") or arguments.get("vocabulary_size")
        ends = end_ids(entries, generation) if generates else ()
        lowercases = modules is not None and modules.lowercases
        tokenizer = tokenizer_of(files, limit, max_length, first, ends, size, lowercases)
    texts = {} if tokenizer is None else {"tokenizer": tokenizer}
    if tokenizer is None and "pad_id" not in arguments and text_encoder is None:
        texts["pad_id"] = _pad_id(entries)
    if generates:
        texts["generation_config"] = generation_config(family, entries, generation, tokenizer)
    remembered = Checkpoint(entries, task, generation, modules and modules.files)
    with compat.without_initial_values(budget.spend, zero_initializer):
        if tokenizer is not None and text_encoder is not None:
            settings = {**text_encoder.get_config(), "pad_id": None, "tokenizer": tokenizer}
            arguments["text_encoder"] = type(text_encoder).from_config(settings)
        model = model_class(**arguments, **texts, dtype=dtype, checkpoint=remembered)
    table = family.table(config, head)
    new = [] if labels is None else new_head.new_entries(model, table, names, head)
    zeros = (*head.zeros, *(name for entry in new for name in entry.names))
    shared = family.tied or ()
    try:
        load_weights(
            model, files, table, names, family.ignorable(head), zeros, shared if head.conversion is None else shared[1:]
        )
    except ValueError as error:
        lacking = new_head.new_entries(model, table, names, head) if labels is None else []
        if any(not set(entry.names) <= set(head.zeros) for entry in lacking):
            lacks = f"It lacks the head of {head.architecture}: choose another `task` than {task!r}"
            raise ValueError(f"{error}. {lacks}") from None
        raise
    new_head.draw(new)
    return model


@contextlib.contextmanager
def _default_policy(dtype):
    """Layers that are made meanwhile have this dtype or policy; None leaves Keras' global one."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(before if dtype is None else dtype)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


class _Budget:
    """Bounds the memory of a model by that of its file, since a damaged config may describe one of any size."""

    def __init__(self, files):
        self.path = files.path
        self.left = 2 * sum(int(np.prod(shape, dtype="float64")) for shape in files.shapes().values()) + _SLACK

    def spend(self, layer, shape):
        self.left -= float(np.prod(shape or (), dtype="float64"))
        if self.left < 0:
            raise ValueError(
                "`config.json` must describe a model of the size of its tensors. Received: more than twice as many "
                f"weights as {self.path} holds, at layer {layer.name!r} of shape {shape}"
            )


def _is_tied(entries, files, names, output, *tables):
    """Whether the output projection is the embedding table, by what the file holds."""
    if output not in names:
        return True
    table = next((x for x in tables if x in names), None)
    if table is None:
        # One tensor may have the name of either.
        return entries.get("tie_word_embeddings") is not False
    shapes = files.shapes()
    if shapes[names[output]] != shapes[names[table]]:
        return False
    return bool(np.array_equal(files.read(names[output]), files.read(names[table])))


def _num_classes(files, names, head):
    """The number of classes, from the shape of the classifier: `id2label` has two by default."""
    if head.classifier is None:
        return None
    if head.classifier not in names:
        raise ValueError(
            f"`folder` must hold {head.classifier!r} for {head.architecture}. Pass the names of the classes as "
            "`labels` for a new classifier, to be trained, or choose another `task`. "
            f"Received: labels=None, {files.path}"
        )
    return files.shapes()[names[head.classifier]][0]


def _pad_id(entries):
    pad_id = entries.get("pad_token_id")
    return pad_id if isinstance(pad_id, int) and not isinstance(pad_id, bool) and pad_id >= 0 else -1
