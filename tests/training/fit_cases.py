"""Models, losses, labels and weights with which `Trainer` is compared with `keras.Model.fit`."""

import contextlib

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
ONE_HOT, TOKEN_ONE_HOT = np.eye(CLASSES)[CLASS], np.eye(CLASSES)[TOKEN_CLASS]
LOGITS = {"from_logits": True}

# Name -> kind of the model, activation, loss, labels, and weights.
CASES = {
    "mse by name": ("numbers", None, "mse", columns(NUMBER), ROW_SHAPES),
    "huber by name": ("numbers", None, "huber", columns(NUMBER), ROW_SHAPES),
    "hinge by name": ("numbers", None, "hinge", columns(np.sign(NUMBER)), ROW_SHAPES),
    "bce by name": ("numbers", "sigmoid", "binary_crossentropy", columns((NUMBER > 0) * 1), ROW_SHAPES),
    "crossentropy of two": ("numbers", "sigmoid", "crossentropy", columns((NUMBER > 0) * 1.0), ROW_SHAPES),
    "own function": ("numbers", None, squares, columns(NUMBER), ROW_SHAPES),
    "one number": ("numbers", None, mean_of_all, columns(NUMBER), ROW_SHAPES),
    "own class": ("numbers", None, Cubes(), columns(NUMBER), ROW_SHAPES),
    "own call": ("numbers", None, OfOwnCall(), columns(NUMBER), ROW_SHAPES),
    "sum": ("numbers", None, keras.losses.MeanAbsoluteError(reduction="sum"), columns(NUMBER), ROW_SHAPES),
    "weighted": (
        "numbers",
        None,
        keras.losses.LogCosh(reduction="mean_with_sample_weight"),
        columns(NUMBER),
        ROW_SHAPES,
    ),
    "sparse by name": ("classes", "softmax", "sparse_categorical_crossentropy", columns(CLASS), ROW_SHAPES),
    "ce by name": ("classes", "softmax", "ce", columns(CLASS), ROW_SHAPES),
    "one-hot": ("classes", None, keras.losses.CategoricalCrossentropy(**LOGITS), (ONE_HOT,), ROW_SHAPES),
    "crossentropy of one-hot": ("classes", "softmax", "crossentropy", (ONE_HOT,), ROW_SHAPES),
    "ignored class": (
        "classes",
        None,
        keras.losses.SparseCategoricalCrossentropy(**LOGITS, ignore_class=1),
        columns(CLASS),
        ROW_SHAPES,
    ),
    "masked": ("classes", None, MaskedCrossEntropy(0.1, ignore_id=None), columns(CLASS), ROW_SHAPES),
    "tokens, sparse": (
        "token classes",
        None,
        keras.losses.SparseCategoricalCrossentropy(**LOGITS),
        columns(TOKEN_CLASS),
        TOKEN_SHAPES,
    ),
    "tokens, ignored class": (
        "token classes",
        None,
        keras.losses.SparseCategoricalCrossentropy(**LOGITS, ignore_class=1),
        columns(TOKEN_CLASS),
        TOKEN_SHAPES,
    ),
    "tokens, one-hot": (
        "token classes",
        "softmax",
        keras.losses.CategoricalFocalCrossentropy(),
        (TOKEN_ONE_HOT,),
        TOKEN_SHAPES,
    ),
    "tokens, sum": (
        "token classes",
        None,
        keras.losses.SparseCategoricalCrossentropy(**LOGITS, reduction="sum"),
        columns(TOKEN_CLASS),
        TOKEN_SHAPES,
    ),
    "tokens, weighted": (
        "token classes",
        None,
        keras.losses.SparseCategoricalCrossentropy(**LOGITS, reduction="mean_with_sample_weight"),
        columns(TOKEN_CLASS),
        TOKEN_SHAPES,
    ),
    "tokens, masked": ("token classes", None, MaskedCrossEntropy(), columns(TOKEN_CLASS), TOKEN_SHAPES),
    "tokens, masked, sum": (
        "token classes",
        None,
        MaskedCrossEntropy(ignore_id=None, reduction="sum"),
        columns(TOKEN_CLASS),
        TOKEN_SHAPES,
    ),
    "tokens, R-Drop": ("token classes", None, RDrop(2.0, ignore_id=None), columns(TOKEN_CLASS), TOKEN_SHAPES),
    "tokens, numbers": ("token numbers", None, "mae", columns(TOKEN_NUMBER)[1:], TOKEN_SHAPES),
    "tokens, one number": ("token numbers", None, mean_of_all, columns(TOKEN_NUMBER)[1:], TOKEN_SHAPES),
}


def metrics_of(kind):
    if kind.endswith("numbers"):
        return ["mse", squares, keras.metrics.MeanAbsoluteError(name="far"), "accuracy"]
    own = [MaskedAccuracy(ignore_id=None, name="own"), Perplexity(ignore_id=None)]
    return [*own, "acc", keras.metrics.SparseTopKCategoricalAccuracy(2), "sparse_categorical_accuracy"]


def combinations(name):
    """The `(labels, weights)` of a case; each shape of labels meets each of weights."""
    *_, labels, weights = CASES[name]
    return [(y, w) for y in labels for w in weights]


def step_of_fit(name, labels, weights, metrics=True):
    """`(logs, logs of evaluate, weights)` of one step of `fit` on one device."""
    kind, activation, loss, *_ = CASES[name]
    one = model(kind, activation)
    is_one_hot = labels.shape[-1] == CLASSES
    given = {} if is_one_hot or not metrics else {"metrics": metrics_of(kind), "weighted_metrics": metrics_of(kind)}
    one.compile(keras.optimizers.SGD(0.3), loss, **given, run_eagerly=True)
    inputs = IDS if kind.startswith("token") else FEATURES
    # `fit` itself would make columns of rows of weights.
    data = tf.data.Dataset.from_tensors((inputs, labels) if weights is None else (inputs, labels, weights))
    logs = {k: v[0] for k, v in one.fit(data, verbose=0).history.items()}
    return logs, one.evaluate(data, return_dict=True, verbose=0), one.get_weights()


def step_of_trainer(name, labels, weights, strategy=None, accumulation_steps=1, metrics=True, **settings):
    """The same of a step of a `Trainer`."""
    kind, activation, loss, *_ = CASES[name]
    with strategy.scope() if strategy else contextlib.nullcontext():
        one, optimizer = model(kind, activation), keras.optimizers.SGD(0.3)
    is_one_hot = labels.shape[-1] == CLASSES
    given = {} if is_one_hot or not metrics else {"metrics": metrics_of(kind), "weighted_metrics": metrics_of(kind)}
    trainer = Trainer(
        one, optimizer, loss, **given, strategy=strategy, accumulation_steps=accumulation_steps, **settings
    )
    inputs = IDS if kind.startswith("token") else FEATURES
    data = tf.data.Dataset.from_tensor_slices((inputs, labels) if weights is None else (inputs, labels, weights))
    data = data.batch(ROWS // accumulation_steps)
    history = trainer.fit(data, 1, validation_data=data).history
    logs = {k: v[0] for k, v in history.items()}
    return logs, {k.removeprefix("val_"): v for k, v in logs.items() if k.startswith("val_")}, one.get_weights()


def differences(name, labels, weights, rtol=2e-5, **settings):
    """What differs between the two, in words."""
    metrics = settings.get("metrics", True)
    theirs, ours = step_of_fit(name, labels, weights, metrics), step_of_trainer(name, labels, weights, **settings)
    found = []
    for what, expected, got in (("fit", theirs[0], ours[0]), ("evaluate", theirs[1], ours[1])):
        for key, value in expected.items():
            if key not in got or not np.isclose(got[key], value, rtol, 1e-6):
                found.append(f"{what}: {key} is {got.get(key)}, expected {value}")
    found += [
        f"weights: {np.abs(a - b).max()} apart"
        for a, b in zip(theirs[2], ours[2], strict=True)
        if not np.allclose(a, b, rtol, 1e-6)
    ]
    shapes = [None if x is None else x.shape for x in (labels, weights)]
    return [f"{name}, labels and weights {shapes}: {words}" for words in found]
