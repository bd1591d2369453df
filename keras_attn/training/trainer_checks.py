"""Whether a `Trainer`, or its `fit`, can do what it was given."""

import keras

from keras_attn.argument_checks import check_positive
from keras_attn.training.checkpoints import Checkpoints
from keras_attn.training.compiled_loss import decides_itself


def check_arguments(trainer, optimizer):
    """Raises a ValueError that names the argument of `Trainer` that does not fit."""
    import tensorflow as tf

    kinds = {
        "strategy": (trainer.strategy, tf.distribute.Strategy, "tf.distribute.Strategy"),
        "model": (trainer.model, keras.Model, "built keras.Model"),
        "optimizer": (optimizer, keras.optimizers.Optimizer, "keras.optimizers.Optimizer"),
        "checkpoints": (trainer.checkpoints, (Checkpoints, type(None)), "keras_attn.training.Checkpoints"),
    }
    for name, (value, kind, words) in kinds.items():
        if not isinstance(value, kind):
            raise ValueError(f"`{name}` must be a {words}. Received: {name}={value!r}")
    for metric in trainer.metrics:
        if not metric.variables:
            raise ValueError(
                "`metrics` must have their variables, which some make when they are first updated: call `update_state` "
                f"with an example, and `reset_state`. Received: {metric.name!r} without any"
            )
    check_positive(accumulation_steps=trainer.accumulation_steps)
    _check_model(trainer.model)
    _check_loss(trainer)
    _check_optimizer(optimizer, trainer.strategy)


def check_callbacks(callbacks):
    """Raises a ValueError where one of the callbacks would do what the trainer does."""
    if any(isinstance(callback, keras.callbacks.BackupAndRestore) for callback in callbacks):
        raise ValueError(
            "`callbacks` must leave it to `checkpoints` of the trainer to go on. Received: a BackupAndRestore"
        )


def _check_model(model):
    if not model.built:
        raise ValueError(f"`model` must be a built keras.Model. Received: model={model!r}")
    if not model.trainable_variables:
        raise ValueError("`model` must have weights to train. Received: one whose weights are all frozen")
    count = len(keras.tree.flatten(getattr(model, "outputs", None)))
    if count > 1:
        raise ValueError(f"`model` must have one output. Received: one with {count}")


def _check_loss(trainer):
    loss = trainer.loss
    if loss is None:
        raise ValueError("`loss` must be a keras.losses.Loss, a function, or the name of one. Received: None")
    if getattr(loss, "reduction", "mean") in (None, "none"):
        raise ValueError(
            "`loss` must have a reduction, 'sum_over_batch_size', 'mean_with_sample_weight' or 'sum', as one number is "
            f"minimised. Received: reduction={loss.reduction!r}"
        )
    parts = trainer.strategy.num_replicas_in_sync * trainer.accumulation_steps
    if decides_itself(loss) and parts > 1:
        raise ValueError(
            "`loss` must leave `__call__` to keras.losses.Loss and implement `call`, or have a method `total`, where a "
            f"batch is computed in parts. Received: {loss!r} with {parts} parts"
        )


def _check_optimizer(optimizer, strategy):
    updater = getattr(optimizer, "inner_optimizer", optimizer)
    if updater.gradient_accumulation_steps:
        raise ValueError(
            "`optimizer` must not accumulate gradients, which `accumulation_steps` of the trainer does. "
            f"Received: gradient_accumulation_steps={updater.gradient_accumulation_steps}"
        )
    if updater._distribution_strategy is not strategy and strategy.num_replicas_in_sync > 1:
        raise ValueError("`optimizer` and `model` must be made in the scope of `strategy`. Received: one made outside")
