"""Hugging Face checkpoints: read into models of this package, fine-tuned, and written back."""

from typing import TYPE_CHECKING

from keras_attn.lazy import lazy

if TYPE_CHECKING:
    from keras_attn.pretrained.adapters import load_adapter, save_adapter
    from keras_attn.pretrained.checkpoint import Checkpoint
    from keras_attn.pretrained.family import TASKS
    from keras_attn.pretrained.loading import from_pretrained
    from keras_attn.pretrained.lora import enable_lora, merge_lora
    from keras_attn.pretrained.saving import save_pretrained
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {
            "adapters": "load_adapter save_adapter",
            "checkpoint": "Checkpoint",
            "family": "TASKS",
            "loading": "from_pretrained",
            "lora": "enable_lora merge_lora",
            "saving": "save_pretrained",
        },
    )

__all__ = [
    "TASKS",
    "Checkpoint",
    "enable_lora",
    "from_pretrained",
    "load_adapter",
    "merge_lora",
    "save_adapter",
    "save_pretrained",
]
