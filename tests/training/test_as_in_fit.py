"""Losses, metrics, labels, sample weights and Keras masks mean in a `Trainer` what they mean in `compile` and `fit`."""

import fit_cases
import keras
import numpy as np
import pytest
import tensorflow as tf
from fit_cases import CASES, CLASSES, IDS, LENGTH, ROWS, TOKEN_LABELS, columns, combinations, differences
from hypothesis import given, settings
from hypothesis import strategies as st
from training_processes import run_script

from keras_attn.layers import TokenEmbedding
from keras_attn.training import MaskedCrossEntropy, Trainer
from keras_attn.training.losses.compiled_loss import batch_total
from keras_attn.training.metrics.metric_set import MetricSet


@pytest.fixture
def eagerly():
    """Without graphs, whose tracing is most of the time of a step."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.mark.parametrize("name", CASES)
def test_every_loss_with_every_shape(name, eagerly):
    assert not [words for labels, weights in combinations(name) for words in differences(name, labels, weights)]


@pytest.mark.parametrize("name", ["bce by name", "masked", "tokens, sparse"])
def test_metrics_by_any_name_and_weighted_ones(name, eagerly):
    assert not [words for given in combinations(name) for words in differences(name, *given, metrics=True)]


@pytest.mark.parametrize("jit_compile", [False, True])
def test_in_a_graph(jit_compile):
    assert not differences("tokens, sparse", *combinations("tokens, sparse")[-1], metrics=True, jit_compile=jit_compile)


TOKEN_LOSSES = {
    "Keras' own": lambda: fit_cases.SPARSE(),
    "with an ignored class": lambda: fit_cases.SPARSE(ignore_class=2),
    "weighted mean": lambda: fit_cases.SPARSE(reduction="mean_with_sample_weight"),
    "masked": lambda: MaskedCrossEntropy(0.1, ignore_id=None),
    "masked, with an ignored id": lambda: MaskedCrossEntropy(ignore_id=2),
}


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_masks_labels_and_weights_count_as_in_fit(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 1 << 20), "seed"))
    # A first token of each row is real, so that no batch is all padding; the last row has all.
    ids = rng.integers(1, 10, (ROWS, LENGTH)) * (
        rng.random((ROWS, LENGTH)) < data.draw(st.sampled_from([0.3, 1]), "real")
    )
    ids[:, 0] = ids[-1] = 3
    labels = data.draw(st.sampled_from(columns(rng.integers(0, CLASSES, (ROWS, LENGTH)))), "labels")
    # So that something is left to count.
    labels[-1, 0], labels[-1, 1] = 1, 3
    weights = rng.uniform(0.1, 3, (ROWS, LENGTH)) * (rng.random((ROWS, LENGTH)) < 0.7)
    weights[-1] = 1
    weights = data.draw(st.sampled_from([None, weights[:, :1], *columns(weights)]), "weights")
    weights = None if weights is None else weights.astype("float32")
    loss = data.draw(st.sampled_from(list(TOKEN_LOSSES)), "loss")
    tf.config.run_functions_eagerly(True)
    try:
        steps = data.draw(st.sampled_from([1, 2, 3]), "accumulation_steps")
        metrics = steps == 1 or weights is None
        found = differences(
            "tokens, sparse",
            labels,
            weights,
            ids=ids,
            loss=TOKEN_LOSSES[loss](),
            metrics=metrics and data.draw(st.booleans(), "metrics"),
            accumulation_steps=steps,
        )
    finally:
        tf.config.run_functions_eagerly(False)
    assert not found


def test_on_replicas_and_in_accumulated_batches():
    script = """
import keras
import numpy as np
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from fit_cases import FEATURES, CLASS, combinations, differences, model
from keras_attn.training import MaskedCrossEntropy
strategy = tf.distribute.MirroredStrategy(["/cpu:0", "/cpu:1"])
# Three rows on two replicas: one is there twice, and must not count.
for name in ("own function", "tokens, weighted", "tokens, masked"):
    for words in differences(name, *combinations(name)[-1], strategy, accumulation_steps=2):
        print("differs", words)
for words in differences("tokens, ignored class", *combinations("tokens, ignored class")[-3], strategy, metrics=True):
    print("differs", words)
for words in differences("sum", *combinations("sum")[-1], strategy):
    print("differs", words)
data = tf.data.Dataset.from_tensor_slices((FEATURES, CLASS)).batch(6)
losses = []
for loss in (MaskedCrossEntropy(ignore_id=None), keras.losses.SparseCategoricalCrossentropy(from_logits=True)):
    with strategy.scope():
        one = model("classes")
        one.compile(keras.optimizers.SGD(0.3), loss, jit_compile=False)
    losses += [one.fit(data, verbose=0).history["loss"][0], *one.get_weights()[1]]
print("losses of fit", np.abs(np.subtract(*np.split(np.array(losses), 2))).max() < 1e-5)
"""
    result = run_script(script)
    assert result.returncode == 0, result.stderr[-3000:]
    assert "differs" not in result.stdout, result.stdout
    assert "losses of fit True" in result.stdout


def test_weights_of_rows_are_those_of_all_their_tokens(eagerly):
    # `fit` fails with weights `(B,)` here, or takes them for those of columns.
    rows = fit_cases.ROW_WEIGHTS
    data = [tf.data.Dataset.from_tensors((IDS, TOKEN_LABELS[0], w)) for w in (rows, rows[:, None])]
    for loss in (fit_cases.SPARSE(), MaskedCrossEntropy(ignore_id=None)):
        logs = []
        for batch in data:
            model = fit_cases.model("token classes")
            trainer = Trainer(model, keras.optimizers.SGD(0.3), loss, weighted_metrics=["acc"])
            logs.append(trainer.fit(batch, 1).history)
        for name in ("loss", "acc", "grad_norm"):
            assert logs[0][name] == pytest.approx(logs[1][name], rel=1e-5)


def test_one_number_is_not_parted():
    kind, _, loss, labels, _ = CASES["tokens, one number"]
    trainer = Trainer(fit_cases.model(kind), keras.optimizers.SGD(0.3), loss, accumulation_steps=2)
    data = tf.data.Dataset.from_tensor_slices((IDS, labels[0])).batch(3)
    with pytest.raises(ValueError, match=r"`loss` must give a number for each row .*Received: a loss that gives one"):
        trainer.fit(data, 1)


def of_fit(model, data, loss, **settings):
    model.compile(keras.optimizers.SGD(0.1), loss, run_eagerly=True, **settings)
    return model.fit(data, verbose=0).history


def of_trainer(model, data, loss, **settings):
    return Trainer(model, keras.optimizers.SGD(0.1), loss, **settings).fit(data, 1).history


def token_model():
    keras.utils.set_random_seed(1)
    inputs = keras.Input((None,), dtype="int32")
    return keras.Model(inputs, keras.layers.Dense(4)(TokenEmbedding(10, 8, mask_zero=True)(inputs)))


@pytest.mark.parametrize("hidden", [-1, np.nan])
def test_labels_that_a_keras_mask_hides_may_be_anything(hidden):
    ids, labels = np.array([[3, 4, 0], [5, 0, 0]]), np.array([[1, 2, hidden], [3, hidden, hidden]])
    data, loss = tf.data.Dataset.from_tensors((ids, labels)), MaskedCrossEntropy(ignore_id=None)
    expected = of_fit(token_model(), data, loss)["loss"]
    assert of_trainer(token_model(), data, loss)["loss"] == pytest.approx(expected, rel=1e-5)
    trainer = Trainer(token_model(), keras.optimizers.SGD(0.1), loss)
    labels[0, 1] = 7
    for call in (lambda data: trainer.fit(data, 1), trainer.evaluate):
        with pytest.raises(ValueError, match=r"`dataset labels` must hold ids of the vocabulary.*Received: \[7(.0)?\]"):
            call(tf.data.Dataset.from_tensors((ids, labels)))


@pytest.mark.parametrize("loss", [{"a": "mse"}, {"a": keras.losses.MeanSquaredError()}])
def test_a_dict_of_one_output_and_its_loss(loss, eagerly):
    def model():
        keras.utils.set_random_seed(1)
        inputs = keras.Input(fit_cases.FEATURES.shape[1:])
        return keras.Model(inputs, {"a": keras.layers.Dense(1, name="a")(inputs)})

    numbers = fit_cases.NUMBER.reshape(-1, 1)
    data = tf.data.Dataset.from_tensors((fit_cases.FEATURES, {"a": numbers}))
    assert of_trainer(model(), data, loss)["loss"] == pytest.approx(of_fit(model(), data, loss)["loss"], rel=1e-5)


def test_metrics_that_make_their_variables_late():
    labels = np.eye(3, dtype="float32")[np.arange(len(fit_cases.FEATURES)) % 3]

    def model():
        keras.utils.set_random_seed(1)
        inputs = keras.Input(fit_cases.FEATURES.shape[1:])
        return keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(inputs))

    def metrics():
        return ["r2_score", keras.metrics.F1Score("macro"), keras.metrics.AUC(multi_label=True, name="auc")]

    data = tf.data.Dataset.from_tensors((fit_cases.FEATURES, labels))
    expected = of_fit(model(), data, "mse", metrics=metrics())
    found = of_trainer(model(), data, "mse", metrics=metrics())
    for name in expected.keys() - {"loss"}:
        assert found[name] == pytest.approx(expected[name], rel=1e-4), name


def test_rows_that_make_replicas_even_do_not_count_in_an_f1_score():
    labels, outputs = np.eye(3, dtype="float32")[[0, 1, 2, 2]], np.eye(3, dtype="float32")[[0, 2, 2, 1]]
    metrics = MetricSet([keras.metrics.F1Score("macro")])
    metrics.build(keras.KerasTensor((None, 3)))
    present = np.array([1, 1, 1, 0], "float32")
    padded = metrics.changes((None, labels, None, present), outputs)
    for a, b in zip(padded, metrics.changes((None, labels[:3], None, None), outputs[:3]), strict=True):
        np.testing.assert_array_equal(a, b)


class Late(keras.metrics.Metric):
    """Makes its variables in its first update, for labels of a kind of its own."""

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.seen = self.add_weight()


@pytest.mark.parametrize(
    ("metric", "kind", "message"),
    [
        (Late(name="late"), "classes", "have their variables.*Received: 'late' without any"),
        (keras.metrics.F1Score(), "classes", f"return one number.*Received: 'f1_score', which returns {CLASSES}"),
        ("f1_score", "token classes", "have their variables.*Received: 'f1_score', which does not fit.*expects 2D"),
        ("r2_score", "token classes", "have their variables.*Received: 'r2_score', "),
    ],
)
def test_metrics_that_cannot_be_built(metric, kind, message):
    with pytest.raises(ValueError, match=f"`metrics` must {message}"):
        Trainer(fit_cases.model(kind), keras.optimizers.SGD(0.3), "mse", [metric])


@pytest.mark.parametrize("weights", [np.ones((ROWS, 2), "float32"), np.ones(LENGTH, "float32")])
@pytest.mark.parametrize("loss", [fit_cases.SPARSE(), MaskedCrossEntropy()])
def test_weights_of_another_shape(loss, weights):
    outputs = keras.ops.zeros((ROWS, LENGTH, CLASSES))
    with pytest.raises(ValueError, match=r"`sample_weight` must have a value for each row.*of shape \(6, 5\)"):
        batch_total(loss, (None, TOKEN_LABELS[0], weights, None), outputs, 1)


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("loss", [MaskedCrossEntropy(), fit_cases.SPARSE(), "mse"])
def test_labels_that_are_no_numbers(loss, jit_compile):
    labels = fit_cases.CLASS.astype("float32")
    labels[3] = np.nan
    kind = "numbers" if loss == "mse" else "classes"
    trainer = Trainer(fit_cases.model(kind), keras.optimizers.SGD(0.3), loss, jit_compile=jit_compile)
    with pytest.raises(ValueError, match=r"`dataset labels` must .*Received: .*(nan|NaN)"):
        trainer.fit(tf.data.Dataset.from_tensors((fit_cases.FEATURES, labels)), 1)
    assert trainer.step == 0


def test_labels_that_are_no_numbers_may_mean_something_to_a_loss_of_ones_own():
    def known_squares(y_true, y_pred):
        return tf.where(tf.math.is_nan(y_true), 0.0, tf.square(tf.where(tf.math.is_nan(y_true), 0.0, y_true) - y_pred))

    labels = np.where(fit_cases.CLASS == 1, np.nan, fit_cases.NUMBER).astype("float32")
    trainer = Trainer(fit_cases.model("numbers"), keras.optimizers.SGD(0.3), known_squares)
    history = trainer.fit(tf.data.Dataset.from_tensors((fit_cases.FEATURES, labels)), 1).history
    assert np.isfinite(history["loss"][0])
