"""Tokenizers of Hugging Face folders: their files as one checked `tokenizer.json`, and their chat templates."""
