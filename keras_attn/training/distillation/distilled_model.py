"""A student with the projections that its hidden vectors are compared through."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import keras

from keras_attn.typing import Nest, Tensor


@keras.saving.register_keras_serializable(package="keras_attn")
class DistilledModel(keras.Model):
    """Computes what the student does; projections are trained and saved beside it, and are of no use afterwards.

    Args:
        student: The student.
        projections: Names of the projections.
        width: Number of channels to project to, those of the teacher.
    """

    def __init__(self, student: keras.Model, projections: Sequence[str], width: int) -> None:
        super().__init__(name=f"distilled_{student.name}")
        self.student, self.width = student, width
        self.projections = {
            name: keras.layers.Dense(width, use_bias=False, name=f"projection_{name}") for name in projections
        }
        for layer in self.projections.values():
            layer.build((None, None, student.hidden_dim))
        self.built = True

    @property
    def input(self) -> Nest:
        return self.student.input

    @property
    def outputs(self) -> list[keras.KerasTensor]:
        return self.student.outputs

    @property
    def vocabularies(self) -> dict[str, int]:
        return getattr(self.student, "vocabularies", {})

    @property
    def labels(self) -> list[str] | None:
        return getattr(self.student, "labels", None)

    def call(self, inputs: Nest, training: bool | None = None) -> Tensor:
        return self.student(inputs, training=training)

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        """As that of the student, for callbacks that generate."""
        return self.student.generate(*args, **kwargs)

    def get_config(self) -> dict[str, Any]:
        student = keras.saving.serialize_keras_object(self.student)
        return {"student": student, "projections": list(self.projections), "width": self.width}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> Self:
        student = keras.saving.deserialize_keras_object(config["student"], custom_objects=custom_objects)
        return cls(student, config["projections"], config["width"])
