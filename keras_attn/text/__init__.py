"""Tokenizers: one vocabulary, and one emitter for each format that carries it."""

from keras_attn.text.character_tokenizer import CharacterTokenizer

__all__ = ["CharacterTokenizer"]
