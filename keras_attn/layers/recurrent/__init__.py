"""Attention for recurrent networks: alignments, cells and recurrent layers."""
