"""Plots of attention weights, also over images, and training curves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from keras_attn.extras import require
from keras_attn.replacement import replacement
from keras_attn.typing import PathLike, Tensor

# Fonts with characters that matplotlib's default font lacks, by their usual names.
_FALLBACK_FONTS = (
    *(
        "Noto Sans",
        "Noto Sans CJK JP",
        "Noto Sans CJK SC",
        "Noto Sans Arabic",
        "Noto Sans Hebrew",
        "Noto Sans Devanagari",
    ),
    *("Noto Sans Thai", "WenQuanYi Zen Hei", "Hiragino Sans", "PingFang SC", "Yu Gothic", "Microsoft YaHei"),
    *("Arial Unicode MS", "Nirmala UI", "FreeSans", "Unifont"),
)


def attention(
    scores: Tensor | Mapping[str, Tensor],
    path: PathLike,
    *,
    queries: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
    keys: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
    title: str | None = None,
    heads: str = "mean",
    row: int = 0,
) -> None:
    """Plots attention weights as heat maps, with queries as rows and keys as columns, and writes a PNG file.

    Args:
        scores: Weights of one layer, float `(T, S)`, `(N, T, S)` or `(B, N, T, S)`, or of several layers, a dict from
            name to weights such as from `keras_attn.attention_maps`. Of the result of
            `keras_attn.ops.attention_rollout`, `(B, T, T)`, pass a single row.
        path: The file to write.
        queries: Optional labels of the rows, `T` strings. For a dict of weights, one list for all or a dict of lists.
        keys: Optional labels of the columns, `S` strings, likewise.
        title: Optional title.
        heads: "mean" for one map per layer, the mean over heads, or "all" for one map per head: a grid for one layer,
            or a row per layer for several.
        row: The row of the batch to plot, if the weights have a batch axis.

    Raises:
        ImportError: If matplotlib is not installed.
        ValueError: If the shape of `scores`, a list of labels, `row` or `heads` is invalid.

    Example:

    >>> import os, tempfile
    >>> import numpy as np
    >>> import keras_attn.plot
    >>> path = os.path.join(tempfile.mkdtemp(), "attention.png")
    >>> keras_attn.plot.attention(np.eye(3), path, queries="abc", keys="xyz")
    >>> keras_attn.plot.attention({"first": np.ones((2, 4, 3, 5)) / 5}, path, heads="all", title="four heads")
    >>> os.path.getsize(path) > 0
    True
    """
    if heads not in ("mean", "all"):
        raise ValueError(f"`heads` must be 'mean' or 'all'. Received: heads={heads!r}")
    if isinstance(scores, dict) and not scores:
        raise ValueError("`scores` must contain the weights of at least one layer. Received: an empty dict")
    layers = scores if isinstance(scores, dict) else {None: scores}
    names = _distinct_parts(layers) if isinstance(scores, dict) else [None]
    grid = []
    for (key, weights), name in zip(layers.items(), names, strict=True):
        panels = _panels(key, np.asarray(weights), heads, row)
        labels = [_labels(*given, key, size) for given, size in zip(_both(queries, keys), panels[0].shape, strict=True)]
        captions = [name] if len(panels) == 1 else [_caption(name, head) for head in range(len(panels))]
        grid.append([(panel, *labels, caption) for panel, caption in zip(panels, captions, strict=True)])
    _write(_draw(grid, title), path)


def image_attention(
    images: Tensor,
    weights: Tensor,
    path: PathLike,
    *,
    titles: Sequence[str] | None = None,
) -> None:
    """Plots images, and below each the same image with attention weights laid over it, and writes a PNG file.

    The weights of an image are enlarged to its size, and its largest weight has the brightest colour.

    Args:
        images: `(B, height, width, C)` with one or three channels, pixel values from 0 to 255.
        weights: `(B, rows, columns)`, the weight of each part of an image.
        path: The file to write.
        titles: Optional title of each image.

    Raises:
        ImportError: If matplotlib is not installed.
        ValueError: If the shape of `images` or `weights`, or the number of `titles` is invalid.

    Example:

    >>> import os, tempfile
    >>> import numpy as np
    >>> import keras_attn.plot
    >>> path = os.path.join(tempfile.mkdtemp(), "attention.png")
    >>> keras_attn.plot.image_attention(np.zeros((2, 32, 32, 3)), np.ones((2, 8, 8)), path, titles=["cat", "dog"])
    >>> os.path.getsize(path) > 0
    True
    """
    images, weights = np.asarray(images), np.asarray(weights)
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or not len(images):
        raise ValueError(
            "`images` must have shape (batch, height, width, channels), with one image or more and 1 or 3 channels. "
            f"Received: shape {images.shape}"
        )
    if weights.ndim != 3 or len(weights) != len(images):
        raise ValueError(f"`weights` must have shape ({len(images)}, rows, columns). Received: shape {weights.shape}")
    if titles is not None and len(titles) != len(images):
        raise ValueError(f"`titles` must have {len(images)} entries. Received: {len(titles)}")
    count, height, width, _ = images.shape
    size = 1.6 * max(1.0, width / height), 1.6 * max(1.0, height / width)
    figure = require("matplotlib.figure", "plot").Figure(
        figsize=(count * size[0], 2 * size[1] + 0.3), layout="constrained"
    )
    axes, fonts = figure.subplots(2, count, squeeze=False), _fonts()
    for i, (image, shares) in enumerate(zip(np.clip(images, 0, 255).astype("uint8"), weights, strict=True)):
        image = np.broadcast_to(image, (height, width, 3))
        for place in axes[:, i]:
            place.imshow(image, extent=(0, width, height, 0))
            place.set_axis_off()
        top = {"vmin": 0.0, "vmax": float(shares.max()) or 1.0}
        axes[1, i].imshow(
            shares, cmap="inferno", alpha=0.6, interpolation="bilinear", extent=(0, width, height, 0), **top
        )
        if titles is not None:
            axes[0, i].set_title(str(titles[i]), fontsize=9, fontfamily=fonts)
    _write(figure, path)


def curves(
    history: Mapping[str, Sequence[float]],
    path: PathLike,
    *,
    x: Sequence[float] | None = None,
    xlabel: str = "epoch",
    title: str | None = None,
) -> None:
    """Plots training curves, with a panel per metric for its training and validation values, and writes a PNG file.

    Args:
        history: Metrics by name, `{"loss": [...], "val_loss": [...]}`, as in `keras.callbacks.History.history`. Values
            that are not finite leave a gap.
        path: The file to write.
        x: Optional values of the horizontal axis, one per value of a metric. Defaults to 1, 2, ...
        xlabel: Label of the horizontal axis.
        title: Optional title.

    Raises:
        ImportError: If matplotlib is not installed.
        ValueError: If `history` is empty, or a metric is not as long as `x`.

    Example:

    >>> import os, tempfile
    >>> import keras_attn.plot
    >>> path = os.path.join(tempfile.mkdtemp(), "curves.png")
    >>> keras_attn.plot.curves({"loss": [3.0, 2.0], "val_loss": [3.1, 2.4]}, path, x=[100, 200], xlabel="step")
    >>> os.path.getsize(path) > 0
    True
    """
    lengths = {name: len(values) for name, values in history.items()}
    x = range(1, max(lengths.values(), default=0) + 1) if x is None else x
    if not len(x):
        raise ValueError(f"`history` must not be empty. Received: history={history!r}")
    if set(lengths.values()) != {len(x)}:
        raise ValueError(f"`x` must be as long as the values of each metric. Received: {len(x)} numbers for {lengths}")
    panels = list(dict.fromkeys(name.removeprefix("val_") for name in history))
    figure = require("matplotlib.figure", "plot").Figure(figsize=(4.5 * len(panels), 3.2), layout="constrained")
    for place, name in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        # A single point has no line.
        style = {"marker": "o" if len(x) == 1 else None}
        for key, label in ((name, "training"), (f"val_{name}", "validation")):
            if key in history:
                place.plot(x, history[key], label=label, **style)
        place.set(title=name, xlabel=xlabel)
        place.grid(alpha=0.3)
        place.legend()
    if title:
        figure.suptitle(title, fontfamily=_fonts())
    _write(figure, path)


def _both(queries, keys):
    return ("queries", queries), ("keys", keys)


def _panels(key, weights, heads, row):
    """The `(T, S)` maps of a layer to plot."""
    where = "" if key is None else f" for {key!r}"
    if weights.ndim not in (2, 3, 4):
        raise ValueError(f"`scores` must have rank 2, 3 or 4. Received: shape {weights.shape}{where}")
    if weights.ndim == 4:
        if not -len(weights) <= row < len(weights):
            raise ValueError(f"`row` must be one of the {len(weights)} rows of the batch{where}. Received: row={row}")
        weights = weights[row]
    if weights.ndim == 2:
        return [weights]
    return [weights.mean(axis=0)] if heads == "mean" else list(weights)


def _labels(name, given, key, size):
    labels = given.get(key) if isinstance(given, dict) else given
    if labels is not None and len(labels) != size:
        where = "" if key is None else f" for {key!r}"
        raise ValueError(f"`{name}` must have {size} labels{where}. Received: {len(labels)}")
    return None if labels is None else [str(label) for label in labels]


def _caption(name, head):
    return f"head {head}" if name is None else f"{name}\nhead {head}"


def _distinct_parts(paths):
    """Removes the leading and trailing parts that all paths share: `model/block_0/attention` becomes `block_0`."""
    parts = [str(path).split("/") for path in paths]
    if len(parts) == 1:
        return ["/".join(parts[0][-2:])]
    shortest = min(map(len, parts))
    first = next((i for i in range(shortest) if len({p[i] for p in parts}) > 1), shortest - 1)
    last = next((i for i in range(shortest) if len({p[-1 - i] for p in parts}) > 1), 0)
    return ["/".join(p[first : len(p) - last]) or p[-1] for p in parts]


def _draw(grid, title):
    """Draws all panels, with a shared colour scale."""
    if len(grid) > 1 and all(len(panels) == 1 for panels in grid):
        grid = [[panel for (panel,) in grid]]
    if len(grid) == 1:
        columns = math.ceil(math.sqrt(len(grid[0])))
        grid = [grid[0][i : i + columns] for i in range(0, len(grid[0]), columns)]
    rows, columns = len(grid), max(map(len, grid))
    panels = [panel for line in grid for panel in line]
    cell = 0.28 if len(panels) == 1 else min(0.28, 4.0 / max(max(weights.shape) for weights, *_ in panels))
    # A label is about 0.16 inches high, whatever the size of a cell.
    labelled = [
        max(map(len, labels), default=0) for labels in ([x for p in panels for x in p[i] or ()] for i in (1, 2))
    ]
    panel_width = 0.6 + 0.07 * min(labelled[0], 30) + cell * max(p[0].shape[1] for p in panels)
    width = columns * panel_width + 0.9
    height = rows * (0.6 + 0.07 * min(labelled[1], 30) + cell * max(p[0].shape[0] for p in panels)) + 0.4
    # A figure without pyplot touches no global state and needs no display.
    figure = require("matplotlib.figure", "plot").Figure(figsize=(max(width, 3.0), height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    fonts, top = _fonts(), max(float(weights.max()) for weights, *_ in panels)
    for line, row_axes in zip(grid, axes, strict=True):
        for place in row_axes[len(line) :]:
            place.set_axis_off()
        for (weights, queries, keys, caption), place in zip(line, row_axes, strict=False):
            image = place.imshow(weights, cmap="viridis", vmin=0.0, vmax=top or 1.0, aspect="auto")
            _set_labels(place, queries, keys, cell, fonts)
            if caption is not None:
                longest = max(map(len, caption.split("\n")))
                # A character is about 0.6 times as wide as high. Captions must not overlap.
                place.set_title(caption, fontsize=min(9, 72 * panel_width / (0.6 * longest)), fontfamily=fonts)
    # Keep the colour bar thin in tall plots.
    figure.colorbar(image, ax=axes, shrink=0.8, aspect=max(5 * height, 10), label="weight")
    if title:
        figure.suptitle(title, fontfamily=fonts)
    return figure


def _set_labels(place, queries, keys, cell, fonts):
    text = {"fontfamily": fonts, "fontsize": min(10, 60 * cell)}
    if queries is not None:
        place.set_yticks(range(len(queries)), queries, **text)
    if keys is not None:
        # Rotate long labels, which would overlap.
        sideways = max(map(len, keys), default=0) > 2
        place.set_xticks(range(len(keys)), keys, rotation=90 if sideways else 0, **text)


def _fonts():
    """matplotlib's default font, followed by the installed fallback fonts for other scripts."""
    manager = require("matplotlib.font_manager", "plot").fontManager
    installed = {font.name for font in manager.ttflist}
    return ["DejaVu Sans", *(name for name in _FALLBACK_FONTS if name in installed)]


def _write(figure, path):
    with replacement(path) as file:
        figure.savefig(file, format="png", dpi=150)
