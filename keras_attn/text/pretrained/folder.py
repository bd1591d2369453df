"""Reads the tokenizer files of a Hugging Face folder as one `tokenizer.json` and one `tokenizer_config.json`."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from keras_attn.argument_checks import is_count
from keras_attn.text.pretrained.added_tokens import SPECIAL_NAMES, special_tokens, with_added_tokens
from keras_attn.text.pretrained.components import checked, flat, need
from keras_attn.text.pretrained.templates import with_ends
from keras_attn.text.pretrained.vocabulary_files import content_of_files

# Settings of `tokenizer_config.json` that change no ids. What others say is in the `tokenizer.json` once it is read.
KEPT = ("model_max_length", "padding_side", "truncation_side", "clean_up_tokenization_spaces", "model_input_names")


def read_folder(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the checked content of `tokenizer.json`, and the settings of `tokenizer_config.json`.

    Raises:
        ValueError: If there is no tokenizer, or a file is damaged or has a setting that is not understood.
    """
    config = read_object(folder / "tokenizer_config.json")
    for name, value in read_object(folder / "special_tokens_map.json").items():
        config.setdefault(name, value)
    if "max_len" in config:
        # The name in early releases.
        config.setdefault("model_max_length", config["max_len"])
    model_config = read_object(folder / "config.json")
    if (folder / "tokenizer.json").is_file():
        content = checked(read_object(folder / "tokenizer.json"))
    else:
        content, config = content_of_files(folder, config, model_config)
        content = checked(content)
    content, config = with_added_tokens(content, config, read_object(folder / "added_tokens.json"))
    config |= special_tokens(content, config, model_config)
    content = with_ends(_with_settings(content, config), config)
    kept = {name: config[name] for name in (*SPECIAL_NAMES, *KEPT) if config.get(name) is not None}
    kept |= _lengths_and_sides(content, kept)
    if template := _chat_template(folder, config):
        kept["chat_template"] = template
    # Texts are truncated and padded by the tokenizer, as its settings say.
    return {**content, "truncation": None, "padding": None}, kept


def read_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty if there is no such file."""
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_bytes().decode("utf-8-sig"), object_pairs_hook=_object, parse_constant=_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"`folder` must have a valid {path.name}. Received: {error} in {path}") from error
    need(isinstance(found, dict), "an object", type(found).__name__, path.name)
    return found


def _object(pairs):
    found = dict(pairs)
    if len(found) < len(pairs):
        seen = set()
        repeated = next(name for name, _ in pairs if name in seen or seen.add(name))
        raise ValueError(f"the name {repeated!r} more than once in an object")
    return found


def _constant(name):
    raise ValueError(f"the number {name}")


def _with_settings(content, config):
    """Applies settings of `tokenizer_config.json` that win over those of `tokenizer.json`, as in transformers."""
    names = {"lowercase": "do_lower_case", "strip_accents": "strip_accents"}
    names["handle_chinese_chars"] = "tokenize_chinese_chars"
    content = {**content, **{name: copy.deepcopy(content[name]) for name in ("normalizer", "pre_tokenizer")}}
    for part in flat(content, "normalizer"):
        if part["type"] == "BertNormalizer":
            part.update(_flags(config, names))
    for part in flat(content, "pre_tokenizer"):
        if part["type"] == "ByteLevel":
            part.update(_flags(config, {"add_prefix_space": "add_prefix_space"}))
    return content


def _flags(config, names):
    found = {name: config[key] for name, key in names.items() if config.get(key) is not None}
    for name, value in found.items():
        need(isinstance(value, bool), "true, false or null", value, names[name])
    return found


def _lengths_and_sides(content, config):
    length, found = config.get("model_max_length"), {}
    number = isinstance(length, (int, float)) and not isinstance(length, bool) and length > 0
    need(length is None or number, "a positive number", length, "model_max_length")
    truncation, padding = content["truncation"] or {}, content["padding"] or {}
    need(isinstance(truncation, dict), "an object or null", truncation, "truncation")
    need(isinstance(padding, dict), "an object or null", padding, "padding")
    # transformers writes 1e30 for "no limit".
    if length is None or length >= 2**31:
        length = truncation.get("max_length")
        need(length is None or (is_count(length) and length > 0), "a positive count", length, "truncation.max_length")
    found["model_max_length"] = None if length is None or length >= 2**31 else int(length)
    for name, section in (("truncation_side", truncation), ("padding_side", padding)):
        side = str(config.get(name) or section.get("direction") or "right").lower()
        need(side in ("left", "right"), "'left' or 'right'", side, name)
        found[name] = side
    return found


def _chat_template(folder, config):
    """The templates by name: `"default"`, and any others."""
    template = config.get("chat_template")
    files = {"default": folder / "chat_template.jinja"}
    files |= {path.stem: path for path in sorted((folder / "additional_chat_templates").glob("*.jinja"))}
    found = {}
    if isinstance(template, str):
        found = {"default": template}
    elif isinstance(template, list):
        entries = [entry for entry in template if isinstance(entry, dict) and {*entry} == {"name", "template"}]
        right = len(entries) == len(template) and all(isinstance(x, str) for entry in entries for x in entry.values())
        need(right, "a text or a list of names and templates", template, "chat_template")
        found = {entry["name"]: entry["template"] for entry in entries}
    elif isinstance(template, dict):
        need(all(isinstance(x, str) for x in template.values()), "texts", template, "chat_template")
        found = dict(template)
    else:
        need(template is None, "a text or a list of names and templates", template, "chat_template")
    for name, path in files.items():
        if path.is_file():
            try:
                found[name] = path.read_bytes().decode()
            except UnicodeDecodeError as error:
                need(False, "UTF-8", str(error), path.name)
    return found
