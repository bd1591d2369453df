"""Tokenizers: one vocabulary, and one emitter for each format that carries it."""

from keras_attn.lazy import lazy
from keras_attn.text.character_tokenizer import CharacterTokenizer
from keras_attn.text.tokenizer import Tokenizer

_HOMES = {
    "byte_pair_tokenizer": "BytePairTokenizer",
    "sentence_piece_tokenizer": "SentencePieceTokenizer",
    "word_piece_tokenizer": "WordPieceTokenizer",
}

__getattr__, __dir__ = lazy(__name__, _HOMES)
__all__ = ["CharacterTokenizer", "Tokenizer", *_HOMES.values()]
