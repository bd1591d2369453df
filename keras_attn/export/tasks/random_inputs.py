"""Inputs to verify artefacts on, where nobody has given any."""

import numpy as np

from keras_attn import compat

HARD = ("It's a na\u00efve  caf\u00e9, isn't it?\t1234", "\u65e5\u672c\u8a9e \x01\u200d\u00a0e\u0301 \u0663")


WORDS = ("the cat sat on the mat", "a", "", "na\u00efve \u65e5\u672c!", "12 cats,  3 mats")


def vocabulary_size(model):
    """A bound on the ids that every embedding of the model takes."""
    return min(_vocabulary_sizes(model), default=2)


def of_spec(rng, model, spec, shape):
    """Random values of an input of a model, of which `shape` gives all sizes."""
    if spec.dtype == "string":
        return rng.choice(np.array(WORDS), size=shape)
    small = spec.dtype in ("uint8", "int8", "uint16", "int16")
    if small and not _vocabulary_sizes(model):
        # No ids, but pixels or samples.
        bounds = np.iinfo(spec.dtype)
        return rng.integers(bounds.min, bounds.max, size=shape, dtype=spec.dtype, endpoint=True)
    return padded(rng, shape, spec.dtype, vocabulary_size(model), pad_id(model))


def _vocabulary_sizes(model):
    return [layer.input_dim for layer in compat.layers_of(model) if hasattr(layer, "input_dim")]


def pad_id(model):
    """The id that a model takes for padding; 0 where it does not say."""
    return max(0, getattr(model, "pad_id", 0))


def padded(rng, shape, dtype, limit, pad_id=0):
    """Random values of a dtype; each row of integers or booleans is one shorter than the row before.

    Args:
        rng: `numpy.random.Generator`.
        shape: Tuple.
        dtype: Name of the dtype.
        limit: Integers are in `[0, limit)`.
        pad_id: The integer of padding.

    Returns:
        Array of `shape`.
    """
    if dtype.startswith("float"):
        return rng.normal(size=shape).astype(dtype)
    if dtype == "bool":
        pad_id = 0
    values = rng.integers(1, max(2, limit), size=shape)
    # All ids but that of padding.
    values = np.where(values <= pad_id, values - 1, values)
    if len(shape) > 1:
        lengths = np.maximum(1, shape[1] - np.arange(shape[0]))
        real = np.arange(shape[1]) < lengths[:, None]
        values = np.where(real.reshape(real.shape + (1,) * (len(shape) - 2)), values, pad_id)
    return values.astype(dtype)


def texts(tokenizer, accepts=lambda texts: True):
    """What random ids of a tokenizer read as, and texts that are hard to split or hold what it may not know; those that
    are too long for the model are cut."""
    rng = np.random.default_rng(0)
    found = [tokenizer.decode(rng.integers(0, tokenizer.vocabulary_size, (1, size)))[0] for size in (7, 11, 5, 3, 2)]
    # Artefacts end a text at NUL, and NumPy leaves it out at the end of one.
    found = [text.replace("\0", "") for text in found]
    found = [*found, "", "  ", found[1][:3] + "\u2603\U0001f642" + found[2][:2], *HARD]
    if not accepts(found):
        found = [next(text[:n] for n in range(len(text), -1, -1) if not n or accepts([text[:n]])) for text in found]
    return found


def lengths(wanted, accepts):
    """For each of some lengths, the nearest that the model accepts, shorter ones first; 1 where it accepts none."""
    tried = ([*range(length, 1, -1), *(length * 2**i for i in range(1, 6))] for length in wanted)
    return [next((n for n in candidates if accepts(n)), 1) for candidates in tried]
