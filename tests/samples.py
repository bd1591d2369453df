"""Inputs that the cases of several layers share; sizes are unequal, so that a swapped axis shows."""

import numpy as np
import oracle

D, DV, N, H, M = 13, 17, 3, 11, 19


def normal(rng, *shape):
    return rng.normal(size=shape).astype("float32")


def lengths(B, T):
    """bool (B, T): the first row is two shorter than the others."""
    return np.arange(T) < np.where(np.arange(B) == 0, T - 2, T)[:, None]


def square(query_mask, **rules):
    """The mask of self-attention over padded rows, (B, 1, T, T)."""
    positions = np.arange(query_mask.shape[1])
    pairs = query_mask[:, :, None] & query_mask[:, None, :]
    return (pairs & oracle.allowed(positions, positions, **rules))[:, None]


def embedded(rng, B, T, S, **extra):
    return {"inputs": normal(rng, B, T, D), **extra}


def at_positions(rng, B, T, S):
    positions = rng.integers(0, M, size=(B, T), dtype="int32")
    return {"inputs": normal(rng, B, T, D), "positions": positions}


def ids(rng, B, T, S):
    return {"inputs": rng.integers(0, M, size=(B, T), dtype="int32")}


def padded(rng, B, T, S):
    return {"inputs": normal(rng, B, T, D), "inputs_mask": lengths(B, T)}


def with_memory(rng, B, T, S):
    return {**padded(rng, B, T, S), "memory": normal(rng, B, S, DV), "memory_mask": lengths(B, S)}
