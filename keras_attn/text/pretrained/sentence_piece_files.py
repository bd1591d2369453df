"""A SentencePiece model as a `tokenizer.json`, as Hugging Face converts it for each class of tokenizer."""

from __future__ import annotations

import base64
from typing import Any

from keras_attn.argument_checks import is_count
from keras_attn.extras import require
from keras_attn.text.pretrained.components import need

NAMES = ("spiece.model", "sentencepiece.bpe.model", "tokenizer.model", "spm.model", "source.spm")
SPACE = "\u2581"
NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
BPE = 2
ENDS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
MASK = {"content": "<mask>", "lstrip": True}
XLMR = {**ENDS, "sep_token": "</s>", "cls_token": "<s>", "pad_token": "<pad>", "mask_token": MASK}
ALBERT = {"bos_token": "[CLS]", "eos_token": "[SEP]", "unk_token": "<unk>", "sep_token": "[SEP]", "pad_token": "<pad>"}
ALBERT |= {"cls_token": "[CLS]", "mask_token": {"content": "[MASK]", "lstrip": True}}
DEBERTA = {**ALBERT, "unk_token": "[UNK]", "pad_token": "[PAD]", "mask_token": "[MASK]"}
T5 = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
GEMMA = {"bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>", "pad_token": "<pad>"}
SPECIAL = {"t5": T5, "mt5": T5, "xlmroberta": XLMR, "albert": ALBERT, "deberta": DEBERTA, "llama": ENDS, "gemma": GEMMA}
OTHER_NAMES = {
    "debertav2": "deberta",
    "debertav3": "deberta",
    "xlmr": "xlmroberta",
    "mistral": "llama",
    "phi3": "llama",
}


def content_of_model(
    model: bytes, family: str, config: dict[str, Any], otherwise: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The `tokenizer.json` and the config, with the special tokens that are usual for the class of the tokenizer.

    Raises:
        ValueError: If it is not a SentencePiece model, or the class of the tokenizer is unknown.
    """
    family = OTHER_NAMES.get(family, family)
    rule = f"of a class among {sorted(SPECIAL)} without a tokenizer.json. {otherwise}"
    need(family in SPECIAL, rule, family, "SentencePiece model")
    proto = _proto(model)
    config = {**SPECIAL[family], **config}
    pieces = [(piece.piece, piece.score) for piece in proto.pieces]
    if family == "xlmroberta":
        # fairseq numbers its special tokens first.
        pieces = [*((piece, 0.0) for piece in ("<s>", "<pad>", "</s>", "<unk>")), *pieces[3:], ("<mask>", 0.0)]
    elif family in ("t5", "mt5"):
        extra = config.get("extra_ids", 100 if family == "t5" else 0)
        need(is_count(extra) and extra < 2**16, "a count", extra, "extra_ids")
        known = {piece for piece, _ in pieces}
        pieces += [(name, 0.0) for i in reversed(range(extra)) if (name := f"<extra_id_{i}>") not in known]
    elif family == "albert":
        pieces = [(piece, score if _comma(piece) else score - 100) for piece, score in pieces]
    ids = {piece: i for i, (piece, _) in enumerate(pieces)}
    need(len(ids) == len(pieces), "without repeated pieces", "a piece more than once", "SentencePiece model")
    unknown = {"xlmroberta": 3}.get(family, proto.trainer_spec.unk_id)
    model_section = _bpe(proto, ids) if proto.trainer_spec.model_type == BPE else _unigram(pieces, unknown, proto)
    content = {"model": model_section, "added_tokens": _added(proto, ids, family)}
    return content | _SECTIONS[family](proto, config, ids), config


def _proto(model):
    proto = require("sentencepiece.sentencepiece_model_pb2", "text").ModelProto()
    try:
        proto.ParseFromString(model)
        need(
            all(isinstance(piece.piece, str) for piece in proto.pieces), "of UTF-8 pieces", None, "SentencePiece model"
        )
    except require("google.protobuf.message", "text").DecodeError as error:
        need(False, "a protocol buffer", str(error), "SentencePiece model")
    need(proto.pieces, "a model with pieces", 0, "SentencePiece model")
    need(proto.trainer_spec.model_type in (1, BPE), "unigram or BPE", proto.trainer_spec.model_type, "model_type")
    return proto


def _unigram(pieces, unknown, proto):
    vocab = [[piece, score] for piece, score in pieces]
    return {"type": "Unigram", "unk_id": unknown, "vocab": vocab, "byte_fallback": proto.trainer_spec.byte_fallback}


def _bpe(proto, ids):
    scores = {piece.piece: piece.score for piece in proto.pieces}
    merges = []
    for piece, score in scores.items():
        parts = [(piece[:i], piece[i:]) for i in range(1, len(piece))]
        found = [(left, right) for left, right in parts if left in scores and right in scores]
        merges += [(-score, ids[left], ids[right], left, right) for left, right in found]
    merges = [[left, right] for *_, left, right in sorted(merges)]
    flags = {"fuse_unk": True, "byte_fallback": proto.trainer_spec.byte_fallback, "ignore_merges": False}
    return {"type": "BPE", "unk_token": proto.trainer_spec.unk_piece, **flags, "vocab": ids, "merges": merges}


def _added(proto, ids, family):
    special = {"<start_of_turn>", "<end_of_turn>"} if family == "gemma" else set()
    found = []
    for piece in proto.pieces:
        if piece.type in (CONTROL, USER) and piece.piece in ids:
            is_special = piece.type == CONTROL or piece.piece in special
            found.append({"id": ids[piece.piece], "content": piece.piece, "special": is_special})
    if family in ("t5", "mt5"):
        extra = [piece for piece in ids if piece.startswith("<extra_id_") and piece.endswith(">")]
        found += [{"id": ids[piece], "content": piece, "special": True} for piece in extra]
    return list({token["content"]: token for token in found}.values())


def _precompiled(proto):
    rules = proto.normalizer_spec.precompiled_charsmap
    return [{"type": "Precompiled", "precompiled_charsmap": base64.b64encode(rules).decode()}] if rules else []


def _metaspace(**settings):
    return {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": "always", "split": True, **settings}


def _template(start, end, ids, between=()):
    tokens = {piece: {"id": piece, "ids": [ids[piece]], "tokens": [piece]} for piece in (*start, *end) if piece in ids}
    need(len(tokens) == len({*start, *end}), "with its special tokens", sorted(ids)[:5], "SentencePiece model")
    second = 0 if between or not start else 1

    def listed(pieces, segment=0):
        return [{"SpecialToken": {"id": piece, "type_id": segment}} for piece in pieces]

    first, other = {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": second}}
    single = [*listed(start), first, *listed(end)]
    pair = [*single, *listed(between), other, *listed(end, second)]
    return {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": tokens}


def _comma(piece):
    """Whether a piece is not a number that ends with a comma, as ALBERT splits those."""
    return len(piece) < 2 or piece[-1] != "," or not piece[-2].isdigit()


def _words(proto, config, ids):
    """T5 and XLM-R split at whitespace first."""
    is_t5 = "cls_token" not in config
    normalizers = _precompiled(proto)
    template = _template((), ("</s>",), ids) if is_t5 else _template(("<s>",), ("</s>",), ids, between=("</s>",))
    return {
        "normalizer": normalizers[0] if normalizers else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, _metaspace()]},
        "post_processor": template,
        "decoder": _metaspace(),
    }


def _albert(proto, config, ids):
    quotes = [{"type": "Replace", "pattern": {"String": old}, "content": '"'} for old in ("``", "''")]
    accents = [] if config.get("keep_accents", False) else [{"type": "NFKD"}, {"type": "StripAccents"}]
    case = [{"type": "Lowercase"}] if config.get("do_lower_case", True) else []
    spaces = [{"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}]
    return {
        "normalizer": {"type": "Sequence", "normalizers": [*quotes, *accents, *case, *_precompiled(proto), *spaces]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, _metaspace()]},
        "post_processor": _template(("[CLS]",), ("[SEP]",), ids),
        "decoder": _metaspace(),
    }


def _deberta(proto, config, ids):
    case = [{"type": "Lowercase"}] if config.get("do_lower_case", False) else []
    strip = [{"type": "Strip", "strip_left": True, "strip_right": True}]
    spaces = [{"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}]
    punctuation = [{"type": "Punctuation", "behavior": "Isolated"}] if config.get("split_by_punct", False) else []
    return {
        "normalizer": {"type": "Sequence", "normalizers": [*case, *strip, *_precompiled(proto), *spaces]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*punctuation, _metaspace()]},
        "post_processor": _template(("[CLS]",), ("[SEP]",), ids),
        "decoder": _metaspace(),
    }


def _llama(proto, config, ids):
    """As SentencePiece does, a space is put before each text, also if it starts with one."""
    prepend = [{"type": "Prepend", "prepend": SPACE}] if proto.normalizer_spec.add_dummy_prefix else []
    spaces = [{"type": "Replace", "pattern": {"String": " "}, "content": SPACE}]
    start = ("<s>",) if config.get("add_bos_token", True) else ()
    end = ("</s>",) if config.get("add_eos_token", False) else ()
    return {
        "normalizer": {"type": "Sequence", "normalizers": [*prepend, *spaces]},
        "post_processor": _template(start, end, ids, between=start),
        "decoder": {"type": "Sequence", "decoders": _bytes_decoder(strip=bool(prepend))},
    }


def _gemma(proto, config, ids):
    return {
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": SPACE},
        "post_processor": _template(("<bos>",), (), ids, between=("<bos>",)),
        "decoder": {"type": "Sequence", "decoders": _bytes_decoder(strip=False)},
    }


def _bytes_decoder(strip):
    parts = [{"type": "Replace", "pattern": {"String": SPACE}, "content": " "}, {"type": "ByteFallback"}]
    parts.append({"type": "Fuse"})
    return [*parts, {"type": "Strip", "content": " ", "start": 1, "stop": 0}] if strip else parts


_SECTIONS = {"t5": _words, "mt5": _words, "xlmroberta": _words, "albert": _albert, "deberta": _deberta}
_SECTIONS |= {"llama": _llama, "gemma": _gemma}
