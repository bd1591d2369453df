"""Cross entropy of the logits of a linear layer, which are never materialised as a whole."""

from __future__ import annotations

import keras
from keras import ops

from keras_attn.ops.arrays import reshape, shape_of
from keras_attn.typing import Tensor

# Number of chunks of the rows: fewer would overflow the CPU caches, more would make small products.
_NUM_CHUNKS = 8


def linear_cross_entropy(
    hidden: Tensor,
    kernel: Tensor,
    bias: Tensor | None,
    labels: Tensor,
    weights: Tensor | None = None,
    *,
    transpose_kernel: bool = False,
    label_smoothing: float = 0.0,
) -> Tensor:
    """`sum_n w_n (logsumexp(z_n) - (1 - e) z_n[label_n] - e mean(z_n))` with `z = hidden kernel + bias`.

    On TensorFlow, with and without XLA, the logits of an eighth of the rows are computed at a time, and the gradients
    in the same pass: this takes no more products and keeps nothing of the size of the logits. A graph without gradients
    does not compute them; eager calls always do. Other backends compute the formula.

    Logits and gradients are products in the dtype of `hidden`, with softmax and sums in float32. With float16, the
    products of the gradients are in float32, since they are computed before the loss scale that float16 needs.

    Args:
        hidden: Float `(..., D)`.
        kernel: Float `(D, V)`.
        bias: Float `(V,)`, or None.
        labels: Integer, the shape of `hidden` without the last axis. Any number if the weight is 0.
        weights: Optional float, the shape of `labels`.
        transpose_kernel: Whether `kernel` is `(V, D)`, as in an embedding table. It is not copied.
        label_smoothing: Share `e` of each label that is distributed over the vocabulary.

    Returns:
        Float32 scalar. Gradients flow to `hidden`, `kernel` and `bias`; weights are constants.

    Reference:
        [Wijmans et al., 2024](https://arxiv.org/abs/2411.09009)

    Example:

    >>> import numpy as np
    >>> from keras_attn.ops import linear_cross_entropy
    >>> hidden, kernel = np.zeros((2, 3), "float32"), np.ones((3, 4), "float32")
    >>> round(float(linear_cross_entropy(hidden, kernel, None, np.array([1, 2]))), 4)
    2.7726
    """
    hidden, labels = ops.convert_to_tensor(hidden), ops.convert_to_tensor(labels)
    hidden = reshape(hidden, (-1, hidden.shape[-1]))
    labels = reshape(ops.cast(labels, "int32"), (-1,))
    if weights is None:
        weights = ops.ones(shape_of(labels), "float32")
    weights = reshape(ops.cast(weights, "float32"), (-1,))
    # Labels of weight 0 may be outside of the vocabulary.
    labels = ops.where(ops.equal(weights, 0), ops.zeros_like(labels), labels)
    if keras.backend.backend() == "tensorflow":
        return _in_chunks(hidden, kernel, bias, labels, weights, transpose_kernel, label_smoothing)
    kernel = ops.cast(ops.transpose(kernel) if transpose_kernel else kernel, hidden.dtype)
    logits = ops.cast(ops.matmul(hidden, kernel), "float32")
    if bias is not None:
        logits = logits + ops.cast(bias, "float32")
    return ops.sum(weights * smoothed_cross_entropy(logits, labels, label_smoothing))


def smoothed_cross_entropy(logits, labels, label_smoothing):
    """`logsumexp(z) - (1 - e) z[label] - e mean(z)` over the last axis: float32 `(..., V)`, int32 `(...)`, `e`."""
    chosen = ops.squeeze(ops.take_along_axis(logits, ops.expand_dims(labels, -1), axis=-1), -1)
    losses = ops.logsumexp(logits, axis=-1) - chosen
    if label_smoothing:
        losses = losses + label_smoothing * (chosen - ops.mean(logits, axis=-1))
    return losses


def _in_chunks(hidden, kernel, bias, labels, weights, transpose_kernel, label_smoothing):
    import tensorflow as tf

    kernel, dtype = tf.convert_to_tensor(kernel), hidden.dtype
    product_dtype = tf.float32 if dtype == tf.float16 else dtype
    given = (hidden, kernel) if bias is None else (hidden, kernel, tf.cast(bias, tf.float32))

    @tf.custom_gradient
    def total(hidden, kernel, *biases):
        matrix, exact = tf.cast(kernel, dtype), tf.cast(kernel, product_dtype)
        size = (tf.shape(hidden)[0] + _NUM_CHUNKS - 1) // _NUM_CHUNKS
        chunks = [_cut(x, size) for x in (hidden, labels, weights)]

        def add_chunk(i, loss, to_hidden, to_kernel, *to_biases):
            """Adds the loss of a chunk of rows and its gradients."""
            x, y, w = (rows[i] for rows in chunks)
            column = tf.expand_dims(w, -1)
            logits = tf.cast(tf.matmul(x, matrix, transpose_b=transpose_kernel), tf.float32)
            for bias in biases:
                logits += bias
            losses, errors = _cross_entropy(logits, y)
            errors = tf.cast(errors, product_dtype)
            weighted = tf.cast(tf.cast(x, tf.float32) * column, product_dtype)
            left, right = (errors, weighted) if transpose_kernel else (weighted, errors)
            rows_to_hidden = tf.cast(tf.matmul(errors, exact, transpose_b=not transpose_kernel), tf.float32) * column
            return (
                i + 1,
                loss + tf.reduce_sum(losses * w),
                to_hidden.write(i, rows_to_hidden),
                to_kernel + tf.cast(tf.matmul(left, right, transpose_a=True), tf.float32),
                *(x + tf.linalg.matvec(tf.cast(errors, tf.float32), w, transpose_a=True) for x in to_biases),
            )

        to_hidden = tf.TensorArray(tf.float32, _NUM_CHUNKS, element_shape=(None, hidden.shape[-1]))
        zeros = [tf.zeros(tf.shape(x), tf.float32) for x in (kernel, *biases)]
        # Without a loop, XLA would keep the logits of all chunks at once.
        _, loss, to_hidden, to_kernel, *to_biases = tf.while_loop(
            lambda i, *_: i < _NUM_CHUNKS,
            add_chunk,
            (0, tf.zeros(()), to_hidden, *zeros),
            parallel_iterations=1,
            maximum_iterations=_NUM_CHUNKS,
        )
        to_hidden = tf.reshape(to_hidden.stack(), (-1, hidden.shape[-1]))[: tf.shape(hidden)[0]]

        def gradient(upstream):
            return (
                tf.cast(upstream * to_hidden, dtype),
                tf.cast(upstream * to_kernel, kernel.dtype),
                *(upstream * x for x in to_biases),
            )

        return loss, gradient

    loss = total(*given)
    if label_smoothing:
        # `e (z[label] - mean(z))` is linear in the logits: a product with a kernel column minus the mean column.
        axis = 0 if transpose_kernel else 1
        columns = tf.cast(tf.gather(kernel, labels, axis=axis), tf.float32)
        columns = columns if transpose_kernel else tf.transpose(columns)
        columns -= tf.cast(tf.reduce_mean(kernel, axis), tf.float32)
        added = tf.reduce_sum(tf.cast(hidden, tf.float32) * columns, -1)
        for bias in given[2:]:
            added += tf.gather(bias, labels) - tf.reduce_mean(bias)
        loss += label_smoothing * tf.reduce_sum(weights * added)
    return loss


def _cut(x, size):
    """`(N, ...)` as `(_NUM_CHUNKS, size, ...)`, padded with zeros at the end."""
    import tensorflow as tf

    missing = _NUM_CHUNKS * size - tf.shape(x)[0]
    x = tf.pad(x, [(0, missing)] + [(0, 0)] * (len(x.shape) - 1))
    return tf.reshape(x, (_NUM_CHUNKS, size, *x.shape[1:]))


def _cross_entropy(logits, labels):
    """`(losses (N,), gradients (N, V))`. TensorFlow's own operator is not vectorised and takes three times as long."""
    import tensorflow as tf

    places = tf.stack([tf.range(tf.shape(labels)[0]), labels], axis=1)
    likely = tf.nn.softmax(logits)
    # From the most likely class, whose probability has a logarithm; that of the label may be rounded to 0.
    top, chosen = tf.reduce_max(logits, -1), tf.gather_nd(logits, places)
    losses = top - tf.math.log(tf.reduce_max(likely, -1)) - chosen
    return losses, tf.tensor_scatter_nd_sub(likely, places, tf.ones_like(top))
