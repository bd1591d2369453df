"""Training that gives the same weights on one device, on several, and on several machines."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from keras_attn.argument_checks import check_positive
from keras_attn.labels import check_agreement, labels_of
from keras_attn.training import trainer_checks
from keras_attn.training.callbacks.callback_state import CallbackState
from keras_attn.training.callbacks.sigterm import TERMINATED, TerminationError, ends_evaluation, interruptible, sigterm
from keras_attn.training.checkpoints import run_settings
from keras_attn.training.checkpoints.checkpoints import Checkpoints, named
from keras_attn.training.checkpoints.place import Place
from keras_attn.training.checkpoints.resumption import resumed
from keras_attn.training.data import batch_sharding
from keras_attn.training.data.batches import Batches
from keras_attn.training.losses.compiled_loss import as_loss, sums_up
from keras_attn.training.losses.compute_loss import ComputeLoss
from keras_attn.training.losses.id_checks import check_ignored
from keras_attn.training.metrics.metric_accumulator import MetricAccumulator, open_epoch
from keras_attn.training.metrics.metric_set import MetricSet
from keras_attn.training.refused_step import check_updated, explained
from keras_attn.training.train_step import TrainStep
from keras_attn.typing import Metric

if TYPE_CHECKING:
    import tensorflow as tf


# Their files are the same on every worker, and often in a folder that all of them see.
_WRITERS = (keras.callbacks.CSVLogger, keras.callbacks.ModelCheckpoint, keras.callbacks.TensorBoard)

# A second: a process that only reads checkpoints holds the lock for a moment.
_TRIES = 50

# Each worker gives one, and all see the sum.
_GOING, _STOP, _ENDED = 0, 1, 1 << 12


class Trainer:
    """One loop for one device, `MirroredStrategy` and `MultiWorkerMirroredStrategy`.

    A step minimises the mean loss of all tokens of the global batch, on whichever replica and in whichever micro-batch
    they are: `sum_i w_i l_i / sum_i w_i` for the losses of this package. Gradients are added up over replicas first,
    then divided, then clipped as the optimizer says. Dropout differs from replica to replica, and depends on nothing
    but the model's random states and the step, so a training that was interrupted ends with the weights of one that was
    not.

    Losses, metrics, labels and sample weights mean what they mean to `keras.Model.compile` and `fit`. So a loss of
    Keras is divided by the number of entries, whatever their weights, unless its reduction is
    "mean_with_sample_weight" or "sum"; and what the Keras mask of the outputs hides does not count. Weights `(B,)`
    count for rows, also if a loss has more axes.

    Args:
        model: a built `keras.Model` of one output, made in the scope of `strategy`.
        optimizer: `keras.optimizers.Optimizer`, made in that scope. Under the policy `mixed_float16` it is wrapped in a
            `LossScaleOptimizer`, which skips a step where any replica's gradient overflowed.
        loss: `keras.losses.Loss`, a function of labels and outputs, or the name of one. With `compute_loss`, None, or
            the loss that it uses: the trainer then tells it the label of padding and checks the labels.
        metrics: `keras.metrics.Metric`s, functions or names. Variables of a metric add up over batches. If it makes
            them in its first update, it takes labels of the shape of the outputs, and gives one number. Metrics do not
            see sample weights, as in `compile`. Given any, the loss needs all logits at once.
        strategy: `tf.distribute.Strategy`; the current one where None.
        weighted_metrics: the same, that see sample weights: by these, data sets say which rows and tokens are padding.
        accumulation_steps: global batches whose gradients make one update.
        compute_loss: optional `ComputeLoss`, a function `(model, inputs, labels, sample_weight, training)` that returns
            `(total, weight)` or `(total, weight, outputs)` in the place of the forward pass and the loss: for teachers,
            several passes or auxiliary losses. `model` may then have several outputs.
        jit_compile: whether XLA compiles forward and backward, once for each shape of a batch.
        checkpoints: optional `Checkpoints`. `fit` goes on from the latest, and saves to it; on SIGTERM too. Settings
            that differ from those of the checkpoint are named, see `Checkpoints`.

    Raises:
        ValueError: an argument is not as described.

    Example:

    >>> import keras, numpy as np
    >>> import tensorflow as tf
    >>> from keras_attn.training import Trainer
    >>> inputs = keras.Input((3,))
    >>> model = keras.Model(inputs, keras.layers.Dense(1)(inputs))
    >>> data = tf.data.Dataset.from_tensor_slices((np.ones((8, 3), "float32"), np.ones((8, 1), "float32"))).batch(4)
    >>> history = Trainer(model, keras.optimizers.SGD(0.1), keras.losses.MeanSquaredError()).fit(data, steps=20)
    >>> round(history.history["loss"][-1], 1)
    0.0
    """

    def __init__(
        self,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        loss: keras.losses.Loss | Callable[..., Any] | str | None = None,
        metrics: Sequence[Metric] = (),
        strategy: tf.distribute.Strategy | None = None,
        *,
        weighted_metrics: Sequence[Metric] = (),
        accumulation_steps: int = 1,
        compute_loss: ComputeLoss | None = None,
        jit_compile: bool = False,
        checkpoints: Checkpoints | None = None,
    ) -> None:
        import tensorflow as tf

        self.strategy = strategy or tf.distribute.get_strategy()
        self.model, self.loss, self.metrics = model, as_loss(loss), MetricSet(metrics, weighted_metrics)
        self.accumulation_steps, self.jit_compile, self.checkpoints = accumulation_steps, jit_compile, checkpoints
        self.compute_loss = compute_loss
        trainer_checks.check_arguments(self, optimizer)
        # A loss within `compute_loss` may be another object than `loss`, and ignores the same labels.
        losses = self.loss, getattr(compute_loss, "loss", None)
        self.rated: list[Any] = [x for x in (*losses, *self.metrics) if x is not None]
        outputs = keras.tree.flatten(getattr(model, "outputs", None))
        self.metrics.build(outputs[0] if len(outputs) == 1 else None)
        check_ignored(model, self.rated)
        with self.strategy.scope():
            if model.dtype_policy.compute_dtype == "float16" and not hasattr(optimizer, "inner_optimizer"):
                optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
            if not optimizer.built:
                optimizer.build(model.trainable_variables)
        # Callbacks of Keras look for it there.
        model.optimizer = self.optimizer = optimizer
        self._shard = batch_sharding.shard_of(self.strategy)
        rated = self.loss, compute_loss, self.metrics
        self._step = TrainStep(model, optimizer, *rated, self.strategy, jit_compile, accumulation_steps)
        self.step, self._place, self._settings, self._labels = 0, Place(), None, None

    def fit(
        self,
        dataset: Batches,
        steps: int,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        validation_data: Batches | None = None,
        validation_freq: int | None = None,
    ) -> keras.callbacks.History:
        """Trains until `steps` updates were made, those of the checkpoint it goes on from included.

        Args:
            dataset: an object with `batches(start, shard, num_shards)`, as this package's datasets have, or a
                `tf.data.Dataset` of global batches: `(inputs, labels)` or `(inputs, labels, sample_weight)`. The same
                on every worker; each takes its rows.
            steps: number of updates.
            callbacks: `keras.callbacks.Callback`s. What stands between two validations is an epoch to them. Of
                several workers the first alone has those of Keras that write files. What `EarlyStopping`,
                `ModelCheckpoint`, `ReduceLROnPlateau`, `SwapEMAWeights` and the history remember is in the
                checkpoints: a training that stopped early has ended.
            validation_data: optional finite dataset.
            validation_freq: steps between two validations; one at the end where None.

        Returns:
            `keras.callbacks.History`, that of the whole training where it went on from a checkpoint.

        Raises:
            ValueError: the data are empty, end too early, hold no token that counts or ids that the model lacks; their
                `labels` are others, or in another order, than those of the model or of `validation_data`; the
                checkpoints are of another training, or another one writes to their folder; their `monitor` is a figure
                that nothing logs; or `BackupAndRestore` is among the callbacks.
            FloatingPointError: a step is refused, as its loss, a gradient, the learning rate or a new state of the
                model, such as a moving average, is not finite; the message names the first layer or variable at
                fault. All variables are those of the step before, and so is the latest checkpoint. Or weights have
                become infinite though all of these are finite: no checkpoint holds such.
            SystemExit: SIGTERM came to a worker; a checkpoint of the last step was written. The status is 143.
        """
        check_positive(steps=steps, validation_freq=1 if validation_freq is None else validation_freq)
        batch_sharding.check_source("dataset", dataset)
        check_agreement(model=self.model, dataset=dataset, validation_data=validation_data)
        trainer_checks.check_dataset(self, "dataset", dataset)
        if validation_data is not None:
            batch_sharding.check_source("validation_data", validation_data, endless=False)
            trainer_checks.check_dataset(self, "validation_data", validation_data)
        self._labels = labels_of(dataset)
        callbacks = keras.tree.flatten(callbacks)
        trainer_checks.check_callbacks(callbacks)
        trainer_checks.check_monitor(self, callbacks, validation_data is not None)
        writes = self.checkpoints is not None and self._is_chief
        with self.checkpoints.writing(_TRIES) if writes else contextlib.nullcontext():
            return self._fit(dataset, steps, callbacks, validation_data, validation_freq)

    def _fit(self, dataset, steps, callbacks, validation_data, validation_freq):
        freq = validation_freq or steps
        remembered = self._restore(dataset, validation_data, validation_freq)
        epochs = math.ceil(steps / freq)
        callbacks = [c for c in callbacks if self._is_chief or not isinstance(c, _WRITERS)]
        calls = keras.callbacks.CallbackList(
            callbacks, add_history=True, model=self.model, epochs=epochs, steps=freq, total_steps=steps, verbose=0
        )
        history = next(c for c in calls.callbacks if isinstance(c, keras.callbacks.History))
        self.model.stop_training = False
        # An exception may have left some behind.
        self._step.reset()
        source = batch_sharding.Source("dataset", dataset, self._place.batches, *self._shard)
        with sigterm() as stopping:
            calls.on_train_begin()
            self._memory = CallbackState(calls.callbacks, history)
            self._memory.restore(remembered)
            logs = {}
            first_epoch = epochs if self._memory.has_stopped else open_epoch(remembered, self.step, steps, freq)
            if first_epoch >= epochs:
                trainer_checks.warn_of_no_steps(self.step, steps)
            for epoch in range(first_epoch, epochs):
                calls.on_epoch_begin(epoch)
                first, until = epoch * freq, min(steps, (epoch + 1) * freq)
                running = MetricAccumulator(self.metrics, first)
                running.restore(remembered)
                logs = self._train(source, running, first, until, calls, stopping)
                memory = self._memory.state()
                try:
                    with self._step.all_or_nothing("evaluation"):
                        if validation_data is not None:
                            figures = self._evaluate("validation_data", validation_data, calls, stopping)
                            logs |= {f"val_{name}": value for name, value in figures.items()}
                        with interruptible(stopping if self.num_workers == 1 else None):
                            calls.on_epoch_end(epoch, logs)
                except TerminationError:
                    # The next run validates anew, so nothing may remember that this one has begun to.
                    self._save(running.logs(), running.state(), memory)
                    raise SystemExit(TERMINATED) from None
                self._memory.keep_finite()
                stopped = int(self._step.vote(self._flag(stopping))) > 0
                if self.step == steps or self.model.stop_training or self._is_due or stopped:
                    self._save(logs, running.state(closed=True))
                if self.model.stop_training:
                    break
                if stopped and self.step < steps:
                    raise SystemExit(TERMINATED)
            self._step.updater.finalize_variable_values(self.model.trainable_variables)
            calls.on_train_end(logs)
            if stopping.is_set():
                raise SystemExit(TERMINATED)
        return history

    def evaluate(self, dataset: Batches, callbacks: keras.callbacks.CallbackList | None = None) -> dict[str, float]:
        """The loss and the metrics over a finite dataset, exact whatever the number of replicas.

        Args:
            dataset: as that of `fit`, but finite.
            callbacks: optional `keras.callbacks.CallbackList`.

        Returns:
            Dict of floats.

        Raises:
            ValueError: the dataset is empty, holds no token that counts, or numbers classes otherwise than the model or
                the data of `fit`.
        """
        batch_sharding.check_source("dataset", dataset, endless=False)
        check_agreement(model=self.model, training_data=self._labels, dataset=dataset)
        trainer_checks.check_dataset(self, "dataset", dataset)
        with self._step.all_or_nothing("evaluation"):
            callbacks = callbacks or keras.callbacks.CallbackList([], model=self.model)
            return self._evaluate("dataset", dataset, callbacks, ends_evaluation())

    def _evaluate(self, name, dataset, callbacks, stopping=None):
        callbacks.on_test_begin()
        running = MetricAccumulator(self.metrics)
        for number, batch in enumerate(batch_sharding.finite(name, dataset, *self._shard)):
            trainer_checks.check_batch(self, name, batch)
            callbacks.on_test_batch_begin(number)
            total, weight, changes, flags = self._step.evaluate(
                batch_sharding.spread(batch, self.strategy, self._shard[0]), self._flag(stopping)
            )
            if int(flags):
                raise TerminationError
            trainer_checks.check_sums(self, name, batch, total, weight)
            running.add(total, weight, changes)
            callbacks.on_test_batch_end(number, running.logs())
        if not running.weight:
            raise ValueError(f"`{name}` must hold tokens that count. Received: none, or weights of 0 alone")
        logs = running.logs()
        callbacks.on_test_end(logs)
        return logs

    @staticmethod
    def _flag(stopping):
        """What a worker tells the others: whether it is to stop, by an event or None."""
        return np.float32(_STOP if stopping is not None and stopping.is_set() else _GOING)

    @property
    def num_workers(self) -> int:
        """How many workers train together."""
        return self._shard[1]

    @property
    def _is_due(self):
        return self.checkpoints is not None and self.step % self.checkpoints.every == 0

    @property
    def _is_chief(self):
        return self._shard[0] == 0

    def _train(self, source, running, first, until, calls, stopping):
        """Updates of the epoch from the step `first` to `until`; returns the logs."""
        alone = stopping if self.num_workers == 1 else None
        while self.step < until and not self.model.stop_training:
            start, before, rows = time.perf_counter(), running.weight, source.rows
            try:
                with interruptible(alone, evaluations=False):
                    calls.on_train_batch_begin(self.step - first)
            except TerminationError:
                self._save(running.logs(), running.state())
                raise SystemExit(TERMINATED) from None
            with self._step.all_or_nothing("update"):
                for micro in range(self.accumulation_steps - 1):
                    self._call(source, micro, stopping, running)
                flags, rate, norm = self._call(source, self.accumulation_steps - 1, stopping, running)
            self.step += 1
            self._place = self._place.after(self.accumulation_steps, source.rows - rows, source.first)
            self._step.overwrite_with_average(self.step)
            running.update = {"learning_rate": rate, "grad_norm": norm}
            seconds = time.perf_counter() - start
            # A clock may stand still, or be set back. The weight of a sum is 1, whatever it is a sum of.
            speed = (running.weight - before) / seconds if seconds > 0 else 0.0
            speed = {} if sums_up(self.loss) else {"tokens_per_second": speed}
            with interruptible(alone, evaluations=False):
                calls.on_train_batch_end(self.step - 1 - first, running.logs() | speed)
            self._memory.keep_finite()
            stopped = flags % _ENDED > 0 or (alone is not None and alone.is_set())
            if stopped or (self._is_due and self.step < until):
                self._save(running.logs(), running.state())
            if stopped:
                raise SystemExit(TERMINATED)
        check_updated(self)
        return running.logs()

    def _call(self, source, micro, stopping, running):
        """One batch: `(flags, rate, norm)`, or the flags alone where gradients are only added."""
        import tensorflow as tf

        batch, flag = next(source, None), self._flag(stopping)
        if batch is None:
            # A worker whose data ended tells the others, who would wait for it.
            flag, batch = np.float32(_ENDED), self._previous
            if batch is None:
                raise ValueError("`dataset` must hold batches. Received: an empty one")
        else:
            trainer_checks.check_batch(self, "dataset", batch)
        self._previous = batch
        function = self._step.update if micro + 1 == self.accumulation_steps else self._step.accumulate
        if flag == _ENDED and self._shard[1] == 1:
            raise ValueError(
                f"`dataset` must hold as many batches as are asked for. Received: an end at step {self.step}"
            )
        number = np.int64(self._place.batches + micro)
        try:
            total, weight, changes, flags, *rest = function(
                batch_sharding.spread(batch, self.strategy, self._shard[0]), number, np.float32(flag)
            )
        except tf.errors.InvalidArgumentError as error:
            if (reason := explained(error, self, batch)) is error:
                raise
            raise reason from error
        flags = int(flags)
        if flags >= _ENDED:
            raise ValueError(
                f"`dataset` must last as long on every worker. Received: one that ended at step {self.step}"
            )
        running.add(total, weight, changes)
        return flags, *(float(x) for x in rest)

    def _state(self):
        """The variables that make a training go on, by name."""
        groups = {"weights": self.model.weights, "optimizer": self.optimizer.variables, "seeds": self._step.seeds}
        return {name: v for kind, variables in groups.items() for name, v in named(kind, variables).items()}

    def _restore(self, dataset, validation_data, validation_freq):
        """Goes on from the latest checkpoint; returns what it remembers besides variables."""
        self._previous = None
        if self.checkpoints is None:
            return {}
        # A callback may lower the learning rate later: that is no other setting.
        given = run_settings.data_settings(dataset, validation_data, validation_freq)
        self._settings = (self._settings or run_settings.run_settings(self)) | given
        self._known_by = batch_sharding.fingerprint(dataset)
        if self.step:
            return {}
        variables = self._state()
        shapes = {name: list(v.shape) for name, v in variables.items()}
        found = self.checkpoints.latest_record(shapes, self._known_by, self._settings)
        if found is None:
            return {}
        state, self.step, self._place = resumed(self, dataset, variables, self._settings, *found)
        return state

    def _save(self, logs, running, memory=None):
        """Writes a checkpoint, where there are any; `memory` is what callbacks remember, that of now if None."""
        if self.checkpoints is None:
            return
        check_updated(self)
        if self._is_chief:
            state = {name: np.asarray(keras.ops.convert_to_numpy(v)) for name, v in self._state().items()}
            memory = (memory or self._memory.state()) | self._place.state() | running
            self.checkpoints.save(self.step, state, self.model, logs, self._known_by, memory, self._settings)
