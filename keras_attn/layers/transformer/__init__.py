"""Blocks and stacks of blocks, and what they are made of."""
