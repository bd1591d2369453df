"""Added and special tokens, which several files of a folder describe."""

from __future__ import annotations

from typing import Any

from keras_attn.argument_checks import is_count
from keras_attn.text.pretrained.components import TOKEN_FLAGS, checked_added_tokens, flat, hidden_name, need, pieces_of

SPECIAL_NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
LISTS = ("additional_special_tokens", "extra_special_tokens")
# Names that special tokens usually have, for a `tokenizer.json` alone.
USUAL = {
    "bos_token": ("<s>", "<|begin_of_text|>", "<bos>", "<|startoftext|>"),
    "eos_token": ("</s>", "<|end_of_text|>", "<eos>", "<|endoftext|>"),
    "pad_token": ("<pad>", "[PAD]", "<|pad|>", "<|padding|>"),
    "cls_token": ("[CLS]",),
    "sep_token": ("[SEP]",),
    "mask_token": ("[MASK]", "<mask>"),
}


def with_added_tokens(
    content: dict[str, Any], config: dict[str, Any], added: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Adds the tokens that only `tokenizer_config.json` and `added_tokens.json` contain, as transformers does.

    Returns:
        The content of `tokenizer.json`, and the config, in which special tokens are texts.
    """
    tokens = {token["content"]: token for token in content["added_tokens"]}
    ids = {piece: i for i, piece in enumerate(pieces_of(content))}
    described = config.get("added_tokens_decoder") or {}
    need(isinstance(described, dict), "an object", described, "added_tokens_decoder")
    for number, token in sorted(described.items(), key=lambda entry: (len(entry[0]), entry[0])):
        need(isinstance(token, dict) and number.isdecimal(), "ids and tokens", {number: token}, "added_tokens_decoder")
        _add(tokens, ids, token, "added_tokens_decoder", int(number))
    for text, number in sorted(added.items(), key=lambda entry: str(entry[1])):
        need(is_count(number), "texts and ids", {text: number}, "added_tokens.json")
        if text not in tokens:
            _add(tokens, ids, {"content": text}, "added_tokens.json", number)
    config = dict(config)
    for name in SPECIAL_NAMES:
        token = config.get(name)
        # Early Whisper's unknown token is empty.
        if (token.get("content") if isinstance(token, dict) else token) == "":
            config[name] = None
        elif token is not None:
            config[name] = _add_special(tokens, ids, token, name)
    for name in LISTS:
        extra = config.get(name)
        if isinstance(extra, dict):
            extra = list(extra.values())
        need(extra is None or isinstance(extra, list), "a list", extra, name)
        for token in extra or []:
            _add_special(tokens, ids, token, name)
    content = {**content, "added_tokens": checked_added_tokens(list(tokens.values()))}
    pieces_of(content)
    return content, config


def special_tokens(content: dict[str, Any], config: dict[str, Any], model_config: dict[str, Any]) -> dict[str, Any]:
    """The special tokens by name, for those that the config does not name.

    They follow from the ids in the model's `config.json`, from the template, and from usual names, in this order.
    """
    pieces = pieces_of(content)
    added = {token["content"] for token in content["added_tokens"] if token["special"]}
    found = {name: config.get(name) for name in SPECIAL_NAMES}
    model = content["model"]
    unknown = model["unk_id"] if model["type"] == "Unigram" else model.get("unk_token")
    unknown = pieces[unknown] if isinstance(unknown, int) else unknown
    if found["unk_token"] is None and unknown in pieces:
        found["unk_token"] = unknown
    for part in flat(content, "post_processor"):
        if part["type"] in ("BertProcessing", "RobertaProcessing"):
            for name, key in (("cls_token", "cls"), ("sep_token", "sep")):
                found[name] = found[name] or part[key][0]
    for name in ("bos_token", "eos_token", "pad_token"):
        number = model_config.get(f"{name[:3]}_token_id")
        number = number[0] if isinstance(number, list) and number else number
        if found[name] is None and is_count(number) and number < len(pieces):
            found[name] = pieces[number]
    if not any(config.get(name) for name in SPECIAL_NAMES):
        for name, usual in USUAL.items():
            found[name] = found[name] or next((piece for piece in usual if piece in added), None)
    return {name: piece for name, piece in found.items() if piece is not None}


def without_special_pieces(content: dict[str, Any]) -> dict[str, Any]:
    """Gives the special tokens that are pieces of the model names that no text contains.

    Otherwise a text could spell them: a unigram model finds any of its pieces, and so do other models for whole words.
    Pieces of merges and the unknown piece keep their names.
    """
    model = content["model"]
    special = {token["content"] for token in content["added_tokens"] if token["special"]}
    if model["type"] == "Unigram":
        names = {piece for piece, _ in model["vocab"]} & special
        unknown = model.get("unk_id")
        names -= set() if unknown is None else {model["vocab"][unknown][0]}
        vocab = [[hidden_name(piece) if piece in names else piece, score] for piece, score in model["vocab"]]
    else:
        merged = {part for pair in model.get("merges", ()) for part in (*pair, "".join(pair))}
        names = (set(model["vocab"]) & special) - merged - {model.get("unk_token")}
        vocab = {hidden_name(piece) if piece in names else piece: i for piece, i in model["vocab"].items()}
    kept = [token for token in content["added_tokens"] if token["content"] not in names]
    return {**content, "model": {**model, "vocab": vocab}, "added_tokens": kept}


def _add_special(tokens, ids, token, name):
    """Makes a token special, and adds it to the vocabulary if it is missing; returns its text."""
    token = {"content": token} if isinstance(token, str) else token
    need(isinstance(token, dict), "a text or an object", token, name)
    text = token.get("content")
    need(isinstance(text, str) and text, "a text that is not empty", token, name)
    if text in tokens:
        tokens[text] = {**tokens[text], "special": True}
    else:
        _add(tokens, ids, {**token, "special": True}, name, ids.get(text, len(ids)))
    return text


def _add(tokens, ids, token, key, number):
    text = token.get("content")
    need(isinstance(text, str) and text, "a text that is not empty", token, key)
    need(ids.get(text, number) == number, f"with the id {ids.get(text)} for {text!r}", number, key)
    flags = {name: token[name] for name in TOKEN_FLAGS if token.get(name) is not None}
    ids[text] = number
    tokens[text] = {"normalized": not flags.get("special", False), **tokens.get(text, {}), **flags}
    tokens[text] |= {"content": text, "id": number}
