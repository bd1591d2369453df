"""Experts in other tensors than those that the tables name."""

from __future__ import annotations

import functools

import numpy as np

from keras_attn.pretrained.folder import CheckpointFolder

_MOST_EXPERTS = 4096
_BLOCKS, _SCALES = "_blocks", "_scales"
# The numbers of four bits: sign, two of the exponent, one of the mantissa.
_E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], "float32")
_E2M1 = np.concatenate([_E2M1, -_E2M1])


class FusedExperts(CheckpointFolder):
    """Mixtral's experts one by one, also from tensors of all: `transformers` writes those on request.

    Args: As `CheckpointFolder`.
    """

    @functools.cached_property
    def _places(self):
        """`(stored name, index)` of each tensor by its name."""
        found = {}
        for stored, shape in super().shapes().items():
            found |= {name: (stored, index) for name, index in _experts(stored, shape)}
        return found

    def shapes(self) -> dict[str, tuple[int, ...]]:
        stored = super().shapes()
        empty = {name: np.broadcast_to(np.int8(0), stored[x])[index] for name, (x, index) in self._places.items()}
        return {name: x.shape for name, x in empty.items()}

    def read(self, name: str) -> np.ndarray:
        return self._part(*self._places[name])


def _experts(stored, shape):
    """`(name, index)` of the tensors that a stored one holds."""
    layer, _, leaf = stored.rpartition(".mlp.")
    moe, is_fused = f"{layer}.block_sparse_moe", len(shape) == 3 and 0 not in shape and shape[0] <= _MOST_EXPERTS
    if layer and leaf == "gate.weight":
        return [(f"{moe}.{leaf}", ...)]
    if is_fused and leaf == "experts.gate_up_proj":
        parts = {"w1": slice(shape[1] // 2), "w3": slice(shape[1] // 2, None)}
    elif is_fused and leaf == "experts.down_proj":
        parts = {"w2": slice(None)}
    else:
        return [(stored, ...)]
    return [(f"{moe}.experts.{i}.{x}.weight", (i, part)) for i in range(shape[0]) for x, part in parts.items()]


class Mxfp4Experts(CheckpointFolder):
    """Experts in MXFP4 as float32: 4-bit numbers, two in a byte, of which 32 share an exponent.

    Args: As `CheckpointFolder`.
    """

    def shapes(self) -> dict[str, tuple[int, ...]]:
        found = super().shapes()
        for blocks in [name for name in found if name.endswith(_BLOCKS)]:
            name = blocks.removesuffix(_BLOCKS)
            shape, scales = found.pop(blocks), found.pop(name + _SCALES, None)
            if len(shape) != 4 or shape[:3] != scales:
                raise ValueError(
                    f"{self.path} must hold {blocks!r} (experts, outputs, blocks, bytes) and {name + _SCALES!r} "
                    f"(experts, outputs, blocks). Received: {shape} and {scales}"
                )
            found[name] = (shape[0], shape[2] * shape[3] * 2, shape[1])
        return found

    def read(self, name: str) -> np.ndarray:
        if name in super().shapes():
            return super().read(name)
        blocks, scales = super().read(name + _BLOCKS), super().read(name + _SCALES)
        if not blocks.dtype == scales.dtype == np.uint8:
            raise ValueError(
                f"{self.path} must hold bytes as {name + _BLOCKS!r} and {name + _SCALES!r}. "
                f"Received: {blocks.dtype} and {scales.dtype}"
            )
        values = np.empty((*blocks.shape, 2), "float32")
        for expert, packed, exponents in zip(values, blocks, scales, strict=True):
            expert[..., 0], expert[..., 1] = _E2M1[packed & 15], _E2M1[packed >> 4]
            expert *= np.ldexp(np.float32(1), exponents.astype("int32") - 127)[..., None, None]
        return values.reshape(*blocks.shape[:2], -1).swapaxes(1, 2)
