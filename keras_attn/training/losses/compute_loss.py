"""Custom training objectives, instead of one forward pass and one loss."""

from __future__ import annotations

from typing import Protocol

import keras
from keras import ops

from keras_attn.training.losses.entries import only
from keras_attn.typing import Nest, Tensor


class ComputeLoss(Protocol):
    """The function that `Trainer(compute_loss=...)` calls instead of the forward pass and the loss.

    It is called once per replica and micro-batch, and returns a sum and a weight: both are added over all calls, and
    divided once. So the result does not depend on how a batch is split, if the sum is over entries, and the weight is
    their number or the sum of their weights, as in `MaskedCrossEntropy.total`, `entry_weights` and `loss_total`. The
    losses of regularizers and of `add_loss` in the model's layers are added once; if the model is called several times,
    those of the last call.

    The model may be called several times: each call draws a new dropout mask, which depends only on the model's random
    states and the step. Other models may be called with `training=False`. They are not trained and keep their state:
    only the model's variables change. Build them in the scope of the trainer's `strategy`.

    The function is traced, without AutoGraph, once per batch shape: write it in `keras.ops`; a value that changes from
    step to step must be a tensor or a variable, such as `optimizer.iterations`. Validation calls it too. If it is an
    object with an attribute `loss`, that loss is told the label of padding, as the one of the trainer is; if it has a
    method `check_dataset`, this is called with the name and the data set of each argument, before anything is trained.

    Call arguments:
        model: The model of the trainer.
        inputs: Nest of tensors, the rows of this replica, first axis `B`; including those that the model does not take.
        labels: Tensor, or a nest of tensors.
        sample_weight: The weights of the data, or None. If rows cannot be split evenly, rows are repeated with a weight
            of 0, and it is a float32 `(B,)` even if the data has no weights.
        training: Bool, False in validation.

    Returns:
        `(total, weight)` or `(total, weight, outputs)`: a float scalar, the sum of the losses; a scalar or a number, by
        which the sum is divided; and the outputs that metrics compare with the labels.

    Raises:
        ValueError: The trainer raises one that names `compute_loss` if the result is not as described, the weight is
            not finite, the total does not depend on the model's weights, metrics lack outputs, or a variable outside
            the model would change: the state of another model in training mode, or of a random generator that is not
            an attribute of the model.

    Example:

    A student learns from labels and from the probabilities of a teacher.

    >>> import keras, numpy as np
    >>> import tensorflow as tf
    >>> from keras_attn.training import MaskedCrossEntropy, Trainer, loss_total
    >>> def classifier(width):
    ...     return keras.Sequential([keras.Input((3,)), keras.layers.Dense(width, "relu"), keras.layers.Dense(4)])
    >>> student, teacher = classifier(8), classifier(32)
    >>> cross_entropy = MaskedCrossEntropy(ignore_id=None)
    >>> def distill(model, inputs, labels, sample_weight, training):
    ...     logits = model(inputs, training=training)
    ...     total, weight = cross_entropy.total(labels, logits, sample_weight)
    ...     weights = cross_entropy.entry_weights(labels, logits, sample_weight)
    ...     known, learned = keras.ops.softmax(teacher(inputs, training=False)), keras.ops.softmax(logits)
    ...     divergence, _ = loss_total("kl_divergence", known, learned, weights)
    ...     return total + divergence, weight, logits
    >>> rng = np.random.default_rng(0)
    >>> data = (rng.normal(size=(32, 3)).astype("float32"), rng.integers(0, 4, 32))
    >>> data = tf.data.Dataset.from_tensor_slices(data).batch(8)
    >>> trainer = Trainer(student, keras.optimizers.Adam(1e-2), cross_entropy, ["accuracy"], compute_loss=distill)
    >>> losses = trainer.fit(data, steps=60, validation_freq=20).history["loss"]
    >>> losses[-1] < losses[0]
    True
    """

    def __call__(
        self, model: keras.Model, inputs: Nest, labels: Nest, sample_weight: Tensor | None, training: bool, /
    ) -> tuple[Tensor, Tensor] | tuple[Tensor, Tensor, Nest]: ...


def computed(compute_loss, model, batch, training, has_metrics=False):
    """Returns `(total, weight, outputs)` of a batch: two float32 scalars, and the outputs, or None.

    Args:
        compute_loss: A `ComputeLoss`.
        model: `keras.Model`.
        batch: `(inputs, labels, weights, present)`, see `batch_total`.
        training: Bool.
        has_metrics: Whether outputs are required.

    Raises:
        ValueError: If the function returns something else.
    """
    inputs, labels, weights, present = batch
    found = compute_loss(model, inputs, labels, present if weights is None else weights, training)
    if not isinstance(found, tuple | list) or len(found) not in (2, 3):
        raise ValueError(
            f"`compute_loss` must return (total, weight) or (total, weight, outputs). Received: {_shown(found)}"
        )
    total, weight, outputs = *found, *[None] * (3 - len(found))
    if has_metrics and outputs is None:
        raise ValueError(
            "`compute_loss` must return (total, weight, outputs), as there are `metrics`. Received: no outputs"
        )
    total = _scalar("total, the sum of the losses", total, keras.backend.is_float_dtype)
    # The mean is minimised through its sum, and not by a larger weight.
    weight = ops.stop_gradient(_scalar("weight", weight, lambda dtype: dtype != "bool"))
    return total, weight, only(outputs)


def _scalar(name, value, allows):
    """`value` as a float32 scalar."""
    try:
        value = ops.convert_to_tensor(value)
        dtype = keras.backend.standardize_dtype(value.dtype)
    except (TypeError, ValueError):
        dtype = None
    if dtype is None or len(value.shape) or not allows(dtype):
        raise ValueError(f"`compute_loss` must return a scalar as {name}. Received: {_shown(value)}")
    return ops.cast(value, "float32")


def _shown(value):
    if isinstance(value, tuple | list):
        return f"{len(value)} values"
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    return repr(value) if shape is None else f"shape {tuple(shape)}, dtype {keras.backend.standardize_dtype(dtype)}"
