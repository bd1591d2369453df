"""The base class of all tokenizers.

Invalid UTF-8 is replaced here in Python, by `graph/byte_symbols.py` and `graph/detokenizer_table.py` in exported
graphs, and by `keras_attn/lines.py` in files.
"""

from __future__ import annotations

import functools
import json
import operator
import os
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from keras_attn.argument_checks import check_flag, check_positive, is_count
from keras_attn.columns import check_no_table
from keras_attn.extras import require
from keras_attn.lines import read_text
from keras_attn.plain_numbers import PlainNumbers
from keras_attn.replacement import replacement
from keras_attn.typing import Tensor

if TYPE_CHECKING:
    from keras_attn.text.graph.detokenizer_table import DetokenizerTable


SURROGATES = re.compile("[\ud800-\udfff]")
FILE_FORMAT = "keras_attn tokenizer 1"
FALLBACK = "Export with `tokenizer=False`, and ship the file written by the tokenizer's `save` with the artefact"


class Tokenizer(PlainNumbers):
    """Base class of the tokenizers: converts texts to ids and back.

    A subclass sets `pad_id`, `unknown_id`, `start_id`, `end_id` (None if there is no such token) and `max_length`, and
    implements `vocabulary_size`, `tokenize`, `readings` and `get_config`.

    In an exported model, texts first pass a SentencePiece operator, the only text operator that all formats have.
    `symbols_model` returns its model, and `symbol_ids` converts its output to ids with `keras.ops`. `refusal` tells
    which formats do not support the tokenizer.
    """

    pad_id = unknown_id = start_id = end_id = None
    # The special ids before and after each encoded text.
    prefix: tuple[int, ...] = ()
    suffix: tuple[int, ...] = ()
    # The maximum number of ids per text, special ids included; None for no limit.
    max_length: int | None = None
    # The pieces, ordered by id.
    vocabulary: list[str]
    # Pieces that are never split, for the tokenizers that have an argument of this name.
    unsplittable_tokens: tuple[str, ...] = ()
    # Whether the fast SentencePiece operator, the only one in TFLite, gives the same symbols.
    has_fast_symbols = True
    # Whether invalid UTF-8 gets the ids of U+FFFD without being replaced before the operator.
    replaces_bytes = True

    @property
    def vocabulary_size(self) -> int:
        """The number of ids."""
        raise NotImplementedError

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text, without special tokens and padding."""
        raise NotImplementedError

    def readings(self) -> tuple[list[bytes], list[bytes]]:
        """The UTF-8 bytes of each id: in general, and as the first token of a text. Special ids give `b""`."""
        raise NotImplementedError

    def id_to_token(self, id: int) -> str:
        """The piece of an id.

        Raises:
            ValueError: If `id` is not in the vocabulary.
        """
        if not 0 <= operator.index(id) < self.vocabulary_size:
            raise ValueError(f"`id` must be in [0, {self.vocabulary_size}). Received: id={id!r}")
        return self.vocabulary[id]

    def token_to_id(self, token: str) -> int:
        """The id of a piece, or `unknown_id` if there is no such piece.

        Raises:
            ValueError: If there is no such piece, and no `unknown_id`.
        """
        found = self._ids_of_pieces.get(token, self.unknown_id)
        if found is None:
            raise ValueError(f"`token` must be a piece of the vocabulary. Received: token={token!r}")
        return found

    def opening(self) -> list[bool]:
        """Whether each id counts as the first token of a text, so that the next token is not the first."""
        return [reading != b"" for reading in self.readings()[0]]

    def refusal(self, format: str) -> str | None:
        """Why a format, such as `"tflite"`, cannot contain this tokenizer; None if it can."""
        if type(self).symbols_model is Tokenizer.symbols_model:
            return f"{type(self).__name__} has no operators for {format}. {FALLBACK}"
        return None

    def symbols_model(self) -> bytes:
        """The serialised SentencePiece `ModelProto` of the first operator of an exported model."""
        raise NotImplementedError

    def operator_model(self) -> bytes:
        """The model that is exported: `symbols_model`, unless that cannot represent U+FFFD."""
        return self.symbols_model()

    def symbol_ids(self, symbols: Tensor) -> Tensor:
        """Converts symbols to ids, without special tokens. By default, the symbols are the ids.

        Args:
            symbols: Int32 `(B, S)`, the output of `operator_model`, right-padded with -1.

        Returns:
            Int32 `(B, L)`, right-padded with -1. `L` is the length of the longest text, at least 1.
        """
        from keras_attn.text.graph.ragged_rows import packed

        return packed(symbols, symbols >= 0)

    def ids_of_symbols(self, symbols: Tensor, add_suffix: bool = True) -> Tensor:
        """`encode` as graph operations, given the symbols of the texts."""
        from keras_attn.text.graph.ragged_rows import add_special_tokens

        ids, suffix = self.symbol_ids(symbols), self.suffix if add_suffix else ()
        if self.max_length is not None:
            ids = ids[:, : self._text_limit(None, len(self.prefix) + len(suffix))]
        return add_special_tokens(ids, self.prefix, suffix, self.pad_id)

    @functools.cached_property
    def text_of_ids(self) -> DetokenizerTable:
        """`decode` as graph operations. NUL decodes to nothing, because it ends a string in ONNX."""
        from keras_attn.text.graph.detokenizer_table import DetokenizerTable

        tables = ([reading.replace(b"\0", b"") for reading in table] for table in self.readings())
        return DetokenizerTable(*tables, self.opening(), self.start_id, self.end_id, self.unknown_id)

    def encode(self, texts: Sequence[str], length: int | None = None, add_suffix: bool = True) -> np.ndarray:
        """Converts texts to a matrix of ids, right-padded with `pad_id`.

        Args:
            texts: A list of `B` strings.
            length: The number of columns `L`. Longer texts are truncated, but keep their special tokens. Defaults to
                the length of the longest text, at least 1. No text has more than `max_length` ids.
            add_suffix: Whether to add the special ids after each text. Use False for prompts to be continued.

        Returns:
            An int32 array of shape `(B, L)`.

        Raises:
            ValueError: If `texts` is not a list of strings, or `length` is not positive or below the number of special
                tokens.
        """
        check_texts(texts=texts)
        suffix = self.suffix if add_suffix else ()
        limit = self._text_limit(length, len(self.prefix) + len(suffix))
        rows = [[*self.prefix, *self._truncated(ids, limit), *suffix] for ids in self.tokenize(texts)]
        return padded(rows, self.pad_id, length)

    def decode(self, ids: Tensor, after: Tensor | None = None) -> list[str]:
        """Converts ids to texts. Each row is decoded up to its first `end_id`; special ids decode to `""`.

        If `start_id` equals `end_id`, the first token of a row does not end it.

        Args:
            ids: Integers of shape `(B, L)`, each in `[0, vocabulary_size)`.
            after: Optional ids of shape `(B, S)` that the rows continue. The returned texts are then the continuations,
                including the space that may separate them from the preceding text.

        Returns:
            A list of `B` strings. Invalid UTF-8 becomes U+FFFD.

        Raises:
            ValueError: If `ids` is not a matrix of integers, or an id is outside the vocabulary.
        """
        ids = np.asarray(ids)
        if ids.ndim != 2 or not np.issubdtype(ids.dtype, np.integer):
            raise ValueError(f"`ids` must be integers of shape (B, L). Received: shape={ids.shape}, dtype={ids.dtype}")
        if ids.size and not 0 <= ids.min() <= ids.max() < self.vocabulary_size:
            raise ValueError(f"`ids` must be in [0, {self.vocabulary_size}). Received: from {ids.min()} to {ids.max()}")
        return [b"".join(row).decode("utf-8", "replace") for row in self._table[self._rows_of_table(ids, after)]]

    def hugging_face_files(self) -> dict[str, str]:
        """Contents of the tokenizer's files for Hugging Face libraries, by file name; empty if not supported."""
        return {}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the vocabulary and the settings to a JSON file, atomically.

        Args:
            path: The file. An existing file is replaced.
        """
        with replacement(path) as file:
            file.write_bytes(self.to_json().encode())

    def to_json(self) -> str:
        """The content of the file that `save` writes."""
        content = {"format": FILE_FORMAT, "class_name": type(self).__name__, "config": self.get_config()}
        return json.dumps(content, ensure_ascii=False, indent=1) + "\n"

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Tokenizer:
        """Reads a file that `save` wrote.

        Args:
            path: The file.

        Returns:
            The tokenizer. `Tokenizer.load` accepts a file of any tokenizer class.

        Raises:
            ValueError: If the file does not contain a tokenizer of this class.
        """
        try:
            content = json.loads(read_text(path))
        except ValueError:
            content = None
        if not isinstance(content, dict) or content.get("format") != FILE_FORMAT:
            raise ValueError(f"`path` must be a file written by `Tokenizer.save`. Received: path={path}")
        import keras_attn.text as text

        name = content.get("class_name")
        found = getattr(text, name, None) if name in text.__all__ else None
        if not (isinstance(found, type) and issubclass(found, cls)):
            raise ValueError(f"The file at `path` must contain a {cls.__name__}. Received: {name!r} in path={path}")
        try:
            return found.from_config(content["config"])
        except (KeyError, TypeError) as error:
            raise ValueError(f"The file at `path` must contain settings of a {name}. Received: path={path}") from error

    def get_config(self) -> dict[str, Any]:
        raise NotImplementedError

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        return cls(**config)

    def __getstate__(self) -> dict[str, Any]:
        # Cached properties can be recomputed, and some cannot be pickled.
        cached = functools.cached_property
        return {name: x for name, x in vars(self).items() if not isinstance(getattr(type(self), name, None), cached)}

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.get_config() == self.get_config()

    def __hash__(self) -> int:
        return hash(json.dumps(self.get_config(), sort_keys=True))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.vocabulary_size} ids>"

    @functools.cached_property
    def _table(self):
        """The bytes of every id, followed by the bytes of every id as a first token."""
        anywhere, first = self.readings()
        return np.array([*anywhere, *first], dtype=object)

    def _rows_of_table(self, ids, after):
        opens = self._opens[ids]
        if self.end_id is not None:
            is_end = ids == self.end_id
            # A continuation does not begin with the start token.
            is_end[:, :1] &= self.start_id != self.end_id or after is not None
            ids = np.where(np.cumsum(is_end, axis=1) > 0, self.end_id, ids)
        opened = np.cumsum(opens, axis=1) - opens
        if after is not None:
            # The unknown id decodes to nothing, but represents text.
            known = self._opens[np.asarray(after)] | (np.asarray(after) == self.unknown_id)
            opened += known.any(axis=1, keepdims=True)
        return ids + self.vocabulary_size * (opened == 0)

    @functools.cached_property
    def _ids_of_pieces(self):
        return {piece: i for i, piece in enumerate(self.vocabulary)}

    @functools.cached_property
    def _opens(self):
        return np.array(self.opening(), bool)

    def _set_unsplittable(self, tokens):
        """Checks and stores the argument `unsplittable_tokens`."""
        if isinstance(tokens, str) or not all(isinstance(token, str) and token for token in tokens):
            raise ValueError(f"`unsplittable_tokens` must be a list of strings. Received: {tokens!r}")
        self.unsplittable_tokens = tuple(tokens)

    def _with_unsplittable(self, tokenizer):
        """Adds the unsplittable tokens to a tokenizer of the `tokenizers` library."""
        added = require("tokenizers", "text").AddedToken
        tokenizer.add_tokens([added(token, normalized=False) for token in self.unsplittable_tokens])
        return tokenizer

    def _refusal_of_unsplittable(self):
        if self.unsplittable_tokens:
            return f"`unsplittable_tokens` cannot be exported. {FALLBACK}"
        return None

    def _set_max_length(self, max_length):
        """Checks and stores the argument `max_length`. Call it after `_add_ends`."""
        specials = len(self.prefix) + len(self.suffix)
        if max_length is not None and (not is_count(max_length) or not specials < max_length < 2**31):
            raise ValueError(
                f"`max_length` must be an integer above {specials}, the number of special tokens of a text, and "
                f"below 2**31, or None. Received: max_length={max_length!r}"
            )
        self.max_length = max_length

    def _add_ends(self, add_start, add_end):
        """Checks and stores the arguments that add special ids before and after each text."""
        for name, wanted, token in (("add_start", add_start, self.start_id), ("add_end", add_end, self.end_id)):
            check_flag(**{name: wanted})
            if wanted and token is None:
                raise ValueError(f"`{name}` must be False if there is no such token. Received: {name}=True")
        self.add_start, self.add_end = bool(add_start), bool(add_end)
        self.prefix = (self.start_id,) if add_start else ()
        self.suffix = (self.end_id,) if add_end else ()

    def _truncated(self, ids, limit):
        """The ids of a text that fit in `limit`, None for no limit."""
        return ids[:limit]

    def _text_limit(self, length, specials):
        """How many tokens fit in `length` and `max_length` besides `specials` special ones; None for no limit."""
        if length is None:
            return None if self.max_length is None else self.max_length - specials
        if length < 1:
            raise ValueError(f"`length` must be positive. Received: length={length}")
        if length < specials:
            raise ValueError(f"`length` must be at least {specials}, for the special tokens. Received: length={length}")
        return min(length, self.max_length or length) - specials


def pair_lengths(first: int, second: int, limit: int | None) -> tuple[int, int]:
    """The lengths of two texts of which the longer one is truncated until both fit in `limit`."""
    if limit is None:
        return first, second
    shorter = min(first, second, limit // 2)
    first, second = min(first, max(limit - second, limit - limit // 2)), min(second, limit - shorter)
    return first, min(second, limit - first)


def check_texts(**values):
    """Raises a ValueError unless each value is a sequence of strings."""
    check_no_table(**values)
    for name, texts in values.items():
        if isinstance(texts, (str, bytes)) or not all(isinstance(text, str) for text in texts):
            raise ValueError(f"`{name}` must be a list of strings. Received: {name}={texts!r}")


def check_pairs(firsts, seconds):
    """Raises a ValueError unless both are sequences of strings of one length."""
    check_texts(firsts=firsts, seconds=seconds)
    if len(firsts) != len(seconds):
        raise ValueError(
            f"`seconds` must be as long as `firsts`. Received: {len(firsts)} firsts and {len(seconds)} seconds"
        )


def without_surrogates(texts):
    """The texts with surrogates, which UTF-8 cannot encode, replaced by U+FFFD."""
    return [text if text.isascii() else SURROGATES.sub("\ufffd", text) for text in map(str, texts)]


def padded(rows: Sequence[Sequence[int]], value: int, length: int | None = None) -> np.ndarray:
    """Right-pads rows of ids to an int32 matrix. `length` defaults to that of the longest row, at least 1."""
    counts = np.array([len(row) for row in rows], np.int64)
    if length is None:
        length = max(1, counts.max(initial=0))
    matrix = np.full((len(rows), length), value, np.int32)
    columns = np.arange(length)
    flat = [token for row in rows for token in row[:length]]
    matrix[columns < counts[:, None]] = flat
    return matrix


def checked_pieces(pieces: Iterable[str], needed: Sequence[str]) -> list[str]:
    """The pieces of a vocabulary as a list. Raises a ValueError if one repeats or one of `needed` is missing."""
    pieces = list(pieces)
    if not pieces or not all(isinstance(piece, str) for piece in pieces):
        raise ValueError(f"`vocabulary` must contain strings. Received: {pieces[:10]}")
    if len(set(pieces)) < len(pieces):
        seen: set[str] = set()
        repeated = [piece for piece in pieces if piece in seen or seen.add(piece)]
        raise ValueError(f"`vocabulary` must not repeat a piece. Received more than once: {repeated[:10]}")
    if missing := [piece for piece in needed if piece not in pieces]:
        raise ValueError(f"`vocabulary` must contain {list(needed)}. Received: none of {missing}")
    return pieces


def check_trainable(texts, vocabulary_size):
    """Raises a ValueError unless `texts` is an iterable of strings and the size is positive."""
    check_positive(vocabulary_size=vocabulary_size)
    check_no_table(texts=texts)
    if isinstance(texts, (str, bytes)):
        raise ValueError(f"`texts` must be an iterable of strings. Received: texts={texts!r}")
