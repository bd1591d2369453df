"""Whether artefacts answer as their Keras model does."""
