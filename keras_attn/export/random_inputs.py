"""Inputs to verify artefacts on, where nobody has given any."""

import numpy as np


def vocabulary_size(model):
    """A bound on the ids that every embedding of the model takes."""
    sizes = [layer.input_dim for layer in model._flatten_layers() if hasattr(layer, "input_dim")]
    return min(sizes, default=2)


def padded(rng, shape, dtype, limit):
    """Random values of a dtype; each row of integers or booleans is one shorter than the row before.

    Args:
        rng: `numpy.random.Generator`.
        shape: tuple.
        dtype: name of the dtype.
        limit: integers are in `[1, limit)`, and 0 is padding.

    Returns:
        Array of `shape`.
    """
    if dtype.startswith("float"):
        return rng.normal(size=shape).astype(dtype)
    values = rng.integers(1, max(2, limit), size=shape).astype(dtype)
    if len(shape) > 1:
        lengths = np.maximum(1, shape[1] - np.arange(shape[0]))
        real = np.arange(shape[1]) < lengths[:, None]
        values *= real.reshape(real.shape + (1,) * (len(shape) - 2))
    return values


def texts(tokenizer):
    """Strings of a tokenizer's characters, an empty one, and one with a character that it does not know."""
    rng = np.random.default_rng(0)
    characters = list(tokenizer.characters)
    found = ["".join(rng.choice(characters, size=size)) for size in (7, 11, 5, 3, 2)]
    unknown = next(c for c in map(chr, range(0x2603, 0x10000)) if c not in characters)
    return [*found, "", found[1][:3] + unknown + found[2][:2]]
