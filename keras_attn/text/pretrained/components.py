"""The components of a `tokenizer.json` and their settings. Others are refused by name."""

import math
from collections.abc import Iterator
from typing import Any

from keras_attn.argument_checks import is_count
from keras_attn.text.pretrained.charsmaps import check as check_charsmap

SECTIONS = ("version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer", "post_processor")
SECTIONS += ("decoder", "model")
# The settings of each type of component.
NORMALIZERS = {
    "BertNormalizer": ("clean_text", "handle_chinese_chars", "strip_accents", "lowercase"),
    "ByteLevel": (),
    "Lowercase": (),
    "NFC": (),
    "NFD": (),
    "NFKC": (),
    "NFKD": (),
    "Nmt": (),
    "Precompiled": ("precompiled_charsmap",),
    "Prepend": ("prepend",),
    "Replace": ("pattern", "content"),
    "Sequence": ("normalizers",),
    "Strip": ("strip_left", "strip_right"),
    "StripAccents": (),
}
PRE_TOKENIZERS = {
    "BertPreTokenizer": (),
    "ByteLevel": ("add_prefix_space", "trim_offsets", "use_regex"),
    "CharDelimiterSplit": ("delimiter",),
    "Digits": ("individual_digits",),
    "Metaspace": ("replacement", "prepend_scheme", "split", "add_prefix_space", "str_rep"),
    "Punctuation": ("behavior",),
    "Sequence": ("pretokenizers",),
    "Split": ("pattern", "behavior", "invert"),
    "Whitespace": (),
    "WhitespaceSplit": (),
}
POST_PROCESSORS = {
    "BertProcessing": ("sep", "cls"),
    "ByteLevel": ("add_prefix_space", "trim_offsets", "use_regex"),
    "RobertaProcessing": ("sep", "cls", "trim_offsets", "add_prefix_space"),
    "Sequence": ("processors",),
    "TemplateProcessing": ("single", "pair", "special_tokens"),
}
DECODERS = {
    "BPEDecoder": ("suffix",),
    "ByteFallback": (),
    "ByteLevel": ("add_prefix_space", "trim_offsets", "use_regex"),
    "Fuse": (),
    "Metaspace": ("replacement", "prepend_scheme", "split", "add_prefix_space", "str_rep"),
    "Replace": ("pattern", "content"),
    "Sequence": ("decoders",),
    "Strip": ("content", "start", "stop"),
    "WordPiece": ("prefix", "cleanup"),
}
MODELS = {
    "BPE": (
        *("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", "byte_fallback"),
        *("ignore_merges", "vocab", "merges"),
    ),
    "Unigram": ("unk_id", "vocab", "byte_fallback"),
    "WordLevel": ("vocab", "unk_token"),
    "WordPiece": ("unk_token", "continuing_subword_prefix", "max_input_chars_per_word", "vocab"),
}
# The settings that have no default.
REQUIRED = {
    "BertNormalizer": ("clean_text", "handle_chinese_chars", "lowercase"),
    "BertProcessing": ("sep", "cls"),
    "ByteLevel": ("add_prefix_space",),
    "CharDelimiterSplit": ("delimiter",),
    "Precompiled": ("precompiled_charsmap",),
    "Prepend": ("prepend",),
    "Replace": ("pattern", "content"),
    "RobertaProcessing": ("sep", "cls"),
    "Split": ("pattern", "behavior", "invert"),
    "TemplateProcessing": ("single", "special_tokens"),
}
REQUIRED_OF_NORMALIZERS = {"ByteLevel": (), "Strip": ("strip_left", "strip_right")}
LISTS = {"normalizer": "normalizers", "pre_tokenizer": "pretokenizers", "post_processor": "processors"}
LISTS |= {"decoder": "decoders"}
TYPES = {"normalizer": NORMALIZERS, "pre_tokenizer": PRE_TOKENIZERS, "post_processor": POST_PROCESSORS}
TYPES |= {"decoder": DECODERS, "model": MODELS}
TOKEN_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")
MAX_DEPTH = 20
_HIDDEN = ("\0 ", " \0")


def hidden_name(piece: str) -> str:
    """A name for a piece that no text contains: words contain no spaces, and texts no NUL."""
    return piece.join(_HIDDEN)


def shown_name(name: str) -> str:
    """The piece of a name that may be hidden."""
    return name.removeprefix(_HIDDEN[0]).removesuffix(_HIDDEN[1])


def flat(content: dict[str, Any], section: str) -> list[dict[str, Any]]:
    """The components of a section, in order, with sequences flattened."""
    return list(_flat(content.get(section), section))


def _flat(component: Any, section: str) -> Iterator[dict[str, Any]]:
    if component is None:
        return
    if component["type"] == "Sequence":
        for inner in component[LISTS[section]]:
            yield from _flat(inner, section)
    else:
        yield component


def checked(content: Any) -> dict[str, Any]:
    """Checks the content of a `tokenizer.json` and spells old forms as today's.

    Returns:
        A new dict with all sections. Merges are lists of two pieces, and added tokens are sorted by id. `truncation`
        and `padding` are kept.

    Raises:
        ValueError: If it is not a tokenizer, or a setting is not understood. The message names the setting.
    """
    need(isinstance(content, dict), "an object with a `model`", content, "tokenizer.json")
    unknown = sorted(set(content) - {*SECTIONS})
    need(not unknown, f"sections among {SECTIONS}", unknown, "tokenizer.json")
    need(isinstance(content.get("model"), dict), "an object", content.get("model"), "model")
    version = content.get("version", "1.0")
    need(version == "1.0", "'1.0'", version, "version")
    content = {**dict.fromkeys(SECTIONS), **content, "version": version}
    for section in LISTS:
        content[section] = _checked_component(content[section], section, section)
    content["model"] = _checked_model(content["model"])
    content["added_tokens"] = checked_added_tokens(content["added_tokens"] or [])
    pieces_of(content)
    return content


def pieces_of(content: dict[str, Any]) -> list[str]:
    """The pieces of the model and the added tokens, ordered by id."""
    model = content["model"]
    if model["type"] == "Unigram":
        ids = {piece: i for i, (piece, _) in enumerate(model["vocab"])}
    else:
        ids = dict(model["vocab"])
    for token in content["added_tokens"]:
        known = ids.setdefault(token["content"], token["id"])
        need(known == token["id"], f"the id {known} of the vocabulary", token, f"added_tokens {token['content']!r}")
    pieces = sorted(ids, key=ids.__getitem__)
    numbers = [ids[piece] for piece in pieces]
    wrong = next((i for i, number in enumerate(numbers) if number != i), None)
    if wrong is not None:
        rule = "ids from 0 without holes or repeats"
        need(False, rule, {pieces[wrong]: numbers[wrong]}, "vocab")
    try:
        "".join(pieces).encode()
    except UnicodeEncodeError as error:
        need(False, "text without surrogates", str(error), "vocab")
    return pieces


class UnsupportedTokenizerError(ValueError):
    """Files of a kind of tokenizer that is not read, though they may be right."""


def need_kind(condition: Any, rule: str, received: Any, key: str, otherwise: str) -> None:
    """As `need`, for kinds of tokenizers that need a `tokenizer.json`; `otherwise` says how to get one."""
    if not condition:
        raise UnsupportedTokenizerError(
            f"`{key}` of the tokenizer must be {rule} without a tokenizer.json. {otherwise}. Received: {received!r}"
        )


def need(condition: Any, rule: str, received: Any, key: str) -> None:
    """Raises a ValueError that names a key of a tokenizer file unless `condition` holds."""
    if not condition:
        received = repr(received)
        received = received if len(received) < 200 else received[:200] + "..."
        raise ValueError(f"`{key}` of the tokenizer must be {rule}. Received: {key}={received}")


def _checked_component(component, section, key, depth=0):
    if component is None:
        return None
    types = TYPES[section]
    need(isinstance(component, dict) and depth < MAX_DEPTH, "an object or null", component, key)
    kind = component.get("type")
    need(isinstance(kind, str) and kind in types, f"of a type among {sorted(types)}", kind, f"{key}.type")
    for name in component:
        need(
            name == "type" or name in types[kind], f"a {kind} with {types[kind]} only", component[name], f"{key}.{name}"
        )
    required = (REQUIRED | REQUIRED_OF_NORMALIZERS) if section == "normalizer" else REQUIRED
    missing = [name for name in required.get(kind, ()) if name not in component]
    need(not missing, f"a {kind} with {required.get(kind)}", component, f"{key}, without {missing}")
    if kind == "Sequence":
        inner = component.get(LISTS[section])
        need(isinstance(inner, list), "a list", inner, f"{key}.{LISTS[section]}")
        found = [_checked_component(x, section, f"{key}[{i}]", depth + 1) for i, x in enumerate(inner)]
        need(None not in found, "a list of objects", inner, f"{key}.{LISTS[section]}")
        return {"type": kind, LISTS[section]: found}
    _check_values(component, key)
    return _spelled_today(component)


def _check_values(component, key):
    for name, value in component.items():
        where = f"{key}.{name}"
        if name in ("pattern",):
            keys = list(value) if isinstance(value, dict) else None
            need(keys in (["String"], ["Regex"]), "a String or a Regex", value, where)
            need(isinstance(value[keys[0]], str), "a text", value, where)
        elif name in ("content", "prepend", "replacement", "delimiter", "prefix", "suffix"):
            need(isinstance(value, str), "a text", value, where)
        elif name == "precompiled_charsmap":
            need(isinstance(value, str) or value is None, "base64", value, where)
            if value:
                check_charsmap(value)
        elif name in ("start", "stop"):
            need(is_count(value), "a count", value, where)
        elif name in ("sep", "cls"):
            pair = isinstance(value, (list, tuple)) and len(value) == 2
            need(pair and isinstance(value[0], str) and is_count(value[1]), "a piece and its id", value, where)
        elif name == "behavior":
            names = ("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous")
            need(value in names, f"one of {names}", value, where)
        elif name == "prepend_scheme":
            need(value in ("always", "never", "first"), "'always', 'never' or 'first'", value, where)
        elif name == "strip_accents":
            need(value is None or isinstance(value, bool), "true, false or null", value, where)
        elif name not in ("type", "single", "pair", "special_tokens", "str_rep"):
            need(isinstance(value, bool), "true or false", value, where)


def _spelled_today(component):
    if component["type"] != "Metaspace":
        return component
    space = component.get("add_prefix_space", True)
    scheme = component.get("prepend_scheme", "always" if space else "never")
    need(space or scheme != "first", "'never' if add_prefix_space is false", scheme, "prepend_scheme")
    replacement = component.get("replacement", "\u2581")
    need(len(replacement) == 1, "one character", replacement, "replacement")
    scheme = scheme if space else "never"
    split = component.get("split", True)
    return {"type": "Metaspace", "replacement": replacement, "prepend_scheme": scheme, "split": split}


def _checked_model(model):
    kind = model.get("type") or _guessed_type(model)
    need(isinstance(kind, str) and kind in MODELS, f"among {sorted(MODELS)}", kind, "model.type")
    model = {**model, "type": kind}
    for name in model:
        need(name == "type" or name in MODELS[kind], f"a {kind} with {MODELS[kind]} only", model[name], f"model.{name}")
    for name in ("fuse_unk", "byte_fallback", "ignore_merges"):
        value = model.get(name, False)
        need(value is None or isinstance(value, bool), "true or false", value, f"model.{name}")
    for name in ("unk_token", "continuing_subword_prefix", "end_of_word_suffix"):
        value = model.get(name)
        need(value is None or isinstance(value, str), "a text or null", value, f"model.{name}")
    need(not model.get("dropout"), "null: it makes ids random", model.get("dropout"), "model.dropout")
    if kind == "Unigram":
        return _checked_unigram(model)
    vocab = model.get("vocab")
    need(isinstance(vocab, dict) and vocab, "an object of pieces and ids", type(vocab).__name__, "model.vocab")
    wrong = {piece: i for piece, i in vocab.items() if not is_count(i)}
    need(not wrong, "an object of pieces and ids", wrong, "model.vocab")
    unknown = model.get("unk_token")
    if kind == "BPE":
        # An unknown token that is not a piece is never found.
        model["merges"] = _checked_merges(model, vocab)
    else:
        need(unknown in vocab, "a piece of the vocabulary", unknown, "model.unk_token")
    if kind == "WordPiece":
        most = model.get("max_input_chars_per_word")
        need(is_count(most) and most < 2**31, "a positive count", most, "model.max_input_chars_per_word")
        need(isinstance(model.get("continuing_subword_prefix"), str), "a text", None, "model.continuing_subword_prefix")
    return model


def _guessed_type(model):
    """The type of a model of the first versions of the format, which does not say it."""
    if "merges" in model:
        return "BPE"
    if isinstance(model.get("vocab"), list):
        return "Unigram"
    return "WordPiece" if "max_input_chars_per_word" in model else "WordLevel"


def _checked_unigram(model):
    vocab = model.get("vocab")
    need(isinstance(vocab, list) and vocab, "a list of pieces and scores", type(vocab).__name__, "model.vocab")
    for entry in vocab:
        pair = isinstance(entry, (list, tuple)) and len(entry) == 2
        need(pair and isinstance(entry[0], str), "a list of pieces and scores", entry, "model.vocab")
        score = entry[1]
        number = isinstance(score, (int, float)) and not isinstance(score, bool)
        need(number and abs(score) < 1e30 and math.isfinite(score), "finite scores", entry, "model.vocab")
    repeated = len({piece for piece, _ in vocab}) < len(vocab)
    need(not repeated, "without repeated pieces", "a piece more than once", "model.vocab")
    unknown = model.get("unk_id")
    need(unknown is None or (is_count(unknown) and unknown < len(vocab)), "an id or null", unknown, "model.unk_id")
    return model


def _checked_merges(model, vocab):
    merges = model.get("merges")
    need(isinstance(merges, list), "a list of pairs", merges, "model.merges")
    skipped = len(model.get("continuing_subword_prefix") or "")
    pairs = []
    for merge in merges:
        pair = merge.split(" ") if isinstance(merge, str) else merge
        two = isinstance(pair, (list, tuple)) and len(pair) == 2 and all(isinstance(part, str) for part in pair)
        need(two, "a list of pairs", merge, "model.merges")
        left, right = pair
        known = left in vocab and right in vocab and left + right[skipped:] in vocab
        need(known, "pairs of pieces of the vocabulary that give a piece", merge, "model.merges")
        pairs.append([left, right])
    return pairs


def checked_added_tokens(tokens):
    need(isinstance(tokens, list), "a list", tokens, "added_tokens")
    found, seen = [], set()
    for token in tokens:
        need(isinstance(token, dict), "a list of objects", token, "added_tokens")
        unknown = sorted(set(token) - {"id", "content", *TOKEN_FLAGS})
        need(not unknown, f"of {('id', 'content', *TOKEN_FLAGS)} only", unknown, "added_tokens")
        text, flags = token.get("content"), {name: token.get(name, False) for name in TOKEN_FLAGS}
        need(isinstance(text, str) and text, "of texts that are not empty", token, "added_tokens.content")
        need(is_count(token.get("id")), "of ids", token, "added_tokens.id")
        for name, value in flags.items():
            need(isinstance(value, bool), "true or false", value, f"added_tokens.{name}")
        need(text not in seen, "of different texts", text, "added_tokens.content")
        seen.add(text)
        found.append({"id": token["id"], "content": text, **flags})
    return sorted(found, key=lambda token: token["id"])
