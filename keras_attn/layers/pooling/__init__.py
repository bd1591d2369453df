"""Pooling layers, from a sequence to a vector."""
