"""Tokenizers of Hugging Face folders."""

from __future__ import annotations

import contextlib
import functools
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_attn.argument_checks import check_flag, check_vocabulary
from keras_attn.extras import require
from keras_attn.text.pretrained import chat_templates, components, decoders
from keras_attn.text.pretrained.added_tokens import SPECIAL_NAMES, without_special_pieces
from keras_attn.text.pretrained.components import need
from keras_attn.text.pretrained.folder import read_folder
from keras_attn.text.pretrained.templates import templates
from keras_attn.text.tokenizer import FALLBACK, Tokenizer, check_pairs, padded, pair_lengths, without_surrogates
from keras_attn.typing import Tensor

# What a damaged file may make a library stumble over: characters of every script and more.
_TEXT = "".join(map(chr, (*range(1, 0x3200), 0x4E00, 0xAC00, 0xD7A3, *range(0xF900, 0x10000), 0x1F642, 0x10FFFF)))


@keras.saving.register_keras_serializable(package="keras_attn")
class PretrainedTokenizer(Tokenizer):
    """Converts texts to the ids of a Hugging Face `tokenizer.json`, and back.

    Texts are normalised, split into words, and the words into pieces as the file says: WordPiece, byte-pair encoding of
    bytes or characters, or a unigram model. `encode` adds the special tokens of its template.

    Special tokens spelled out in a text are treated as text, so that a user's text cannot contain any. With
    `split_special_tokens=False` they are found, as transformers does by default. Added tokens that are not special are
    always found.

    `tokenizer_from_folder` reads one from a folder, and `hugging_face_files` gives the files to write. `start_id` is
    the id of `bos_token`, or else of `cls_token`; `end_id` that of `eos_token`, or else of `sep_token`; `pad_id` that
    of `pad_token`, or else the end id or the unknown id. `cls_id`, `sep_id` and `mask_id` are None if there is no such
    token.

    Every export format supports it, unless `refusal` says why not. In exported models, NUL has no id and in ONNX it
    ends the text. If several segmentations of a word are equally likely to rounding, an exported unigram model may
    choose another one.

    Args:
        tokenizer: The content of a `tokenizer.json`, as a dict or as JSON.
        config: Optional dict of settings as in `tokenizer_config.json`: special tokens such as `bos_token`,
            `padding_side`, `truncation_side`, and `chat_template`, a text or a dict of texts by name.
        max_length: The maximum number of ids per text in `encode`, special tokens included; longer texts are truncated.
            Defaults to `model_max_length` of the config; None for no limit.
        split_special_tokens: Whether special tokens spelled out in a text are text.
        start_id: The first input token of a decoder, if it is another one than `bos_token`.
        end_id: The token that ends a text, if it is another one than `eos_token`.

    Raises:
        ValueError: If a setting is not understood, or the vocabulary is damaged.

    Example:

    >>> from keras_attn.text import PretrainedTokenizer
    >>> model = {"type": "WordPiece", "unk_token": "?", "continuing_subword_prefix": "##",
    ...          "max_input_chars_per_word": 100, "vocab": {"?": 0, "dog": 1, "##s": 2}}
    >>> tokenizer = PretrainedTokenizer({"model": model, "pre_tokenizer": {"type": "Whitespace"}})
    >>> tokenizer.encode(["dogs dog", "cat"])
    array([[1, 2, 1],
           [0, 0, 0]], dtype=int32)
    """

    def __init__(
        self,
        tokenizer: Mapping[str, Any] | str,
        config: Mapping[str, Any] | None = None,
        max_length: int | None = None,
        split_special_tokens: bool = True,
        start_id: int | None = None,
        end_id: int | None = None,
    ) -> None:
        if isinstance(tokenizer, str):
            try:
                tokenizer = json.loads(tokenizer)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"`tokenizer` must be the content of a tokenizer.json. Received: {error}") from error
        content = components.checked(dict(tokenizer) if isinstance(tokenizer, Mapping) else tokenizer)
        self._content = {**content, "truncation": None, "padding": None}
        self.vocabulary = list(map(components.shown_name, components.pieces_of(content)))
        decoders.check(content)
        self.config = _checked_config(config, self._ids_of_pieces)
        check_flag(split_special_tokens=split_special_tokens)
        self.split_special_tokens = bool(split_special_tokens)
        self._set_special_ids(content)
        own = {"start_id": start_id, "end_id": end_id}
        for name, value in own.items():
            if value is not None:
                check_vocabulary(len(self.vocabulary), **{name: value})
                setattr(self, name, value)
        self._templates = templates(content, self._ids_of_pieces)
        self.prefix, self.suffix = self._templates.prefix, self._templates.suffix
        length = self.config.pop("model_max_length", None)
        self._set_max_length(length if max_length is None else max_length)

    def _set_special_ids(self, content):
        ids = {name: self._ids_of_pieces.get(self.config.get(name)) for name in SPECIAL_NAMES}
        model = content["model"]
        unknown = model.get("unk_id")
        if model["type"] != "Unigram":
            unknown = self._ids_of_pieces.get(model.get("unk_token"))
        self.unknown_id = unknown
        self.cls_id, self.sep_id, self.mask_id = ids["cls_token"], ids["sep_token"], ids["mask_token"]
        self.start_id = ids["bos_token"] if ids["bos_token"] is not None else self.cls_id
        self.end_id = ids["eos_token"] if ids["eos_token"] is not None else self.sep_id
        known = (ids["pad_token"], self.end_id, unknown, 0)
        self.pad_id = next(i for i in known if i is not None)
        special = {token["id"] for token in content["added_tokens"] if token["special"]}
        self._hidden = special | {i for i in (*ids.values(), unknown) if i is not None}

    @property
    def vocabulary_size(self) -> int:
        return len(self.vocabulary)

    @property
    def content(self) -> dict[str, Any]:
        """The content of the `tokenizer.json`."""
        return self._content

    @property
    def special_tokens(self) -> dict[str, str]:
        """The special tokens by their name in `tokenizer_config.json`, such as `"bos_token"`."""
        return {name: self.config[name] for name in SPECIAL_NAMES if name in self.config}

    @property
    def chat_templates(self) -> dict[str, str]:
        """The chat templates by name. The usual one is `"default"`."""
        return dict(self.config.get("chat_template", {}))

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        return self._ids(self._tokenizer, texts)

    def encode_pairs(
        self, firsts: Sequence[str], seconds: Sequence[str], length: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Converts pairs of texts to ids and segment ids, with the special tokens of the template of pairs.

        Args:
            firsts: A list of `B` strings.
            seconds: A list of `B` strings.
            length: The number of columns `L`. The longer text of a pair is truncated first. Defaults to the length of
                the longest pair.

        Returns:
            `(ids, segment_ids)`, int32 arrays of shape `(B, L)`.

        Raises:
            ValueError: If `firsts` and `seconds` are not lists of strings of equal length, there is no template of
                pairs, or `length` is below the number of special tokens.
        """
        check_pairs(firsts, seconds)
        if self._templates.pair is None:
            raise ValueError(
                "`post_processor` must have a template of pairs. Received: a template of single texts only"
            )
        special = self._templates.pair
        (before, between, after), (one, other) = self._templates.segments
        limit, rows, segments = self._text_limit(length, sum(map(len, special))), [], []
        for first, second in zip(self.tokenize(firsts), self.tokenize(seconds), strict=True):
            a, b = pair_lengths(len(first), len(second), limit)
            first, second = self._truncated(first, a), self._truncated(second, b)
            rows.append([*special[0], *first, *special[1], *second, *special[2]])
            segments.append([*before, *[one] * a, *between, *[other] * b, *after])
        return padded(rows, self.pad_id, length), padded(segments, 0, length)

    def apply_chat_template(
        self,
        messages: Sequence[Mapping[str, Any]],
        add_generation_prompt: bool = False,
        tokenize: bool = True,
        chat_template: str = "default",
        tools: Sequence[Mapping[str, Any]] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        allow_special_tokens: bool = False,
        **variables: Any,
    ) -> list[int] | str:
        """Writes a conversation as the model was trained to read it.

        Args:
            messages: A list of dicts with `"role"` and `"content"`.
            add_generation_prompt: Whether to open the assistant's next message.
            tokenize: Whether to return ids rather than the text.
            chat_template: The name of a template of the tokenizer, or a Jinja template. It runs in a sandbox.
            tools: Optional JSON schemas of the functions that the model may call.
            documents: Optional documents to answer from.
            allow_special_tokens: Whether messages, tools, documents and variables may contain special tokens, which
                they could use to end their message and open another one. Only for texts that you trust.
            **variables: More variables of the template, such as `enable_thinking`.

        Returns:
            A list of ids, or the text if `tokenize` is False. The template adds all special tokens itself.

        Raises:
            ImportError: If jinja2 is not installed.
            ValueError: If there is no template, it refuses the messages, or they contain a special token.

        Example:

        >>> from keras_attn.text import PretrainedTokenizer
        >>> model = {"type": "WordPiece", "unk_token": "?", "continuing_subword_prefix": "##",
        ...          "max_input_chars_per_word": 100, "vocab": {"?": 0}}
        >>> chat = "{% for message in messages %}[{{ message.role }}] {{ message.content }}{% endfor %}"
        >>> tokenizer = PretrainedTokenizer({"model": model}, {"chat_template": chat})
        >>> tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False)
        '[user] Hi'
        """
        template = self.chat_templates.get(chat_template, chat_template)
        if template == "default":
            raise ValueError(
                "`chat_template` must be given if the tokenizer has none. Received: chat_template='default'"
            )
        if not allow_special_tokens:
            self._refuse_special_tokens([list(messages), tools, documents, variables])
        known = {**self.special_tokens, "messages": list(messages), "tools": tools, "documents": documents}
        text = chat_templates.render(template, {**known, "add_generation_prompt": add_generation_prompt, **variables})
        return self._ids(self._parsing_tokenizer, [text])[0] if tokenize else text

    def _refuse_special_tokens(self, value):
        if isinstance(value, str):
            found = next((token for token in self._special_texts if token in value), None)
            if found is not None:
                raise ValueError(
                    "`messages` must not contain special tokens, because these could end a message and open another "
                    f"one. Remove them, or use allow_special_tokens=True for a text that you trust. Received: {found!r}"
                )
        elif isinstance(value, Mapping):
            self._refuse_special_tokens(list(value.values()))
        elif isinstance(value, (list, tuple)):
            for entry in value:
                self._refuse_special_tokens(entry)

    @functools.cached_property
    def _special_texts(self):
        return [token["content"] for token in self._content["added_tokens"] if token["special"]]

    def readings(self) -> tuple[list[bytes], list[bytes]]:
        return decoders.readings(self._content, self.vocabulary, self._hidden)

    def refusal(self, format: str) -> str | None:
        from keras_attn.text.graph.regular_expressions import UnsupportedExpressionError

        if self.config.get("truncation_side") == "left" and self.max_length is not None:
            return f"`truncation_side='left'` cannot be exported. {FALLBACK}"
        if format.startswith("onnx") and self.content["model"].get("end_of_word_suffix"):
            return f"`end_of_word_suffix` of a byte-pair model, as in CLIP, cannot be exported to ONNX. {FALLBACK}"
        try:
            self._graph  # noqa: B018
        except UnsupportedExpressionError as error:
            return f"{error} {FALLBACK}"
        return None

    def symbols_model(self) -> bytes:
        from keras_attn.text.graph import byte_symbols

        return byte_symbols.sentencepiece_model()

    def symbol_ids(self, symbols: Tensor) -> Tensor:
        return self._graph(symbols)

    def hugging_face_files(self) -> dict[str, str]:
        config = {"tokenizer_class": "PreTrainedTokenizerFast", **self.config}
        config["model_max_length"] = int(1e30) if self.max_length is None else self.max_length
        if found := self.chat_templates:
            named = [{"name": name, "template": template} for name, template in found.items()]
            config["chat_template"] = found["default"] if {*found} == {"default"} else named
        settings = json.dumps(config, ensure_ascii=False, indent=2) + "\n"
        return {"tokenizer.json": self._json, "tokenizer_config.json": settings}

    def get_config(self) -> dict[str, Any]:
        return {
            "tokenizer": self._json,
            "config": self.config,
            "max_length": self.max_length,
            "split_special_tokens": self.split_special_tokens,
            "start_id": self.start_id,
            "end_id": self.end_id,
        }

    def _truncated(self, ids, limit):
        if limit is not None and self.config.get("truncation_side") == "left":
            return ids[max(len(ids) - limit, 0) :]
        return super()._truncated(ids, limit)

    def _ids(self, tokenizer, texts):
        found = tokenizer.encode_batch_fast(without_surrogates(texts), add_special_tokens=False)
        return [encoding.ids for encoding in found]

    @functools.cached_property
    def _json(self):
        return json.dumps(self._content, ensure_ascii=False)

    @functools.cached_property
    def _guarded(self):
        return without_special_pieces(self._content) if self.split_special_tokens else self._content

    @functools.cached_property
    def _graph(self):
        from keras_attn.text.graph.pipeline import Pipeline

        return Pipeline(self._guarded, self.split_special_tokens)

    @functools.cached_property
    def _tokenizer(self):
        return self._of_library(self.split_special_tokens)

    @functools.cached_property
    def _parsing_tokenizer(self):
        return self._of_library(False)

    def _of_library(self, split_special_tokens):
        library = require("tokenizers", "text")
        try:
            content = self._guarded if split_special_tokens else self._content
            tokenizer = library.Tokenizer.from_str(json.dumps({**content, "post_processor": None}))
            tokenizer.encode_special_tokens = split_special_tokens
            tokenizer.encode(_TEXT)
        except BaseException as error:
            # The library raises plain exceptions, and panics for damaged rules of characters.
            if isinstance(error, Exception) or type(error).__name__ == "PanicException":
                raise ValueError(f"`tokenizer` must be a valid tokenizer.json. Received: {error}") from error
            raise
        if tokenizer.get_vocab_size() != self.vocabulary_size:
            raise ValueError(
                f"`tokenizer` must have {self.vocabulary_size} pieces. Received: {tokenizer.get_vocab_size()}"
            )
        return tokenizer


def tokenizer_from_folder(
    folder: str | os.PathLike[str], max_length: int | None = None, split_special_tokens: bool = True
) -> PretrainedTokenizer:
    """Reads the tokenizer of a Hugging Face folder. The transformers library is not needed.

    It reads `tokenizer.json`, or else `vocab.txt`, `vocab.json` with `merges.txt`, or a SentencePiece model; with
    `tokenizer_config.json`, `special_tokens_map.json`, `added_tokens.json`, `config.json` and chat templates beside.

    Args:
        folder: The folder.
        max_length: The maximum number of ids per text. Defaults to `model_max_length` of the folder.
        split_special_tokens: Whether special tokens spelled out in a text are text.

    Returns:
        The tokenizer.

    Raises:
        ValueError: If there is no tokenizer, a file is damaged, or a setting that changes ids is not understood. The
            message names the setting.
    """
    content, config = read_folder(Path(folder))
    tokenizer = PretrainedTokenizer(content, config, max_length, split_special_tokens)
    with contextlib.suppress(ImportError):
        # Damaged rules and expressions show when they are used.
        tokenizer.tokenize([""])
    return tokenizer


def _checked_config(config, ids):
    config = {} if config is None else config
    need(isinstance(config, Mapping), "an object", config, "config")
    config = {name: value for name, value in config.items() if value is not None}
    for name in SPECIAL_NAMES:
        if name in config:
            need(isinstance(config[name], str) and config[name] in ids, "in the vocabulary", config[name], name)
    need(config.get("truncation_side", "right") in ("left", "right"), "'left' or 'right'", config, "truncation_side")
    chat = config.get("chat_template", {})
    chat = {"default": chat} if isinstance(chat, str) else chat
    texts = isinstance(chat, Mapping) and all(isinstance(text, str) for text in (*chat, *chat.values()))
    need(texts, "a text or texts by name", chat, "chat_template")
    config.pop("chat_template", None)
    return {**config, "chat_template": dict(chat)} if chat else config
