"""Knowledge distillation: students learn from the outputs, vectors and attention of a teacher."""

from keras_attn.training.distillation.distillation import Distillation
from keras_attn.training.distillation.teacher_logits import TeacherLogits
from keras_attn.training.distillation.teacher_texts import teacher_texts

__all__ = ["Distillation", "TeacherLogits", "teacher_texts"]
