"""Embeddings of token ids, images and audio."""
