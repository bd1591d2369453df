"""How PyTorch stores what a layer of ours holds: names and shapes follow from the kind of layer."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import keras
import numpy as np

# The parameter of their module that a variable of ours corresponds to.
_WEIGHTS = ("kernel", "gamma", "scale", "embeddings", "position_embeddings", "type_embeddings", "relative_embeddings")
_PARAMETERS = {**dict.fromkeys((*_WEIGHTS, "router"), "weight"), "bias": "bias", "beta": "bias"}


@dataclasses.dataclass(frozen=True)
class Part:
    """A variable, and its layout in PyTorch.

    Args:
        layer: The layer that holds the variable.
        variable: The variable.
    """

    layer: keras.layers.Layer
    variable: Any

    @property
    def leaf(self) -> str:
        """The last part of the variable's path."""
        return self.variable.path.rpartition("/")[2]

    @property
    def parameter(self) -> str | None:
        """ "weight" or "bias"; None if it needs a row of its own."""
        return _PARAMETERS.get(self.leaf)

    @property
    def num_heads(self) -> int:
        """The number of heads of a projection to heads."""
        return self.variable.shape[-2]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape in PyTorch."""
        return tuple(self.to_theirs(np.broadcast_to(np.int8(0), self.variable.shape)).shape)

    def to_ours(self, x: np.ndarray) -> np.ndarray:
        """From PyTorch's layout to ours."""
        if self._convolves:
            x = np.moveaxis(x, (0, 1), (-1, -2))
        elif self._is_matrix:
            x = x.T
        return x.reshape(self.variable.shape)

    def to_theirs(self, x: np.ndarray) -> np.ndarray:
        """From our layout to PyTorch's."""
        if self._convolves:
            return np.moveaxis(x, (-1, -2), (0, 1))
        if self._is_matrix:
            return x.reshape(math.prod(x.shape[: self._num_contracted]), -1).T
        return x.reshape(-1) if self.leaf in ("bias", "scale") else x

    @property
    def _convolves(self):
        return self.leaf == "kernel" and isinstance(self.layer, keras.layers.Conv1D | keras.layers.Conv2D)

    @property
    def _is_matrix(self):
        return self.leaf in ("kernel", "router", "reverse_embeddings")

    @property
    def _num_contracted(self):
        return getattr(self.layer, "num_contracted", 1)
