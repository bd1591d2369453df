"""SIGTERM while a model is validated ends the run at once, and the next run validates anew."""

import os
import signal

import keras
import numpy as np
import pytest
from training_processes import largest_difference

from keras_attn.training import Checkpoints, TextEvaluation, Trainer


class Noise(keras.layers.Layer):
    """Counts its calls outside of training, and draws from a generator there too."""

    def __init__(self):
        super().__init__()
        self.generator = keras.random.SeedGenerator(3)

    def build(self, shape):
        self.calls = self.add_weight(name="calls", initializer="zeros", trainable=False)

    def call(self, x, training=False):
        if not training:
            self.calls.assign_add(1.0)
        return x + 0.01 * keras.random.normal(keras.ops.shape(x), seed=self.generator)


class Batches:
    """So many batches, or endless ones, that count how often one was asked for."""

    epochs = 1

    def __init__(self, count):
        self.count, self.asked, self.stops_at = count, 0, None

    def __len__(self):
        return self.count

    def batches(self, start=0, shard=0, num_shards=1):
        number = start
        while number < self.count:
            self.asked += 1
            if self.asked == self.stops_at:
                os.kill(os.getpid(), signal.SIGTERM)
            x = np.random.default_rng(number).normal(size=(4, 3)).astype("float32")
            yield x, x.sum(1, keepdims=True)
            number += 1


class Length:
    name = "length"

    def __call__(self, outputs, references):
        return float(np.mean([len(text) for text in outputs]))


class Evaluates(keras.callbacks.Callback):
    """Evaluates with the trainer at the end of each epoch."""

    def __init__(self, trainer, data):
        super().__init__()
        self.trainer, self.data = trainer, data

    def on_epoch_end(self, epoch, logs=None):
        logs["other_loss"] = self.trainer.evaluate(self.data)["loss"]


def train(folder, stops_at=None, generation_stops_at=None, every=None, other_stops_at=None):
    """`(trainer, history, batches of validation)`; SIGTERM comes while the so many-th batch is made."""
    keras.utils.set_random_seed(2)
    inputs = keras.Input((3,))
    outputs = keras.layers.BatchNormalization()(keras.layers.Dropout(0.2)(Noise()(inputs)))
    model = keras.Model(inputs, keras.layers.Dense(1)(outputs))
    asked = []

    def generate(texts):
        asked.append(texts)
        if len(asked) == generation_stops_at:
            os.kill(os.getpid(), signal.SIGTERM)
        return [text * (int(one.optimizer.iterations) % 3) for text in texts]

    model.generate = generate
    one = Trainer(model, keras.optimizers.Adam(0.01), "mse", checkpoints=Checkpoints(folder, every=100))
    validation = Batches(40)
    validation.stops_at = stops_at
    callbacks = [
        keras.callbacks.EarlyStopping("val_loss", patience=10),
        TextEvaluation(["a", "bc", "def"], ["a", "b", "c"], [Length()], every, batch_size=1),
    ]
    if other_stops_at is not None:
        validation, other = None, Batches(40)
        other.stops_at = other_stops_at
        callbacks[0] = Evaluates(one, other)
    try:
        history = one.fit(Batches(10**6), 6, callbacks, validation, validation_freq=2).history
    except SystemExit as end:
        history = end.code
    return one, history, (validation or other).asked, len(asked)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    one, history, validated, generated = train(tmp_path_factory.mktemp("whole"))
    assert (validated, generated, len(history["val_loss"]), len(history["val_length"])) == (120, 9, 3, 3)
    return one, history


@pytest.mark.parametrize(
    ("fault", "step", "validated", "generated"),
    [
        ({"stops_at": 42}, 4, 42, 3),
        ({"stops_at": 81}, 6, 81, 6),
        ({"stops_at": 120}, 6, 120, 6),
        ({"generation_stops_at": 5}, 4, 80, 5),
    ],
    ids=["second", "last", "last batch", "texts"],
)
def test_a_validation_is_left_at_once(fault, step, validated, generated, undisturbed, tmp_path):
    one, history, *counts = train(tmp_path, **fault)
    assert (one.step, history, counts) == (step, 128 + signal.SIGTERM, [validated, generated])
    assert Checkpoints(tmp_path).steps() == [step]
    one, history, *_ = train(tmp_path)
    whole, expected = undisturbed
    assert largest_difference(one.model.get_weights(), whole.model.get_weights()) == 0
    for name, values in expected.items():
        if name != "tokens_per_second":
            assert history[name] == values, name


def test_after_a_validation_no_step_follows(undisturbed, tmp_path):
    """The signal comes with the texts of the last input."""
    one, history, *counts = train(tmp_path, generation_stops_at=3)
    assert (one.step, history, counts) == (2, 128 + signal.SIGTERM, [40, 3])
    assert Checkpoints(tmp_path).steps() == [2]
    one, history, *_ = train(tmp_path)
    assert largest_difference(one.model.get_weights(), undisturbed[0].model.get_weights()) == 0
    assert history["val_length"] == undisturbed[1]["val_length"]


def test_states_of_a_validation_that_failed_are_as_before(tmp_path):
    class Failing(Batches):
        def batches(self, *args):
            for batch in super().batches(*args):
                if self.asked == 3:
                    raise OSError("a disk is gone")
                yield batch

    one, *_ = train(tmp_path)
    before = [np.asarray(v) for v in one.model.variables]
    with pytest.raises(OSError, match="a disk is gone"):
        one.evaluate(Failing(5))
    assert largest_difference([np.asarray(v) for v in one.model.variables], before) == 0


def test_an_evaluation_by_a_callback_is_left_at_once(tmp_path):
    whole, expected, validated, _ = train(tmp_path / "whole", other_stops_at=-1)
    assert validated == 120
    one, history, validated, _ = train(tmp_path / "cut", other_stops_at=42)
    assert (one.step, history, validated) == (4, 128 + signal.SIGTERM, 42)
    one, history, *_ = train(tmp_path / "cut", other_stops_at=-1)
    assert largest_difference(one.model.get_weights(), whole.model.get_weights()) == 0
    assert history["other_loss"] == expected["other_loss"]


@pytest.mark.parametrize("texts", [5, 6, 8, 9])
def test_texts_between_validations_are_left_at_once_and_made_up_for(texts, tmp_path):
    """Generated after the steps 1 to 6, three texts each, of which those of step 2 and 4 are for a validation too."""
    whole, expected, _, generated = train(tmp_path / "whole", every=1)
    assert generated == 18
    one, history, _, generated = train(tmp_path / "cut", every=1, generation_stops_at=texts)
    assert (one.step, history, generated) == (-(-texts // 3), 128 + signal.SIGTERM, texts)
    one, history, *_ = train(tmp_path / "cut", every=1)
    assert largest_difference(one.model.get_weights(), whole.model.get_weights()) == 0
    assert history["val_length"] == expected["val_length"]
