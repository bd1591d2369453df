"""The tokenizer of a checkpoint."""

from __future__ import annotations

import warnings

from keras_attn.pretrained.folder import CheckpointFolder
from keras_attn.text.pretrained import sentence_piece_files
from keras_attn.text.pretrained.added_tokens import SPECIAL_NAMES
from keras_attn.text.pretrained.components import UnsupportedTokenizerError, flat
from keras_attn.text.pretrained.folder import read_folder
from keras_attn.text.pretrained_tokenizer import PretrainedTokenizer

_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", *sentence_piece_files.NAMES)


def tokenizer_of(
    files: CheckpointFolder,
    limit: int | None,
    max_length: int | None,
    start_id: int | None,
    end_ids: tuple[int, ...] = (),
    size: int | None = None,
    lowercases: bool = False,
) -> PretrainedTokenizer | None:
    """The tokenizer of a folder; None if there are no such files, or with a warning if they are of an unknown kind.

    Args:
        files: The folder.
        limit: The maximum number of tokens that the model can read; None for no limit.
        max_length: The maximum number of tokens per text; None for as many as folder and model allow.
        start_id: The first input token of the decoder; None for that of the tokenizer.
        end_ids: The tokens that end a generated text; empty for that of the tokenizer.
        size: The number of ids that the model knows; None for any.
        lowercases: Whether texts are lowercased first.
    """
    if not any(files.has(name) for name in _FILES):
        if max_length is not None:
            raise ValueError(
                f"`max_length` must be None without tokenizer. Received: max_length={max_length}, and no tokenizer "
                f"files in {files.path}"
            )
        return None
    try:
        content, config = read_folder(files.path)
    except UnsupportedTokenizerError as error:
        if max_length is not None:
            raise
        warnings.warn(f"The model reads ids only, since its tokenizer is of an unknown kind. {error}", stacklevel=3)
        return None
    content = _lowercased(content) if lowercases else content
    if size is not None:
        content, config = _without_rowless_tokens(content, config, size)
    lengths = [x for x in (config.get("model_max_length"), limit) if x is not None]
    if max_length is not None and lengths and max_length > min(lengths):
        raise ValueError(
            f"`max_length` must be at most {min(lengths)} for this checkpoint. Received: max_length={max_length}"
        )
    length = min(lengths, default=None) if max_length is None else max_length
    tokenizer = PretrainedTokenizer(content, config, length, start_id=start_id)
    if not end_ids or tokenizer.end_id in end_ids:
        return tokenizer
    return PretrainedTokenizer(content, config, length, start_id=start_id, end_id=end_ids[0])


def _without_rowless_tokens(content, config, size):
    """Drops special tokens that the model has no embedding of, such as the mask of some releases of BART."""
    names = {x["content"] for x in content["added_tokens"] if x["special"] and x["id"] >= size}
    model = content["model"]
    if model["type"] == "Unigram":
        vocab = [entry for entry in model["vocab"] if entry[0] not in names]
    else:
        vocab = {piece: i for piece, i in model["vocab"].items() if piece not in names}
    kept = [x for x in content["added_tokens"] if x["content"] not in names]
    config = {name: value for name, value in config.items() if not (name in SPECIAL_NAMES and value in names)}
    return {**content, "model": {**model, "vocab": vocab}, "added_tokens": kept}, config


def _lowercased(content):
    """The content of a `tokenizer.json` that lowercases texts before anything else."""
    parts = flat(content, "normalizer")
    if any(part["type"] == "Lowercase" or part.get("lowercase") for part in parts):
        return content
    return {**content, "normalizer": {"type": "Sequence", "normalizers": [{"type": "Lowercase"}, *parts]}}
