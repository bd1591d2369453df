"""SentencePiece models, as used by T5, ALBERT, Llama and many translation models."""

import base64
import functools
import io
import os
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import keras

from keras_attn.argument_checks import is_count
from keras_attn.extras import require
from keras_attn.text.tokenizer import FALLBACK, Tokenizer, check_trainable, without_surrogates

SPACE = "\u2581"
# All characters of the Basic Multilingual Plane, for which a model may have rules.
_TEXT = "".join(map(chr, (*range(1, 0xD800), *range(0xE000, 0x10000))))


@keras.saving.register_keras_serializable(package="keras_attn")
class SentencePieceTokenizer(Tokenizer):
    """Converts texts to the ids of a SentencePiece model, unigram or BPE, and back.

    The model is stored in the config, and so in `.keras` files. The special ids are those of the model.

    SavedModel and ONNX support every model, TFLite common unigram models only (see `refusal`). In ONNX, NUL ends a
    text. If several segmentations of a text are equally likely, as for a long run of one character, a unigram model may
    choose another one in ONNX, and also in SavedModel if TFLite does not support the model.

    Args:
        model: The serialised `ModelProto`, as bytes or base64.
        pad_id: The padding id. Defaults to that of the model, or else to its end or unknown id.
        add_start: Whether `encode` puts `start_id` before each text.
        add_end: Whether `encode` puts `end_id` after each text.
        max_length: The maximum number of ids per text in `encode`, special tokens included; longer texts are truncated.
            None for no limit.

    Raises:
        ImportError: If sentencepiece is not installed.
        ValueError: If `model` is not a SentencePiece model, or lacks a special id to add.

    Reference:
        [Kudo and Richardson, 2018](https://arxiv.org/abs/1808.06226)

    Example:

    >>> from keras_attn.text import SentencePieceTokenizer
    >>> tokenizer = SentencePieceTokenizer.train(["to be or not to be", "not to be or to be"], 21)
    >>> tokenizer.decode(tokenizer.encode(["not to be"]))
    ['not to be']
    """

    # Normalisation ignores them.
    replaces_bytes = False

    def __init__(
        self,
        model: bytes | str,
        pad_id: int | None = None,
        add_start: bool = False,
        add_end: bool = False,
        max_length: int | None = None,
    ) -> None:
        try:
            self.model = _bytes(model)
            proto = _proto(self.model)
            # Names and bools, because protobuf messages cannot be pickled.
            self._pieces = [(piece.piece, proto.SentencePiece.Type.Name(piece.type)) for piece in proto.pieces]
            normalizer = proto.normalizer_spec
            self._adds_space, self._escapes_spaces = normalizer.add_dummy_prefix, normalizer.escape_whitespaces
            self._removes_spaces = normalizer.remove_extra_whitespaces
            self._try_out()
        except (TypeError, ValueError, RuntimeError) as error:
            received = f"{type(model).__name__}, {reprlib.repr(str(error))}"
            raise ValueError(f"`model` must be a SentencePiece model. Received: {received}") from error
        spec = proto.trainer_spec
        self.kind = type(spec).ModelType.Name(spec.model_type).lower()
        self.byte_fallback, self._spaces_as_suffix = spec.byte_fallback, spec.treat_whitespace_as_suffix
        self.unknown_id, self.start_id, self.end_id = (
            i if 0 <= i < len(self._pieces) else None for i in (spec.unk_id, spec.bos_id, spec.eos_id)
        )
        known = (pad_id, spec.pad_id if spec.pad_id >= 0 else None, self.end_id, self.unknown_id)
        self.pad_id = next(i for i in known if i is not None)
        if not is_count(self.pad_id) or self.pad_id >= len(self._pieces):
            raise ValueError(f"`pad_id` must be in [0, {len(self._pieces)}). Received: pad_id={pad_id}")
        self._add_ends(add_start, add_end)
        self._set_max_length(max_length)

    @property
    def vocabulary(self) -> list[str]:
        """The pieces, ordered by id."""
        return [piece for piece, _ in self._pieces]

    @property
    def vocabulary_size(self) -> int:
        return len(self._pieces)

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        return self._processor.encode(without_surrogates(texts))

    def readings(self) -> tuple[list[bytes], list[bytes]]:
        table = [self._reading(*piece) for piece in self._pieces]
        if not (self._adds_space or self._removes_spaces):
            return table, table
        # As in the library, a first piece loses one space, and a byte loses none.
        first = [table[i][piece.startswith(SPACE) :] for i, (piece, _) in enumerate(self._pieces)]
        return table, first

    def opening(self) -> list[bool]:
        anywhere, first = self.readings()
        # If the model removes spaces, a piece that is a space does not count as the first.
        return [reading != b"" for reading in (first if self._removes_spaces else anywhere)]

    def refusal(self, format: str) -> str | None:
        if format != "tflite" or self.has_fast_symbols:
            return None
        return (
            "TensorFlow Lite supports only unigram models of text pieces that add a space before each text, merge "
            f"repeated spaces, and have each character of their pieces as a piece. {FALLBACK}"
        )

    @functools.cached_property
    def has_fast_symbols(self) -> bool:
        kinds = {kind for _, kind in self._pieces}
        pieces = {piece for piece, kind in self._pieces if kind == "NORMAL"}
        normalize = self._processor.normalize
        return (
            self.kind == "unigram"
            and kinds <= {"NORMAL", "CONTROL", "UNKNOWN"}
            and self._adds_space
            and self._removes_spaces
            and self._escapes_spaces
            and not self._spaces_as_suffix
            and set("".join(pieces)) <= pieces
            # The operator treats these as spaces whatever the model says.
            and normalize("a\tb\nc\rd") == normalize("a b c d")
        )

    def symbols_model(self) -> bytes:
        return self.model

    def _reading(self, piece, kind):
        if kind in ("CONTROL", "UNKNOWN"):
            return b""
        return bytes([int(piece[1:-1], 16)]) if kind == "BYTE" else piece.replace(SPACE, " ").encode()

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        vocabulary_size: int,
        kind: str = "unigram",
        trainer: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> Self:
        """Trains a model with the sentencepiece library. Ids 0 to 3 are `<pad>`, `<unk>`, `<s>` and `</s>`.

        Args:
            texts: An iterable of training texts.
            vocabulary_size: The maximum number of pieces, special tokens included.
            kind: `"unigram"` or `"bpe"`.
            trainer: Optional dict of more options of `SentencePieceTrainer.train`, such as `byte_fallback`.
            **settings: The constructor's arguments except `model`.

        Returns:
            The tokenizer.

        Raises:
            ImportError: If sentencepiece is not installed.
            ValueError: If `kind` is neither, or no model can be trained on the texts.
        """
        check_trainable(texts, vocabulary_size)
        if kind not in ("unigram", "bpe"):
            raise ValueError(f"`kind` must be 'unigram' or 'bpe'. Received: kind={kind!r}")
        options = {"pad_id": 0, "unk_id": 1, "bos_id": 2, "eos_id": 3, "hard_vocab_limit": False}
        options |= {"minloglevel": 2, "num_threads": 1, **(trainer or {})}
        model = io.BytesIO()
        try:
            require("sentencepiece", "text").SentencePieceTrainer.train(
                sentence_iterator=iter(without_surrogates(texts)),
                model_writer=model,
                vocab_size=vocabulary_size,
                model_type=kind,
                **options,
            )
        except RuntimeError as error:
            raise ValueError(f"`texts` must be enough for {vocabulary_size} pieces. Received: {error}") from error
        return cls(model.getvalue(), **settings)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], **settings: Any) -> Self:
        """Reads a `spiece.model`, `tokenizer.model` or other SentencePiece model.

        Args:
            path: The file.
            **settings: The constructor's arguments except `model`.

        Returns:
            The tokenizer.
        """
        return cls(Path(path).read_bytes(), **settings)

    def get_config(self) -> dict[str, Any]:
        return {
            "model": base64.b64encode(self.model).decode(),
            "pad_id": self.pad_id,
            "add_start": self.add_start,
            "add_end": self.add_end,
            "max_length": self.max_length,
        }

    def _try_out(self):
        """Raises an error for a model that parses but cannot be used: some parts are only read on use."""
        self._processor.encode(self._processor.normalize(_TEXT))
        if not all(isinstance(piece, str) for piece in self.vocabulary):
            raise ValueError("pieces that are not UTF-8")
        self.readings()

    @functools.cached_property
    def _processor(self):
        return require("sentencepiece", "text").SentencePieceProcessor(model_proto=self.model)


def _bytes(model):
    if isinstance(model, str):
        return base64.b64decode(model, validate=True)
    if isinstance(model, bytes | bytearray | memoryview):
        return bytes(model)
    raise TypeError("neither bytes nor base64")


def _proto(content):
    proto = require("sentencepiece.sentencepiece_model_pb2", "text").ModelProto()
    try:
        proto.ParseFromString(content)
    except require("google.protobuf.message", "text").DecodeError as error:
        raise ValueError(str(error)) from error
    if not proto.pieces:
        raise ValueError("no pieces")
    return proto
