"""Tokenizers as integer arithmetic in `keras.ops`, between the two text operators of an artefact.

A text enters through one SentencePiece operator, which SavedModel, TFLite and ONNX all have, as symbols: characters,
bytes or pieces, as the tokenizer says. What makes ids of symbols, and rows of a string table of ids, is written here.
"""
