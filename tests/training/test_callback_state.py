import signal

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attn.training import Checkpoints, SampleOutputs, TextEvaluation, TextMetric, Trainer


def train(folder, steps=20, kill_at=None, terminate_at=None, optimizer="SGD", dtype="float32"):
    """The trainer and its callbacks; validation gets better from the start, and they want it to get worse."""
    keras.utils.set_random_seed(3)
    inputs = keras.Input((5,))
    model = keras.Model(inputs, keras.layers.Dense(1, dtype=dtype)(inputs))
    x = np.random.default_rng(1).standard_normal((8, 5)).astype("float32")
    data = tf.data.Dataset.from_tensor_slices((x, x.sum(1, keepdims=True))).batch(4)
    callbacks = [
        keras.callbacks.EarlyStopping("val_loss", patience=6, mode="max", restore_best_weights=True),
        keras.callbacks.ReduceLROnPlateau("val_loss", factor=0.5, patience=2, mode="max"),
        keras.callbacks.ReduceLROnPlateau("val_loss", factor=0.8, patience=3, mode="max"),
        keras.callbacks.ModelCheckpoint(folder / "best.keras", monitor="val_loss", mode="max", save_best_only=True),
    ]

    def kill(batch, logs):
        if kill_at is not None and trainer.step > kill_at:
            raise KeyboardInterrupt

    def terminate(batch, logs):
        if trainer.step + 1 == terminate_at:
            signal.raise_signal(signal.SIGTERM)

    callbacks.append(keras.callbacks.LambdaCallback(on_train_batch_begin=terminate, on_train_batch_end=kill))
    optimizer = keras.optimizers.get({"class_name": optimizer, "config": {"learning_rate": 0.01}})
    trainer = Trainer(
        model, optimizer, "mse", [keras.metrics.MeanAbsoluteError()], checkpoints=Checkpoints(folder / "run", every=1)
    )
    history = trainer.fit(data, steps, callbacks, validation_data=data, validation_freq=2)
    return trainer, callbacks, history


@pytest.mark.parametrize(
    "interruptions",
    [
        [{"kill_at": 4}],
        [{"kill_at": 3}, {"kill_at": 7}, {"kill_at": 10}],
        # Before the validation that was due at that step.
        [{"terminate_at": 3}, {"terminate_at": 4}, {"terminate_at": 12}],
    ],
)
def test_a_training_goes_on_with_what_callbacks_remember(interruptions, tmp_path):
    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    whole, (stop, *_), history = train(tmp_path / "whole")
    assert whole.step == 14
    assert stop.best_epoch == 0
    assert float(whole.optimizer.learning_rate) == pytest.approx(0.01 * 0.5**3 * 0.8**2)
    for interruption in interruptions:
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            train(tmp_path / "parts", **interruption)
        assert Checkpoints(tmp_path / "parts" / "run").steps()[-1:] == list(interruption.values())
    parts, (resumed, *_), resumed_history = train(tmp_path / "parts")
    assert parts.step == whole.step
    assert resumed.best == stop.best
    assert (resumed_history.epoch, resumed_history.history) == (history.epoch, history.history)
    assert float(parts.optimizer.learning_rate) == float(whole.optimizer.learning_rate)
    files = [keras.saving.load_model(tmp_path / name / "best.keras") for name in ("whole", "parts")]
    for ours, theirs in ((parts.model, whole.model), files):
        for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)


def test_steps_and_figures_of_a_training_that_goes_on(tmp_path, capsys):
    class Length(TextMetric):
        def score(self, outputs, references):
            return float(np.mean([len(x) for x in outputs]))

    def train(folder, kill_at=100):
        keras.utils.set_random_seed(3)
        inputs = keras.Input((5,))
        model = keras.Model(inputs, keras.layers.Dense(1)(inputs))
        model.generate = lambda texts: [f"{text}{'!' * trainer.step}" for text in texts]
        x = np.ones((4, 5), "float32")
        data = tf.data.Dataset.from_tensors((x, x[:, :1]))
        checkpoints = Checkpoints(folder, every=1)
        trainer = Trainer(model, keras.optimizers.SGD(0.01), "mse", checkpoints=checkpoints)

        def kill(batch, logs):
            if trainer.step > kill_at:
                raise KeyboardInterrupt

        callbacks = [
            TextEvaluation(["a"], ["a"], [Length("length")], every=4),
            SampleOutputs(["a", "b", "c"], ["a", "b", "c"], every=3, count=1),
            keras.callbacks.LambdaCallback(on_train_batch_end=kill),
        ]
        return trainer.fit(data, 14, callbacks, validation_freq=2).history

    whole = train(tmp_path / "whole")
    assert whole["val_length"] == [5, 5, 9, 9, 13, 13]
    printed = capsys.readouterr().out
    assert [line.split()[:2] for line in printed.splitlines()] == [["3", "a"], ["6", "b"], ["9", "c"], ["12", "a"]]
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "parts", kill_at=4)
    assert train(tmp_path / "parts") == whole
    assert capsys.readouterr().out == printed


class Figures(keras.callbacks.Callback):
    """Puts the figure of an epoch into its logs."""

    def __init__(self, figures):
        super().__init__()
        self.figures = figures

    def on_epoch_end(self, epoch, logs=None):
        logs["figure"] = self.figures[epoch]


@pytest.mark.parametrize("kill_at", [5, 8, 10])
@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("EarlyStopping", {"min_delta": 0.01, "patience": 2}),
        ("EarlyStopping", {"min_delta": 0.01, "patience": 2, "restore_best_weights": True}),
        ("ReduceLROnPlateau", {"patience": 1, "cooldown": 1, "min_delta": 0.01}),
        ("ModelCheckpoint", {"save_freq": 3}),
        ("ModelCheckpoint", {"save_best_only": True}),
        ("ModelCheckpoint", {"save_freq": 3, "save_best_only": True, "monitor": "loss"}),
        ("SwapEMAWeights", {}),
    ],
)
def test_callbacks_that_want_less_and_others(kind, settings, kill_at, tmp_path):
    def train(folder, kill_at=100):
        def kill(batch, logs):
            if trainer.step > kill_at:
                raise KeyboardInterrupt

        keras.utils.set_random_seed(3)
        inputs = keras.Input((5,))
        model = keras.Model(inputs, keras.layers.Dense(1)(inputs))
        x = np.random.default_rng(1).standard_normal((8, 5)).astype("float32")
        data = tf.data.Dataset.from_tensor_slices((x, x.sum(1, keepdims=True))).batch(4)
        options = {}
        if kind == "ModelCheckpoint":
            name = "{epoch}-{batch}" if "save_freq" in settings else "{epoch}"
            options = {"filepath": folder / f"{name}.weights.h5", "save_weights_only": True}
        if kind == "SwapEMAWeights":
            options = {"swap_on_epoch": True}
        else:
            options |= {"mode": "min", "monitor": "figure"}
        callbacks = [
            Figures([0.5, 0.505, 0.503, 0.501, 0.498, 0.49]),
            getattr(keras.callbacks, kind)(**options | settings),
            keras.callbacks.LambdaCallback(on_train_batch_end=kill),
        ]
        optimizer = keras.optimizers.SGD(0.1, use_ema=kind == "SwapEMAWeights", ema_momentum=0.5)
        trainer = Trainer(model, optimizer, "mse", checkpoints=Checkpoints(folder / "run", every=1))
        history = trainer.fit(data, 24, callbacks, validation_freq=4)
        rate = float(optimizer.learning_rate)
        files = sorted(path.name for path in folder.glob("*.weights.h5"))
        return trainer.step, history.epoch, history.history, rate, files, model.get_weights()

    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    *whole, weights = train(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "parts", kill_at)
    *parts, resumed = train(tmp_path / "parts")
    assert parts == whole
    for a, b in zip(resumed, weights, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("steps", [5, 6])
def test_a_training_that_was_done_has_its_history(steps, tmp_path):
    *_, history = train(tmp_path, steps)
    *_, again = train(tmp_path, steps)
    assert len(history.epoch) == 3
    assert (again.epoch, again.history) == (history.epoch, history.history)


def test_a_short_last_epoch_goes_on(tmp_path):
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    *_, history = train(tmp_path / "whole", 8)
    train(tmp_path / "parts", 5)
    *_, longer = train(tmp_path / "parts", 8)
    assert longer.epoch == [0, 1, 2, 2, 3]
    # The steps of the whole epoch, the first of which was in the short one too.
    assert longer.history["loss"][3] == history.history["loss"][2]


def test_the_best_of_several_fits(tmp_path):
    def trainer():
        inputs = keras.Input((5,))
        model = keras.Model(inputs, keras.layers.Dense(1)(inputs))
        return Trainer(model, keras.optimizers.SGD(0.1), "mse", checkpoints=Checkpoints(tmp_path / "run", every=1))

    def best():
        return keras.callbacks.ModelCheckpoint(tmp_path / "best.keras", "figure", mode="min", save_best_only=True)

    data = tf.data.Dataset.from_tensors((np.ones((4, 5), "float32"), np.ones((4, 1), "float32")))
    first, callbacks = trainer(), [Figures([0.1, 0.5, 0.5]), best()]
    first.fit(data, 1, callbacks, validation_freq=1)
    first.fit(data, 2, callbacks, validation_freq=1)
    callbacks = [callbacks[0], best()]
    trainer().fit(data, 3, callbacks, validation_freq=1)
    assert callbacks[1].best == 0.1


def test_sigterm_in_the_last_validation(tmp_path):
    callback = keras.callbacks.LambdaCallback()
    callback.on_test_begin = lambda logs=None: signal.raise_signal(signal.SIGTERM)
    inputs = keras.Input((5,))
    model = keras.Model(inputs, keras.layers.Dense(1)(inputs))
    data = tf.data.Dataset.from_tensors((np.ones((4, 5), "float32"), np.ones((4, 1), "float32")))
    checkpoints = Checkpoints(tmp_path, every=5)
    trainer = Trainer(model, keras.optimizers.SGD(0.1), "mse", checkpoints=checkpoints)
    with pytest.raises(SystemExit, match="143"):
        trainer.fit(data, 2, [callback], validation_data=data)
    assert checkpoints.steps() == [2]


def test_a_training_that_stopped_early_is_done(tmp_path):
    whole, _, history = train(tmp_path)
    again, _, same = train(tmp_path, steps=30)
    assert again.step == whole.step == 14
    assert (same.epoch, same.history) == (history.epoch, history.history)
    for a, b in zip(again.model.get_weights(), whole.model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_another_fit_of_one_trainer_starts_anew(tmp_path):
    trainer, (stop, *_), _ = train(tmp_path, 8)
    assert stop.wait == 3
    data = tf.data.Dataset.from_tensor_slices((np.ones((8, 5), "float32"), np.ones((8, 1), "float32"))).batch(4)
    trainer.fit(data, 10, [stop], validation_data=data)
    assert stop.wait == 0


def test_checkpoints_of_bfloat16_weights(tmp_path):
    folders = [tmp_path / name for name in ("whole", "parts")]
    for folder in folders:
        folder.mkdir()
    settings = {"steps": 6, "optimizer": "Adam", "dtype": "bfloat16"}
    whole, *_ = train(folders[0], **settings)
    with pytest.raises(KeyboardInterrupt):
        train(folders[1], kill_at=4, **settings)
    parts, *_ = train(folders[1], **settings)
    for a, b in zip(parts.model.get_weights(), whole.model.get_weights(), strict=True):
        assert a.dtype.name == "bfloat16"
        np.testing.assert_array_equal(a, b)
    assert Checkpoints(folders[0] / "run").average(parts.model, last=1) == [6]
    for a, b in zip(parts.model.get_weights(), whole.model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
