"""Tokenizers of Hugging Face folders: their files, as one checked `tokenizer.json`, special tokens and chat templates."""
