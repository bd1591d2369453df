"""How LoRA is saved."""

from typing import Any

import numpy as np

from keras_attn.layers.base.composite import set_own_trainable


class Lora:
    """Saves the matrices of LoRA beside the weights that they change. Comes before the Keras class among the bases.

    Keras' own layers add their product to the weights in the file: where these are int8 or int4, most of it is rounded
    away. And a layer that reads the file gets zeros for both matrices, from which training never leaves. Here, a layer
    with LoRA of the same rank goes on where the saved one stood, and any other adds the product to its weights.
    """

    # The weights that LoRA changes, as Keras' attributes name them.
    _adapted = "kernel"
    _trainable_was_set = False

    @property
    def trainable(self) -> bool:
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._trainable_was_set = True
        set_own_trainable(self, bool(value))

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
        weights = getattr(self, f"_{self._adapted}")
        if self.quantization_mode is None:
            weights.assign_add(saved["lora_scale"] * (saved["lora_a"] @ saved["lora_b"]))
            return
        rank = saved["lora_a"].shape[-1]
        borrowed = {"lora_enabled": True, "lora_rank": rank, "lora_alpha": float(saved["lora_scale"]) * rank}
        borrowed |= {f"lora_{self._adapted}_{side}": saved[f"lora_{side}"] for side in "ab"}
        own = {name: vars(self)[name] for name in borrowed if name in vars(self)}
        # Set as usual, Keras would take the matrices for weights of this layer.
        vars(self).update(borrowed)
        try:
            values = getattr(self, f"_get_{self._adapted}_with_merged_lora")()
        finally:
            for name in borrowed:
                del vars(self)[name]
            vars(self).update(own)
        for name in (f"_{self._adapted}", f"{self._adapted}_scale", f"{self._adapted}_zero"):
            value, *values = values
            if value is not None:
                getattr(self, name).assign(value)
