"""Verification of artefacts against their Keras model."""
