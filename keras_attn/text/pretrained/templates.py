"""The special tokens that a post-processor adds to one text and to a pair of texts."""

from __future__ import annotations

from typing import Any, NamedTuple

from keras_attn.argument_checks import is_count
from keras_attn.text.pretrained.components import flat, need

# Post-processors that change offsets only.
WITHOUT_TOKENS = {"ByteLevel"}


class Templates(NamedTuple):
    """Special ids around texts.

    Attributes:
        prefix, suffix: Ids before and after a single text.
        pair: A tuple of three tuples of ids, before, between and after two texts; None if pairs have no template.
        segments: The segment ids of a pair: of the three tuples, and of the two texts.
    """

    prefix: tuple[int, ...] = ()
    suffix: tuple[int, ...] = ()
    pair: tuple[tuple[int, ...], ...] | None = ((), (), ())
    segments: tuple[tuple[tuple[int, ...], ...], tuple[int, int]] = (((), (), ()), (0, 0))


def templates(content: dict[str, Any], ids: dict[str, int]) -> Templates:
    """Reads the post-processor of a checked `tokenizer.json`.

    Raises:
        ValueError: If it does more than adding special tokens.
    """
    found = [part for part in flat(content, "post_processor") if part["type"] not in WITHOUT_TOKENS]
    if not found:
        return Templates()
    need(len(found) == 1, "one that adds tokens", [part["type"] for part in found], "post_processor")
    [part] = found
    if part["type"] == "TemplateProcessing":
        known = _special_ids(part.get("special_tokens"), ids)
        single, pair = (_parsed(part.get(name), known, name) for name in ("single", "pair"))
        before, (after,) = single[0], single[1:]
        return Templates(_numbers(before), _numbers(after), *_pair(pair))
    start, end = (_known(part.get(name), ids, name) for name in ("cls", "sep"))
    if part["type"] == "BertProcessing":
        return Templates((start,), (end,), ((start,), (end,), (end,)), (((0,), (0,), (1,)), (0, 1)))
    return Templates((start,), (end,), ((start,), (end, end), (end,)), (((0,), (0, 0), (0,)), (0, 0)))


def with_ends(content: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """Applies `add_bos_token` and `add_eos_token` of a `tokenizer_config.json`, which win over a template of theirs."""
    wanted = {name: config.get(f"add_{name}") for name in ("bos_token", "eos_token")}
    for name, value in wanted.items():
        need(value is None or isinstance(value, bool), "true or false", value, f"add_{name}")
    if all(value is None for value in wanted.values()):
        return content
    others = [part for part in flat(content, "post_processor") if part["type"] in WITHOUT_TOKENS]
    ids = {token["content"]: token["id"] for token in content["added_tokens"]}
    ends = [(name, config.get(name)) for name in wanted]
    if not _consists_of(content, {piece for _, piece in ends}):
        return content
    added = {}
    for name, piece in ends:
        # A token that is not there cannot be added, whatever the setting says.
        if wanted[name] and piece in ids:
            added[name] = piece
    if not added:
        return {**content, "post_processor": others[0] if others else None}
    start, end = ([{"SpecialToken": {"id": added[name], "type_id": 0}}] if name in added else [] for name in wanted)
    first, second = ({"Sequence": {"id": name, "type_id": i}} for i, name in enumerate("AB"))
    again = [[{"SpecialToken": {**token["SpecialToken"], "type_id": 1}} for token in tokens] for tokens in (start, end)]
    template = {
        "type": "TemplateProcessing",
        "single": [*start, first, *end],
        "pair": [*start, first, *end, *again[0], second, *again[1]],
        "special_tokens": {
            piece: {"id": piece, "ids": [ids[piece]], "tokens": [piece]} for piece in dict.fromkeys(added.values())
        },
    }
    if others:
        template = {"type": "Sequence", "processors": [*others, template]}
    return {**content, "post_processor": template}


def _consists_of(content, pieces):
    """Whether the post-processor adds no tokens but these."""
    for part in flat(content, "post_processor"):
        if part["type"] == "TemplateProcessing":
            if not set(part.get("special_tokens") or {}) <= pieces:
                return False
        elif part["type"] not in WITHOUT_TOKENS:
            return False
    return True


def _special_ids(tokens, ids):
    need(isinstance(tokens, dict), "an object", tokens, "post_processor.special_tokens")
    found = {}
    for name, token in tokens.items():
        pieces, numbers = (token.get(key) if isinstance(token, dict) else None for key in ("tokens", "ids"))
        right = isinstance(pieces, list) and isinstance(numbers, list) and len(pieces) == len(numbers)
        right = right and all(
            isinstance(piece, str) and ids.get(piece) == i for piece, i in zip(pieces, numbers, strict=True)
        )
        need(right, "pieces of the vocabulary with their ids", token, "post_processor.special_tokens")
        found[name] = numbers
    return found


def _parsed(template, known, name):
    """Runs of `(id, segment id)` around the texts, with the names and segment ids of the texts between the runs."""
    key = f"post_processor.{name}"
    need(isinstance(template, list), "a list", template, key)
    runs, texts = [[]], []
    for part in template:
        kind, value = next(iter(part.items())) if isinstance(part, dict) and len(part) == 1 else (None, None)
        need(kind in ("SpecialToken", "Sequence") and isinstance(value, dict), "a list of tokens and texts", part, key)
        segment = value.get("type_id", 0)
        need(is_count(segment) and segment < 2**31, "with segment ids", part, key)
        if kind == "SpecialToken":
            need(isinstance(value.get("id"), str) and value["id"] in known, "of its `special_tokens`", part, key)
            runs[-1] += [(i, segment) for i in known[value["id"]]]
        else:
            texts.append((value.get("id"), segment))
            runs.append([])
    names = ["A", "B"] if name == "pair" else ["A"]
    if name == "pair" and [text for text, _ in texts] == ["A"]:
        return None
    need([text for text, _ in texts] == names, f"a list with the texts {names} in this order", template, key)
    return (*runs, texts) if name == "pair" else tuple(runs)


def _pair(found):
    if found is None:
        return None, (((), (), ()), (0, 0))
    *runs, texts = found
    segments = tuple(tuple(segment for _, segment in run) for run in runs)
    return tuple(map(_numbers, runs)), (segments, tuple(segment for _, segment in texts))


def _numbers(run):
    return tuple(i for i, _ in run)


def _known(token, ids, name):
    need(
        token and ids.get(token[0]) == token[1],
        "a piece of the vocabulary with its id",
        token,
        f"post_processor.{name}",
    )
    return token[1]
