"""Hugging Face checkpoints: read into models of this package, and written back."""

from typing import TYPE_CHECKING

from keras_attn.lazy import lazy

if TYPE_CHECKING:
    from keras_attn.pretrained.checkpoint import Checkpoint
    from keras_attn.pretrained.family import TASKS
    from keras_attn.pretrained.loading import from_pretrained
    from keras_attn.pretrained.saving import save_pretrained
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {"checkpoint": "Checkpoint", "family": "TASKS", "loading": "from_pretrained", "saving": "save_pretrained"},
    )

__all__ = ["TASKS", "Checkpoint", "from_pretrained", "save_pretrained"]
