"""WordPiece models of a `tokenizer.json` over elements."""

import numpy as np
from keras import ops

from keras_attn.text.graph.bert_characters import BertCharacters
from keras_attn.text.graph.elements import BARRIER, is_character
from keras_attn.text.graph.word_pieces import WordPieces
from keras_attn.text.graph.words_of_elements import WordsOfElements


class PieceModel:
    """Splits each word greedily into the longest pieces.

    Args:
        model: The section of the `tokenizer.json`.
    """

    def __init__(self, model):
        characters = "".join(map(chr, range(0xD800))) + "\ufffd" * 0x800 + "".join(map(chr, range(0xE000, BARRIER)))
        as_they_are = BertCharacters(characters, np.ones(BARRIER, np.int32), "", "")
        unknown = model["vocab"][model["unk_token"]]
        pieces = {piece: i for piece, i in model["vocab"].items() if piece}
        settings = (model["continuing_subword_prefix"], unknown, model["max_input_chars_per_word"], as_they_are)
        self.pieces = WordPieces(pieces, *settings)
        self.ids_of_words = WordsOfElements(self.pieces.split, self._letters)

    def __call__(self, elements):
        return self.ids_of_words(elements)

    def _letters(self, elements):
        return ops.squeeze(self.pieces.characters(ops.where(is_character(elements), elements, 0)), -1)
