"""From the vectors of an encoder to what is asked for."""
