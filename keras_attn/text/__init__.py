"""Tokenizers, and a writer of their text operators for each export format."""

from typing import TYPE_CHECKING

from keras_attn.lazy import lazy
from keras_attn.text.character_tokenizer import CharacterTokenizer
from keras_attn.text.tokenizer import Tokenizer

_HOMES = {
    "byte_pair_tokenizer": "BytePairTokenizer",
    "pretrained_tokenizer": "PretrainedTokenizer tokenizer_from_folder",
    "sentence_piece_tokenizer": "SentencePieceTokenizer",
    "word_piece_tokenizer": "WordPieceTokenizer",
}

if TYPE_CHECKING:
    from keras_attn.text.byte_pair_tokenizer import BytePairTokenizer
    from keras_attn.text.pretrained_tokenizer import PretrainedTokenizer, tokenizer_from_folder
    from keras_attn.text.sentence_piece_tokenizer import SentencePieceTokenizer
    from keras_attn.text.word_piece_tokenizer import WordPieceTokenizer
else:
    __getattr__, __dir__ = lazy(__name__, _HOMES)

__all__ = [
    "BytePairTokenizer",
    "CharacterTokenizer",
    "PretrainedTokenizer",
    "SentencePieceTokenizer",
    "Tokenizer",
    "WordPieceTokenizer",
    "tokenizer_from_folder",
]
