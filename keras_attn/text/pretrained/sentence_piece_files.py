"""A SentencePiece model as a `tokenizer.json`, as Hugging Face converts it for each class of tokenizer."""

from __future__ import annotations

import base64
import string
from typing import Any

from keras_attn.argument_checks import is_count
from keras_attn.extras import require
from keras_attn.text.pretrained.components import hidden_name, need, need_kind

NAMES = ("spiece.model", "sentencepiece.bpe.model", "tokenizer.model", "spm.model", "source.spm")
SPACE = "\u2581"
NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
BPE = 2
ENDS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
MASK = {"content": "<mask>", "lstrip": True}
M2M = {**ENDS, "sep_token": "</s>", "pad_token": "<pad>"}
XLMR = {**M2M, "cls_token": "<s>", "mask_token": MASK}
ALBERT = {"bos_token": "[CLS]", "eos_token": "[SEP]", "unk_token": "<unk>", "sep_token": "[SEP]", "pad_token": "<pad>"}
ALBERT |= {"cls_token": "[CLS]", "mask_token": {"content": "[MASK]", "lstrip": True}}
DEBERTA = {**ALBERT, "unk_token": "[UNK]", "pad_token": "[PAD]", "mask_token": "[MASK]"}
T5 = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
SIGLIP = {**T5, "pad_token": "</s>"}
PEGASUS = {**T5, "mask_token": "<mask_2>"}
GEMMA = {"bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>", "pad_token": "<pad>"}
SPECIAL = {"t5": T5, "mt5": T5, "xlmroberta": XLMR, "albert": ALBERT, "deberta": DEBERTA, "llama": ENDS, "gemma": GEMMA}
SPECIAL |= {"camembert": XLMR, "mbart": XLMR, "mbart50": XLMR, "pegasus": PEGASUS, "siglip": SIGLIP}
# Their pieces have the ids of a vocab.json.
WITH_VOCABULARY = {"marian": {**T5, "model_max_length": 512}, "m2m100": M2M}
SPECIAL |= WITH_VOCABULARY
OTHER_NAMES = {
    "debertav2": "deberta",
    "debertav3": "deberta",
    "xlmr": "xlmroberta",
    "mistral": "llama",
    "phi3": "llama",
}
# The languages of mBART, those that mBART-50 adds, and those of M2M100, in the order of their ids.
_MBART = (
    "ar_AR cs_CZ de_DE en_XX es_XX et_EE fi_FI fr_XX gu_IN hi_IN it_IT ja_XX kk_KZ ko_KR lt_LT lv_LV my_MM ne_NP "
    "nl_XX ro_RO ru_RU si_LK tr_TR vi_VN zh_CN"
)
_MBART_50 = (
    "af_ZA az_AZ bn_IN fa_IR he_IL hr_HR id_ID ka_GE km_KH mk_MK ml_IN mn_MN mr_IN pl_PL ps_AF pt_XX sv_SE sw_KE "
    "ta_IN te_IN th_TH tl_XX uk_UA ur_PK xh_ZA gl_ES sl_SI"
)
_M2M_100 = (
    "af am ar ast az ba be bg bn br bs ca ceb cs cy da de el en es et fa ff fi fr fy ga gd gl gu ha he hi hr ht "
    "hu hy id ig ilo is it ja jv ka kk km kn ko lb lg ln lo lt lv mg mk ml mn mr ms my ne nl no ns oc or pa pl ps "
    "pt ro ru sd si sk sl so sq sr ss su sv sw ta th tl tn tr uk ur uz vi wo xh yi yo zh zu"
)
LANGUAGES = {
    "mbart": _MBART.split(),
    "mbart50": f"{_MBART} {_MBART_50}".split(),
    "m2m100": [f"__{code}__" for code in _M2M_100.split()],
}


def content_of_model(
    model: bytes, family: str, config: dict[str, Any], otherwise: str, vocabulary: dict[str, int] | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The `tokenizer.json` and the config, with the special tokens that are usual for the class of the tokenizer.

    Args:
        model: The SentencePiece model.
        family: The class of the tokenizer, in lower case and without the word "Tokenizer".
        config: The content of `tokenizer_config.json`.
        otherwise: What to do if the class is unknown.
        vocabulary: The content of `vocab.json`, for the classes that have one beside the model.

    Raises:
        ValueError: If it is not a SentencePiece model, or the class of the tokenizer is unknown.
    """
    family = OTHER_NAMES.get(family, family)
    need_kind(family in SPECIAL, f"of a class among {sorted(SPECIAL)}", family, "SentencePiece model", otherwise)
    proto = _proto(model)
    config = {**SPECIAL[family], **config}
    pieces = _pieces(proto, family, config, vocabulary)
    ids = {piece: i for i, (piece, _) in enumerate(pieces)}
    need(len(ids) == len(pieces), "without repeated pieces", "a piece more than once", "SentencePiece model")
    if proto.trainer_spec.model_type == BPE:
        model_section = _bpe(proto, ids)
    else:
        unknown = ids.get(SPECIAL[family]["unk_token"], proto.trainer_spec.unk_id)
        model_section = _unigram(pieces, unknown, proto)
    content = {"model": model_section, "added_tokens": _added(proto, ids, family)}
    return content | _SECTIONS[family](proto, config, ids), config


def _pieces(proto, family, config, vocabulary):
    """`(piece, score)` in the order of their ids."""
    pieces = [(piece.piece, piece.score) for piece in proto.pieces]
    languages = [(code, 0.0) for code in LANGUAGES.get(family, ())]
    if family in WITH_VOCABULARY:
        return _ordered(proto, family, vocabulary) + languages
    if family in ("xlmroberta", "mbart", "mbart50"):
        # fairseq numbers its special tokens first.
        first = [(piece, 0.0) for piece in ("<s>", "<pad>", "</s>", "<unk>")]
        return [*first, *pieces[3:], *languages, ("<mask>", 0.0)]
    if family == "camembert":
        first = [(piece, 0.0) for piece in ("<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>")]
        return [*first, ("<unk>NOTUSED", -100.0), *pieces[1:], ("<mask>", 0.0)]
    if family == "pegasus":
        reserved = [*((f"<mask_{i}>", 0.0) for i in (1, 2)), *((f"<unk_{i}>", -100.0) for i in range(2, 103))]
        return [*pieces[:2], *reserved, *pieces[2:]]
    if family in ("t5", "mt5"):
        extra = config.get("extra_ids", 100 if family == "t5" else 0)
        need(is_count(extra) and extra < 2**16, "a count", extra, "extra_ids")
        known = {piece for piece, _ in pieces}
        return pieces + [(name, 0.0) for i in reversed(range(extra)) if (name := f"<extra_id_{i}>") not in known]
    if family == "albert":
        return [(piece, score if _comma(piece) else score - 100) for piece, score in pieces]
    return pieces


def _ordered(proto, family, vocabulary):
    """The pieces of a `vocab.json`. Those that the model lacks have names that no text contains.

    Pieces of the model that `vocab.json` lacks are left out: texts with them have other pieces there.
    """
    need(isinstance(vocabulary, dict), "beside the SentencePiece model", type(vocabulary).__name__, "vocab.json")
    scores = {piece.piece: piece.score for piece in proto.pieces if piece.type == NORMAL}
    special = {*SPECIAL[family].values()}
    found = sorted(vocabulary, key=vocabulary.__getitem__)
    need([vocabulary[piece] for piece in found] == list(range(len(found))), "with ids from 0", None, "vocab.json")
    is_shown = (piece in scores or piece in special or _is_language(piece) for piece in found)
    return [
        (piece if shown else hidden_name(piece), scores.get(piece, 0.0))
        for piece, shown in zip(found, is_shown, strict=True)
    ]


def _is_language(piece):
    """Whether a piece of Marian chooses the language of the translation."""
    return piece.startswith(">>") and piece.endswith("<<")


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
    codes = LANGUAGES.get(family, ())
    found = [{"id": ids[piece], "content": piece, "special": True} for piece in codes]
    found += [{"id": i, "content": piece, "special": False} for piece, i in ids.items() if _is_language(piece)]
    if family == "pegasus":
        reserved = [piece for piece in ids if piece.startswith(("<mask_", "<unk_"))]
        found += [{"id": ids[piece], "content": piece, "special": True} for piece in reserved]
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


def _whole(start, end, ids):
    """A template in which two texts are one."""
    template = _template(start, end, ids)
    single = template["single"]
    second = {"Sequence": {"id": "B", "type_id": 0}}
    return {**template, "pair": [*single[: len(start) + 1], second, *single[len(start) + 1 :]]}


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


def _mbart(proto, config, ids):
    language = config.get("src_lang") or "en_XX"
    return {**_words(proto, config, ids), "post_processor": _whole((), ("</s>", language), ids)}


def _mbart_50(proto, config, ids):
    language = config.get("src_lang") or "en_XX"
    return {**_words(proto, config, ids), "post_processor": _whole((language,), ("</s>",), ids)}


def _m2m_100(proto, config, ids):
    language = f"__{config.get('src_lang') or 'en'}__"
    return {**_marian(proto, config, ids), "post_processor": _whole((language,), ("</s>",), ids)}


def _marian(proto, config, ids):
    # Names that no text contains become pieces again.
    names = [{"type": "Replace", "pattern": {"String": x}, "content": ""} for x in hidden_name("|").split("|")]
    return {
        **_words(proto, config, ids),
        "post_processor": _whole((), ("</s>",), ids),
        "decoder": {"type": "Sequence", "decoders": [*names, _metaspace()]},
    }


def _siglip(proto, config, ids):
    """Without punctuation."""
    found = _words(proto, config, ids)
    case = [{"type": "Lowercase"}] if config.get("do_lower_case", True) else []
    marks = "".join(rf"\{character}" for character in string.punctuation)
    punctuation = {"type": "Replace", "pattern": {"Regex": f"[{marks}]"}, "content": ""}
    rules = [found["normalizer"]] if found["normalizer"] else []
    return {**found, "normalizer": {"type": "Sequence", "normalizers": [*case, punctuation, *rules]}}


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
_SECTIONS |= {"llama": _llama, "gemma": _gemma, "camembert": _words, "mbart": _mbart, "mbart50": _mbart_50}
_SECTIONS |= {"pegasus": _words, "siglip": _siglip, "marian": _marian, "m2m100": _m2m_100}
