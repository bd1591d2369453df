"""Recurrent attention: alignments, cells and loops over time."""
