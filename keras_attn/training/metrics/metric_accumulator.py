"""Running loss and metrics."""

import math

import numpy as np

_FIRST, _CLOSED, _UPDATE = "running/first", "running/closed", "running/update/"


class MetricAccumulator:
    """Accumulates loss and metrics over an epoch or an evaluation.

    Args:
        metrics: The `MetricSet`.
        first: Number of the first step of the epoch.
    """

    def __init__(self, metrics, first=0):
        self._metrics, self._first = metrics, first
        self._states = [[np.asarray(x) for x in metric.stateless_reset_state()] for metric in metrics]
        self.total = self.weight = 0.0
        self.update = {}

    def add(self, total, weight, changes):
        """Adds a batch: the sums of its losses and weights, and the increments of the metrics' variables."""
        self.total, self.weight = self.total + float(total), self.weight + float(weight)
        changes = iter(changes)
        self._states = [[x + np.asarray(next(changes), x.dtype) for x in state] for state in self._states]

    def logs(self):
        """Dict of floats, including `update`, the metrics of the last step."""
        logs = {"loss": self.total / self.weight if self.weight else 0.0}
        for name, metric, state in zip(self._metrics.names, self._metrics, self._states, strict=True):
            # Some metrics return a vector of size 1.
            logs[name] = float(np.asarray(metric.stateless_result(state)).item())
        return logs | self.update

    def state(self, closed=False):
        """The state as a dict of arrays. `closed` tells whether the epoch has ended."""
        sums = [self.total, self.weight, *(x for state in self._states for x in state)]
        state = {f"running/{i}": np.asarray(x) for i, x in enumerate(sums)}
        state |= {f"{_UPDATE}{name}": np.asarray(value) for name, value in self.update.items()}
        return {_FIRST: np.asarray(self._first), _CLOSED: np.asarray(closed), **state}

    def restore(self, state):
        """Restores the result of `state`, if it is from the same epoch and from as many metrics."""
        names = [name for name in self.state() if name not in (_FIRST, _CLOSED)]
        if int(state.get(_FIRST, -1)) == self._first and state.keys() >= set(names):
            total, weight, *sums = (state[name] for name in names)
            self.total, self.weight, sums = float(total), float(weight), iter(sums)
            self._states = [[next(sums) for _ in known] for known in self._states]
            self.update = {k.removeprefix(_UPDATE): float(v) for k, v in state.items() if k.startswith(_UPDATE)}


def without_sums(state):
    """`state` without the entries of `MetricAccumulator.state`, for a run whose loss or metrics have changed."""
    return {k: v for k, v in state.items() if not k.startswith("running/")}


def open_epoch(state, step, steps, freq):
    """The epoch of `freq` steps to resume at `step` of `steps`, or the number of epochs if nothing is left to do.

    A checkpoint may be from after the last step of an epoch, but before its validation. An epoch that was shorter
    because it was the last may resume after its validation.
    """
    first, closed = int(state.get(_FIRST, step)), bool(state.get(_CLOSED, True))
    if closed and step >= steps:
        return math.ceil(steps / freq)
    is_open = first % freq == 0 and (step < first + freq or (step == first + freq and not closed))
    return (first if is_open else step) // freq
