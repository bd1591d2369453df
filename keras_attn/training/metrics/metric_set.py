"""The metrics of `keras.Model.compile`, with the same meaning."""

import math
import re

import keras

from keras_attn import compat
from keras_attn.training.losses.entries import aligned, label_kind

_LATE = (
    "`metrics` must have their variables, which some create at the first update: call `update_state` with an "
    "example, then `reset_state`. Received: {}"
)


class MetricSet:
    """Unweighted and weighted metrics, and the names under which Keras logs them.

    All metrics see the Keras mask of the outputs.

    Args:
        metrics: `keras.metrics.Metric`s, functions `(y_true, y_pred)`, or names, without sample weights.
        weighted_metrics: The same, with sample weights.
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
        """Creates the variables of metrics that create them at the first update, such as `R2Score` and `F1Score`.

        Args:
            outputs: The model's symbolic output, or None. Labels are assumed to have its shape.

        Raises:
            ValueError: If the variables of a metric cannot be created with such labels, or its result is not a scalar.
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
                "`metrics` must return one number; set `average` or `class_aggregation`. "
                f"Received: {metric.name!r}, which returns {size}"
            )

    def changes(self, batch, outputs):
        """The increments of each metric's variables for a batch, float32; `batch` as in `batch_total`."""
        _, labels, weights, present = batch
        # Rows that only even out the shards are not counted.
        present = None if present is None else aligned(present, len(labels.shape))
        weights = present if weights is None else weights
        mask = compat.keras_mask(outputs)
        if weights is not None and mask is not None:
            # Keras multiplies weights and mask without aligning them.
            weights = aligned(weights, len(mask.shape))
        changes = []
        for i, metric in enumerate(self):
            before = [keras.ops.convert_to_tensor(x) for x in metric.stateless_reset_state()]
            seen = weights if i >= len(self.plain) else present
            if seen is not None and isinstance(metric, keras.metrics.FBetaScore):
                # It takes one weight per row, and adds the axis itself.
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
            f"`{argument}` must be a list of keras.metrics.Metric, functions (y_true, y_pred) or their names. "
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
