"""What all tokenizers have in common: matrices of ids out of texts, texts out of ids, and one file."""

from __future__ import annotations

import functools
import json
import operator
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from keras_attn.argument_checks import check_flag, check_positive, is_count
from keras_attn.columns import check_no_table
from keras_attn.extras import require
from keras_attn.lines import read_text
from keras_attn.plain_numbers import PlainNumbers
from keras_attn.typing import Tensor

if TYPE_CHECKING:
    from keras_attn.text.graph.readings import Readings


SURROGATES = re.compile("[\ud800-\udfff]")
FILE_FORMAT = "keras_attn tokenizer 1"
FALLBACK = "Export ids with `tokenizer=False`, and put the file that the tokenizer's `save` writes beside the artefact"


class Tokenizer(PlainNumbers):
    """Base of the tokenizers: texts to ids and back.

    A subclass is one file. It sets `pad_id`, `unknown_id`, `start_id` and `end_id` (None where it has none) and
    `max_length`, and says `vocabulary_size`, `tokenize`, `readings` and `get_config`.

    In an artefact a text goes through a SentencePiece operator first, the one text operator that all formats have:
    `symbols_model` says with which model, and `symbol_ids`, in `keras.ops`, what ids come of the symbols it gives.
    `refusal` says which formats cannot do that.
    """

    pad_id = unknown_id = start_id = end_id = None
    # The special ids around each encoded text.
    prefix: tuple[int, ...] = ()
    suffix: tuple[int, ...] = ()
    # The most ids that a text has, specials included; None where there is no bound.
    max_length: int | None = None
    # The pieces in the order of their ids.
    vocabulary: list[str]
    # Pieces that are found whole in a text, by the kinds of tokenizer that have an argument of this name.
    unsplittable_tokens: tuple[str, ...] = ()
    # Whether the fast SentencePiece operator, which TFLite has alone, gives the same symbols.
    has_fast_symbols = True
    # Whether the ids of bytes that are no UTF-8 are those of U+FFFD without a replacement before the operator.
    replaces_bytes = True

    @property
    def vocabulary_size(self) -> int:
        """The number of ids."""
        raise NotImplementedError

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text, without special tokens and padding."""
        raise NotImplementedError

    def readings(self) -> tuple[list[bytes], list[bytes]]:
        """What each id reads as, in UTF-8: in general, and as the first token of a text. Specials read as `b""`."""
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
        """Whether each id opens a text: the token after it is not its first."""
        return [reading != b"" for reading in self.readings()[0]]

    def refusal(self, format: str) -> str | None:
        """Why artefacts of a format, such as `"tflite"`, cannot hold this tokenizer; None where they can."""
        if type(self).symbols_model is Tokenizer.symbols_model:
            return f"no operators of {format} are known for a {type(self).__name__}. {FALLBACK}"
        return None

    def symbols_model(self) -> bytes:
        """The SentencePiece `ModelProto` of an artefact's first operator, serialised."""
        raise NotImplementedError

    def operator_model(self) -> bytes:
        """The model that artefacts hold: `symbols_model`, unless it cannot tell what U+FFFD stands for."""
        return self.symbols_model()

    def symbol_ids(self, symbols: Tensor) -> Tensor:
        """The ids of each text, without special tokens; here the symbols themselves.

        Args:
            symbols: int32 `(B, S)`, what `operator_model` makes of the texts, -1 behind.

        Returns:
            int32 `(B, L)`, -1 behind; `L` is that of the longest text, and one at least.
        """
        from keras_attn.text.graph.rows import packed

        return packed(symbols, symbols >= 0)

    def ids_of_symbols(self, symbols: Tensor, add_suffix: bool = True) -> Tensor:
        """What `encode` gives, of the symbols of the texts, as ops of a graph."""
        from keras_attn.text.graph.rows import framed

        ids, suffix = self.symbol_ids(symbols), self.suffix if add_suffix else ()
        if self.max_length is not None:
            ids = ids[:, : self._room(None, len(self.prefix) + len(suffix))]
        return framed(ids, self.prefix, suffix, self.pad_id)

    @functools.cached_property
    def text_of_ids(self) -> Readings:
        """What `decode` does, as ops of a graph: a `Readings`. NUL reads as nothing: in ONNX it ends a string."""
        from keras_attn.text.graph.readings import Readings

        tables = ([reading.replace(b"\0", b"") for reading in table] for table in self.readings())
        return Readings(*tables, self.opening(), self.start_id, self.end_id, self.unknown_id)

    def encode(self, texts: Sequence[str], length: int | None = None, add_suffix: bool = True) -> np.ndarray:
        """Turns texts into a matrix of ids, padded on the right with `pad_id`.

        Args:
            texts: A list of `B` strings.
            length: The number of columns `L`; longer texts lose their end, though not the special token after it.
                Defaults to that of the longest text, and to 1 if all are empty. No text has more than `max_length` ids.
            add_suffix: Whether the special ids after a text are added; they are not to a prompt that goes on.

        Returns:
            An int32 array of shape `(B, L)`.

        Raises:
            ValueError: If `texts` is a bare string or holds anything but strings, or `length` is not positive or leaves
                no room between the special tokens.
        """
        check_texts(texts=texts)
        suffix = self.suffix if add_suffix else ()
        room = self._room(length, len(self.prefix) + len(suffix))
        return padded([[*self.prefix, *ids[:room], *suffix] for ids in self.tokenize(texts)], self.pad_id, length)

    def decode(self, ids: Tensor, after: Tensor | None = None) -> list[str]:
        """Turns ids into texts. Each row is read up to its first `end_id`; the specials read as `""`.

        Where `start_id` and `end_id` are one, it ends nothing as the first of a row.

        Args:
            ids: Integers of shape `(B, L)`, each in `[0, vocabulary_size)`.
            after: Optional ids of shape `(B, S)` that the rows continue. The texts are then what `ids` add to the texts
                of these, with the space that may separate the two.

        Returns:
            A list of `B` strings. Bytes that are no UTF-8 become U+FFFD.

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
        """Contents of the files that Hugging Face's readers take, by name; none where there are no such files."""
        return {}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the vocabulary and the settings to one JSON file, which is there whole or not at all.

        Args:
            path: The file. An existing one is replaced.
        """
        write_atomically(path, self.to_json().encode())

    def to_json(self) -> str:
        """What `save` writes."""
        content = {"format": FILE_FORMAT, "class_name": type(self).__name__, "config": self.get_config()}
        return json.dumps(content, ensure_ascii=False, indent=1) + "\n"

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Tokenizer:
        """Reads a file that `save` wrote.

        Args:
            path: The file.

        Returns:
            The tokenizer; `Tokenizer.load` returns one of any class.

        Raises:
            ValueError: If the file holds no tokenizer, or one of another class.
        """
        try:
            content = json.loads(read_text(path))
        except ValueError:
            content = None
        if not isinstance(content, dict) or content.get("format") != FILE_FORMAT:
            raise ValueError(f"`path` must name a file that a tokenizer saved. Received: path={path}")
        import keras_attn.text as text

        name = content.get("class_name")
        found = getattr(text, name, None) if name in text.__all__ else None
        if not (isinstance(found, type) and issubclass(found, cls)):
            raise ValueError(f"The file at `path` must hold a {cls.__name__}. Received: {name!r} in path={path}")
        try:
            return found.from_config(content["config"])
        except (KeyError, TypeError) as error:
            raise ValueError(f"The file at `path` must hold the settings of a {name}. Received: path={path}") from error

    def get_config(self) -> dict[str, Any]:
        raise NotImplementedError

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        return cls(**config)

    def __getstate__(self) -> dict[str, Any]:
        # What is made of the rest when it is first needed need not be pickled, and some of it cannot be.
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
        """Both readings of every id, those of a first token behind the others."""
        anywhere, first = self.readings()
        return np.array([*anywhere, *first], dtype=object)

    def _rows_of_table(self, ids, after):
        opens = self._opens[ids]
        if self.end_id is not None:
            is_end = ids == self.end_id
            # A row that continues another does not begin with its start.
            is_end[:, :1] &= self.start_id != self.end_id or after is not None
            ids = np.where(np.cumsum(is_end, axis=1) > 0, self.end_id, ids)
        opened = np.cumsum(opens, axis=1) - opens
        if after is not None:
            # What is unknown reads as nothing here, but stands for something.
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
        """Keeps the argument `unsplittable_tokens`."""
        if isinstance(tokens, str) or not all(isinstance(token, str) and token for token in tokens):
            raise ValueError(f"`unsplittable_tokens` must be a list of strings. Received: {tokens!r}")
        self.unsplittable_tokens = tuple(tokens)

    def _with_unsplittable(self, tokenizer):
        """A tokenizer of the `tokenizers` library, to which the unsplittable tokens are added."""
        added = require("tokenizers", "text").AddedToken
        tokenizer.add_tokens([added(token, normalized=False) for token in self.unsplittable_tokens])
        return tokenizer

    def _refusal_of_unsplittable(self):
        if self.unsplittable_tokens:
            return f"no operators find unsplittable tokens in a text. {FALLBACK}"
        return None

    def _set_max_length(self, max_length):
        """Keeps the argument `max_length`, after `_add_ends`."""
        specials = len(self.prefix) + len(self.suffix)
        if max_length is not None and (not is_count(max_length) or not specials < max_length < 2**31):
            raise ValueError(
                f"`max_length` must be an integer above {specials}, the number of special tokens around a text, and "
                f"below 2**31, or None. Received: max_length={max_length!r}"
            )
        self.max_length = max_length

    def _add_ends(self, add_start, add_end):
        """Keeps two arguments that say which special ids are put around each text."""
        for name, wanted, token in (("add_start", add_start, self.start_id), ("add_end", add_end, self.end_id)):
            check_flag(**{name: wanted})
            if wanted and token is None:
                raise ValueError(f"`{name}` must be False where there is no such token. Received: {name}=True")
        self.add_start, self.add_end = bool(add_start), bool(add_end)
        self.prefix = (self.start_id,) if add_start else ()
        self.suffix = (self.end_id,) if add_end else ()

    def _room(self, length, specials):
        """How many tokens fit beside `specials` into `length` and `max_length`; None if both are."""
        if length is None:
            return None if self.max_length is None else self.max_length - specials
        if length < 1:
            raise ValueError(f"`length` must be positive. Received: length={length}")
        if length < specials:
            raise ValueError(f"`length` must have room for {specials} special tokens. Received: length={length}")
        return min(length, self.max_length or length) - specials


def check_texts(**values):
    """Raises a ValueError unless each value is a sequence of strings."""
    check_no_table(**values)
    for name, texts in values.items():
        if isinstance(texts, (str, bytes)) or not all(isinstance(text, str) for text in texts):
            raise ValueError(f"`{name}` must be a list of strings. Received: {name}={texts!r}")


def without_surrogates(texts):
    """The texts with U+FFFD for surrogates, which no UTF-8 can hold."""
    return [text if text.isascii() else SURROGATES.sub("\ufffd", text) for text in map(str, texts)]


def padded(rows: Sequence[Sequence[int]], value: int, length: int | None = None) -> np.ndarray:
    """Rows of ids as an int32 matrix of `length` columns, or as many as the longest has, and one at least."""
    counts = np.array([len(row) for row in rows], np.int64)
    if length is None:
        length = max(1, counts.max(initial=0))
    matrix = np.full((len(rows), length), value, np.int32)
    columns = np.arange(length)
    flat = [token for row in rows for token in row[:length]]
    matrix[columns < counts[:, None]] = flat
    return matrix


def write_atomically(path, content: bytes):
    """Writes a file that is there whole or not at all."""
    unfinished = Path(f"{os.fspath(path)}.{os.getpid()}.tmp")
    try:
        unfinished.write_bytes(content)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def checked_pieces(pieces: Iterable[str], needed: Sequence[str]) -> list[str]:
    """The pieces of a vocabulary as a list; a ValueError where one repeats or one of `needed` is missing."""
    pieces = list(pieces)
    if not pieces or not all(isinstance(piece, str) for piece in pieces):
        raise ValueError(f"`vocabulary` must hold strings. Received: {pieces[:10]}")
    if len(set(pieces)) < len(pieces):
        seen: set[str] = set()
        repeated = [piece for piece in pieces if piece in seen or seen.add(piece)]
        raise ValueError(f"`vocabulary` must not repeat a piece. Received more than once: {repeated[:10]}")
    if missing := [piece for piece in needed if piece not in pieces]:
        raise ValueError(f"`vocabulary` must hold {list(needed)}. Received: none of {missing}")
    return pieces


def check_trainable(texts, vocabulary_size):
    """Raises a ValueError unless a vocabulary can be trained: texts that are no bare string, and a positive size."""
    check_positive(vocabulary_size=vocabulary_size)
    check_no_table(texts=texts)
    if isinstance(texts, (str, bytes)):
        raise ValueError(f"`texts` must be an iterable of strings. Received: texts={texts!r}")
