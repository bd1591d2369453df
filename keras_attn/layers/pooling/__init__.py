"""From a sequence to a vector."""
