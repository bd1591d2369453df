"""Training objectives of a user's own in the place of the forward pass and the loss."""

import functools
import warnings

import keras
import numpy as np
import pytest
import refused_steps
import tensorflow as tf
from keras import ops
from training_processes import largest_difference, run_script
from training_run import Pairs, trainer

from keras_attn.training import Checkpoints, MaskedAccuracy, MaskedCrossEntropy, RDrop, Trainer, loss_total

CLASSES, ROWS, STEPS = 4, 5, 4
CROSS_ENTROPY = MaskedCrossEntropy(ignore_id=0)
RNG = np.random.default_rng(3)
INPUTS, LABELS = RNG.normal(size=(ROWS, 3)).astype("float32"), RNG.integers(0, CLASSES, ROWS)
WEIGHTS = np.array([1, 0, 0.5, 2, 3], "float32")


class Balance(keras.layers.Layer):
    """Adds a loss, as a mixture of experts does."""

    def call(self, x):
        self.add_loss(0.3 * ops.mean(ops.square(x)))
        return x


def classifier(seed=1, width=6, dropout=0.3, extra=(), regularizer="l2"):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((3,))
    x = keras.layers.Dense(width, "tanh", kernel_regularizer=regularizer)(inputs)
    for layer in (keras.layers.Dropout(dropout), *extra):
        x = layer(x)
    return keras.Model(inputs, keras.layers.Dense(CLASSES)(x))


def data(*batch, size=ROWS):
    return tf.data.Dataset.from_tensor_slices(batch or (INPUTS, LABELS)).batch(size)


def plain(model, inputs, labels, sample_weight, training):
    """What the trainer does without a `compute_loss`."""
    outputs = model(inputs, training=training)
    return *CROSS_ENTROPY.total(labels, outputs, sample_weight), outputs


def squares(model, inputs, labels, sample_weight, training):
    outputs = model(inputs, training=training)
    return *loss_total("mse", labels, outputs, sample_weight), outputs


def r_drop(model, inputs, labels, sample_weight, training, alpha=2.0):
    """Two passes that have to agree."""
    passes = [model(inputs, training=training) for _ in range(2)]
    weights = CROSS_ENTROPY.entry_weights(labels, passes[0], sample_weight)
    (first, weight), (second, _) = (CROSS_ENTROPY.total(labels, logits, sample_weight) for logits in passes)
    p, q = (ops.softmax(logits) for logits in passes)
    there, back = (loss_total("kl_divergence", *pair, weights)[0] for pair in ((p, q), (q, p)))
    return (first + second + alpha * (there + back)) / 2, weight, passes[0]


def fitted(steps=STEPS, dataset=None, model=None, optimizer=None, loss=None, **settings):
    """The trainer and its history."""
    model = classifier() if model is None else model
    one = Trainer(model, optimizer or keras.optimizers.SGD(0.3), loss, **settings)
    return one, one.fit(data() if dataset is None else dataset, steps).history


@functools.cache
def as_ever(jit_compile):
    one = trainer(dropout=0.2, accumulation_steps=2, jit_compile=jit_compile)
    history = one.fit(Pairs(), STEPS).history
    return one.model.get_weights(), history["loss"]


@pytest.mark.parametrize("jit_compile", [False, True])
def test_it_equals_the_loss_that_it_computes(jit_compile):
    one = trainer(dropout=0.2, accumulation_steps=2, compute_loss=plain, jit_compile=jit_compile)
    history = one.fit(Pairs(), STEPS).history
    weights, losses = as_ever(jit_compile)
    assert largest_difference(one.model.get_weights(), weights) < 2e-6
    np.testing.assert_allclose(history["loss"], losses, rtol=1e-6)


def rows_of(count):
    """Weighted rows for squares; the last batch of two replicas has one row that is added."""
    x = np.random.default_rng(1).normal(size=(count, 3)).astype("float32")
    return data(x, x[:, :1] * 2, np.arange(count, dtype="float32") % 4, size=5)


def of_squares(strategy=None, weighted=True, **settings):
    with strategy.scope() if strategy else warnings.catch_warnings():
        keras.utils.set_random_seed(1)
        inputs = keras.Input((3,))
        model, optimizer = keras.Model(inputs, keras.layers.Dense(1)(inputs)), keras.optimizers.SGD(0.1)
    rows = rows_of(15) if weighted else rows_of(15).map(lambda x, y, _: (x, y))
    settings = {"metrics": ["mae"], "weighted_metrics": ["mse"], "strategy": strategy} | settings
    history = Trainer(model, optimizer, **settings).fit(rows, 3, validation_data=rows).history
    return [*model.get_weights(), np.array([history[name] for name in sorted(history)])]


def two_replicas():
    """The largest differences between one device and two, which `main` of a process of its own prints."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    strategy = tf.distribute.MirroredStrategy(["/cpu:0", "/cpu:1"])
    found = {}
    for name, objective in (("plain", plain), ("r_drop", r_drop)):
        runs = []
        for kind in (None, strategy):
            one = trainer(kind, accumulation_steps=2, compute_loss=objective)
            one.fit(Pairs(), 3)
            runs.append(one.model.get_weights())
        found[name] = largest_difference(*runs)
    for weighted in (True, False):
        one, two = (of_squares(kind, weighted, compute_loss=squares) for kind in (None, strategy))
        found[f"weighted={weighted}"] = largest_difference(one, two)
    return found


def test_two_replicas_give_the_weights_of_one():
    script = "from training.test_compute_loss import two_replicas; print('found', two_replicas())"
    result = run_script(script)
    assert result.returncode == 0, result.stderr
    (found,) = [eval(line[6:]) for line in result.stdout.splitlines() if line.startswith("found")]
    assert found.keys() == {"plain", "r_drop", "weighted=True", "weighted=False"}
    assert max(found.values()) < 2e-6, found


@pytest.mark.parametrize("weighted", [True, False])
def test_losses_of_keras(weighted):
    loss = keras.losses.MeanSquaredError(reduction="mean_with_sample_weight")
    expected = of_squares(weighted=weighted, loss=loss)
    found = of_squares(weighted=weighted, compute_loss=squares)
    assert largest_difference(expected, found) < 1e-6


def test_accumulated_batches_are_one_batch():
    halves = fitted(
        dataset=data(INPUTS[:4], LABELS[:4], size=2),
        compute_loss=r_drop,
        accumulation_steps=2,
        model=classifier(dropout=0.0),
    )
    whole = fitted(dataset=data(INPUTS[:4], LABELS[:4], size=4), compute_loss=r_drop, model=classifier(dropout=0.0))
    assert largest_difference(halves[0].model.get_weights(), whole[0].model.get_weights()) < 1e-6
    np.testing.assert_allclose(halves[1]["loss"], whole[1]["loss"], rtol=1e-6)


def r_drop_by_hand(first, second, labels, weights, alpha):
    """In NumPy, from the logits of two passes."""

    def log_softmax(x):
        return x - np.log(np.exp(x).sum(-1, keepdims=True))

    p, q = log_softmax(first.astype("float64")), log_softmax(second.astype("float64"))
    rows = np.arange(len(labels))
    divergence = (np.exp(p) * (p - q)).sum(-1) + (np.exp(q) * (q - p)).sum(-1)
    losses = -(p[rows, labels] + q[rows, labels]) / 2 + alpha * divergence / 2
    weights = weights * (labels != 0)
    return (weights * losses).sum() / weights.sum()


def test_r_drop_by_hand_and_without_doubled_rows():
    seen = []

    def watched(model, inputs, *rest):
        seen.append(inputs.shape)
        return r_drop(model, inputs, *rest)

    one, history = fitted(1, data(INPUTS, LABELS, WEIGHTS), compute_loss=watched, optimizer=keras.optimizers.SGD(0.5))
    assert set(seen) == {(ROWS, 3)}
    twin = classifier()
    with tf.GradientTape() as tape:
        passes = [twin(INPUTS, training=True) for _ in range(2)]
        assert np.abs(passes[0] - passes[1]).max() > 0.01
        p, q = (tf.nn.log_softmax(logits) for logits in passes)
        labels = tf.one_hot(LABELS, CLASSES)
        cross_entropy = -tf.reduce_sum(labels * (p + q), -1) / 2
        divergence = tf.reduce_sum((tf.exp(p) - tf.exp(q)) * (p - q), -1) / 2
        weights = WEIGHTS * (LABELS != 0)
        loss = tf.reduce_sum(weights * (cross_entropy + 2 * divergence)) / weights.sum()
        regularizer = 0.01 * tf.reduce_sum(twin.trainable_variables[0].value ** 2)
        objective = loss + regularizer
    expected = r_drop_by_hand(*(np.asarray(x) for x in passes), LABELS, WEIGHTS, 2.0)
    np.testing.assert_allclose(history["loss"], [expected + float(regularizer)], rtol=1e-5)
    gradients = tape.gradient(objective, [v.value for v in twin.trainable_variables])
    expected = [v - 0.5 * g for v, g in zip(twin.trainable_variables, gradients, strict=True)]
    assert largest_difference(one.model.get_weights(), expected) < 1e-6


def test_r_drop_of_rows_that_are_doubled_is_the_same_without_dropout():
    loss = RDrop(2.0, ignore_id=0)
    doubled = data(*RDrop.repeat(INPUTS, LABELS, WEIGHTS), size=2 * ROWS)
    rows = fitted(dataset=doubled, loss=loss, model=classifier(dropout=0.0))
    passes = fitted(dataset=data(INPUTS, LABELS, WEIGHTS), compute_loss=r_drop, model=classifier(dropout=0.0))
    assert largest_difference(rows[0].model.get_weights(), passes[0].model.get_weights()) < 1e-6


def distilled(teacher, training_teacher=False):
    def distill(model, inputs, labels, sample_weight, training):
        logits = model(inputs, training=training)
        total, weight = CROSS_ENTROPY.total(labels, logits, sample_weight)
        weights = CROSS_ENTROPY.entry_weights(labels, logits, sample_weight)
        known = ops.softmax(teacher(inputs, training=training_teacher))
        return total + loss_total("kl_divergence", known, ops.softmax(logits), weights)[0], weight, logits

    return distill


@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_student_learns_from_a_teacher_that_does_not_change(jit_compile):
    # Neither its losses nor its statistics nor its dropout are the student's.
    teacher = classifier(7, 16, 0.5, [keras.layers.BatchNormalization(), Balance()])
    before = [np.array(v) for v in teacher.variables]
    one, history = fitted(1, compute_loss=distilled(teacher), model=classifier(dropout=0.0), jit_compile=jit_compile)
    for variable, value in zip(teacher.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)
    twin = classifier(dropout=0.0)
    known, weights = tf.nn.softmax(teacher(INPUTS, training=False)), (LABELS != 0).astype("float32")
    with tf.GradientTape() as tape:
        logits = tf.nn.log_softmax(twin(INPUTS, training=True))
        losses = tf.reduce_sum(known * (tf.math.log(known) - logits), -1)
        losses -= tf.reduce_sum(tf.one_hot(LABELS, CLASSES) * logits, -1)
        loss = tf.reduce_sum(weights * losses) / weights.sum()
        loss += 0.01 * tf.reduce_sum(twin.trainable_variables[0].value ** 2)
    np.testing.assert_allclose(history["loss"], [float(loss)], rtol=1e-5)
    gradients = tape.gradient(loss, [v.value for v in twin.trainable_variables])
    expected = [v - 0.3 * g for v, g in zip(twin.trainable_variables, gradients, strict=True)]
    assert largest_difference(one.model.get_weights(), expected) < 1e-6


def twice(model, inputs, labels, sample_weight, training):
    model(inputs, training=training)
    return plain(model, inputs, labels, sample_weight, training)


def test_added_losses_count_once():
    """Of layers and regularizers, however many calls there are."""
    models = [classifier(dropout=0.0, extra=[Balance()]) for _ in range(2)]
    expected = fitted(model=models[0], loss=CROSS_ENTROPY)
    found = fitted(model=models[1], compute_loss=twice)
    assert largest_difference(models[0].get_weights(), models[1].get_weights()) < 1e-6
    np.testing.assert_allclose(found[1]["loss"], expected[1]["loss"], rtol=1e-6)
    alone = fitted(model=classifier(dropout=0.0), loss=CROSS_ENTROPY)
    assert abs(alone[1]["loss"][0] - found[1]["loss"][0]) > 1e-3


def test_an_auxiliary_loss_of_another_output():
    """Labels may be a nest, and a model may have several outputs; expected is Keras' own sum of two losses."""

    def model():
        keras.utils.set_random_seed(1)
        inputs = keras.Input((3,))
        x = keras.layers.Dense(6, "tanh")(inputs)
        return keras.Model(inputs, [keras.layers.Dense(CLASSES)(x), keras.layers.Dense(1)(x)])

    def two_losses(model, inputs, labels, sample_weight, training):
        logits, size = model(inputs, training=training)
        total, weight = loss_total(cross_entropy, labels["class"], logits, sample_weight)
        return total + 0.5 * loss_total("mse", labels["size"], size, sample_weight)[0], weight

    cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    labels = {"class": LABELS, "size": INPUTS.sum(1, keepdims=True)}
    ours, theirs = model(), model()
    history = fitted(3, data(INPUTS, labels), model=ours, compute_loss=two_losses)[1]
    theirs.compile(keras.optimizers.SGD(0.3), [cross_entropy, "mse"], loss_weights=[1.0, 0.5])
    expected = theirs.fit(data(INPUTS, tuple(labels.values())).repeat(), steps_per_epoch=3, verbose=0).history
    assert largest_difference(ours.get_weights(), theirs.get_weights()) < 1e-6
    np.testing.assert_allclose(history["loss"], expected["loss"], rtol=1e-5)
    with pytest.raises(ValueError, match=r"`model` must have one output. Received: one with 2; `compute_loss` takes"):
        Trainer(model(), keras.optimizers.SGD(), "mse")


def test_metrics_and_validation_see_outputs_without_dropout():
    settings = {"metrics": [MaskedAccuracy(ignore_id=0)], "weighted_metrics": ["accuracy"]}
    batches = data(INPUTS, LABELS, WEIGHTS, size=2)
    figures = []
    for objective in ({"loss": CROSS_ENTROPY}, {"compute_loss": plain}):
        one = Trainer(classifier(), keras.optimizers.SGD(0.3), **objective, **settings)
        history = one.fit(batches, 4, validation_data=batches).history
        assert history["val_loss"] == [one.evaluate(batches)["loss"]]
        figures.append(history)
    assert figures[0].keys() == figures[1].keys() > {"loss", "val_loss", "val_accuracy"}
    for name, values in figures[0].items():
        np.testing.assert_allclose(values, figures[1][name], rtol=1e-5, err_msg=name)


class Data:
    """Batches that say which label is padding."""

    ignore_id = None

    def batches(self, start=0, shard=0, num_shards=1):
        while True:
            yield INPUTS, LABELS


def test_the_loss_that_it_uses_is_told_the_label_of_padding():
    def objective(model, inputs, labels, sample_weight, training):
        return loss.total(labels, model(inputs, training=training), sample_weight)

    loss = MaskedCrossEntropy()
    found = fitted(1, Data(), loss=loss, compute_loss=objective)
    expected = fitted(1, Data(), loss=MaskedCrossEntropy(ignore_id=None))
    assert largest_difference(found[0].model.get_weights(), expected[0].model.get_weights()) < 1e-6
    with pytest.raises(ValueError, match=r"`ignore_id` of .* must be"):
        fitted(1, type("Other", (Data,), {"ignore_id": 3})(), loss=CROSS_ENTROPY, compute_loss=objective)
    with pytest.raises(ValueError, match="`dataset labels` must"):
        fitted(1, data(INPUTS, LABELS + CLASSES), loss=CROSS_ENTROPY, compute_loss=objective)


def test_an_interrupted_run_ends_with_the_same_weights(tmp_path):
    settings = {"dropout": 0.2, "accumulation_steps": 2, "compute_loss": r_drop}
    whole = trainer(**settings)
    whole.fit(Pairs(), 6)
    for steps in (3, 6):
        parts = trainer(folder=tmp_path, every=1, **settings)
        parts.fit(Pairs(), steps)
    assert largest_difference(parts.model.get_weights(), whole.model.get_weights()) == 0
    with pytest.warns(UserWarning, match="with other settings.*`compute_loss` was 'r_drop' and is 'plain'$"):
        trainer(folder=tmp_path, every=1, **{**settings, "compute_loss": plain}).fit(Pairs(), 7)
    assert Checkpoints(tmp_path).steps()[-1] == 7


def test_passes_and_steps_draw_other_dropout():
    drawn = []

    def watched(model, inputs, labels, sample_weight, training):
        passes = [model(inputs, training=True) for _ in range(2)]
        tf.numpy_function(lambda *x: drawn.extend(x) or np.float32(0), passes, "float32")
        return ops.sum(ops.square(passes[0])), ROWS

    fitted(3, compute_loss=watched, optimizer=keras.optimizers.SGD(0.0))
    assert len(drawn) == 6
    assert len({x.tobytes() for x in drawn}) == 6


def of_refused_steps(model, inputs, labels, sample_weight, training):
    return loss_total("mse", labels, model(inputs, training=training), sample_weight)


@pytest.mark.parametrize("kind", ["loss", "gradient", "state"])
def test_a_refused_step_changes_nothing(kind):
    assert refused_steps.traces(kind, compute_loss=of_refused_steps, jit_compile=False) == []


def test_half_precision():
    def model(dtype):
        keras.utils.set_random_seed(1)
        inputs = keras.Input((3,), dtype="float32")
        return keras.Model(inputs, keras.layers.Dense(CLASSES, dtype=dtype)(inputs))

    keras.config.set_dtype_policy("mixed_float16")
    try:
        half, history = fitted(model=model("mixed_float16"), compute_loss=plain)
    finally:
        keras.config.set_dtype_policy("float32")
    assert isinstance(half.optimizer, keras.optimizers.LossScaleOptimizer)
    whole, expected = fitted(model=model("float32"), compute_loss=plain)
    np.testing.assert_allclose(history["loss"], expected["loss"], rtol=5e-3)
    assert largest_difference(half.model.get_weights(), whole.model.get_weights()) < 5e-3


def gives(value):
    """A `compute_loss` that returns what `value` makes of the model's outputs."""
    return lambda model, inputs, labels, sample_weight, training: value(model(inputs, training=training))


@pytest.mark.parametrize(
    ("compute_loss", "message"),
    [
        (gives(lambda y: None), r"return \(total, weight\) or \(total, weight, outputs\). Received: None"),
        (gives(lambda y: ops.sum(y)), r"return \(total, weight\) or .* Received: shape \(\), dtype float32"),
        (gives(lambda y: (y, y, y, y)), r"return \(total, weight\) or .* Received: 4 values"),
        (gives(lambda y: (ops.sum(y, 1), 1)), r"return a scalar as total.* Received: shape \(5,\), dtype float32"),
        (gives(lambda y: (3, 1)), "return a scalar as total, the sum of the losses.*dtype int32"),
        (gives(lambda y: (None, 1)), "return a scalar as total, the sum of the losses. Received: None"),
        (gives(lambda y: (ops.sum(y), None)), "return a scalar as weight. Received: None"),
        (
            gives(lambda y: (ops.sum(y), ops.ones(3))),
            r"return a scalar as weight. Received: shape \(3,\), dtype float32",
        ),
        (gives(lambda y: (ops.sum(y), float("nan"))), "return a finite weight. Received: .* at step 0"),
        (gives(lambda y: (ops.sum(y), float("inf"))), "return a finite weight. Received: .* at step 0"),
        (lambda model, *_: (1.0, 1.0), "return a total that is made of what `model` gives.*none of its weights"),
    ],
)
def test_what_it_must_not_return(compute_loss, message):
    with pytest.raises(ValueError, match=f"`compute_loss` must {message}"):
        fitted(2, model=classifier(regularizer=None), compute_loss=compute_loss)


def test_nothing_else_may_change():
    teacher = classifier(7, extra=[keras.layers.BatchNormalization()])
    generator = keras.random.SeedGenerator(1, name="own")
    for compute_loss, name in (
        (distilled(teacher, training_teacher=True), "seed_generator"),
        (gives(lambda y: (ops.sum(y + keras.random.normal((1,), seed=generator)), 1)), "own"),
    ):
        with pytest.raises(ValueError, match=f"`compute_loss` must change no variables but .* a change of '.*{name}"):
            fitted(1, compute_loss=compute_loss)


def test_other_errors():
    one = keras.optimizers.SGD()
    with pytest.raises(ValueError, match=r"`loss` must be .*unless `compute_loss` is given. Received: None"):
        Trainer(classifier(), one)
    with pytest.raises(ValueError, match=r"`compute_loss` must be a function of \(model, .*Received: compute_loss='x'"):
        Trainer(classifier(), one, compute_loss="x")
    with pytest.raises(ValueError, match=r"`loss` must have a reduction that is a mean.*Received: reduction='sum'"):
        Trainer(classifier(), one, MaskedCrossEntropy(reduction="sum"), compute_loss=plain)
    with pytest.raises(ValueError, match=r"return \(total, weight, outputs\), as there are `metrics`.*no outputs"):
        fitted(1, metrics=["accuracy"], compute_loss=gives(lambda y: (ops.sum(y), 1)))
    with pytest.raises(ValueError, match=r"`dataset` must hold batches .*`compute_loss` return a weight above 0"):
        fitted(1, compute_loss=gives(lambda y: (ops.sum(y), -1)))
    with pytest.raises(ValueError, match=r"`compute_loss` must return a finite weight. Received: nan in `dataset`"):
        Trainer(classifier(), one, compute_loss=gives(lambda y: (ops.sum(y), float("nan")))).evaluate(data())
    with pytest.raises(FloatingPointError, match=r"the loss of step 0 is not finite: all layer outputs are finite"):
        fitted(1, compute_loss=gives(lambda y: (ops.log(-ops.sum(ops.square(y))), 1)))
    with pytest.raises(ValueError, match=r"`loss` must give a loss for each row.*Received: loss=<"):
        loss_total(keras.losses.MeanSquaredError(reduction="sum"), np.zeros(3), np.zeros(3))
