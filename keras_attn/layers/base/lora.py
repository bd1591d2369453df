"""Saving and loading of LoRA weights."""

from typing import Any

import numpy as np

from keras_attn import compat
from keras_attn.layers.base.freezable import Freezable


class Lora(Freezable):
    """Saves the LoRA matrices separately from the weights they change. Must precede the Keras class among the bases.

    Keras' own layers merge them into the saved weights: int8 and int4 weights lose most of the change, and a layer that
    loads the file has zeros in both matrices, from which training cannot recover. Here, a layer with LoRA of the same
    rank loads the matrices, and any other layer adds their product to its weights.
    """

    # Name of the attribute with the weights that LoRA changes.
    _adapted = "kernel"
    # Whether the weights count as one matrix, and the bias is frozen too, see `Projection.enable_lora`.
    lora_as_matrix = False

    def merge_lora(self) -> None:
        """Adds the product of the LoRA matrices to the weights, and removes the matrices."""
        if not self.lora_enabled:
            return
        a, b = map(np.asarray, self._lora_matrices())
        scale = np.float32(self.lora_alpha / self.lora_rank)
        for name in ("a", "b"):
            delattr(self, f"lora_{self._adapted}_{name}")
        self.lora_enabled, self.lora_rank, self.lora_as_matrix = False, None, False
        compat.set_own_trainable(self, compat.own_trainable(self))
        self._add_product({"lora_scale": scale, "lora_a": a, "lora_b": b})

    def save_own_variables(self, store: Any) -> None:
        enabled, self.lora_enabled = self.lora_enabled, False
        try:
            super().save_own_variables(store)
        finally:
            self.lora_enabled = enabled
        if enabled and self.built:
            store["lora_a"], store["lora_b"] = self._lora_matrices()
            store["lora_scale"] = np.asarray(self.lora_alpha / self.lora_rank, "float32")

    def load_own_variables(self, store: Any) -> None:
        names = list(store.keys())
        saved = {name: np.asarray(store[name]) for name in ("lora_a", "lora_b", "lora_scale") if name in names}
        own = self._lora_matrices() if self.lora_enabled else ()
        start = [np.asarray(own[0]), np.zeros(own[1].shape)] if own else ()
        super().load_own_variables({name: store[name] for name in names if name not in saved})
        if saved and own and own[0].shape == saved["lora_a"].shape:
            scale = self.lora_alpha / self.lora_rank
            start = [saved["lora_a"], saved["lora_b"] * (saved["lora_scale"] / scale)]
        elif saved:
            self._add_product(saved)
        for matrix, value in zip(own, start, strict=True):
            matrix.assign(value)

    def _lora_matrices(self):
        return getattr(self, f"lora_{self._adapted}_a"), getattr(self, f"lora_{self._adapted}_b")

    def _add_product(self, saved):
        scale, a, b = (saved[name] for name in ("lora_scale", "lora_a", "lora_b"))
        weights = compat.stored_weights(self)
        shape = weights.shape
        if self.quantization_mode == "int4":
            # The stored weights are packed.
            shape = getattr(self, "original_kernel_shape", (*a.shape[:-1], *b.shape[1:]))
        product = (a.reshape(-1, a.shape[-1]) @ b.reshape(b.shape[0], -1)).reshape(shape)
        if self.quantization_mode is None:
            weights.assign_add(scale * product)
        else:
            compat.add_to_quantized(self, self._adapted, product, np.eye(shape[-1], dtype=product.dtype), scale)
