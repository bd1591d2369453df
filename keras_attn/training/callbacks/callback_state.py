"""The state of callbacks as arrays in a checkpoint."""

import math
import warnings

import numpy as np

from keras_attn import compat

_EPOCHS, _HISTORY, _DIRECTION = "epochs", "history/", "direction"


class CallbackState:
    """The history, and the state of callbacks that log metrics, monitor one, or swap weights.

    Args:
        callbacks: The `keras.callbacks.Callback`s, after their `on_train_begin`.
        history: The `keras.callbacks.History`.
    """

    def __init__(self, callbacks, history):
        self._history, self._callbacks, self._bests = history, {}, {}
        for callback in callbacks:
            # Values are numbers, lists of weights, or dicts of metrics.
            attributes = getattr(callback, "checkpointed", ()) or compat.callback_state(callback)
            if attributes:
                name = f"callbacks/{type(callback).__name__}/{getattr(callback, 'monitor', '')}"
                # Not by index in the list: only one of several workers has the callbacks that write files.
                same = sum(known.startswith(f"{name}/") for known in self._callbacks)
                self._callbacks[f"{name}/{same}"] = callback, attributes

    def state(self):
        """The state as a dict of arrays."""
        state = {f"{_HISTORY}{name}": np.asarray(values) for name, values in self._history.history.items()}
        state[_EPOCHS] = np.asarray(self._history.epoch, "int64")
        for name, (callback, attributes) in self._callbacks.items():
            for attribute in attributes:
                value, key = getattr(callback, attribute, None), f"{name}/{attribute}"
                if isinstance(value, dict):
                    state |= {f"{key}/{part}": np.asarray(x) for part, x in value.items()}
                elif isinstance(value, list):
                    state |= {f"{key}/{i:04d}": x for i, x in enumerate(value)}
                elif value is not None:
                    state[key] = np.asarray(value)
            if getattr(callback, "monitor_op", None) is not None:
                state[f"{name}/{_DIRECTION}"] = np.asarray(callback.monitor_op.__name__)
        return state

    def keep_finite(self):
        """Reverts a `best` that is NaN or infinite, with its epoch and weights: no later value could improve on it.

        Without an earlier finite value, `best` becomes the worst one: a finite value improves on it, and NaN does not.
        """
        for name, (callback, attributes) in self._callbacks.items():
            best = _best(callback)
            if best is None:
                continue
            if math.isfinite(best):
                bests = [x for x in attributes if x.startswith("best") and hasattr(callback, x)]
                self._bests[name] = {attribute: getattr(callback, attribute) for attribute in bests}
                continue
            _set_direction(callback)
            worst = math.inf if callback.monitor_op.__name__ == "less" else -math.inf
            for attribute, value in self._bests.get(name, {"best": worst}).items():
                setattr(callback, attribute, value)

    def restore(self, state):
        """Restores the result of `state`. Entries of other callbacks are ignored."""
        for name, (callback, attributes) in self._callbacks.items():
            if self._is_reversed(name, callback, state):
                continue
            for attribute in attributes:
                key = f"{name}/{attribute}"
                parts = {k.removeprefix(f"{key}/"): x for k, x in state.items() if k.startswith(f"{key}/")}
                if key in state:
                    setattr(callback, attribute, state[key].item())
                elif isinstance(getattr(callback, attribute, None), dict):
                    setattr(callback, attribute, {part: x.item() for part, x in parts.items()})
                elif parts:
                    setattr(callback, attribute, list(parts.values()))
            if _best(callback) is not None:
                _set_direction(callback)
        self.keep_finite()
        if _EPOCHS in state:
            self._history.epoch = state[_EPOCHS].tolist()
            logs = {name: values.tolist() for name, values in state.items() if name.startswith(_HISTORY)}
            self._history.history = {name.removeprefix(_HISTORY): values for name, values in logs.items()}

    @staticmethod
    def _is_reversed(name, callback, state):
        """Whether a callback now minimises the metric that it maximised, or the reverse. It then starts afresh."""
        if (key := f"{name}/{_DIRECTION}") not in state:
            return False
        _set_direction(callback)
        then, now = state[key].item(), callback.monitor_op.__name__
        if then != now:
            warnings.warn(
                f"{type(callback).__name__} starts afresh: {callback.monitor!r} is now compared by `{now}` instead of "
                f"`{then}`",
                stacklevel=4,
            )
        return then != now

    @property
    def has_stopped(self):
        """Whether an `EarlyStopping` has stopped the training run."""
        return any(getattr(callback, "stopped_epoch", 0) for callback, _ in self._callbacks.values())


def _best(callback):
    return getattr(callback, "best", None)


def _set_direction(callback):
    if callback.monitor_op is None:
        compat.set_monitor_op(callback)
