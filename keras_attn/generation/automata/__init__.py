"""Automata over the tokens of a vocabulary."""
