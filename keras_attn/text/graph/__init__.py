"""Tokenizers as integer arithmetic in `keras.ops`, between the text operators of an exported model.

A SentencePiece operator, which SavedModel, TFLite and ONNX all have, converts a text to symbols: characters, bytes or
pieces, depending on the tokenizer. This package converts symbols to ids, and ids to rows of a string table.
"""
