"""TensorFlow SavedModel."""
