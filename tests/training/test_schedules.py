import keras
import numpy as np
import pytest

from keras_attn.training import LinearSchedule, OneCycleSchedule

SCHEDULES = [LinearSchedule(0.5, 37, 11, 0.01), OneCycleSchedule(0.5, 37, 0.25, "linear", 5.0, 100.0)]


@pytest.mark.parametrize("warmup_steps", [0, 7])
def test_linear_goes_through_its_corners_in_straight_lines(warmup_steps):
    schedule = LinearSchedule(0.3, 29, warmup_steps, 0.1)
    rates = np.array([float(schedule(step)) for step in range(40)])
    corners = ([0, warmup_steps, 29, 40], [0, 0.3, 0.1, 0.1]) if warmup_steps else ([0, 29, 40], [0.3, 0.1, 0.1])
    np.testing.assert_allclose(rates, np.interp(np.arange(40), *corners), rtol=1e-5)


def test_linear_is_keras_own_behind_the_rise():
    ours, theirs = LinearSchedule(0.3, 29, 0, 0.1), keras.optimizers.schedules.PolynomialDecay(0.3, 29, 0.1)
    for step in (0, 1, 13, 28, 29, 100):
        assert float(ours(step)) == pytest.approx(float(theirs(step)), rel=1e-5)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: type(schedule).__name__)
def test_an_optimizer_follows_it_and_its_config_comes_back(schedule):
    optimizer = keras.optimizers.SGD(schedule)
    copy = keras.optimizers.SGD.from_config(optimizer.get_config())
    for sgd in (optimizer, copy):
        weight = keras.Variable([0.0])
        for step in range(5):
            before = float(weight[0])
            sgd.apply([np.ones(1, "float32")], [weight])
            assert before - float(weight[0]) == pytest.approx(float(schedule(step)), rel=1e-4, abs=1e-7)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LinearSchedule(0, 5), "`peak_learning_rate` must be a positive number. Received: "),
        (lambda: LinearSchedule(1, 5, 5), "`warmup_steps` must be below `total_steps`. Received: 5 of 5 steps"),
        (lambda: LinearSchedule(1, 5, 2, 2), "`final_learning_rate` must be in 0 to .* Received: final_learning_rate"),
        (lambda: OneCycleSchedule(1, 0), "`total_steps` must be a positive integer. Received: total_steps=0"),
        (lambda: OneCycleSchedule(1, 5, 1.0), "`pct_start` must be above 0 and below 1. Received: pct_start=1.0"),
        (lambda: OneCycleSchedule(1, 5, anneal="cosine"), "`anneal` must be one of .* Received: anneal='cosine'"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
