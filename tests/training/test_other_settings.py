"""A training run that goes on under other settings uses each of them and names it, or refuses it."""

import json
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attn.text import CharacterTokenizer
from keras_attn.training import Checkpoints, Dataset, LinearSchedule, ParallelTextDataset, TokenBlockDataset, Trainer
from keras_attn.training.callbacks.callback_state import CallbackState
from keras_attn.training.checkpoints import record as files
from keras_attn.training.checkpoints import run_settings

OPTIMIZERS = keras.optimizers


class Numbers(Dataset):
    """The batch `i` is full of `i`; without a fingerprint it may come in other sizes."""

    fingerprint = "numbers"

    def __init__(self, rows=2):
        self.rows, self.starts = rows, []

    def __len__(self):
        return 1000

    def batch(self, plan, index):
        return np.full((self.rows, 3), index, "float32"), np.ones((self.rows, 1), "float32")

    def batches(self, start=0, shard=0, num_shards=1):
        self.starts.append(start)
        return super().batches(start, shard, num_shards)


def run(folder, steps, dataset=None, *, seed=0, dropout=0.5, rate=1e-3, optimizer=None, fit=(), **settings):
    """The trainer and its history."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((3,))
    x = keras.layers.Dropout(dropout)(keras.layers.Dense(64)(inputs))
    model = keras.Model(inputs, keras.layers.Dense(1)(x))
    settings = {"loss": "mse", "checkpoints": Checkpoints(folder, every=2)} | settings
    trainer = Trainer(model, optimizer or OPTIMIZERS.SGD(rate), **settings)
    return trainer, trainer.fit(Numbers() if dataset is None else dataset, steps, **dict(fit)).history


def records(count=40, size=4, **options):
    x = np.arange(count, dtype="float32")[:, None] * np.ones(3, "float32") / count
    return tf.data.Dataset.from_tensor_slices((x, x[:, :1])).batch(size, **options)


def test_the_same_settings_are_no_news(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        whole, _ = run(tmp_path / "whole", 6, accumulation_steps=2)
        run(tmp_path / "parts", 4, accumulation_steps=2)
        parts, _ = run(tmp_path / "parts", 6, accumulation_steps=2)
    for a, b in zip(parts.model.get_weights(), whole.model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("first", "second", "third"), [(2, 4, 3), (4, 1, 1), (3, 3, 2)])
def test_accumulation_goes_on_at_the_next_batch(first, second, third, tmp_path):
    data = Numbers()
    run(tmp_path, 4, data, accumulation_steps=first)
    for steps, accumulation, before in ((6, second, first), (8, third, second)):
        named = pytest.warns(UserWarning, match=f"`accumulation_steps` was {before} and is {accumulation}$")
        with named if accumulation != before else warnings.catch_warnings():
            run(tmp_path, steps, data, accumulation_steps=accumulation)
    assert data.starts == [0, 4 * first, 4 * first + 2 * second]


def test_a_checkpoint_that_tells_no_settings_goes_on_as_it_did(tmp_path):
    """The files of an older version."""
    data = Numbers()
    run(tmp_path, 4, data, accumulation_steps=3)
    path = tmp_path / "step-00000004"
    with np.load(path / "state.npz") as file:
        kept = {name: file[name] for name in file.files if not name.startswith("place/")}
    assert len(kept) < len(np.load(path / "state.npz").files)
    np.savez(path / "state.npz", **kept)
    record = json.loads((path / "checkpoint.json").read_text())
    del record["settings"], record["record_sha256"]
    record["sha256"]["state.npz"] = files._digest(path / "state.npz")
    record["record_sha256"] = files._record_digest(record)
    (path / "checkpoint.json").write_text(json.dumps(record))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        run(tmp_path, 6, data, accumulation_steps=3)
    assert data.starts == [0, 12]


@pytest.mark.parametrize(
    ("then", "now", "named"),
    [
        ({}, {"rate": 1e-2}, r"`optimizer.learning_rate` was 0.001\d* and is 0.00999\d*$"),
        ({}, {"optimizer": OPTIMIZERS.SGD(1e-3, clipnorm=1.0)}, "`optimizer.clipnorm` was None and is 1.0$"),
        ({}, {"seed": 1}, "`random_seed` was 0 and is 1$"),
        ({}, {"loss": "mae"}, "`loss` was 'mean_squared_error' and is 'mean_absolute_error'$"),
        (
            {"metrics": [keras.metrics.MeanSquaredError("m")]},
            {"metrics": [keras.metrics.MeanAbsoluteError("m")]},
            r"`metrics.0` was MeanSquaredError\(name='m'.* and is MeanAbsoluteError\(",
        ),
        (
            {"loss": keras.losses.Huber(1.0)},
            {"loss": keras.losses.Huber(2.0)},
            "`loss.delta` was 1.0 and is 2.0$",
        ),
        ({}, {"jit_compile": True}, "`jit_compile` was False and is True$"),
        ({}, {"dropout": 0.25}, r"`model.layers.2.rate` was 0.5 and is 0.25$"),
        ({}, {"fit": {"validation_freq": 3}}, "`validation_freq` was None and is 3$"),
        (
            {"optimizer": OPTIMIZERS.SGD(LinearSchedule(1e-3, 4))},
            {"optimizer": OPTIMIZERS.SGD(LinearSchedule(1e-3, 8))},
            "`optimizer.learning_rate.total_steps` was 4 and is 8$",
        ),
    ],
)
def test_what_is_used_is_named(then, now, named, tmp_path):
    run(tmp_path, 4, **then)
    with pytest.warns(UserWarning, match="resumes from step 4 with the new ones: " + named):
        trainer, _ = run(tmp_path, 6, **now)
    assert trainer.step == 6


def test_a_learning_rate_is_used_once_it_is_another(tmp_path):
    def lower(epoch, rate):
        return rate / 2

    def rate_after(steps, given, callbacks=()):
        fit = {"callbacks": callbacks, "validation_freq": 2}
        return float(run(tmp_path, steps, rate=given, fit=fit)[0].optimizer.learning_rate)

    schedule = [keras.callbacks.LearningRateScheduler(lower)]
    assert rate_after(4, 4e-3, schedule) == pytest.approx(1e-3)
    assert rate_after(6, 4e-3) == pytest.approx(1e-3), "what a callback made of it is no setting"
    with pytest.warns(UserWarning, match=r"`optimizer.learning_rate` was 0.004\d* and is 0.003"):
        assert rate_after(8, 3e-3) == pytest.approx(3e-3)
    assert rate_after(10, 3e-3, schedule) == pytest.approx(1.5e-3)
    assert rate_after(12, 3e-3) == pytest.approx(1.5e-3)


def test_another_seed_draws_another_dropout(tmp_path):
    """With a learning rate of 0, the losses differ by dropout alone."""

    def losses(folder, *seeds):
        for count, seed in enumerate(seeds, 1):
            options = {"rate": 0.0, "fit": {"validation_freq": 1}}
            trainer, history = run(folder, 4 * count, Numbers(), seed=seed, **options)
        return [history["loss"], *trainer.model.get_weights()]

    same = losses(tmp_path / "same", 0, 0)
    with pytest.warns(UserWarning, match="`random_seed` was 0 and is 1"):
        other = losses(tmp_path / "other", 0, 1)
    assert same[0][:4] == other[0][:4]
    assert not set(same[0][4:]) & set(other[0][4:])
    for a, b in zip(same[1:], other[1:], strict=True):
        np.testing.assert_array_equal(a, b)


def test_sums_of_another_loss_are_not_mixed(tmp_path):
    fit = {"validation_freq": 10}
    options = {"rate": 0.0, "dropout": 0.0, "fit": fit}
    *_, whole = run(tmp_path / "mae", 10, loss="mae", **options)
    run(tmp_path / "both", 4, loss="mse", **options)
    with pytest.warns(UserWarning, match="`loss` was"):
        trainer, both = run(tmp_path / "both", 10, loss="mae", **options)
    inputs = np.arange(4, 10, dtype="float32")[:, None] * np.ones(3, "float32")
    assert both["loss"][-1] == pytest.approx(np.abs(trainer.model.predict(inputs, verbose=0) - 1).mean(), rel=1e-5)
    assert both["loss"][-1] != pytest.approx(whole["loss"][-1], rel=1e-3)


class Sliced:
    """Records of a tf.data.Dataset as an object without a fingerprint."""

    def __init__(self, data):
        self.data = data

    def batches(self, start=0, shard=0, num_shards=1):
        return self.data.repeat().skip(start).as_numpy_iterator()


@pytest.mark.parametrize("kind", [lambda data: data, Sliced], ids=["tf.data", "object"])
@pytest.mark.parametrize(("then", "now"), [(4, 8), (8, 4), (4, 4), (3, 12), (3, 5)])
def test_batches_of_another_size_go_on_at_the_same_record(kind, then, now, tmp_path):
    """Without a learning rate, the loss tells which records a step has seen."""
    options = {"rate": 0.0, "dropout": 0.0, "fit": {"validation_freq": 1}}
    run(tmp_path, 4, kind(records(size=then)), **options)
    if (4 * then) % now:
        message = f"`dataset` must have a batch that begins at record {4 * then}.*after 4 batches, .*with {then} rows"
        for _ in range(2):
            with pytest.raises(ValueError, match=message):
                run(tmp_path, 5, kind(records(size=now)), **options)
        return
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always", UserWarning)
        trainer, history = run(tmp_path, 5, kind(records(size=now)), **options)
    named = [f"`dataset.batch_size` was {then} and is {now}" in str(x.message) for x in found]
    assert named == ([] if then == now else [True])
    x = (np.arange(4 * then, 4 * then + now) % 40)[:, None] * np.ones(3, "float32") / 40
    assert history["loss"][-1] == pytest.approx(
        np.square(trainer.model.predict(x, verbose=0) - x[:, :1]).mean(), rel=1e-4
    )


def test_a_short_batch_that_is_left_out_counts(tmp_path):
    """Of 10 records, batches of 4, 4 and 2, then of 4 and 4."""
    run(tmp_path, 4, records(10, 4))
    with pytest.raises(ValueError, match="begins at record 14"):
        run(tmp_path, 6, records(10, 4, drop_remainder=True))
    with pytest.warns(UserWarning, match="`dataset.cardinality` was 3 and is 5"):
        run(tmp_path, 6, records(10, 2))


def test_other_records_under_the_same_shape_are_named(tmp_path):
    run(tmp_path, 2, records())
    with pytest.warns(UserWarning, match="`dataset` begins with another batch than in the checkpoint"):
        run(tmp_path, 4, records().map(lambda x, y: (1 - x, y)))


def text(**options):
    return ParallelTextDataset([("ab", "ba")] * 9, CharacterTokenizer("ab"), **options)


@pytest.mark.parametrize(
    ("then", "now", "named"),
    [
        (lambda: text(batch_size=3), lambda: text(batch_size=2), "`dataset.batch_size` was 3 and is 2"),
        (lambda: text(batch_size=3), lambda: text(batch_size=3, seed=1), "`dataset.seed` was 0 and is 1"),
        (
            lambda: TokenBlockDataset(np.arange(50) % 7, 4, 3),
            lambda: TokenBlockDataset(np.arange(50) % 7, 4, 2),
            "`dataset.batch_size` was 3 and is 2",
        ),
    ],
)
def test_a_refused_data_set_is_told_by_what_differs(then, now, named, tmp_path):
    """The order of these follows from their settings: no other one has the same place in it."""
    checkpoints, model = Checkpoints(tmp_path), keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    then, now = then(), now()
    settings = [run_settings.data_settings(data, None, None) for data in (then, now)]
    checkpoints.save(1, {}, model, dataset=then.fingerprint, settings=settings[0])
    with pytest.raises(ValueError, match=f"from this data set.*Settings that differ: {named}"):
        checkpoints.latest_record({}, now.fingerprint, settings[1])


@pytest.mark.parametrize(
    ("now", "named"),
    [
        (OPTIMIZERS.Adam(1e-3), "`optimizer` was SGD.* and is Adam"),
        (OPTIMIZERS.SGD(1e-3, momentum=0.9), "`optimizer.momentum` was 0.0 and is 0.9"),
        (OPTIMIZERS.SGD(LinearSchedule(1e-3, 9)), r"`optimizer.learning_rate` was 0.001\d* and is LinearSchedule\("),
    ],
)
def test_a_refused_optimizer_is_told_by_what_differs(now, named, tmp_path):
    run(tmp_path, 2)
    with pytest.raises(ValueError, match=f"from this model and optimizer.*Settings that differ: {named}"):
        run(tmp_path, 4, optimizer=now)


def test_settings_that_cannot_be_told_stop_no_training(tmp_path):
    class Odd(keras.metrics.Mean):
        def update_state(self, y_true, y_pred, sample_weight=None):
            return super().update_state(y_pred)

        def get_config(self):
            raise NotImplementedError

    metrics = [Odd("odd"), keras.metrics.MeanMetricWrapper(lambda y_true, y_pred: y_pred, "lambda")]
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        run(tmp_path, 2, metrics=metrics, optimizer=OPTIMIZERS.SGD(np.float64(1e-3)))
        run(tmp_path, 4, metrics=metrics, optimizer=OPTIMIZERS.SGD(np.float64(1e-3)))


def test_fewer_steps_than_were_made(tmp_path):
    run(tmp_path, 4)
    with pytest.warns(UserWarning, match="`steps` is 3, of which 4 were made: nothing is left to train"):
        run(tmp_path, 3)


def history():
    empty = keras.callbacks.History()
    empty.on_train_begin()
    return empty


def test_a_best_that_is_no_number_is_bettered():
    best, stop = (
        keras.callbacks.ModelCheckpoint("x.keras", "v", mode="max"),
        keras.callbacks.EarlyStopping("v", mode="min"),
    )
    memory = CallbackState([stop, best], history())
    for value, expected in ((np.nan, np.inf), (0.4, 0.4), (-np.inf, 0.4), (0.3, 0.3)):
        stop.best = value
        memory.keep_finite()
        assert stop.best == expected
    best.best = np.inf
    other = CallbackState([best], history())
    other.restore({name: np.asarray(value) for name, value in {"callbacks/ModelCheckpoint/v/0/best": np.nan}.items()})
    assert best.best == -np.inf


class Logged(keras.callbacks.Callback):
    """Logs a value per epoch."""

    def __init__(self, values):
        super().__init__()
        self.values, self.weights = values, []

    def on_epoch_end(self, epoch, logs=None):
        logs["v"] = self.values[epoch]
        self.weights.append(self.model.get_weights())


@pytest.mark.parametrize(
    ("mode", "values", "epochs", "best_epoch"),
    [
        ("max", [1.0, 3.0, np.inf, 2.0, 1.0, 1.0], 5, 1),
        ("min", [np.nan] * 6, 3, 0),
        ("min", [np.nan, 2.0, 1.0, 3.0, 3.0, 3.0], 5, 2),
    ],
)
def test_early_stopping_at_values_that_are_no_numbers(mode, values, epochs, best_epoch, tmp_path):
    logged = Logged(values)
    stop = keras.callbacks.EarlyStopping("v", patience=2, mode=mode, restore_best_weights=True)
    fit = {"callbacks": [logged, stop], "validation_freq": 1}
    trainer, _ = run(tmp_path, len(values), rate=0.01, fit=fit)
    assert (len(logged.weights), stop.best_epoch) == (epochs, best_epoch)
    for a, b in zip(trainer.model.get_weights(), logged.weights[best_epoch], strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_callback_that_wants_the_reverse_starts_anew():
    states = []
    for mode in ("min", "max"):
        stop = keras.callbacks.EarlyStopping("v", mode=mode)
        stop.best, stop.wait = 0.5, 2
        stop._set_monitor_op()
        states.append(CallbackState([stop], history()).state())
    for state, mode, wait in ((states[0], "min", 2), (states[1], "max", 2), (states[0], "max", 0)):
        stop = keras.callbacks.EarlyStopping("v", mode=mode)
        with pytest.warns(UserWarning, match="starts afresh: 'v' is now") if not wait else warnings.catch_warnings():
            CallbackState([stop], history()).restore(state)
        assert stop.wait == wait


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, None])
def test_the_best_checkpoint_is_one_of_a_number(mode, bad, tmp_path):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    checkpoints = Checkpoints(tmp_path, keep=1, keep_best=1, mode=mode)
    sign = 1 if mode == "min" else -1
    for step, value in enumerate([bad, 0.3, 0.5, bad, 0.6], 1):
        checkpoints.save(
            step, {}, model, {} if value is None else {"val_loss": value if value is bad else sign * value}
        )
    assert checkpoints.steps() == [2, 5]
    with pytest.raises(ValueError, match="best=3, but there are 2 with a finite 'val_loss'"):
        checkpoints.average(model, best=3)


def test_a_figure_that_is_never_logged_is_named(tmp_path):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    checkpoints = Checkpoints(tmp_path, keep=1, keep_best=1, monitor="val_bleu", mode="max")
    checkpoints.save(1, {}, model, {"loss": 1.0})
    with pytest.warns(UserWarning, match=r"`monitor` 'val_bleu' of `keep_best` is in the logs of no .*\['loss'\]"):
        checkpoints.save(2, {}, model, {"loss": 0.5})


def test_a_copy_of_a_checkpoint_under_another_step(tmp_path):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    checkpoints = Checkpoints(tmp_path)
    for step in (2, 4):
        checkpoints.save(step, {}, model)
    (tmp_path / "step-00000002").rename(tmp_path / "step-00000099")
    with pytest.warns(UserWarning, match="it is a copy of the checkpoint of step 2"):
        assert checkpoints.latest({})[0] == 4
