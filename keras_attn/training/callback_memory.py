"""What callbacks remember of a training, as arrays that a checkpoint holds."""

import keras
import numpy as np

from keras_attn.training.text_evaluation import TextEvaluation

_EPOCHS, _HISTORY = "epochs", "history/"
_HAVE_MEMORY = (
    keras.callbacks.EarlyStopping,
    keras.callbacks.ModelCheckpoint,
    keras.callbacks.ReduceLROnPlateau,
    TextEvaluation,
)


class CallbackMemory:
    """The history, and what callbacks know that put figures into it or watch one: the best so far, and the like.

    They keep it in public attributes, numbers, lists of weights and dicts of figures: those that are others than when
    training began.

    Args:
        callbacks: `keras.callbacks.Callback`s, after their `on_train_begin`.
        history: `keras.callbacks.History`.
    """

    def __init__(self, callbacks, history):
        self._history, self._callbacks = history, {}
        for callback in callbacks:
            if isinstance(callback, _HAVE_MEMORY):
                name = f"callbacks/{type(callback).__name__}/{getattr(callback, 'monitor', '')}"
                # Not by their order: of several workers, one has those that write files.
                same = sum(known.startswith(f"{name}/") for known in self._callbacks)
                self._callbacks[f"{name}/{same}"] = callback
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
        for name, callback in self._callbacks.items():
            found = {key.removeprefix(f"{name}/"): x for key, x in state.items() if key.startswith(f"{name}/")}
            for attribute in dict.fromkeys(key.split("/")[0] for key in found):
                parts = {k.removeprefix(f"{attribute}/"): x for k, x in found.items() if k.startswith(f"{attribute}/")}
                if isinstance(getattr(callback, attribute, None), dict):
                    value = {key: x.item() for key, x in parts.items()}
                else:
                    value = list(parts.values()) or found[attribute].item()
                setattr(callback, attribute, value)
        if _EPOCHS in state:
            self._history.epoch = state[_EPOCHS].tolist()
            logs = {name: values.tolist() for name, values in state.items() if name.startswith(_HISTORY)}
            self._history.history = {name.removeprefix(_HISTORY): values for name, values in logs.items()}

    @property
    def has_stopped(self):
        """Whether an `EarlyStopping` remembers that it ended the training."""
        return any(getattr(callback, "stopped_epoch", 0) for callback in self._callbacks.values())

    def _now(self):
        state = {}
        for name, callback in self._callbacks.items():
            for attribute, value in vars(callback).items():
                if attribute.startswith("_"):
                    continue
                if isinstance(value, (bool, int, float, np.generic)):
                    state[f"{name}/{attribute}"] = np.asarray(value)
                elif isinstance(value, list) and all(isinstance(x, np.ndarray) for x in value):
                    state |= {f"{name}/{attribute}/{i:04d}": x for i, x in enumerate(value)}
                elif isinstance(value, dict) and all(isinstance(x, float) for x in value.values()):
                    state |= {f"{name}/{attribute}/{key}": np.asarray(x) for key, x in value.items()}
        return state
