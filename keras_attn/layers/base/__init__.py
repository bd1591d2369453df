"""Base classes and helpers of the layers: configs, saved states of sub-layers, mask checks, projections."""
