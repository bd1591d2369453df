"""How much a model's loss depends on each of its heads and channels."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_attn import compat
from keras_attn.argument_checks import check_positive
from keras_attn.training.losses.id_checks import agree
from keras_attn.training.pruning.units import units_of
from keras_attn.typing import Array


def importance(model: keras.Model, batches: Iterable[Any], loss: Any, steps: int = 50) -> dict[str, Array]:
    """The mean over rows of `|dL / dm|`, where `m = 1` multiplies the output of a head or the value of a channel.

    It estimates how much the loss `L` of a row changes if the unit is taken out. The values of each layer are divided
    by their Euclidean norm, as in the paper, so that layers can be compared.

    Args:
        model: A model of this package with an encoder or decoder.
        batches: A data set of this package, a `tf.data.Dataset`, or any iterable of `(inputs, labels)` or
            `(inputs, labels, sample_weight)`.
        loss: A loss with `total`, such as `MaskedCrossEntropy()`, which is told the label of padding.
        steps: Number of batches to use.

    Returns:
        Dict from the path of each attention layer to float32 `(num_kv_heads,)`, and of each feed-forward network to
        float32 `(intermediate_dim,)`. Grouped heads are ranked by group.

    Raises:
        ValueError: If the model has no such layers, there are no batches, model, data and loss disagree on ids, or a
            score is not finite.

    Reference:
        [Michel et al., 2019](https://arxiv.org/abs/1905.10650)

    Example:

    >>> import numpy as np
    >>> import keras_attn
    >>> from keras_attn.training import MaskedCrossEntropy
    >>> from keras_attn.training.pruning import importance
    >>> model = keras_attn.EncoderModel(20, 1, 8, 2, 16, head="sequence_classification", num_classes=3)
    >>> batch = {"token_ids": np.array([[4, 5], [6, 7]])}, np.array([0, 2])
    >>> [scores.shape for scores in importance(model, [batch], MaskedCrossEntropy()).values()]
    [(2,), (16,)]
    """
    import tensorflow as tf

    check_positive(steps=steps)
    if not hasattr(loss, "total"):
        raise ValueError(f"`loss` must have `total`, as `MaskedCrossEntropy` has. Received: loss={loss!r}")
    units = units_of(model)
    agree("batches", batches, model, [loss])

    @tf.function(autograph=False, reduce_retracing=True)
    def gradients(inputs, labels, weights):
        rows = ops.shape(keras.tree.flatten(inputs)[0])[0]
        with tf.GradientTape() as tape, contextlib.ExitStack() as scopes:
            masks = []
            for unit in units:
                masks.append(ops.ones((rows, unit.count)))
                tape.watch(masks[-1])
                scopes.enter_context(_masked(unit, masks[-1]))
            outputs = model(inputs, training=False)
            total, _ = loss.total(labels, outputs, weights)
        found = tape.gradient(total, masks, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return [ops.sum(ops.abs(x), axis=0) for x in found]

    iterator = batches.batches() if hasattr(batches, "batches") else iter(batches)
    sums = [np.zeros(unit.count, "float64") for unit in units]
    count = 0
    for batch in itertools.islice(iterator, steps):
        inputs, labels, *rest = batch
        inputs, labels, weights = keras.tree.map_structure(
            lambda x: None if x is None else tf.convert_to_tensor(x), (inputs, labels, rest[0] if rest else None)
        )
        sums = [x + np.asarray(y) for x, y in zip(sums, gradients(inputs, labels, weights), strict=True)]
        count += 1
    if not count:
        raise ValueError("`batches` must hold batches. Received: none")
    for unit, x in zip(units, sums, strict=True):
        if not np.isfinite(x).all():
            raise ValueError(
                "`model` must have a finite loss and finite gradients for each batch. Received: NaN or infinity in the "
                f"scores of {unit.layer.path!r}"
            )
    norms = [np.linalg.norm(x) or 1.0 for x in sums]
    return {unit.layer.path: (x / norm).astype("float32") for unit, x, norm in zip(units, sums, norms, strict=True)}


@contextlib.contextmanager
def _masked(unit, mask):
    """Within the scope, each row's units are multiplied by its `mask` `(B, count)`, before the output projection."""
    projection = unit.layer.output_dense
    call = projection.call

    def masked_call(x, *args, **kwargs):
        factors = ops.cast(mask, x.dtype)
        if mask.shape[0] is None or mask.shape[0] != x.shape[0]:
            # Several texts of a row are rows of the layer.
            factors = ops.repeat(factors, ops.shape(x)[0] // ops.shape(factors)[0], axis=0)
        shape = [-1, *[1] * (len(x.shape) - 2), unit.count]
        if unit.kind == "heads":
            factors = ops.repeat(factors, x.shape[-2] // unit.count, axis=1)
            shape = [-1, *[1] * (len(x.shape) - 3), x.shape[-2], 1]
        return call(ops.multiply(x, ops.reshape(factors, shape)), *args, **kwargs)

    with compat.overriding_call(projection, masked_call):
        yield
