"""Loss and metrics over the batches so far."""

import math

import numpy as np

_FIRST, _CLOSED, _UPDATE = "running/first", "running/closed", "running/update/"


class RunningFigures:
    """Sums over the batches since the start of an epoch, or of an evaluation.

    Args:
        metrics: a `MetricSet`.
        first: number of the epoch's first step.
    """

    def __init__(self, metrics, first=0):
        self._metrics, self._first = metrics, first
        self._states = [[np.asarray(x) for x in metric.stateless_reset_state()] for metric in metrics]
        self.total = self.weight = 0.0
        self.update = {}

    def add(self, total, weight, changes):
        """Adds a batch: the sum of its losses and of its weights, and what it adds to the metrics' variables."""
        self.total, self.weight = self.total + float(total), self.weight + float(weight)
        changes = iter(changes)
        self._states = [[x + np.asarray(next(changes), x.dtype) for x in state] for state in self._states]

    def logs(self):
        """Dict of floats, `update`, the figures of the last update, among them."""
        logs = {"loss": self.total / self.weight if self.weight else 0.0}
        for name, metric, state in zip(self._metrics.names, self._metrics, self._states, strict=True):
            # Some give their one number as a vector.
            logs[name] = float(np.asarray(metric.stateless_result(state)).item())
        return logs | self.update

    def state(self, closed=False):
        """Dict of arrays by name; `closed` says whether the epoch had its end."""
        sums = [self.total, self.weight, *(x for state in self._states for x in state)]
        state = {f"running/{i}": np.asarray(x) for i, x in enumerate(sums)}
        state |= {f"{_UPDATE}{name}": np.asarray(value) for name, value in self.update.items()}
        return {_FIRST: np.asarray(self._first), _CLOSED: np.asarray(closed), **state}

    def restore(self, state):
        """Goes on from what `state` returned, if that was in the same epoch and of as many metrics."""
        names = [name for name in self.state() if name not in (_FIRST, _CLOSED)]
        if int(state.get(_FIRST, -1)) == self._first and state.keys() >= set(names):
            total, weight, *sums = (state[name] for name in names)
            self.total, self.weight, sums = float(total), float(weight), iter(sums)
            self._states = [[next(sums) for _ in known] for known in self._states]
            self.update = {k.removeprefix(_UPDATE): float(v) for k, v in state.items() if k.startswith(_UPDATE)}


def without_sums(state):
    """`state` without what `RunningFigures.state` returned, as its sums are of another loss or of other metrics."""
    return {k: v for k, v in state.items() if not k.startswith("running/")}


def open_epoch(state, step, steps, freq):
    """The epoch of `freq` steps to go on with at `step` of `steps`; one behind the last where nothing is left to do.

    An epoch may have had its last step, but not its validation; or its validation, and go on, as it was the last.
    """
    first, closed = int(state.get(_FIRST, step)), bool(state.get(_CLOSED, True))
    if closed and step >= steps:
        return math.ceil(steps / freq)
    is_open = first % freq == 0 and (step < first + freq or (step == first + freq and not closed))
    return (first if is_open else step) // freq
