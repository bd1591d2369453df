"""Models, losses, labels and weights with which `Trainer` is compared with `keras.Model.fit`."""

import contextlib
import functools

import keras
import numpy as np
import tensorflow as tf

from keras_attn.layers import TokenEmbedding
from keras_attn.training import MaskedAccuracy, MaskedCrossEntropy, Perplexity, RDrop, Trainer

ROWS, LENGTH, CLASSES = 6, 5, 4
RNG = np.random.default_rng(5)
IDS = np.array([[3, 4, 5, 0, 0], [3, 1, 5, 0, 0], [1, 2, 3, 4, 5], [9, 0, 0, 0, 0], [8, 0, 6, 6, 0], [2, 2, 7, 1, 0]])
FEATURES = RNG.standard_normal((ROWS, 3)).astype("float32")
CLASS, TOKEN_CLASS = RNG.integers(0, CLASSES, ROWS), RNG.integers(0, CLASSES, (ROWS, LENGTH))
NUMBER, TOKEN_NUMBER = (
    RNG.standard_normal(ROWS).astype("float32"),
    RNG.standard_normal((ROWS, LENGTH)).astype("float32"),
)
ROW_WEIGHTS = np.array([1, 0, 0.3, 2, 0, 5], "float32")
TOKEN_WEIGHTS = RNG.uniform(0, 3, (ROWS, LENGTH)).round(1).astype("float32")


def squares(y_true, y_pred):
    return tf.reduce_mean(tf.square(tf.cast(y_true, y_pred.dtype) - y_pred), axis=-1)


def mean_of_all(y_true, y_pred):
    return tf.reduce_mean(tf.abs(tf.cast(y_true, y_pred.dtype) - y_pred))


class Cubes(keras.losses.Loss):
    def call(self, y_true, y_pred):
        return keras.ops.mean(keras.ops.abs(keras.ops.reshape(y_true, keras.ops.shape(y_pred)) - y_pred) ** 3, -1)


class OfOwnCall(keras.losses.MeanSquaredError):
    def __call__(self, y_true, y_pred, sample_weight=None):
        return 3 * super().__call__(y_true, y_pred, sample_weight)


def columns(x):
    """An array as it may be given: `(B,)` or `(B, 1)`, `(B, T)` or `(B, T, 1)`."""
    return x, x[..., None]


def model(kind, activation=None):
    """Rows of numbers to `(B, 1)` or `(B, 4)`, or ids to `(B, T, 1)` or `(B, T, 4)` with a Keras mask."""
    keras.utils.set_random_seed(2)
    width = 1 if kind.endswith("numbers") else CLASSES
    if kind.startswith("token"):
        inputs = keras.Input((LENGTH,), dtype="int32")
        x = TokenEmbedding(10, 8, mask_zero=True)(inputs)
    else:
        inputs = x = keras.Input((3,))
    outputs = keras.layers.Dense(width, activation, kernel_regularizer=keras.regularizers.L2(0.05))(x)
    return keras.Model(inputs, outputs)


ROW_SHAPES = (None, *columns(ROW_WEIGHTS))
TOKEN_SHAPES = (None, ROW_WEIGHTS[:, None], *columns(TOKEN_WEIGHTS))
CLASS_LABELS, TOKEN_LABELS = columns(CLASS), columns(TOKEN_CLASS)
SPARSE = functools.partial(keras.losses.SparseCategoricalCrossentropy, from_logits=True)


def on_numbers(loss, labels=NUMBER, activation=None):
    return "numbers", activation, loss, columns(labels), ROW_SHAPES


def on_classes(loss, labels=CLASS_LABELS, activation=None):
    return "classes", activation, loss, labels, ROW_SHAPES


def on_tokens(loss, labels=TOKEN_LABELS, activation=None, kind="token classes"):
    return kind, activation, loss, labels, TOKEN_SHAPES


# Name -> kind of the model, activation, loss, labels, and weights.
CASES = {
    "mse by name": on_numbers("mse"),
    "huber by name": on_numbers("huber"),
    "hinge by name": on_numbers("hinge", np.sign(NUMBER)),
    "bce by name": on_numbers("binary_crossentropy", (NUMBER > 0) * 1, "sigmoid"),
    "crossentropy of two": on_numbers("crossentropy", (NUMBER > 0) * 1.0, "sigmoid"),
    "own function": on_numbers(squares),
    "one number": on_numbers(mean_of_all),
    "own class": on_numbers(Cubes()),
    "own call": on_numbers(OfOwnCall()),
    "in a list": on_numbers(["mae"]),
    "sum": on_numbers(keras.losses.MeanAbsoluteError(reduction="sum")),
    "weighted": on_numbers(keras.losses.LogCosh(reduction="mean_with_sample_weight")),
    "sparse by name": on_classes("sparse_categorical_crossentropy", activation="softmax"),
    "ce by name": on_classes("ce", activation="softmax"),
    "one-hot": on_classes(keras.losses.CategoricalCrossentropy(from_logits=True), (np.eye(CLASSES)[CLASS],)),
    "crossentropy of one-hot": on_classes("crossentropy", (np.eye(CLASSES)[CLASS],), "softmax"),
    "ignored class": on_classes(SPARSE(ignore_class=1)),
    "masked": on_classes(MaskedCrossEntropy(0.1, ignore_id=None)),
    "tokens, sparse": on_tokens(SPARSE()),
    "tokens, ignored class": on_tokens(SPARSE(ignore_class=1)),
    "tokens, sum": on_tokens(SPARSE(reduction="sum")),
    "tokens, weighted": on_tokens(SPARSE(reduction="mean_with_sample_weight")),
    "tokens, one-hot": on_tokens(
        keras.losses.CategoricalFocalCrossentropy(), (np.eye(CLASSES)[TOKEN_CLASS],), "softmax"
    ),
    "tokens, masked": on_tokens(MaskedCrossEntropy(ignore_id=0)),
    "tokens, masked, sum": on_tokens(MaskedCrossEntropy(ignore_id=None, reduction="sum")),
    "tokens, R-Drop": on_tokens(RDrop(2.0, ignore_id=None)),
    "tokens, numbers": on_tokens("mae", columns(TOKEN_NUMBER)[1:], kind="token numbers"),
    "tokens, one number": on_tokens(mean_of_all, columns(TOKEN_NUMBER)[1:], kind="token numbers"),
}


def combinations(name):
    """The `(labels, weights)` of a case: each shape of labels with each of weights."""
    *_, labels, weights = CASES[name]
    return [(y, w) for y in labels for w in weights]


def metrics_for(kind):
    """Metrics, functions and names, for labels of any shape but one-hot ones."""
    if kind.endswith("numbers"):
        return ["mse", keras.metrics.mean_absolute_error, keras.metrics.MeanAbsoluteError(name="far"), "accuracy"]
    own = [MaskedAccuracy(ignore_id=None, name="own"), Perplexity(ignore_id=None)]
    return [*own, "acc", keras.metrics.SparseTopKCategoricalAccuracy(2), "sparse_categorical_accuracy"]


def differences(name, labels, weights, strategy=None, metrics=False, ids=IDS, loss=None, **settings):
    """What differs, in words, between a step of a `Trainer`, and one of `fit` on one device and in one batch.

    With `metrics`, these and a validation are part of it.
    """
    kind, activation, own_loss, *_ = CASES[name]
    loss = own_loss if loss is None else loss
    inputs = ids if kind.startswith("token") else FEATURES
    batch = (inputs, labels) if weights is None else (inputs, labels, weights)

    def given():
        return {name: metrics_for(kind) if metrics else [] for name in ("metrics", "weighted_metrics")}

    theirs = model(kind, activation)
    theirs.compile(keras.optimizers.SGD(0.3), loss, **given(), run_eagerly=True)
    # Arrays of weights `(B,)` would be given another axis.
    data = tf.data.Dataset.from_tensors(batch)
    history = theirs.fit(data, validation_data=data if metrics else None, verbose=0).history
    expected = {key: value[0] for key, value in history.items()}
    with strategy.scope() if strategy else contextlib.nullcontext():
        ours, optimizer = model(kind, activation), keras.optimizers.SGD(0.3)
    trainer = Trainer(ours, optimizer, loss, strategy=strategy, **given(), **settings)
    data = tf.data.Dataset.from_tensor_slices(batch).batch(ROWS // settings.get("accumulation_steps", 1))
    history = trainer.fit(data, 1, validation_data=data if metrics else None).history
    found = [
        f"{key} is {history.get(key)}, expected {value}"
        for key, value in expected.items()
        if key not in history or not np.isclose(history[key][0], value, 2e-5, 1e-6)
    ]
    found += [
        f"weights are {np.abs(a - b).max()} apart"
        for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True)
        if not np.allclose(a, b, 2e-5, 1e-6)
    ]
    shapes = [None if x is None else x.shape for x in (labels, weights)]
    return [f"{name}, shapes of labels and weights {shapes}: {words}" for words in found]
