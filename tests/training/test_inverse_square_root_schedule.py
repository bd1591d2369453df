import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attn.training import InverseSquareRootSchedule


def test_formula():
    schedule = InverseSquareRootSchedule(37, warmup_steps=11, scale=3.0)
    for step in (1, 2, 7, 11, 12, 1000, 10**6):
        expected = 3 * 37**-0.5 * min(step**-0.5, step * 11**-1.5)
        # Keras counts the first step as 0.
        assert float(schedule(step - 1)) == pytest.approx(expected, rel=1e-5)


def test_the_peak_is_at_warmup_steps():
    schedule = InverseSquareRootSchedule(512, warmup_steps=400)
    rates = np.array([float(schedule(iteration)) for iteration in range(1000)])
    assert rates.argmax() + 1 == 400
    assert rates.max() == pytest.approx((512 * 400) ** -0.5)
    np.testing.assert_allclose(np.diff(rates[:400]), rates[0], rtol=1e-3)


@pytest.mark.parametrize("step", [7, np.int64(7), tf.constant(7, "int64"), tf.constant(7.0)])
def test_steps_of_any_type(step):
    rate = InverseSquareRootSchedule(5, 3)(step)
    assert float(rate) == pytest.approx((5 * 8) ** -0.5)


def test_an_optimizer_follows_it():
    weight = keras.Variable([0.0])
    optimizer = keras.optimizers.SGD(InverseSquareRootSchedule(5, 3))
    for step in (1, 2, 3, 4):
        before = float(weight[0])
        optimizer.apply([np.ones(1, "float32")], [weight])
        assert before - float(weight[0]) == pytest.approx(5**-0.5 * min(step**-0.5, step * 3**-1.5), rel=1e-5)


def test_round_trip():
    schedule = InverseSquareRootSchedule(7, warmup_steps=11, scale=0.5)
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(schedule))
    assert type(copy) is InverseSquareRootSchedule
    assert copy.get_config() == schedule.get_config() == {"hidden_dim": 7, "warmup_steps": 11, "scale": 0.5}


@pytest.mark.parametrize("name", ["hidden_dim", "warmup_steps", "scale"])
@pytest.mark.parametrize("value", [0, -1])
def test_arguments_must_be_positive(name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be positive. Received: {name}={value}"):
        InverseSquareRootSchedule(**{"hidden_dim": 5, name: value})
