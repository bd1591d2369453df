"""Pruning: weights that become zero during training, and heads and channels that are taken out of a model."""

from keras_attn.training.pruning.importance import importance
from keras_attn.training.pruning.magnitude_pruning import MagnitudePruning
from keras_attn.training.pruning.prune_structure import prune_structure

__all__ = ["MagnitudePruning", "importance", "prune_structure"]
