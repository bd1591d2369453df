"""Pictures of attention."""

import os

import numpy as np

from keras_attn.extras import require


def attention(scores, path, *, queries=None, keys=None, title=None):
    """Draws attention weights as a heat map, queries downwards and keys to the right, and writes it as PNG.

    Args:
        scores: float `(T, S)`, or `(N, T, S)`, of which the mean over heads is drawn.
        path: file to write.
        queries: optional labels of the rows, `T` strings.
        keys: optional labels of the columns, `S` strings.
        title: optional line above the picture.

    Raises:
        ImportError: matplotlib is missing.
        ValueError: `scores` or a list of labels has another shape.

    Example:

    >>> import os, tempfile
    >>> import numpy as np
    >>> import keras_attn.plot
    >>> path = os.path.join(tempfile.mkdtemp(), "attention.png")
    >>> keras_attn.plot.attention(np.eye(3), path, queries="abc", keys="xyz")
    >>> os.path.getsize(path) > 0
    True
    """
    scores = np.asarray(scores)
    if scores.ndim not in (2, 3):
        raise ValueError(f"`scores` must have rank 2 or 3. Received: shape {scores.shape}")
    weights = scores if scores.ndim == 2 else scores.mean(axis=0)
    for name, labels, size in (("queries", queries, weights.shape[0]), ("keys", keys, weights.shape[1])):
        if labels is not None and len(labels) != size:
            raise ValueError(f"`{name}` must hold {size} labels. Received: {len(labels)}")
    figure_module = require("matplotlib.figure", "plot")
    size = (1.5 + 0.28 * weights.shape[1], 1.2 + 0.28 * weights.shape[0])
    # A figure without pyplot touches no global state and needs no display.
    figure = figure_module.Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(weights, cmap="viridis", vmin=0.0, aspect="auto")
    figure.colorbar(image, ax=axes, shrink=0.8)
    if queries is not None:
        axes.set_yticks(range(len(queries)), list(queries))
    if keys is not None:
        axes.set_xticks(range(len(keys)), list(keys))
    if title:
        axes.set_title(title)
    partial = f"{path}.partial"
    figure.savefig(partial, format="png", dpi=150)
    os.replace(partial, path)
