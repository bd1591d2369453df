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


def test_a_training_that_was_done_has_its_history(tmp_path):
    *_, history = train(tmp_path, 6)
    *_, again = train(tmp_path, 6)
    assert len(history.epoch) == 3
    assert (again.epoch, again.history) == (history.epoch, history.history)


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
