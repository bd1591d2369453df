"""What all layers share: configs, saved states of sub-layers, masks of calls, projections."""
