"""What a model remembers of the checkpoint that it was read from, in order to write it again."""

from __future__ import annotations

from typing import Any, Self

import keras


@keras.saving.register_keras_serializable(package="keras_attn")
class Checkpoint:
    """The `config.json` and the task of a model, saved with it.

    Args:
        config: The contents of `config.json`.
        task: The task.
        generation: The contents of `generation_config.json`, empty if there is no such file.
        modules: The contents of `modules.json` and of the files that describe the modules, by path; empty if the folder
            is not one of sentence-transformers.
    """

    def __init__(
        self,
        config: dict[str, Any],
        task: str,
        generation: dict[str, Any] | None = None,
        modules: dict[str, Any] | None = None,
    ) -> None:
        self.config, self.task, self.generation, self.modules = config, task, generation or {}, modules or {}

    def get_config(self) -> dict[str, Any]:
        return {"config": self.config, "task": self.task, "generation": self.generation, "modules": self.modules}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        return cls(**config)

    def save(self, model: keras.Model, folder: Any) -> None:
        """See `keras_attn.pretrained.save_pretrained`."""
        from keras_attn.pretrained.saving import save_pretrained

        save_pretrained(model, folder)
