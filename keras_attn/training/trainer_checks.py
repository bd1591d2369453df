"""Whether a `Trainer`, or its `fit`, can do what it was given."""

import inspect
import warnings

import keras
import numpy as np

from keras_attn import compat
from keras_attn.argument_checks import check_positive, check_vocabulary
from keras_attn.training.callbacks.text_evaluation import TextEvaluation
from keras_attn.training.checkpoints.checkpoints import Checkpoints
from keras_attn.training.distillation.distilled_model import DistilledModel
from keras_attn.training.losses.compiled_loss import check_labels, decides_itself, sums_up
from keras_attn.training.losses.compute_loss import computed
from keras_attn.training.losses.entries import aligned, only
from keras_attn.training.losses.id_checks import agree


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
    check_positive(accumulation_steps=trainer.accumulation_steps)
    if not (trainer.compute_loss is None or _takes_five(trainer.compute_loss)):
        raise ValueError(
            "`compute_loss` must be a function of (model, inputs, labels, sample_weight, training). "
            f"Received: compute_loss={trainer.compute_loss!r}"
        )
    _check_model(trainer)
    _check_loss(trainer)
    _check_variables(trainer.model, trainer.strategy)
    _check_optimizer(optimizer, trainer.strategy)


def _takes_five(function):
    """Whether a function can be called with five arguments, as far as its signature says."""
    if not callable(function):
        return False
    try:
        inspect.signature(function).bind(*range(5))
    except TypeError:
        return False
    except ValueError:
        # Some builtins have no signature.
        return True
    return True


def check_dataset(trainer, name, dataset):
    """Raises a ValueError if a data set is not one for the model, its losses or `compute_loss`."""
    agree(name, dataset, trainer.model, trainer.rated)
    if hasattr(trainer.compute_loss, "check_dataset"):
        trainer.compute_loss.check_dataset(name, dataset)


def check_callbacks(callbacks):
    """Raises a ValueError where one of the callbacks would do what the trainer does."""
    if any(isinstance(callback, keras.callbacks.BackupAndRestore) for callback in callbacks):
        raise ValueError(
            "`callbacks` must leave it to `checkpoints` of the trainer to go on. Received: a BackupAndRestore"
        )


def check_monitor(trainer, callbacks, has_validation):
    """Raises a ValueError if the figure that `checkpoints` watch is one that nothing will log.

    Args:
        trainer: a `Trainer`.
        callbacks: list of those of `fit`. Callbacks of a user may log anything.
        has_validation: whether there are validation data.
    """
    watched = trainer.checkpoints
    if watched is None or not (watched.keep_best or watched.monitor != "val_loss"):
        return
    if any(not _logs_nothing_unknown(callback) for callback in callbacks):
        return
    names = ["loss", *trainer.metrics.names]
    known = {*names, "learning_rate", "grad_norm"} | {f"val_{name}" for name in names if has_validation}
    for callback in callbacks:
        if isinstance(callback, TextEvaluation):
            known |= {callback.prefix + metric.name for metric in callback.metrics}
    if watched.monitor not in known:
        hint = "" if has_validation else ", as there are no `validation_data`"
        raise ValueError(
            f"`monitor` of `checkpoints` must be a figure that is logged, one of {sorted(known)}{hint}. "
            f"Received: monitor={watched.monitor!r}"
        )


def _logs_nothing_unknown(callback):
    module = type(callback).__module__.partition(".")[0]
    return module in ("keras", "keras_attn") and not isinstance(callback, keras.callbacks.LambdaCallback)


def warn_of_no_steps(step, steps):
    """Warns the caller of `Trainer.fit` that no update is left to be made.

    Args:
        step: how many were made.
        steps: how many were asked for; with more than were made, an `EarlyStopping` has ended the training run.
    """
    if step < steps:
        words = f"An EarlyStopping ended this training run at step {step}: `steps`, which is {steps}, is ignored. "
        words += "Leave the callback out to go on"
    else:
        made = f"of which {step} were made" if steps < step else "as many as were made"
        words = f"`steps` is {steps}, {made}: nothing is left to train"
    # Of `fit`, which calls `_fit`.
    warnings.warn(words, stacklevel=4)


def check_batch(trainer, name, batch):
    """Raises a ValueError if a batch of the data set `name` holds ids, positions or labels that the model lacks."""
    model, loss = trainer.model, trainer.loss
    vocabularies, max_lengths = getattr(model, "vocabularies", {}), getattr(model, "max_lengths", {})
    inputs, labels, weights, _ = batch
    if len(getattr(model, "outputs", None) or ()) == 1 and not _knows_labels_late(model, loss):
        check_labels(loss, f"{name} labels", labels, model.outputs[0].shape[-1], weights)
    if isinstance(inputs, np.ndarray):
        inputs = dict.fromkeys(vocabularies, inputs)
    if isinstance(inputs, dict):
        for key in vocabularies.keys() & inputs.keys():
            ids, limit = inputs[key], max_lengths.get(key)
            check_vocabulary(vocabularies[key], **{f"{name}[{key!r}]": ids})
            if limit is not None and np.ndim(ids) > 1 and np.shape(ids)[1] > limit:
                raise ValueError(
                    f"`{name}[{key!r}]` must be no longer than the {limit} positions of the model. "
                    f"Received: shape={np.shape(ids)}; `max_length` of a tokenizer or a data set cuts texts"
                )


def check_sums(trainer, name, batch, total, weight):
    """Raises a ValueError if the sums of a batch of an evaluation are not finite, and labels or the weight say why."""
    if not np.isfinite(total):
        check_shown_labels(trainer, name, batch)
    if trainer.compute_loss is not None and not np.isfinite(weight):
        raise ValueError(f"`compute_loss` must return a finite weight. Received: {float(weight)} in `{name}`")


def call_model(trainer, batch):
    """The outputs for a batch, without dropout; None if a `compute_loss` gives none."""
    if trainer.compute_loss is None:
        return only(trainer.model(batch[0], training=False))
    return computed(trainer.compute_loss, trainer.model, batch, False)[2]


def check_shown_labels(trainer, name, batch):
    """Checks the labels that `check_batch` could not, after a batch whose loss is not finite.

    The Keras mask of the outputs may hide labels that are no class, and is known only once the model is called, as is
    the number of frames that the labels of `CTCLoss` must fit.
    """
    loss = trainer.loss
    is_late, has_frames = _knows_labels_late(trainer.model, loss), hasattr(loss, "check_frames")
    if not (is_late or has_frames):
        return
    _, labels, weights, _ = batch
    outputs = call_model(trainer, batch)
    if outputs is None:
        return
    if has_frames:
        loss.check_frames(f"{name} labels", labels, outputs, weights)
    if not is_late:
        return
    if (mask := compat.keras_mask(outputs)) is not None:
        mask = keras.ops.convert_to_numpy(mask)
        weights = mask if weights is None else mask * aligned(weights, mask.ndim)
    check_labels(loss, f"{name} labels", labels, outputs.shape[-1], weights)


def _knows_labels_late(model, loss):
    """Whether a Keras mask decides which labels count; losses of Keras multiply what is hidden, NaN too, by 0."""
    outputs = getattr(model, "outputs", None)
    return bool(outputs) and hasattr(loss, "check_labels") and compat.keras_mask(outputs[0]) is not None


def _check_model(trainer):
    model = trainer.model
    if not model.built:
        raise ValueError(f"`model` must be a built keras.Model. Received: model={model!r}")
    if not model.trainable_variables:
        raise ValueError("`model` must have weights to train. Received: one whose weights are all frozen")
    count = len(keras.tree.flatten(getattr(model, "outputs", None)))
    if count > 1 and trainer.compute_loss is None:
        raise ValueError(f"`model` must have one output. Received: one with {count}; `compute_loss` takes such")


def _check_loss(trainer):
    loss = trainer.loss
    if isinstance(trainer.model, DistilledModel) and trainer.compute_loss is None:
        raise ValueError(
            "`compute_loss` must be the `Distillation` whose `model` this is; without it, nothing is learnt from the "
            "teacher. Received: None"
        )
    if loss is None:
        if trainer.compute_loss is None:
            raise ValueError(
                "`loss` must be a keras.losses.Loss, a function, or the name of one, unless `compute_loss` is given. "
                "Received: None"
            )
        return
    if trainer.compute_loss is not None and sums_up(loss):
        raise ValueError(
            "`loss` must have a reduction that is a mean, as `compute_loss` returns a sum and what it is divided by. "
            f"Received: reduction={loss.reduction!r}"
        )
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
    if compat.strategy_of(updater) is not strategy and strategy.num_replicas_in_sync > 1:
        raise ValueError("`optimizer` and `model` must be made in the scope of `strategy`. Received: one made outside")


def _check_variables(model, strategy):
    import tensorflow as tf

    if strategy.num_replicas_in_sync == 1:
        return
    for variable in model.variables:
        if not isinstance(variable.value, tf.distribute.DistributedValues):
            raise ValueError(
                "`model` must be made in the scope of `strategy`, with all its layers. "
                f"Received: {variable.path!r}, made outside"
            )
