"""Random inputs for the verification of artefacts."""

import numpy as np

from keras_attn import compat

HARD = ("It's a na\u00efve  caf\u00e9, isn't it?\t1234", "\u65e5\u672c\u8a9e \x01\u200d\u00a0e\u0301 \u0663")


WORDS = ("the cat sat on the mat", "a", "", "na\u00efve \u65e5\u672c!", "12 cats,  3 mats")


def vocabulary_size(model):
    """The smallest vocabulary size of the embeddings of the model."""
    return min(_vocabulary_sizes(model), default=2)


def of_spec(rng, model, spec, shape):
    """Random values for an input of a model, of static `shape`."""
    if spec.dtype == "string":
        return rng.choice(np.array(WORDS), size=shape)
    small = spec.dtype in ("uint8", "int8", "uint16", "int16")
    if small and not _vocabulary_sizes(model):
        # Pixels or audio samples instead of ids.
        bounds = np.iinfo(spec.dtype)
        return rng.integers(bounds.min, bounds.max, size=shape, dtype=spec.dtype, endpoint=True)
    return padded(rng, shape, spec.dtype, vocabulary_size(model), pad_id(model))


def _vocabulary_sizes(model):
    # Tokens that can only be copied have no embedding of their own.
    more = getattr(getattr(model, "pointer_generator", None), "extended_size", 0)
    return [layer.input_dim + more for layer in compat.layers_of(model) if hasattr(layer, "input_dim")]


def pad_id(model):
    """The padding id of a model; 0 if it has none."""
    return max(0, getattr(model, "pad_id", 0))


def padded(rng, shape, dtype, limit, pad_id=0):
    """Random values of a dtype; each row of integers or booleans is one shorter than the previous one.

    Args:
        rng: `numpy.random.Generator`.
        shape: Tuple, the shape of the array.
        dtype: Name of the dtype.
        limit: Upper bound of integers, exclusive.
        pad_id: Padding id.

    Returns:
        Array of `shape`.
    """
    if dtype.startswith("float"):
        return rng.normal(size=shape).astype(dtype)
    if dtype == "bool":
        pad_id = 0
    values = rng.integers(1, max(2, limit), size=shape)
    # All ids except the padding id.
    values = np.where(values <= pad_id, values - 1, values)
    if len(shape) > 1:
        lengths = np.maximum(1, shape[1] - np.arange(shape[0]))
        real = np.arange(shape[1]) < lengths[:, None]
        values = np.where(real.reshape(real.shape + (1,) * (len(shape) - 2)), values, pad_id)
    return values.astype(dtype)


def texts(tokenizer, accepts=lambda texts: True):
    """Decoded random ids, and texts that are hard to tokenize or contain unknown characters, truncated if too long for
    the model."""
    rng = np.random.default_rng(0)
    found = [tokenizer.decode(rng.integers(0, tokenizer.vocabulary_size, (1, size)))[0] for size in (7, 11, 5, 3, 2)]
    # Artefacts end a text at NUL, and NumPy drops trailing NULs.
    found = [text.replace("\0", "") for text in found]
    found = [*found, "", "  ", found[1][:3] + "\u2603\U0001f642" + found[2][:2], *HARD]
    if not accepts(found):
        found = [next(text[:n] for n in range(len(text), -1, -1) if not n or accepts([text[:n]])) for text in found]
    return found


def lengths(wanted, accepts):
    """For each wanted length, the nearest one that the model accepts, shorter ones first; 1 if it accepts none."""
    tried = ([*range(length, 1, -1), *(length * 2**i for i in range(1, 6))] for length in wanted)
    return [next((n for n in candidates if accepts(n)), 1) for candidates in tried]
