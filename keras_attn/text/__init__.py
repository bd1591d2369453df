"""Tokenizers: one vocabulary, and one emitter for each format that carries it."""

from keras_attn.text.byte_pair_tokenizer import BytePairTokenizer
from keras_attn.text.character_tokenizer import CharacterTokenizer
from keras_attn.text.sentence_piece_tokenizer import SentencePieceTokenizer
from keras_attn.text.tokenizer import Tokenizer
from keras_attn.text.word_piece_tokenizer import WordPieceTokenizer

__all__ = ["BytePairTokenizer", "CharacterTokenizer", "SentencePieceTokenizer", "Tokenizer", "WordPieceTokenizer"]
