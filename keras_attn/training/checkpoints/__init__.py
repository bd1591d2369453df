"""Checkpoints, and how a training run resumes from them."""
