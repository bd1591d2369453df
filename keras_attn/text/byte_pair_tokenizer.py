"""GPT-2's tokenizer: byte-level byte-pair encoding."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterable, Sequence
from typing import Any, Self

import keras

from keras_attn.argument_checks import check_flag
from keras_attn.extras import require
from keras_attn.lines import read_lines, read_text
from keras_attn.text import hugging_face
from keras_attn.text.pretrained.byte_alphabet import bytes_of_characters, bytes_of_piece
from keras_attn.text.pretrained.components import checked
from keras_attn.text.pretrained.patterns import PATTERNS
from keras_attn.text.tokenizer import FALLBACK, Tokenizer, check_trainable, checked_pieces, without_surrogates
from keras_attn.typing import Tensor

END = "<|endoftext|>"
FORMS = ("NFC", "NFD", "NFKC", "NFKD")


@keras.saving.register_keras_serializable(package="keras_attn")
class BytePairTokenizer(Tokenizer):
    """Converts texts to ids as GPT-2 does, and back.

    A text is split into words, numbers, punctuation and spaces, and the bytes of each are merged in the order of
    `merges`. Encoding is lossless unless there is a `normalizer`: no text is unknown. Special tokens spelled out in a
    text are treated as text.

    Every export format supports it. In exported models, NUL has no id and its id decodes to nothing; in ONNX it ends
    the text.

    Args:
        vocabulary: The pieces ordered by id, with bytes spelled as in GPT-2; or a dict from piece to id.
        merges: Pairs of pieces, `"a b"` or `("a", "b")`, by decreasing priority.
        start_token: The start-of-text piece, or None.
        end_token: The end-of-text piece, or None.
        pad_token: The padding piece. Defaults to `end_token`, as is usual for GPT-2. With `add_start`, a
            `LanguageModel` can tell the first token of a text from padding.
        add_prefix_space: Whether to add a space before each text that does not start with one.
        add_start: Whether `encode` puts `start_id` before each text.
        add_end: Whether `encode` puts `end_id` after each text.
        max_length: The maximum number of ids per text in `encode`, special tokens included; longer texts are truncated.
            None for no limit.
        unsplittable_tokens: Pieces that are never split, whatever the context, and that decode to themselves. They may
            include special tokens. A tokenizer that has any cannot be exported.
        pattern: The regular expression of words: `"gpt2"`, `"llama3"` (or `"cl100k"`, that of GPT-4), `"qwen2"`,
            `"o200k"` (GPT-4o, GPT-OSS), `"tekken"` (Mistral), or an expression.
        normalizer: `"NFC"`, `"NFD"`, `"NFKC"` or `"NFKD"` to normalise texts first, as Qwen2 does; None to keep them.
        ignore_merges: Whether a word that is a piece is never split, as in Llama 3, whatever `merges` say.

    Raises:
        ValueError: If `vocabulary` repeats a piece, has gaps in its ids, or lacks a special token or a piece of
            `merges`.

    Reference:
        [Radford et al., 2019](https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf)

    Example:

    >>> from keras_attn.text import BytePairTokenizer
    >>> tokenizer = BytePairTokenizer.train(["low lower lowest", "new newer newest"], 270)
    >>> tokenizer.decode(tokenizer.encode(["lower, \U0001f642"]))
    ['lower, \U0001f642']
    """

    def __init__(
        self,
        vocabulary: Iterable[str] | dict[str, int],
        merges: Iterable,
        start_token: str | None = END,
        end_token: str | None = END,
        pad_token: str | None = None,
        add_prefix_space: bool = False,
        add_start: bool = False,
        add_end: bool = False,
        max_length: int | None = None,
        unsplittable_tokens: Sequence[str] = (),
        pattern: str = "gpt2",
        normalizer: str | None = None,
        ignore_merges: bool = False,
    ) -> None:
        if isinstance(vocabulary, dict):
            vocabulary = _in_order(vocabulary)
        self.start_token, self.end_token = start_token, end_token
        self.pad_token = end_token if pad_token is None else pad_token
        if self.pad_token is None:
            raise ValueError("`pad_token` must be given if there is no `end_token`. Received: pad_token=None")
        specials = [token for token in (start_token, end_token, self.pad_token) if token is not None]
        self._set_unsplittable(unsplittable_tokens)
        self.vocabulary = checked_pieces(vocabulary, list(dict.fromkeys([*specials, *self.unsplittable_tokens])))
        ids = {piece: i for i, piece in enumerate(self.vocabulary)}
        self.merges = [" ".join(_pair(merge)) for merge in merges]
        lacking = [m for m in self.merges if any(part not in ids for part in (*m.split(" "), m.replace(" ", "")))]
        if lacking:
            raise ValueError(f"`vocabulary` must contain all pieces of `merges`. Received: not all of {lacking[:5]}")
        self.start_id, self.end_id, self.pad_id = map(ids.get, (start_token, end_token, self.pad_token))
        check_flag(add_prefix_space=add_prefix_space, ignore_merges=ignore_merges)
        self.add_prefix_space, self.ignore_merges = bool(add_prefix_space), bool(ignore_merges)
        self._set_splitting(pattern, normalizer)
        self._add_ends(add_start, add_end)
        self._set_max_length(max_length)

    def _set_splitting(self, pattern, normalizer):
        """Checks and stores how texts are normalised and split."""
        if not isinstance(pattern, str) or not pattern:
            raise ValueError(f"`pattern` must be a name or a regular expression. Received: pattern={pattern!r}")
        if normalizer not in (None, *FORMS):
            raise ValueError(f"`normalizer` must be among {FORMS} or None. Received: normalizer={normalizer!r}")
        if self.add_prefix_space and pattern != "gpt2":
            raise ValueError(f"`add_prefix_space` must be False for a pattern other than 'gpt2'. Received: {pattern=}")
        self.pattern, self.normalizer = pattern, normalizer
        self._is_as_gpt2 = (pattern, normalizer, self.ignore_merges) == ("gpt2", None, False)
        if not self._is_as_gpt2:
            try:
                self._pre_tokenizer()
            except ImportError:
                pass
            except Exception as error:
                raise ValueError(f"`pattern` must be a name or a regular expression. Received: {error}") from error

    def _pre_tokenizer(self):
        library = require("tokenizers", "text")
        parts = library.pre_tokenizers
        if self.pattern == "gpt2":
            return parts.ByteLevel(add_prefix_space=self.add_prefix_space)
        expression = library.Regex(PATTERNS.get(self.pattern, self.pattern))
        return parts.Sequence([parts.Split(expression, "isolated"), parts.ByteLevel(False, use_regex=False)])

    @property
    def vocabulary_size(self) -> int:
        return len(self.vocabulary)

    def refusal(self, format: str) -> str | None:
        from keras_attn.text.graph.regular_expressions import UnsupportedExpressionError

        if not self._is_as_gpt2:
            try:
                self._graph  # noqa: B018
            except UnsupportedExpressionError as error:
                return f"{error} {FALLBACK}"
        return self._refusal_of_unsplittable()

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        return [found.ids for found in self._tokenizer.encode_batch(without_surrogates(texts))]

    def symbols_model(self) -> bytes:
        from keras_attn.text.graph import byte_symbols

        return byte_symbols.sentencepiece_model()

    def symbol_ids(self, symbols: Tensor) -> Tensor:
        return self._graph(symbols)

    def readings(self) -> tuple[list[bytes], list[bytes]]:
        specials = {self.start_token, self.end_token, self.pad_token}
        table = [b"" if piece in specials else bytes_of_piece(piece) for piece in self.vocabulary]
        for piece in {*self.unsplittable_tokens} - specials:
            table[self.token_to_id(piece)] = piece.encode()
        return table, [reading.removeprefix(b" ") for reading in table] if self.add_prefix_space else table

    def hugging_face_files(self) -> dict[str, str]:
        library = require("tokenizers", "text")
        tokenizer = library.Tokenizer.from_str(self._tokenizer.to_str())
        tokenizer.decoder = library.decoders.ByteLevel()
        specials = {"bos_token": self.start_token, "eos_token": self.end_token, "pad_token": self.pad_token}
        specials = {name: token for name, token in specials.items() if token is not None}
        # onnxruntime-genai reads these here, and not in `tokenizer.json`.
        added = {"add_bos_token": self.add_start, "add_eos_token": self.add_end}
        # GPT-2's own class would split texts by its own pattern.
        name = "GPT2Tokenizer" if self._is_as_gpt2 else "PreTrainedTokenizerFast"
        settings = {"tokenizer_class": name, "add_prefix_space": self.add_prefix_space, **added}
        return hugging_face.files(self, tokenizer, {**settings, **specials})

    @classmethod
    def train(cls, texts: Iterable[str], vocabulary_size: int, min_frequency: int = 2, **settings: Any) -> Self:
        """Trains a vocabulary with the `tokenizers` library.

        Args:
            texts: An iterable of training texts.
            vocabulary_size: The maximum number of pieces. Special tokens and the 256 bytes are always included.
            min_frequency: How often a pair must occur to be merged.
            **settings: The constructor's arguments except `vocabulary` and `merges`.

        Returns:
            The tokenizer.

        Raises:
            ImportError: If tokenizers is not installed.
        """
        check_trainable(texts, vocabulary_size)
        library = require("tokenizers", "text")
        names = [settings.get(name, default) for name, default in (("start_token", END), ("end_token", END))]
        whole = (settings.get("pad_token"), *names, *settings.get("unsplittable_tokens", ()))
        specials = list(dict.fromkeys(token for token in whole if token is not None))
        alphabet = sorted(bytes_of_characters())
        learner = cls([*specials, *alphabet], [], **settings)._tokenizer
        trainer = library.trainers.BpeTrainer(
            vocab_size=vocabulary_size,
            min_frequency=min_frequency,
            special_tokens=specials,
            initial_alphabet=alphabet,
            show_progress=False,
        )
        learner.train_from_iterator(texts, trainer)
        model = json.loads(learner.to_str())["model"]
        return cls(model["vocab"], model["merges"], **settings)

    @classmethod
    def from_file(cls, vocabulary: str | os.PathLike[str], merges: str | os.PathLike[str], **settings: Any) -> Self:
        """Reads a `vocab.json` and a `merges.txt`.

        Args:
            vocabulary: The JSON file of pieces and ids.
            merges: The file of merges, one per line.
            **settings: The constructor's arguments except `vocabulary` and `merges`.

        Returns:
            The tokenizer.
        """
        lines = read_lines(merges)
        first = int(bool(lines) and lines[0].startswith("#version"))
        return cls(json.loads(read_text(vocabulary)), [line for line in lines[first:] if line], **settings)

    def get_config(self) -> dict[str, Any]:
        return {
            "vocabulary": self.vocabulary,
            "merges": self.merges,
            "start_token": self.start_token,
            "end_token": self.end_token,
            "pad_token": self.pad_token,
            "add_prefix_space": self.add_prefix_space,
            "add_start": self.add_start,
            "add_end": self.add_end,
            "max_length": self.max_length,
            "unsplittable_tokens": list(self.unsplittable_tokens),
            "pattern": self.pattern,
            "normalizer": self.normalizer,
            "ignore_merges": self.ignore_merges,
        }

    def _content(self):
        return checked(json.loads(self._tokenizer.to_str()))

    @functools.cached_property
    def _graph(self):
        if not self._is_as_gpt2:
            from keras_attn.text.graph.pipeline import Pipeline

            return Pipeline(self._content())
        from keras_attn.text.graph.byte_pairs import BytePairs, character_classes

        ids = {piece: i for i, piece in enumerate(self.vocabulary)}
        characters = {byte: character for character, byte in bytes_of_characters().items()}
        pairs = [merge.split(" ") for merge in self.merges]
        merges = [(ids[left], ids[right], ids[left + right]) for left, right in pairs]
        byte_ids = [ids.get(characters[byte], -1) for byte in range(256)]
        return BytePairs(byte_ids, merges, character_classes(), self.add_prefix_space)

    @functools.cached_property
    def _tokenizer(self):
        library = require("tokenizers", "text")
        vocabulary = {piece: i for i, piece in enumerate(self.vocabulary)}
        merges = [tuple(merge.split(" ")) for merge in self.merges]
        tokenizer = library.Tokenizer(library.models.BPE(vocabulary, merges, ignore_merges=self.ignore_merges))
        tokenizer.pre_tokenizer = self._pre_tokenizer()
        if self.normalizer is not None:
            tokenizer.normalizer = getattr(library.normalizers, self.normalizer)()
        return self._with_unsplittable(tokenizer)


def _in_order(vocabulary):
    pieces = sorted(vocabulary, key=vocabulary.get)
    if [vocabulary[piece] for piece in pieces] != list(range(len(pieces))):
        raise ValueError(f"`vocabulary` must number its {len(pieces)} pieces from 0. Received: other ids")
    return pieces


def _pair(merge):
    parts = merge.split(" ") if isinstance(merge, str) else list(merge)
    if len(parts) != 2 or not all(parts):
        raise ValueError(f"`merges` must be pairs of pieces. Received: {merge!r}")
    return parts
