"""What callbacks remember of a training, as arrays that a checkpoint holds."""

import keras
import numpy as np

from keras_attn.training.text_evaluation import TextEvaluation

_EPOCHS, _HISTORY = "epochs", "history/"
# Attributes that change while a callback works: numbers, lists of weights, and dicts of figures.
_REMEMBERED = {
    keras.callbacks.EarlyStopping: ("best", "best_epoch", "best_weights", "wait", "stopped_epoch"),
    keras.callbacks.ModelCheckpoint: ("best", "_batches_seen_since_last_saving", "_last_batch_seen"),
    keras.callbacks.ReduceLROnPlateau: ("best", "wait", "cooldown_counter"),
    keras.callbacks.SwapEMAWeights: ("_ema_weights_in_model",),
    TextEvaluation: ("figures",),
}


class CallbackMemory:
    """The history, and what those callbacks know that put figures into it, watch one, or move weights.

    Args:
        callbacks: `keras.callbacks.Callback`s, after their `on_train_begin`.
        history: `keras.callbacks.History`.
    """

    def __init__(self, callbacks, history):
        self._history, self._callbacks = history, {}
        for callback in callbacks:
            attributes = next((names for kind, names in _REMEMBERED.items() if isinstance(callback, kind)), None)
            if attributes:
                name = f"callbacks/{type(callback).__name__}/{getattr(callback, 'monitor', '')}"
                # Not by their order: of several workers, one has those that write files.
                same = sum(known.startswith(f"{name}/") for known in self._callbacks)
                self._callbacks[f"{name}/{same}"] = callback, attributes

    def state(self):
        """Dict of arrays by name."""
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
        return state

    def restore(self, state):
        """Gives the callbacks back what `state` returned; what is of other callbacks is left alone."""
        for name, (callback, attributes) in self._callbacks.items():
            for attribute in attributes:
                key = f"{name}/{attribute}"
                parts = {k.removeprefix(f"{key}/"): x for k, x in state.items() if k.startswith(f"{key}/")}
                if key in state:
                    setattr(callback, attribute, state[key].item())
                elif isinstance(getattr(callback, attribute, None), dict):
                    setattr(callback, attribute, {part: x.item() for part, x in parts.items()})
                elif parts:
                    setattr(callback, attribute, list(parts.values()))
            if getattr(callback, "best", None) is not None and callback.monitor_op is None:
                # Keras does so at the end of an epoch, and may compare with the best before.
                callback._set_monitor_op()
        if _EPOCHS in state:
            self._history.epoch = state[_EPOCHS].tolist()
            logs = {name: values.tolist() for name, values in state.items() if name.startswith(_HISTORY)}
            self._history.history = {name.removeprefix(_HISTORY): values for name, values in logs.items()}

    @property
    def has_stopped(self):
        """Whether an `EarlyStopping` remembers that it ended the training."""
        return any(getattr(callback, "stopped_epoch", 0) for callback, _ in self._callbacks.values())
