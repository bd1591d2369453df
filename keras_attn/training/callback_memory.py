"""What callbacks remember of a training, as arrays that a checkpoint holds."""

import keras
import numpy as np

_WATCHERS = (keras.callbacks.EarlyStopping, keras.callbacks.ModelCheckpoint, keras.callbacks.ReduceLROnPlateau)


class CallbackMemory:
    """The best figure so far, the epochs without a better one, and the like, of the callbacks of Keras that watch one.

    They keep it in public attributes, numbers and lists of weights: those that are others than when training began.

    Args:
        callbacks: `keras.callbacks.Callback`s, after their `on_train_begin`.
    """

    def __init__(self, callbacks):
        self._watchers = {}
        for callback in callbacks:
            if isinstance(callback, _WATCHERS):
                name = f"callbacks/{type(callback).__name__}/{callback.monitor}"
                # Not by their order: of several workers, one has those that write files.
                same = sum(known.startswith(f"{name}/") for known in self._watchers)
                self._watchers[f"{name}/{same}"] = callback
        self._at_first = self._now()

    def state(self):
        """Dict of arrays by name."""
        return {
            name: value
            for name, value in self._now().items()
            if name not in self._at_first or not np.array_equal(value, self._at_first[name])
        }

    def restore(self, state):
        """Gives the callbacks back what `state` returned; what is of other callbacks is left alone."""
        for name, callback in self._watchers.items():
            found = {key.removeprefix(f"{name}/"): x for key, x in state.items() if key.startswith(f"{name}/")}
            for attribute in dict.fromkeys(key.split("/")[0] for key in found):
                weights = [x for key, x in found.items() if key.startswith(f"{attribute}/")]
                setattr(callback, attribute, weights or found[attribute].item())

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
