"""Transformer blocks, stacks of blocks, and their sub-layers."""
