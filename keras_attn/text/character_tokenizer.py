"""A character-level tokenizer."""

from __future__ import annotations

import functools
import itertools
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_attn.extras import require
from keras_attn.replacement import replacement
from keras_attn.text.graph import byte_symbols
from keras_attn.text.tokenizer import Tokenizer
from keras_attn.typing import Tensor

SPECIAL_PIECES = ("<pad>", "<unk>", "<s>", "</s>")
# A SentencePiece .vocab file cannot represent tabs and line ends; onnxruntime-extensions ends a text at NUL.
RESERVED_CHARACTERS = "\t\n\r\0"

REPLACEMENT = "\ufffd"


@keras.saving.register_keras_serializable(package="keras_attn")
class CharacterTokenizer(Tokenizer):
    """Converts texts to ids, one per character (Unicode code point), and back.

    Ids 0 to 3 are `<pad>`, `<unk>`, `<s>` and `</s>`; the character at index `i` of `characters` has id `i + 4`. Text
    is not normalised: case, spaces and combining marks are kept. A run of unknown characters becomes one `<unk>`.

    The vocabulary is also a SentencePiece model (`sentencepiece_model`), with which exported models give the same ids
    and texts. The only exception is NUL: it is unknown here, and ends the text in ONNX.

    Args:
        characters: A string, or an iterable of single characters: the vocabulary, ordered by id. Tab, line feed,
            carriage return, NUL and surrogates are not allowed.
        max_length: The maximum number of ids per text in `encode`; longer texts are truncated. None for no limit.

    Raises:
        ValueError: If `characters` is empty, repeats a character, or contains anything but allowed single characters.

    Reference:
        [Kudo and Richardson, 2018](https://arxiv.org/abs/1808.06226), for the model format.

    Example:

    >>> from keras_attn.text import CharacterTokenizer
    >>> tokenizer = CharacterTokenizer("abc ")
    >>> tokenizer.encode(["cab", "a b??"])
    array([[6, 4, 5, 0],
           [4, 7, 5, 1]], dtype=int32)
    >>> tokenizer.decode([[6, 4, 5, 3, 5], [4, 7, 5, 1, 0]])
    ['cab', 'a b']
    """

    pad_id = 0
    unknown_id = 1
    start_id = 2
    end_id = 3

    def __init__(self, characters: str | Iterable[str], max_length: int | None = None) -> None:
        characters = list(characters)
        if not characters:
            raise ValueError(f"`characters` must contain at least one character. Received: characters={characters}")
        invalid = [c for c in characters if not isinstance(c, str) or len(c) != 1 or not _is_text(c)]
        if invalid:
            raise ValueError(
                "`characters` must be single characters (Unicode code points) other than tab, line feed, "
                f"carriage return, NUL and surrogates. Received: {invalid[:10]}"
            )
        repeated = [c for c, count in Counter(characters).items() if count > 1]
        if repeated:
            raise ValueError(f"`characters` must not repeat a character. Received more than once: {repeated[:10]}")
        self.characters = "".join(characters)
        code_points = _code_points(self.characters)
        self._ids = np.full(code_points.max() + 2, self.unknown_id, np.int32)
        self._ids[code_points] = np.arange(len(characters)) + len(SPECIAL_PIECES)
        self._set_max_length(max_length)

    @property
    def vocabulary_size(self) -> int:
        """The number of ids: the characters and the four special ids."""
        return len(SPECIAL_PIECES) + len(self.characters)

    @property
    def vocabulary(self) -> list[str]:
        """The pieces, ordered by id."""
        return [*SPECIAL_PIECES, *self.characters]

    @property
    def id_to_character(self) -> list[str]:
        """The text of each id: `""` for the four special ids, then the characters."""
        return [""] * len(SPECIAL_PIECES) + list(self.characters)

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        texts = list(texts)
        ids = self._ids[np.minimum(_code_points("".join(texts)), len(self._ids) - 1)]
        rows = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
        unknown = ids == self.unknown_id
        repeats = np.zeros_like(unknown)
        repeats[1:] = unknown[1:] & unknown[:-1] & (rows[1:] == rows[:-1])
        ids, rows = ids[~repeats].tolist(), rows[~repeats]
        bounds = np.searchsorted(rows, np.arange(len(texts) + 1)).tolist()
        return [ids[start:end] for start, end in itertools.pairwise(bounds)]

    def readings(self) -> tuple[list[bytes], list[bytes]]:
        table = [character.encode() for character in self.id_to_character]
        return table, table

    def symbols_model(self) -> bytes:
        return self.sentencepiece_model()

    def operator_model(self) -> bytes:
        # SentencePiece maps invalid UTF-8 to the unknown id even if U+FFFD is a piece.
        return byte_symbols.sentencepiece_model() if REPLACEMENT in self.characters else self.symbols_model()

    def symbol_ids(self, symbols: Tensor) -> Tensor:
        from keras_attn.text.graph.ragged_rows import packed

        if REPLACEMENT not in self.characters:
            return super().symbol_ids(symbols)
        points = byte_symbols.code_points(symbols)
        ids = ops.where(points >= 0, ops.squeeze(self._table_of_ids(points), -1), -1)
        ids = packed(ids, ids >= 0)
        repeated = (ids == self.unknown_id) & (byte_symbols.shifted(ids, 1) == self.unknown_id)
        return packed(ids, (ids >= 0) & ~repeated)

    def sentencepiece_model(self) -> bytes:
        """The vocabulary as a serialised SentencePiece `ModelProto`. The bytes are deterministic.

        Raises:
            ImportError: If sentencepiece is not installed.
        """
        proto = require("sentencepiece.sentencepiece_model_pb2", "text").ModelProto()
        piece = proto.SentencePiece
        types = (piece.CONTROL, piece.UNKNOWN, piece.CONTROL, piece.CONTROL)
        for special, kind in zip(SPECIAL_PIECES, types, strict=True):
            proto.pieces.add(piece=special, score=0.0, type=kind)
        for character in self.characters:
            proto.pieces.add(piece=character, score=0.0, type=piece.NORMAL)
        # Every reader of the format supports UNIGRAM. Over single characters it equals CHAR: each text has one
        # segmentation.
        proto.trainer_spec.model_type = proto.trainer_spec.UNIGRAM
        proto.trainer_spec.vocab_size = self.vocabulary_size
        proto.trainer_spec.pad_id = self.pad_id
        proto.trainer_spec.unk_id = self.unknown_id
        proto.trainer_spec.bos_id = self.start_id
        proto.trainer_spec.eos_id = self.end_id
        proto.normalizer_spec.name = "identity"
        proto.normalizer_spec.add_dummy_prefix = False
        proto.normalizer_spec.remove_extra_whitespaces = False
        # With escaping, a space and U+2581 would be the same piece.
        proto.normalizer_spec.escape_whitespaces = False
        return proto.SerializeToString(deterministic=True)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes `sentencepiece_model()` to a file, atomically.

        With a `max_length`, which a SentencePiece model cannot store, it writes a JSON file as the other tokenizers do.

        Args:
            path: The file. An existing file is replaced.

        Raises:
            ImportError: If sentencepiece is not installed.
        """
        if self.max_length is not None:
            super().save(path)
        else:
            with replacement(path) as file:
                file.write_bytes(self.sentencepiece_model())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> CharacterTokenizer:
        """Reads a file that `save` wrote.

        Args:
            path: The file.

        Returns:
            The tokenizer.

        Raises:
            ImportError: If sentencepiece is not installed.
            ValueError: If the file is not a SentencePiece model written by `save`.
        """
        content = Path(path).read_bytes()
        if content.startswith(b"{"):
            return super().load(path)
        proto = require("sentencepiece.sentencepiece_model_pb2", "text").ModelProto()
        decode_error = require("google.protobuf.message", "text").DecodeError
        try:
            proto.ParseFromString(content)
        except decode_error as error:
            raise ValueError(f"`path` must be a SentencePiece model file. Received: path={path}") from error
        pieces = [(piece.piece, piece.type) for piece in proto.pieces]
        specials = len(SPECIAL_PIECES)
        if tuple(name for name, _ in pieces[:specials]) != SPECIAL_PIECES:
            raise ValueError(
                f"The model at `path` must begin with the pieces {SPECIAL_PIECES}. "
                f"Received: {[name for name, _ in pieces[:specials]]} in path={path}"
            )
        try:
            tokenizer = cls(name for name, _ in pieces[specials:])
        except ValueError as error:
            raise ValueError(f"The model at `path` is not a character model: {error} in path={path}") from error
        expected = type(proto).FromString(tokenizer.sentencepiece_model())
        changed = [piece for piece, _ in set(pieces) - {(p.piece, p.type) for p in expected.pieces}]
        if changed:
            raise ValueError(
                "The model at `path` must have CONTROL and UNKNOWN special pieces and NORMAL characters. "
                f"Received: pieces of other types, {changed[:10]}, in path={path}"
            )
        if proto.normalizer_spec != expected.normalizer_spec:
            raise ValueError(
                "The model at `path` must not change text: use an identity normaliser, no dummy prefix, and no "
                "removal or escaping of whitespace. "
                f"Received: {str(proto.normalizer_spec).split()} in path={path}"
            )
        return tokenizer

    @functools.cached_property
    def _table_of_ids(self):
        from keras_attn.text.graph.tables import CodePointTable

        ids = np.full(0x110000, self.unknown_id, np.int32)
        ids[: len(self._ids)] = self._ids
        return CodePointTable(ids[:, None])

    def get_config(self) -> dict[str, Any]:
        return {"characters": self.characters, "max_length": self.max_length}

    def __repr__(self) -> str:
        shown = self.characters if len(self.characters) <= 60 else f"{self.characters[:57]}..."
        return f"{type(self).__name__}({shown!r})"


def _is_text(character: str) -> bool:
    return character not in RESERVED_CHARACTERS and not "\ud800" <= character <= "\udfff"


def _code_points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
