"""A student with the projections that its hidden vectors are compared through."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import keras

from keras_attn.typing import Nest, Tensor


@keras.saving.register_keras_serializable(package="keras_attn")
class DistilledModel(keras.Model):
    """Computes what the student does; projections are trained and saved beside it, and are of no use afterwards.

    It has the public attributes of the student, such as `tokenizer` and `generate`, for trainers and callbacks.

    Args:
        student: The student.
        projections: Names of the projections.
        width: Number of channels to project to, those of the teacher.
    """

    def __init__(self, student: keras.Model, projections: Sequence[str], width: int) -> None:
        super().__init__(name=f"distilled_{student.name}", dtype=student.dtype_policy)
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

    def __getattr__(self, name: str) -> Any:
        # Private names are of Keras, which asks what kind of model this is.
        if name.startswith("_") or (student := vars(self).get("student")) is None:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(student, name)

    def call(self, inputs: Nest, training: bool | None = None) -> Tensor:
        return self.student(inputs, training=training)

    def get_config(self) -> dict[str, Any]:
        student = keras.saving.serialize_keras_object(self.student)
        return {"student": student, "projections": list(self.projections), "width": self.width}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> Self:
        student = keras.saving.deserialize_keras_object(config["student"], custom_objects=custom_objects)
        return cls(student, config["projections"], config["width"])
