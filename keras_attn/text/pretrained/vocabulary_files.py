"""Folders without a `tokenizer.json`: `vocab.txt`, `vocab.json` and `merges.txt`, or a SentencePiece model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from keras_attn.argument_checks import is_count
from keras_attn.lines import read_lines, read_text
from keras_attn.text.pretrained import sentence_piece_files
from keras_attn.text.pretrained.components import need, need_kind
from keras_attn.text.pretrained.patterns import PATTERNS

CONVERT = (
    "Write a `tokenizer.json` with `transformers.AutoTokenizer.from_pretrained(folder).save_pretrained(folder)`, where "
    "transformers is installed"
)
BERT = {"unk_token": "[UNK]", "sep_token": "[SEP]", "pad_token": "[PAD]", "cls_token": "[CLS]", "mask_token": "[MASK]"}
MPNET = {"unk_token": "[UNK]", "sep_token": "</s>", "pad_token": "<pad>", "cls_token": "<s>", "mask_token": "<mask>"}
MPNET |= {"bos_token": "<s>", "eos_token": "</s>"}
ROBERTA = {**MPNET, "unk_token": "<unk>", "mask_token": {"content": "<mask>", "lstrip": True}}
END = "<|endoftext|>"
GPT2 = {"bos_token": END, "eos_token": END, "unk_token": END}
CLIP = {**GPT2, "bos_token": "<|startoftext|>", "pad_token": END}
WORD_PIECES = {"bert": BERT, "distilbert": BERT, "electra": BERT, "mobilebert": BERT, "mpnet": MPNET}
BYTE_PAIRS = {"roberta": ROBERTA, "bart": ROBERTA, "longformer": ROBERTA, "gpt2": GPT2, "qwen2": GPT2, "clip": CLIP}
BYTE_PAIRS |= dict.fromkeys(("gptneo", "gptj", "opt"), GPT2)


def content_of_files(
    folder: Path, config: dict[str, Any], model_config: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The `tokenizer.json` and the config, with the special tokens that are usual for the class of the tokenizer.

    Raises:
        ValueError: If there is no file with a vocabulary, or the class of the tokenizer is unknown.
    """
    names = (config.get("tokenizer_class"), model_config.get("tokenizer_class"), model_config.get("model_type"))
    name = next((name for name in names if isinstance(name, str)), "")
    family = name.removesuffix("Fast").removesuffix("Tokenizer").replace("_", "").replace("-", "").lower()
    for file in sentence_piece_files.NAMES:
        if (folder / file).is_file():
            ids = _ids(folder) if family in sentence_piece_files.WITH_VOCABULARY else None
            return sentence_piece_files.content_of_model((folder / file).read_bytes(), family, config, CONVERT, ids)
    if (folder / "vocab.txt").is_file():
        return _word_pieces(folder, family or "bert", config)
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        return _byte_pairs(folder, family, config)
    raise ValueError(
        "`folder` must have a tokenizer.json, a vocab.txt, a vocab.json with a merges.txt, or a SentencePiece model. "
        f"Received: folder={folder}"
    )


def around(start: str, end: str, ids: dict[str, int], kind: str = "BertProcessing") -> dict[str, Any]:
    """A post-processor that puts a text between two special tokens."""
    for piece in (start, end):
        need(piece in ids, "in the vocabulary", piece, "special token")
    flags = {"trim_offsets": True, "add_prefix_space": False} if kind == "RobertaProcessing" else {}
    return {"type": kind, "sep": [end, ids[end]], "cls": [start, ids[start]], **flags}


def _word_pieces(folder, family, config):
    need_kind(family in WORD_PIECES, f"of a class among {sorted(WORD_PIECES)}", family, "vocab.txt", CONVERT)
    lines = read_lines(folder / "vocab.txt")
    ids = {piece: i for i, piece in enumerate(lines)}
    need(len(ids) == len(lines), "without repeated pieces", "a piece more than once", "vocab.txt")
    config = {**WORD_PIECES[family], **config}
    special = {name: _text(config[name]) for name in WORD_PIECES[family]}
    normalizer = {
        "type": "BertNormalizer",
        "clean_text": True,
        "handle_chinese_chars": config.get("tokenize_chinese_chars", True),
        "strip_accents": config.get("strip_accents"),
        "lowercase": config.get("do_lower_case", True),
    }
    kind = "RobertaProcessing" if family == "mpnet" else "BertProcessing"
    model = {"type": "WordPiece", "unk_token": special["unk_token"], "continuing_subword_prefix": "##"}
    content = {
        "normalizer": normalizer,
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": around(special["cls_token"], special["sep_token"], ids, kind),
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {**model, "max_input_chars_per_word": 100, "vocab": ids},
    }
    return content, config


def _byte_pairs(folder, family, config):
    need_kind(family in BYTE_PAIRS, f"of a class among {sorted(BYTE_PAIRS)}", family, "vocab.json", CONVERT)
    ids = _ids(folder)
    lines = [line for line in read_lines(folder / "merges.txt") if line]
    merges = [line for i, line in enumerate(lines) if i or not line.startswith("#version")]
    config = {**BYTE_PAIRS[family], **config}
    special = {name: _text(config[name]) for name in BYTE_PAIRS[family]}
    space = bool(config.get("add_prefix_space", False))
    level = {"type": "ByteLevel", "add_prefix_space": space, "trim_offsets": True, "use_regex": True}
    model = {"type": "BPE", "vocab": ids, "merges": merges}
    content = {"pre_tokenizer": level, "decoder": level, "model": model}
    if family in ("roberta", "bart", "longformer"):
        content["post_processor"] = around(special["cls_token"], special["sep_token"], ids, "RobertaProcessing")
    elif family == "qwen2":
        content["normalizer"] = {"type": "NFC"}
        content["pre_tokenizer"] = {
            "type": "Sequence",
            "pretokenizers": [_split("qwen2"), {**level, "use_regex": False}],
        }
    elif family == "clip":
        model |= {"unk_token": special["unk_token"], "continuing_subword_prefix": "", "end_of_word_suffix": "</w>"}
        spaces = {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "}
        content["normalizer"] = {"type": "Sequence", "normalizers": [{"type": "NFC"}, spaces, {"type": "Lowercase"}]}
        split = {**_split("clip"), "behavior": "Removed", "invert": True}
        content["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [split, level]}
        content["post_processor"] = around(special["bos_token"], special["eos_token"], ids, "RobertaProcessing")
    return content, config


def _ids(folder):
    try:
        ids = json.loads(read_text(folder / "vocab.json"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"`folder` must have a valid vocab.json. Received: {error} in {folder}") from error
    right = isinstance(ids, dict) and all(map(is_count, ids.values()))
    need(right, "an object of ids", type(ids).__name__, "vocab.json")
    return ids


def _split(name):
    return {"type": "Split", "pattern": {"Regex": PATTERNS[name]}, "behavior": "Isolated", "invert": False}


def _text(token):
    return token.get("content") if isinstance(token, dict) else token
