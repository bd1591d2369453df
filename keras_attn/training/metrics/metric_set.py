"""The metrics that `keras.Model.compile` takes, with the meaning that they have there."""

import math
import re

import keras

from keras_attn import compat
from keras_attn.training.losses.entries import aligned, label_kind

_LATE = (
    "`metrics` must have their variables, which some make when they are first updated: call `update_state` with an "
    "example, and `reset_state`. Received: {}"
)


class MetricSet:
    """Metrics, of which some see sample weights and some do not, and the names under which Keras logs them.

    All see the Keras mask of the outputs.

    Args:
        metrics: `keras.metrics.Metric`s, functions of labels and outputs, or names, that count all rows alike.
        weighted_metrics: the same, that see the sample weights.
    """

    def __init__(self, metrics=(), weighted_metrics=()):
        self.plain = _as_metrics("metrics", metrics)
        self.weighted = _as_metrics("weighted_metrics", weighted_metrics)
        self.names = []
        for i, metric in enumerate(self):
            name = metric.name
            if name in self.names and i >= len(self.plain):
                name = f"weighted_{name}"
            number, first = 0, name
            while name in self.names:
                number += 1
                name = f"{first}_{number}"
            self.names.append(name)

    def __iter__(self):
        return iter([*self.plain, *self.weighted])

    def __len__(self):
        return len(self.plain) + len(self.weighted)

    def build(self, outputs):
        """Makes the variables that some metrics make when they are first updated, as `R2Score` and `F1Score` do.

        Args:
            outputs: the model's symbolic output, or None. Such metrics take labels of the same shape.

        Raises:
            ValueError: a metric has no variables without labels of another kind, or its result is several numbers.
        """
        for metric in self:
            if not compat.is_built(metric):
                self._update_once(metric, outputs)
            if not metric.variables:
                raise ValueError(_LATE.format(f"{metric.name!r} without any"))

    @staticmethod
    def _update_once(metric, outputs):
        shape = (None,) if outputs is None else outputs.shape
        if None in shape[1:] or outputs is None:
            raise ValueError(_LATE.format(f"{metric.name!r}, for a model whose outputs have no known shape"))
        zeros = keras.ops.zeros((1, *shape[1:]), outputs.dtype)
        try:
            metric.update_state(zeros, zeros)
        except ValueError as error:
            raise ValueError(
                _LATE.format(f"{metric.name!r}, which does not fit the model's outputs. {error}")
            ) from error
        size = math.prod(metric.result().shape)
        metric.reset_state()
        if size != 1:
            raise ValueError(
                "`metrics` must give one number, as those with an `average` or a `class_aggregation` do. "
                f"Received: {metric.name!r}, which gives {size}"
            )

    def changes(self, batch, outputs):
        """What a batch adds to the variables of each metric, float32; `batch` as in `batch_total`."""
        _, labels, weights, present = batch
        # Rows that only make parts even count for no metric.
        present = None if present is None else aligned(present, len(labels.shape))
        weights = present if weights is None else weights
        mask = compat.keras_mask(outputs)
        if weights is not None and mask is not None:
            # Keras multiplies the two as they are.
            weights = aligned(weights, len(mask.shape))
        changes = []
        for i, metric in enumerate(self):
            before = [keras.ops.convert_to_tensor(x) for x in metric.stateless_reset_state()]
            seen = weights if i >= len(self.plain) else present
            if seen is not None and isinstance(metric, keras.metrics.FBetaScore):
                # It takes weights of rows alone, and adds the axis itself.
                seen = aligned(seen, 1)
            after = metric.stateless_update_state(before, labels, outputs, sample_weight=seen)
            changes += [
                keras.ops.cast(x, "float32") - keras.ops.cast(y, "float32") for x, y in zip(after, before, strict=True)
            ]
        return changes


def _as_metrics(argument, metrics):
    return [_as_metric(argument, x) for x in keras.tree.flatten(() if metrics is None else metrics)]


def _as_metric(argument, metric):
    if isinstance(metric, keras.metrics.Metric):
        return metric
    if isinstance(metric, str) and metric.lower() in ("accuracy", "acc"):
        return keras.metrics.MeanMetricWrapper(_accuracy, name=metric)
    try:
        found = keras.metrics.get(metric)
    except ValueError:
        found = None
    if not callable(found):
        raise ValueError(
            f"`{argument}` must hold keras.metrics.Metric, functions (y_true, y_pred) or names of such. "
            f"Received: {metric!r} in it"
        )
    if not isinstance(found, keras.metrics.Metric):
        found = keras.metrics.MeanMetricWrapper(found, name=_snake_case(getattr(found, "__name__", "metric")))
    if isinstance(metric, str):
        found.name = metric
    return found


def _accuracy(y_true, y_pred):
    return getattr(keras.metrics, f"{label_kind(y_true, y_pred)}_accuracy")(y_true, y_pred)


def _snake_case(name):
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", re.sub(r"\W", "", name)).lower()
