"""Position encodings and position biases."""
