"""What callbacks remember of a training, as arrays that a checkpoint holds."""

import keras
import numpy as np

_EPOCHS, _HISTORY = "epochs", "history/"
_WATCHERS = (keras.callbacks.EarlyStopping, keras.callbacks.ModelCheckpoint, keras.callbacks.ReduceLROnPlateau)


class CallbackMemory:
    """The history, and what the callbacks of Keras that watch a figure know of it: the best one so far, and the like.

    They keep it in public attributes, numbers and lists of weights: those that are others than when training began.

    Args:
        callbacks: `keras.callbacks.Callback`s, after their `on_train_begin`.
        history: `keras.callbacks.History`.
    """

    def __init__(self, callbacks, history):
        self._history, self._watchers = history, {}
        for callback in callbacks:
            if isinstance(callback, _WATCHERS):
                name = f"callbacks/{type(callback).__name__}/{callback.monitor}"
                # Not by their order: of several workers, one has those that write files.
                same = sum(known.startswith(f"{name}/") for known in self._watchers)
                self._watchers[f"{name}/{same}"] = callback
        self._at_first = self._now()

    def state(self):
        """Dict of arrays by name."""
        changed = {
            name: value
            for name, value in self._now().items()
            if name not in self._at_first or not np.array_equal(value, self._at_first[name])
        }
        logs = {f"{_HISTORY}{name}": np.asarray(values) for name, values in self._history.history.items()}
        return {**changed, **logs, _EPOCHS: np.asarray(self._history.epoch, "int64")}

    def restore(self, state):
        """Gives the callbacks back what `state` returned; what is of other callbacks is left alone."""
        for name, callback in self._watchers.items():
            found = {key.removeprefix(f"{name}/"): x for key, x in state.items() if key.startswith(f"{name}/")}
            for attribute in dict.fromkeys(key.split("/")[0] for key in found):
                weights = [x for key, x in found.items() if key.startswith(f"{attribute}/")]
                setattr(callback, attribute, weights or found[attribute].item())
        if _EPOCHS in state:
            self._history.epoch = state[_EPOCHS].tolist()
            logs = {name: values.tolist() for name, values in state.items() if name.startswith(_HISTORY)}
            self._history.history = {name.removeprefix(_HISTORY): values for name, values in logs.items()}

    def _now(self):
        state = {}
        for name, callback in self._watchers.items():
            for attribute, value in vars(callback).items():
                if attribute.startswith("_"):
                    continue
                if isinstance(value, (bool, int, float, np.generic)):
                    state[f"{name}/{attribute}"] = np.asarray(value)
                elif isinstance(value, list) and all(isinstance(x, np.ndarray) for x in value):
                    state |= {f"{name}/{attribute}/{i:04d}": np.asarray(x) for i, x in enumerate(value)}
        return state
