"""Tokenizers in the configuration of known families, with small vocabularies, and lines that tell them apart."""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import random
from collections import Counter
from pathlib import Path
from typing import Any

from keras_attn.text.pretrained.patterns import PATTERNS

SCRIPTS = [(0x20, 0x7F), (0xA1, 0x250), (0x370, 0x400), (0x400, 0x460), (0x5D0, 0x5EB), (0x620, 0x660), (0x900, 0x970)]
SCRIPTS += [(0xE01, 0xE3B), (0x3041, 0x30FF), (0x4E00, 0x4F00), (0xAC00, 0xAD00), (0xFF01, 0xFFA0), (0x1F300, 0x1F650)]
MARKS = [*map(chr, range(0x300, 0x345)), "\u0327", "\u05b0", "\u064b", "\u093c", "\u094d", "\uff9e", "\uff9f", "\u3099"]
ODD = ["\t", "\n", "\r\n", "\x01", "\x7f", "\x85", "\u200d", "\u200b", "\u00a0", "\u3000", "\ufeff", "\ufe0f", "\ufffd"]
ODD += [
    "\u2028",
    "\u00ad",
    "\u2581",
    "\ufb01",
    "\u00bd",
    "\u2167",
    "\u1e9e",
    "\u0130",
    "\u017f",
    "\u212b",
    "\u1100\u1161",
]
PIECES = [
    "'s",
    "'LL",
    "'\u017f",
    "don't",
    "123",
    "1234567",
    "3.14",
    "...",
    "!?",
    "``x''",
    "$",
    "/",
    "</s>",
    "<s>",
    "[SEP]",
]
PIECES += [
    "<|endoftext|>",
    "<extra_id_0>",
    "CamelCase",
    "HTTPServer",
    "\u00e9",
    "e\u0301",
    "\uff76\uff9e",
    "\uff21\u0301",
]
EMOJI = ["\U0001f642", "\U0001f469\u200d\U0001f469\u200d\U0001f467", "\U0001f1e9\U0001f1ea", "\U0001f44d\U0001f3fd"]
EMOJI += ["\u2603\ufe0f", "\U0001f3f4\u200d\u2620\ufe0f", "\u00a9\u200d\u00a9", "1\ufe0f\u20e3"]


def lines(count: int = 2000, seed: int = 5) -> list[str]:
    """Lines in thirteen scripts with emoji, control characters, combining marks, odd spaces and special tokens."""
    generator = random.Random(seed)
    found = [
        "",
        " ",
        "  ",
        "\n",
        " a",
        "a ",
        "  a  b  ",
        "\n\n a\n",
        "a\r\n\r\nb",
        "\t x",
        "a" * 101,
        "Hello, my dog is cute",
    ]
    found += [*EMOJI, *(f"a {piece} b{piece}" for piece in PIECES), *(f"x{odd}{odd} {odd}y" for odd in ODD)]
    while len(found) < count:
        low, high = generator.choice(SCRIPTS)
        words = [_word(generator, low, high) for _ in range(generator.randrange(9))]
        line = "".join(word + generator.choice([" ", " ", " ", "", "  ", "\n", " \n\n", "\t"]) for word in words)
        found.append(line if generator.random() < 0.3 else line.strip(" "))
    return found[:count]


def _word(generator, low, high):
    if generator.random() < 0.15:
        return generator.choice([*PIECES, *EMOJI])
    word = ""
    for _ in range(generator.randrange(1, 9)):
        word += chr(generator.randrange(low, high))
        if generator.random() < 0.08:
            word += generator.choice(MARKS)
    return word + (generator.choice(ODD) if generator.random() < 0.15 else "")


def corpus() -> list[str]:
    """Texts to train on: lines as above, and real ones if KERAS_ATTN_DATA is set."""
    texts = lines(3000, seed=11)
    for language in ("en", "de"):
        path = Path(os.environ.get("KERAS_ATTN_DATA", "")) / "multi30k" / f"train.{language}.gz"
        if path.is_file():
            with gzip.open(path, "rt", encoding="utf-8") as file:
                texts += [line.rstrip("\n") for line, _ in zip(file, range(2000), strict=False)]
    return texts


def _section(kind, **settings):
    return {"type": kind, **settings}


def _sequence(section, *parts):
    return {
        "type": "Sequence",
        {"n": "normalizers", "p": "pretokenizers", "d": "decoders", "t": "processors"}[section]: list(parts),
    }


def _split(pattern, behavior="Isolated", invert=False):
    return _section("Split", pattern={"Regex": pattern}, behavior=behavior, invert=invert)


def _bytes(space=False, regex=True):
    return _section("ByteLevel", add_prefix_space=space, trim_offsets=True, use_regex=regex)


def _metaspace(scheme="always", split=True):
    return _section("Metaspace", replacement="\u2581", prepend_scheme=scheme, split=split)


def _replace(pattern, content, regex=False):
    return _section("Replace", pattern={"Regex" if regex else "String": pattern}, content=content)


def _bert(lowercase):
    return _section(
        "BertNormalizer", clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=lowercase
    )


def _charsmap():
    """The rules of characters of SentencePiece's NFKC."""
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["a b c", "b c a"]),
        model_writer=model,
        vocab_size=8,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    from sentencepiece import sentencepiece_model_pb2

    proto = sentencepiece_model_pb2.ModelProto.FromString(model.getvalue())
    return _section(
        "Precompiled", precompiled_charsmap=base64.b64encode(proto.normalizer_spec.precompiled_charsmap).decode()
    )


BLOOM = r" ?[^(\s|[.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c])]+"
SPACES = _replace(" ", "\u2581")
BYTE_DECODER = _sequence("d", _replace("\u2581", " "), _section("ByteFallback"), _section("Fuse"))
STRIPPED = _sequence("d", *BYTE_DECODER["decoders"], _section("Strip", content=" ", start=1, stop=0))
GPT_OSS = _sequence("p", _split(PATTERNS["o200k"]), _bytes(regex=False))
# family: (model, special tokens, normaliser, pre-tokenizer, decoder, special tokens around a text, other added tokens)
KINDS: dict[str, dict[str, Any]] = {
    "BERT cased": {"model": "WordPiece", "normalizer": _bert(False), "around": ("[CLS]", "[SEP]", "bert")},
    "BERT uncased": {"model": "WordPiece", "normalizer": _bert(True), "around": ("[CLS]", "[SEP]", "bert")},
    "MPNet": {"model": "WordPiece", "normalizer": _bert(True), "around": ("<s>", "</s>", "roberta")},
    "RoBERTa": {"model": "BPE", "pre_tokenizer": _bytes(), "around": ("<s>", "</s>", "roberta"), "mask": "<mask>"},
    "GPT-2": {"model": "BPE", "pre_tokenizer": _bytes()},
    "GPT-NeoX": {
        "model": "BPE",
        "normalizer": _section("NFC"),
        "pre_tokenizer": _bytes(),
        "added": [{"content": " " * i, "normalized": True} for i in (4, 3, 2)],
    },
    "Llama 2": {
        "model": "BPE fallback",
        "normalizer": _sequence("n", _section("Prepend", prepend="\u2581"), SPACES),
        "decoder": STRIPPED,
        "around": ("<s>", None, "template"),
    },
    "Llama 3": {
        "model": "BPE",
        "ignore_merges": True,
        "pre_tokenizer": _sequence("p", _split(PATTERNS["llama3"]), _bytes(regex=False)),
        "around": ("<s>", None, "template"),
    },
    "Qwen2": {
        "model": "BPE",
        "normalizer": _section("NFC"),
        "pre_tokenizer": _sequence("p", _split(PATTERNS["qwen2"]), _bytes(regex=False)),
        "added": [{"content": "<think>"}],
    },
    "GPT-OSS": {"model": "BPE", "pre_tokenizer": GPT_OSS},
    "SmolLM": {"model": "BPE", "pre_tokenizer": _sequence("p", _section("Digits", individual_digits=True), _bytes())},
    "Gemma": {
        "model": "BPE fallback",
        "normalizer": SPACES,
        "pre_tokenizer": _section("Split", pattern={"String": " "}, behavior="MergedWithPrevious", invert=False),
        "decoder": BYTE_DECODER,
        "around": ("<s>", None, "template"),
        "added": [{"content": "\n\n"}, {"content": "<b>"}],
    },
    "Phi-3": {
        "model": "BPE fallback",
        "normalizer": _sequence("n", _section("Prepend", prepend="\u2581"), SPACES),
        "decoder": STRIPPED,
        "added": [{"content": "<|tool|>", "rstrip": True}],
    },
    "Mistral": {
        "model": "BPE fallback",
        "pre_tokenizer": _metaspace("first", split=False),
        "decoder": STRIPPED,
        "around": ("<s>", None, "template"),
    },
    "T5": {
        "model": "Unigram",
        "normalizer": "charsmap",
        "pre_tokenizer": _sequence("p", _section("WhitespaceSplit"), _metaspace()),
        "decoder": _metaspace(),
        "around": (None, "</s>", "template"),
        "extra": [f"<extra_id_{i}>" for i in (2, 1, 0)],
    },
    "XLM-R": {
        "model": "Unigram",
        "normalizer": [
            "charsmap",
            _section("Strip", strip_left=False, strip_right=True),
            _replace(" {2,}", "\u2581", True),
        ],
        "pre_tokenizer": _metaspace(),
        "decoder": _metaspace(),
        "around": ("<s>", "</s>", "template"),
        "mask": "<mask>",
    },
    "ALBERT": {
        "model": "Unigram",
        "normalizer": [
            *(_replace(old, '"') for old in ("``", "''")),
            *(_section(name) for name in ("NFKD", "StripAccents", "Lowercase")),
            "charsmap",
            _replace(" {2,}", " ", True),
        ],
        "pre_tokenizer": _metaspace(),
        "decoder": _metaspace(),
        "around": ("[CLS]", "[SEP]", "template"),
        "mask": "[MASK]",
    },
    "DeBERTa-v3": {
        "model": "Unigram",
        "normalizer": [_section("Strip", strip_left=True, strip_right=True), "charsmap", _replace(" {2,}", " ", True)],
        "pre_tokenizer": _sequence("p", _metaspace()),
        "decoder": _metaspace(),
        "around": ("[CLS]", "[SEP]", "template"),
    },
    "CLIP": {
        "model": "BPE suffix",
        "normalizer": _sequence("n", _section("NFC"), _replace(r"\s+", " ", True), _section("Lowercase")),
        "pre_tokenizer": _sequence("p", _split(PATTERNS["clip"], "Removed", invert=True), _bytes()),
        "around": ("<|startoftext|>", "<|endoftext|>", "roberta"),
    },
    "Whisper": {
        "model": "BPE",
        "pre_tokenizer": _bytes(),
        "around": ("<|startoftranscript|>", "<|endoftext|>", "template"),
    },
    "BLOOM": {
        "model": "BPE",
        "pre_tokenizer": _sequence("p", _split(BLOOM), _bytes(regex=False)),
        "around": (None, "</s>", "none"),
    },
    "ModernBERT": {
        "model": "BPE",
        "normalizer": _section("NFC"),
        "pre_tokenizer": _bytes(),
        "around": ("[CLS]", "[SEP]", "template"),
        "mask": "[MASK]",
        "added": [{"content": "|||IP_ADDRESS|||"}, {"content": " " * 3}],
    },
}


def made(name: str, texts: list[str], size: int = 1200) -> str:
    """The `tokenizer.json` of a family, trained on texts."""
    import tokenizers

    kind = KINDS[name]
    model = kind["model"]
    start, end, template = kind.get("around", (None, "<|endoftext|>", "none"))
    unknown = {"WordPiece": "[UNK]", "Unigram": "<unk>", "BPE fallback": "<unk>", "BPE suffix": end}.get(model)
    special = dict.fromkeys([start, "<pad>", end, unknown, kind.get("mask"), *kind.get("extra", ())])
    special = [token for token in special if token is not None]
    normalizer = kind.get("normalizer")
    if normalizer is not None and not isinstance(normalizer, dict):
        parts = [normalizer] if isinstance(normalizer, str) else normalizer
        parts = [_charsmap() if part == "charsmap" else part for part in parts]
        normalizer = parts[0] if len(parts) == 1 else _sequence("n", *parts)
    pre_tokenizer = kind.get("pre_tokenizer", _section("BertPreTokenizer") if model == "WordPiece" else None)
    default = {"WordPiece": _section("WordPiece", prefix="##", cleanup=True)}.get(model, _bytes())
    shell = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": None,
        "decoder": kind.get("decoder", default),
        "model": _empty_model(model, unknown, kind),
    }
    library = tokenizers.Tokenizer.from_str(json.dumps(shell))
    _train(library, texts, model, size, special, unknown)
    content = json.loads(library.to_str())
    content["model"] |= {name: kind[name] for name in ("ignore_merges",) if name in kind}
    ids = library.get_vocab()
    if start or template != "none":
        content["post_processor"] = _template(start, end, template, ids)
    library = tokenizers.Tokenizer.from_str(json.dumps(content))
    library.add_tokens([tokenizers.AddedToken(**{"normalized": False, **token}) for token in kind.get("added", ())])
    if mask := kind.get("mask"):
        content = json.loads(library.to_str())
        for token in content["added_tokens"]:
            token["lstrip"] = token["lstrip"] or token["content"] == mask
        return json.dumps(content)
    return library.to_str()


def _empty_model(model, unknown, kind):
    if model == "WordPiece":
        return {
            "type": model,
            "unk_token": unknown,
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": {unknown: 0},
        }
    if model == "Unigram":
        return {"type": model, "unk_id": 0, "vocab": [[unknown, 0.0]], "byte_fallback": False}
    flags = {"fuse_unk": model == "BPE fallback", "byte_fallback": model == "BPE fallback"}
    suffix = "</w>" if model == "BPE suffix" else None
    return {
        "type": "BPE",
        "unk_token": unknown,
        "end_of_word_suffix": suffix,
        **flags,
        "vocab": {unknown: 0} if unknown else {},
        "merges": [],
    }


def _train(library, texts, model, size, special, unknown):
    from tokenizers import pre_tokenizers, trainers

    options = {"vocab_size": size, "special_tokens": special, "show_progress": False}
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    if model == "WordPiece":
        trainer = trainers.WordPieceTrainer(continuing_subword_prefix="##", limit_alphabet=500, **options)
    elif model == "Unigram":
        trainer = trainers.UnigramTrainer(unk_token=unknown, **options)
        # All characters of the texts become pieces.
        common = {character for character, _ in Counter("".join(texts)).most_common(400)}
        texts = ["".join(character for character in text if character in common) for text in texts]
        for token in special:
            texts = [text.replace(token, "") for text in texts]
    elif model == "BPE fallback":
        tokens = [f"<0x{byte:02X}>" for byte in range(256)]
        trainer = trainers.BpeTrainer(limit_alphabet=400, **{**options, "special_tokens": [*special, *tokens]})
        # Merges of whole lines would cross words.
        texts = [word for text in texts for word in text.replace(" ", " \0").split("\0")]
    else:
        suffix = {"end_of_word_suffix": "</w>"} if model == "BPE suffix" else {}
        trainer = trainers.BpeTrainer(initial_alphabet=alphabet, **suffix, **options)
    library.train_from_iterator(texts, trainer)
    if model == "BPE fallback":
        content = json.loads(library.to_str())
        tokens = {f"<0x{byte:02X}>" for byte in range(256)}
        content["added_tokens"] = [token for token in content["added_tokens"] if token["content"] not in tokens]
        library.__setstate__(json.dumps(content).encode())


def _template(start, end, template, ids):
    if template == "bert":
        return _section("BertProcessing", sep=[end, ids[end]], cls=[start, ids[start]])
    if template == "roberta":
        return _section(
            "RobertaProcessing", sep=[end, ids[end]], cls=[start, ids[start]], trim_offsets=True, add_prefix_space=False
        )
    before, after = ([{"SpecialToken": {"id": token, "type_id": 0}}] if token else [] for token in (start, end))
    first, second = ({"Sequence": {"id": name, "type_id": i}} for i, name in enumerate("AB"))
    tokens = {token: {"id": token, "ids": [ids[token]], "tokens": [token]} for token in (start, end) if token}
    pair = [*before, first, *after, second, *({"SpecialToken": {"id": end, "type_id": 1}} for _ in after)]
    return _section("TemplateProcessing", single=[*before, first, *after], pair=pair, special_tokens=tokens)
