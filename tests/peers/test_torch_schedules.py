import numpy as np
import pytest

from keras_attn.training import LinearSchedule, OneCycleSchedule, RsqrtDecay

torch = pytest.importorskip("torch", reason="needs torch==2.13.0: make peers")


def rates_of(make, steps):
    """What a torch scheduler has an optimizer use at each step."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    scheduler, rates = make(optimizer), []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def check(schedule, rates):
    np.testing.assert_allclose([float(schedule(step)) for step in range(len(rates))], rates, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("anneal", ["cos", "linear"])
@pytest.mark.parametrize(("total_steps", "pct_start"), [(31, 0.3), (13, 0.1), (47, 0.9), (5, 0.1)])
def test_one_cycle(total_steps, pct_start, anneal):
    factors = {"div_factor": 7.0, "final_div_factor": 50.0}
    schedule = OneCycleSchedule(0.3, total_steps, pct_start, anneal, **factors)

    def make(optimizer):
        return torch.optim.lr_scheduler.OneCycleLR(
            optimizer, 0.3, total_steps, pct_start=pct_start, anneal_strategy=anneal, **factors
        )

    check(schedule, rates_of(make, total_steps - 1))


@pytest.mark.parametrize("warmup_steps", [0, 7])
def test_linear_with_warm_up(warmup_steps):
    transformers = pytest.importorskip("transformers", reason="needs transformers: make peers")

    def make(optimizer):
        return transformers.get_linear_schedule_with_warmup(optimizer, warmup_steps, 29)

    check(LinearSchedule(0.3, 29, warmup_steps), rates_of(make, 40))


def test_inverse_square_root():
    """Its warm-up rises; from then on both are the same."""
    transformers = pytest.importorskip("transformers", reason="needs transformers: make peers")

    def make(optimizer):
        return transformers.get_inverse_sqrt_schedule(optimizer, num_warmup_steps=7)

    schedule, rates = RsqrtDecay(0.3 * 7**0.5, 7), rates_of(make, 60)
    np.testing.assert_allclose([float(schedule(step)) for step in range(7, 60)], rates[7:], rtol=1e-5)
