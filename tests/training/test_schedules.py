import keras
import numpy as np
import pytest

from keras_attn.training import FlooredSchedule, LinearSchedule, OneCycleSchedule, RNMTPlusDecay, RsqrtDecay

SCHEDULES = [
    LinearSchedule(0.5, 37, 11, 0.01),
    OneCycleSchedule(0.5, 37, 0.25, "linear", 5.0, 100.0),
    RsqrtDecay(0.3, 2),
    RNMTPlusDecay(0.1, 3, 1, 2, 9),
    FlooredSchedule(LinearSchedule(0.5, 5, 2), 0.1),
]


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


@pytest.mark.parametrize("warmup_steps", [1, 40])
def test_rsqrt_formula(warmup_steps):
    schedule = RsqrtDecay(0.7, warmup_steps)
    for step in (0, 1, 39, 40, 41, 10**6):
        assert float(schedule(step)) == pytest.approx(0.7 / max(step, warmup_steps) ** 0.5, rel=1e-5)


@pytest.mark.parametrize(("count", "p", "s", "e"), [(1, 5, 20, 30), (4, 5, 200, 400), (16, 500, 600_000, 1_200_000)])
def test_rnmt_plus_formula(count, p, s, e):
    schedule = RNMTPlusDecay(0.2, count, p, s, e)
    for step in (0, 1, p, count * p, s // count, (s + e) // (2 * count), e // count, e):
        fall = count * (2 * count) ** ((s - count * step) / (e - s))
        expected = 0.2 * min(1 + step * (count - 1) / (count * p), count, fall)
        assert float(schedule(step)) == pytest.approx(expected, rel=1e-4, abs=1e-9)
    assert float(schedule(0)) == pytest.approx(0.2)
    assert float(schedule(e // count)) == pytest.approx(0.1, rel=1e-3)


def test_a_floor_under_any_schedule():
    cosine = keras.optimizers.schedules.CosineDecay(0.3, 20)
    rates = [float(FlooredSchedule(cosine, 0.05)(step)) for step in range(30)]
    np.testing.assert_allclose(rates, [max(float(cosine(step)), 0.05) for step in range(30)], rtol=1e-6)
    assert min(rates) == pytest.approx(0.05)


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
        (
            lambda: LinearSchedule(1, 5, 2, 2),
            "`final_learning_rate` must be between 0 and .* Received: final_learning_rate",
        ),
        (lambda: OneCycleSchedule(1, 0), "`total_steps` must be a positive integer. Received: total_steps=0"),
        (lambda: OneCycleSchedule(1, 5, 1.0), "`pct_start` must be above 0 and below 1. Received: pct_start=1.0"),
        (lambda: RsqrtDecay(1.0, 0), "`warmup_steps` must be a positive integer. Received: warmup_steps=0"),
        (lambda: RNMTPlusDecay(1.0, 2, start_step=9, end_step=9), "`start_step` must be below `end_step`, 9. Received"),
        (lambda: FlooredSchedule(0.1, 0.1), "`schedule` must be a keras.* Received: schedule=0.1"),
        (lambda: FlooredSchedule(RsqrtDecay(1.0, 5), 0), "`minimum_learning_rate` must be a positive number. Rec"),
        (lambda: OneCycleSchedule(1, 5, anneal="cosine"), "`anneal` must be one of .* Received: anneal='cosine'"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
