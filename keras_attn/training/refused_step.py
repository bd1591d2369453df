"""Steps that are refused, and why, in words."""

import re

from keras_attn.training.first_not_finite import first_not_finite, is_finite
from keras_attn.training.trainer_checks import call_model, check_shown_labels

EMPTY = "no token of the batch counts"
LOSS = "the loss of the batch is not finite"
GRADIENT = "a gradient of the batch is not finite"
STATE = "a state that the batch moves is not finite"
WEIGHT = "the weight of the batch is not finite"
RATE = "the learning rate is not finite"
SCALE = "the scale of the loss is next to nothing"


def explained(error, trainer, batch):
    """The error in words for what a step of a `Trainer` failed with, or `error` itself where it is none of a check.

    Args:
        error: what TensorFlow raised.
        trainer: the `Trainer`.
        batch: the last batch of the step, on this worker.

    Raises:
        ValueError: labels that only the mask of the outputs tells are no classes.
    """
    message = str(error)
    if EMPTY in message:
        weights = "" if trainer.compute_loss is None else ", and `compute_loss` return a weight above 0"
        return ValueError(
            f"`dataset` must hold batches with tokens that count{weights}. "
            f"Received: padding or weights of 0 alone at step {trainer.step}"
        )
    if WEIGHT in message:
        return ValueError(
            f"`compute_loss` must return a finite weight. Received: one that is not finite at step {trainer.step}"
        )
    if LOSS in message:
        check_shown_labels(trainer, "dataset", batch)
        where = first_not_finite(trainer.model, lambda: call_model(trainer, batch))
        if trainer.num_workers > 1:
            where = f"with the rows of this worker, one of {trainer.num_workers}, {where}"
        return FloatingPointError(f"the loss of step {trainer.step} is not finite: {where}")
    if found := re.search(rf"({GRADIENT}|{STATE})\]? \[([^\]]*)\]", message):
        what = "gradient" if found[1] == GRADIENT else "new value"
        return FloatingPointError(
            f"step {trainer.step} is refused: its loss is finite, but the {what} of {found[2]!r} is not"
        )
    if RATE in message:
        return FloatingPointError(f"step {trainer.step} is refused: the learning rate is not finite")
    if SCALE in message:
        return FloatingPointError(
            f"step {trainer.step} is refused: the gradients of all steps before it were not finite, whatever the scale "
            "of the loss"
        )
    return error


def check_updated(trainer):
    """Raises a FloatingPointError where the updates of a `Trainer` have made variables that are not finite."""
    for variable in (*trainer.model.trainable_variables, *trainer.optimizer.variables):
        if not is_finite(variable.value):
            raise FloatingPointError(
                f"the updates up to step {trainer.step} made {variable.path!r} infinite or NaN, of finite gradients: "
                "the learning rate is too high, or a constraint or the optimizer divides by 0. No checkpoint holds this"
            )
