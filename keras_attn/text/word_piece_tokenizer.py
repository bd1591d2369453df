"""BERT's WordPiece tokenizer."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Iterable, Sequence
from typing import Any, Self

import keras
import numpy as np

from keras_attn.argument_checks import check_flag
from keras_attn.extras import require
from keras_attn.lines import read_lines
from keras_attn.text import hugging_face
from keras_attn.text.graph import bert_characters
from keras_attn.text.tokenizer import (
    Tokenizer,
    check_pairs,
    check_trainable,
    checked_pieces,
    padded,
    pair_lengths,
    without_surrogates,
)
from keras_attn.typing import Tensor

MAX_WORD = 100


@keras.saving.register_keras_serializable(package="keras_attn")
class WordPieceTokenizer(Tokenizer):
    """Converts texts to ids as BERT does, and back.

    Control characters are dropped, each CJK character is a word, and `lowercase` removes case and accents. The text is
    split at whitespace and around punctuation, and each word is split greedily, from left to right, into the longest
    pieces of the vocabulary; pieces inside a word begin with `##`. A word that cannot be split, or is longer than 100
    characters, becomes `[UNK]`. Special tokens spelled out in a text are treated as text.

    `encode` adds `[CLS]` before and `[SEP]` after each text; `encode_pairs` also separates two texts. `decode` joins
    the words with a space.

    Every export format supports it. In ONNX, NUL ends a text.

    Args:
        vocabulary: The pieces, ordered by id. They must include the special tokens, except `mask_token`.
        lowercase: Whether to lowercase texts.
        strip_accents: Whether to remove accents. Defaults to `lowercase`.
        split_cjk: Whether to split text around each CJK character.
        add_special_tokens: Whether `encode` adds `[CLS]` and `[SEP]`.
        max_length: The maximum number of ids per text in `encode`, special tokens included; longer texts are truncated.
            None for no limit.
        pad_token: The padding piece.
        unknown_token: The piece for words that cannot be split.
        start_token: The piece before a text.
        end_token: The piece after a text.
        mask_token: The piece that hides a token.
        suffix_indicator: The prefix of pieces inside a word.
        unsplittable_tokens: Pieces that are never split, whatever the context. They may include special tokens. A
            tokenizer that has any cannot be exported.

    Raises:
        ValueError: If `vocabulary` repeats a piece, or lacks a special token.

    Reference:
        [Devlin et al., 2018](https://arxiv.org/abs/1810.04805)

    Example:

    >>> from keras_attn.text import WordPieceTokenizer
    >>> tokenizer = WordPieceTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "un", "##like", "##ly", "!"])
    >>> tokenizer.encode(["Unlikely!", "un?"])
    array([[2, 4, 5, 6, 7, 3],
           [2, 4, 1, 3, 0, 0]], dtype=int32)
    >>> tokenizer.decode([[2, 4, 5, 6, 7, 3]])
    ['unlikely !']
    """

    def __init__(
        self,
        vocabulary: Iterable[str],
        lowercase: bool = True,
        strip_accents: bool | None = None,
        split_cjk: bool = True,
        add_special_tokens: bool = True,
        max_length: int | None = None,
        pad_token: str = "[PAD]",
        unknown_token: str = "[UNK]",
        start_token: str = "[CLS]",
        end_token: str = "[SEP]",
        mask_token: str = "[MASK]",
        suffix_indicator: str = "##",
        unsplittable_tokens: Sequence[str] = (),
    ) -> None:
        self.pad_token, self.unknown_token = pad_token, unknown_token
        self.start_token, self.end_token, self.mask_token = start_token, end_token, mask_token
        for name, value in (("suffix_indicator", suffix_indicator), ("mask_token", mask_token or "")):
            if not isinstance(value, str):
                raise ValueError(f"`{name}` must be a string. Received: {name}={value!r}")
        self.suffix_indicator = suffix_indicator
        self._set_unsplittable(unsplittable_tokens)
        self.vocabulary = checked_pieces(vocabulary, [*self._specials[:4], *self.unsplittable_tokens])
        strip_accents = lowercase if strip_accents is None else strip_accents
        check_flag(lowercase=lowercase, strip_accents=strip_accents, split_cjk=split_cjk)
        check_flag(add_special_tokens=add_special_tokens)
        self.lowercase, self.strip_accents, self.split_cjk = bool(lowercase), bool(strip_accents), bool(split_cjk)
        self.add_special_tokens = bool(add_special_tokens)
        ids = {piece: i for i, piece in enumerate(self.vocabulary)}
        self.pad_id, self.unknown_id, self.start_id, self.end_id = (ids[piece] for piece in self._specials[:4])
        self.mask_id = ids.get(mask_token)
        if add_special_tokens:
            self.prefix, self.suffix = (self.start_id,), (self.end_id,)
        self._set_max_length(max_length)

    @property
    def _specials(self):
        return self.pad_token, self.unknown_token, self.start_token, self.end_token, self.mask_token

    @property
    def vocabulary_size(self) -> int:
        return len(self.vocabulary)

    def refusal(self, format: str) -> str | None:
        return self._refusal_of_unsplittable()

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        return [found.ids for found in self._tokenizer.encode_batch(without_surrogates(texts))]

    def symbols_model(self) -> bytes:
        from keras_attn.text.graph import byte_symbols

        return byte_symbols.sentencepiece_model()

    def symbol_ids(self, symbols: Tensor) -> Tensor:
        return self._graph(symbols)

    def encode_pairs(
        self, firsts: Sequence[str], seconds: Sequence[str], length: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Converts pairs of texts to ids, `[CLS] first [SEP] second [SEP]`, and their segment ids.

        Args:
            firsts: A list of `B` strings.
            seconds: A list of `B` strings.
            length: The number of columns `L`. The longer text of a pair is truncated first. Defaults to the length of
                the longest pair.

        Returns:
            `(ids, segment_ids)`, int32 arrays of shape `(B, L)`. Segment ids are 1 at the second text and its `[SEP]`,
            and 0 elsewhere.

        Raises:
            ValueError: If `firsts` and `seconds` are not lists of strings of equal length, or `length` is below 3.
        """
        check_pairs(firsts, seconds)
        limit, rows, segments = self._text_limit(length, 3), [], []
        for first, second in zip(self.tokenize(firsts), self.tokenize(seconds), strict=True):
            a, b = pair_lengths(len(first), len(second), limit)
            first, second = first[:a], second[:b]
            rows.append([self.start_id, *first, self.end_id, *second, self.end_id])
            segments.append([0] * (len(first) + 2) + [1] * (len(second) + 1))
        return padded(rows, self.pad_id, length), padded(segments, 0, length)

    def readings(self) -> tuple[list[bytes], list[bytes]]:
        inner = self.suffix_indicator.encode()
        first = [b"" if piece in self._specials else piece.encode() for piece in self.vocabulary]
        return [x.removeprefix(inner) if x.startswith(inner) else x and b" " + x for x in first], first

    def hugging_face_files(self) -> dict[str, str]:
        library = require("tokenizers", "text")
        tokenizer = library.Tokenizer.from_str(self._tokenizer.to_str())
        tokenizer.decoder = library.decoders.WordPiece(prefix=self.suffix_indicator, cleanup=False)
        settings = {"do_lower_case": self.lowercase, "strip_accents": self.strip_accents}
        settings |= {"tokenize_chinese_chars": self.split_cjk}
        names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
        found = {name: piece for name, piece in zip(names, self._specials, strict=True) if piece in self.vocabulary}
        return hugging_face.files(self, tokenizer, {"tokenizer_class": "BertTokenizer", **settings, **found})

    @classmethod
    def train(cls, texts: Iterable[str], vocabulary_size: int, min_frequency: int = 2, **settings: Any) -> Self:
        """Trains a vocabulary with the `tokenizers` library. The same texts give the same vocabulary.

        Args:
            texts: An iterable of training texts, which is read twice; the texts of an iterator are held in memory.
            vocabulary_size: The maximum number of pieces, special tokens included.
            min_frequency: How often a pair must occur to be merged.
            **settings: The constructor's arguments except `vocabulary`.

        Returns:
            The tokenizer.

        Raises:
            ImportError: If tokenizers is not installed.
        """
        check_trainable(texts, vocabulary_size)
        names = ("pad_token", "unknown_token", "start_token", "end_token", "mask_token")
        specials = [settings.get(name, inspect.signature(cls).parameters[name].default) for name in names]
        pieces = list(dict.fromkeys([*specials, *settings.get("unsplittable_tokens", ())]))
        prefix = cls(pieces, **settings).suffix_indicator
        texts = list(texts) if iter(texts) is texts else texts

        def learn(size, first):
            trainer = require("tokenizers.trainers", "text").WordPieceTrainer(
                vocab_size=size,
                min_frequency=min_frequency,
                special_tokens=first,
                continuing_subword_prefix=prefix,
                show_progress=False,
            )
            learner = cls(pieces, **settings)._tokenizer
            learner.train_from_iterator(texts, trainer)
            return sorted(learner.get_vocab(), key=learner.token_to_id)

        # The library numbers characters within words in random order, which decides between pairs of the same count.
        within = {x for x in learn(1, pieces) if x.startswith(prefix) and len(x) == len(prefix) + 1}
        return cls(learn(vocabulary_size, [*pieces, *sorted(within.difference(pieces))]), **settings)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], **settings: Any) -> Self:
        """Reads a `vocab.txt` with one piece per line.

        Args:
            path: The file.
            **settings: The constructor's arguments except `vocabulary`, as listed in a checkpoint's
                `tokenizer_config.json`.

        Returns:
            The tokenizer.
        """
        return cls(read_lines(path), **settings)

    def get_config(self) -> dict[str, Any]:
        return {
            "vocabulary": self.vocabulary,
            "lowercase": self.lowercase,
            "strip_accents": self.strip_accents,
            "split_cjk": self.split_cjk,
            "add_special_tokens": self.add_special_tokens,
            "max_length": self.max_length,
            "pad_token": self.pad_token,
            "unknown_token": self.unknown_token,
            "start_token": self.start_token,
            "end_token": self.end_token,
            "mask_token": self.mask_token,
            "suffix_indicator": self.suffix_indicator,
            "unsplittable_tokens": list(self.unsplittable_tokens),
        }

    @functools.cached_property
    def _graph(self):
        from keras_attn.text.graph.word_pieces import WordPieces

        pieces = {piece: i for i, piece in enumerate(self.vocabulary) if piece}
        characters = bert_characters.bert_characters(self.lowercase, self.strip_accents, self.split_cjk)
        return WordPieces(pieces, self.suffix_indicator, self.unknown_id, MAX_WORD, characters)

    @functools.cached_property
    def _tokenizer(self):
        library = require("tokenizers", "text")
        vocabulary = {piece: i for i, piece in enumerate(self.vocabulary)}
        model = library.models.WordPiece(
            vocabulary,
            unk_token=self.unknown_token,
            max_input_chars_per_word=MAX_WORD,
            continuing_subword_prefix=self.suffix_indicator,
        )
        tokenizer = library.Tokenizer(model)
        tokenizer.normalizer = bert_characters.normalizer(self.lowercase, self.strip_accents, self.split_cjk)
        tokenizer.pre_tokenizer = bert_characters.pre_tokenizer()
        return self._with_unsplittable(tokenizer)
