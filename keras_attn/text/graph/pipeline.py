"""A `tokenizer.json` as graph operations: added tokens, normaliser, pre-tokenizer and model."""

import json

from keras_attn.extras import require
from keras_attn.text.graph import bert_characters, byte_pairs
from keras_attn.text.graph.added_tokens import AddedTokens
from keras_attn.text.graph.byte_symbols import code_points
from keras_attn.text.graph.normalizers import normalizers_of
from keras_attn.text.graph.pair_models import PairModel
from keras_attn.text.graph.piece_model import PieceModel
from keras_attn.text.graph.pre_tokenizers import pre_tokenizers_of
from keras_attn.text.graph.ragged_rows import packed
from keras_attn.text.graph.regular_expressions import UnsupportedExpressionError
from keras_attn.text.graph.unigram_model import UnigramModel
from keras_attn.text.graph.word_pieces import WordPieces
from keras_attn.text.pretrained.byte_alphabet import bytes_of_characters
from keras_attn.text.pretrained.components import flat


class Pipeline:
    """Converts the bytes of texts to ids.

    Args:
        content: The checked content of a `tokenizer.json`.
        split_special_tokens: Whether special tokens in a text are text.

    Raises:
        UnsupportedExpressionError: If a part has no form in graphs.
    """

    def __init__(self, content, split_special_tokens=True):
        special = {token["id"] for token in content["added_tokens"] if token["special"]}
        hidden = special if split_special_tokens else set()
        self.whole = _known_form(content, hidden)
        self.steps = []
        if self.whole is None:
            self.steps += _added_tokens(content, hidden, normalized=False)
            self.steps += normalizers_of(content)
            self.steps += _added_tokens(content, hidden, normalized=True)
            self.steps += pre_tokenizers_of(content)
            self.model = _model(content)

    def __call__(self, symbols):
        """Converts bytes `(B, S)` to ids, int32 `(B, L)`, both right-padded with -1."""
        if self.whole is not None:
            return self.whole(symbols)
        points = code_points(symbols)
        elements = packed(points, points > 0)
        for step in self.steps:
            elements = step(elements)
        return self.model(elements)


def _model(content):
    model = content["model"]
    if model["type"] == "Unigram":
        return UnigramModel(model)
    if model["type"] == "WordPiece":
        return PieceModel(model)
    if model["type"] == "BPE" and not model.get("continuing_subword_prefix"):
        is_bytes = any(part["type"] == "ByteLevel" for part in flat(content, "pre_tokenizer"))
        return PairModel(model, is_bytes)
    raise UnsupportedExpressionError(f"A model of type {model['type']!r} with these settings has no form in graphs.")


def _known_form(content, hidden):
    """The faster operations of `BytePairTokenizer` and `WordPieceTokenizer`, where they do all that is needed."""
    model = content["model"]
    if any(token["id"] not in hidden for token in content["added_tokens"]):
        return None
    normalizers, splits = flat(content, "normalizer"), flat(content, "pre_tokenizer")
    kinds = [part["type"] for part in normalizers], [part["type"] for part in splits]
    if model["type"] == "WordPiece" and kinds == (["BertNormalizer"], ["BertPreTokenizer"]):
        [part] = normalizers
        if not part["clean_text"]:
            return None
        accents = part["lowercase"] if part["strip_accents"] is None else part["strip_accents"]
        characters = bert_characters.bert_characters(part["lowercase"], accents, part["handle_chinese_chars"])
        pieces = {piece: i for piece, i in model["vocab"].items() if piece}
        unknown, most = model["vocab"][model["unk_token"]], model["max_input_chars_per_word"]
        return WordPieces(pieces, model["continuing_subword_prefix"], unknown, most, characters)
    plain = not any(model.get(name) for name in ("ignore_merges", "continuing_subword_prefix", "end_of_word_suffix"))
    if model["type"] == "BPE" and plain and kinds == ([], ["ByteLevel"]) and splits[0].get("use_regex", True):
        ids, characters = model["vocab"], {byte: character for character, byte in bytes_of_characters().items()}
        byte_ids = [ids.get(characters[byte], -1) for byte in range(256)]
        if -1 in byte_ids[1:]:
            return None
        merges = [(ids[left], ids[right], ids[left + right]) for left, right in model["merges"]]
        return byte_pairs.BytePairs(byte_ids, merges, byte_pairs.character_classes(), splits[0]["add_prefix_space"])
    return None


def _added_tokens(content, hidden, normalized):
    """The step that finds added tokens before or after normalisation, if there are any to be found."""
    tokens = [token for token in content["added_tokens"] if token["normalized"] == normalized]
    if all(token["id"] in hidden for token in tokens):
        return []
    texts = {token["content"]: token for token in tokens}
    if normalized and content["normalizer"] is not None:
        shell = {"version": "1.0", "added_tokens": [], "normalizer": content["normalizer"]}
        shell["model"] = {"type": "WordLevel", "vocab": {"?": 0}, "unk_token": "?"}
        normalizer = require("tokenizers", "text").Tokenizer.from_str(json.dumps(shell)).normalizer
        texts = {normalizer.normalize_str(text): token for text, token in texts.items()}
    return [AddedTokens({text: token for text, token in texts.items() if text}, hidden)]
