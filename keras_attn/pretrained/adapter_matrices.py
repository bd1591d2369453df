"""The LoRA matrices of a module of theirs, `A` `(rank, inputs)` and `B` `(outputs, rank)`, and those of our layers."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np

from keras_attn.layers import Projection
from keras_attn.pretrained.buffers import assign
from keras_attn.pretrained.weights import Assignment


def can_adapt(entry: Assignment) -> bool:
    """Whether the matrices of a module have a place in ours."""
    linear = all(isinstance(part.layer, Projection) and part.leaf == "kernel" for part in entry.parts)
    return linear and all(transform.lora for transform in entry.row.transforms)


def is_transposed(entry: Assignment) -> bool:
    """Whether the kernel is stored as `(inputs, outputs)`."""
    return any(transform.lora == "layout" for transform in entry.row.transforms)


def written(entry: Assignment) -> tuple[np.ndarray, np.ndarray, float]:
    """`(A, B, scale)` of a module, from the layers that it consists of.

    Layers with other `A` each have their part of the rank: `B` is then zero outside of blocks.
    """
    layers = [part.layer for part in entry.parts]
    adapted = [x for x in layers if getattr(x, "lora_enabled", False)]
    if not can_adapt(entry) or not all(x.lora_as_matrix for x in adapted):
        raise ValueError(
            "`model` must have LoRA as PEFT describes it: call `keras_attn.pretrained.enable_lora`, with `targets` "
            f"that are single matrices in {entry.names[0]!r}. Received: {[x.path for x in adapted]}"
        )
    scale = adapted[0].lora_alpha / adapted[0].lora_rank
    pairs = [_pair(x, part.shape, scale) for x, part in zip(layers, entry.parts, strict=True)]
    if all(np.array_equal(a, pairs[0][0]) for a, _ in pairs):
        first, blocks = pairs[0][0], [b for _, b in pairs]
    else:
        first = np.concatenate([a for a, _ in pairs])
        ends = np.cumsum([len(a) for a, _ in pairs])
        blocks = [_padded(b, end, len(first)) for (_, b), end in zip(pairs, ends, strict=True)]
    for transform in reversed(_of_outputs(entry)):
        blocks = transform.write(blocks, entry.parts)
    return first, blocks[0], scale


def assign_to(entry: Assignment, a: np.ndarray, b: np.ndarray) -> None:
    """Sets the matrices of the layers that a module consists of; each has a copy of `A`."""
    blocks = [b]
    for transform in _of_outputs(entry):
        blocks = transform.read(blocks, entry.parts)
    for part, block in zip(entry.parts, blocks, strict=True):
        assign(part.layer.lora_kernel_a, a.T)
        assign(part.layer.lora_kernel_b, block.T)


def faults(entry: Assignment, module: str, rank: int, shapes: Sequence[tuple[int, ...] | None]) -> list[str]:
    """Why matrices of these shapes, None if missing, do not fit into our layers."""
    if not can_adapt(entry):
        return [f"matrices for {module!r}, which is no single matrix here"]
    found = []
    inputs, outputs = entry.parts[0].shape[1], sum(part.shape[0] for part in entry.parts)
    for name, shape, wanted in zip("AB", shapes, ((rank, inputs), (outputs, rank)), strict=True):
        if shape not in (None, wanted):
            found.append(f"lora_{name} of {module!r} has shape {shape}, the model and the rank need {wanted}")
    for layer in (part.layer for part in entry.parts):
        if layer.quantization_mode is not None:
            found.append(f"matrices for {layer.path}, which is quantised")
        elif layer.lora_enabled and not (layer.lora_as_matrix and layer.lora_rank == rank):
            found.append(f"matrices of rank {rank} for {layer.path}, which has LoRA of rank {layer.lora_rank}")
    return found


def _pair(layer, shape, scale):
    """`(A, B)` of a layer, for a scale; of rank 0 without LoRA."""
    if not layer.lora_enabled:
        return np.zeros((0, shape[1]), "float32"), np.zeros((shape[0], 0), "float32")
    a, b = (keras.ops.convert_to_numpy(x).T for x in (layer.lora_kernel_a, layer.lora_kernel_b))
    own = layer.lora_alpha / layer.lora_rank
    return a, b if own == scale else b * np.float32(own / scale)


def _padded(block, end, rank):
    found = np.zeros((len(block), rank), "float32")
    found[:, end - block.shape[1] : end] = block
    return found


def _of_outputs(entry):
    return [transform for transform in entry.row.transforms if transform.lora == "outputs"]
