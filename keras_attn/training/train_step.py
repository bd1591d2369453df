"""One step of training on all replicas, exact for the whole global batch."""

import contextlib

import keras

from keras_attn import compat
from keras_attn.training.losses.compiled_loss import batch_total
from keras_attn.training.losses.compute_loss import computed
from keras_attn.training.losses.entries import only
from keras_attn.training.model_scope import ModelScope
from keras_attn.training.refused_step import EMPTY, GRADIENT, LOSS, RATE, SCALE, STATE, WEIGHT

# Of a loss in half precision: that of Keras is halved 39 times in a row before it is as small.
_LEAST_SCALE = 2.0**-24


class TrainStep:
    """Forward, backward, reduction over replicas, and the update.

    Each replica adds up the losses of its rows. Sums, gradients and weights are added over replicas and micro-batches,
    and divided once; only then are gradients clipped, by the optimizer, which sees the same ones everywhere. All
    that a call changes besides is given back and written once: the model is called in a `keras.StatelessScope`.

    Whatever an update writes waits until its loss, gradients and new states are known to be finite: a step that is
    refused changes no variable.

    Args:
        model: a built `keras.Model` of one output.
        optimizer: `keras.optimizers.Optimizer`, or a `LossScaleOptimizer` around one.
        loss: `keras.losses.Loss`.
        compute_loss: a `ComputeLoss` in its place, or None.
        metrics: a `MetricSet`.
        strategy: `tf.distribute.Strategy`.
        jit_compile: whether XLA compiles forward and backward.
        accumulation_steps: number of batches whose gradients are added before an update.
    """

    def __init__(self, model, optimizer, loss, compute_loss, metrics, strategy, jit_compile, accumulation_steps):
        import tensorflow as tf

        self._tf, self._strategy = tf, strategy
        self._model, self._loss, self._metrics = model, loss, metrics
        self._optimizer, self._compute_loss = optimizer, compute_loss
        self.updater = getattr(optimizer, "inner_optimizer", optimizer)
        self._averages = self.updater.use_ema
        self._variables = model.trainable_variables
        self.seeds = [v for v in model.variables if v.path.endswith("seed_generator_state")]
        self._states = model.non_trainable_weights
        self._moved = None
        self._sums = []
        self._accumulation_steps = accumulation_steps
        if accumulation_steps > 1:
            # Each replica adds to its own copy.
            local = {"synchronization": tf.VariableSynchronization.ON_READ, "aggregation": tf.VariableAggregation.SUM}
            with strategy.scope():
                shapes = [(v.shape, v.dtype) for v in self._variables] + [((), "float32")]
                self._sums = [tf.Variable(tf.zeros(*shape), trainable=False, **local) for shape in shapes]
        options = {"autograph": False, "reduce_retracing": not jit_compile}
        self._gradients = tf.function(self._gradients, jit_compile=jit_compile, **options)
        self.accumulate = tf.function(self._accumulate, **options)
        self.update = tf.function(self._update, **options)
        # A data set has a few shapes, and each is compiled once: TensorFlow would warn at the sixth.
        for function in (self.accumulate, self.update) if jit_compile else ():
            compat.allow_retracing(function)
        self.evaluate = tf.function(self._evaluate, autograph=False, reduce_retracing=True)
        self.vote = tf.function(self._vote, autograph=False)

    def reset(self):
        """Forgets what `accumulate` added."""
        for variable in self._sums:
            variable.assign(self._tf.zeros_like(variable))

    def overwrite_with_average(self, step):
        """Makes the moving averages the weights, after the updates at which the optimizer says so."""
        every = self.updater.ema_overwrite_frequency
        if self.updater.use_ema and every and step % every == 0:
            with self._strategy.scope():
                self.updater.finalize_variable_values(self._variables)

    @contextlib.contextmanager
    def all_or_nothing(self, batches):
        """A scope of several batches: an error takes back what those before it have written.

        Args:
            batches: "update" for those of one update, "evaluation" for those of an evaluation.
        """
        variables = []
        if batches == "evaluation":
            variables = [*self._states, *self.seeds]
        elif self._accumulation_steps > 1:
            # Before the first call nobody knows what moves.
            variables = self._states if self._moved is None else self._moved
        # A read copies nothing until somebody writes.
        held = [(v, v.value.read_value()) for v in variables]
        try:
            yield
        except BaseException:
            with self._strategy.scope():
                for variable, value in held:
                    variable.assign(value)
            self.reset()
            raise

    def _update(self, batch, step, flags):
        """Trains on a batch and what `accumulate` added: `(loss sum, weight, metric sums, flags, rate, norm)`."""
        # Around all replicas, whose threads take turns.
        with _reduced_already(self.updater):
            return self._on_all_replicas(self._replica_update, batch, step, flags)

    def _accumulate(self, batch, step, flags):
        """Adds the gradients of a batch: `(loss sum, weight, metric sums, flags)`."""
        return self._on_all_replicas(self._replica_accumulate, batch, step, flags)

    def _evaluate(self, batch, flags):
        """`(loss sum, weight, metric sums, flags)` of a batch."""
        return self._on_all_replicas(self._replica_evaluate, batch, flags)

    def _vote(self, flag):
        """The sum of a flag over all replicas."""
        return self._on_all_replicas(lambda flag: self._reduced([flag])[0], flag)

    def _on_all_replicas(self, function, *args):
        results = self._strategy.run(function, args=args)
        # All replicas have the same.
        return keras.tree.map_structure(lambda x: self._strategy.experimental_local_results(x)[0], results)

    def _replica_update(self, batch, step, flags):
        tf, count = self._tf, len(self._variables)
        total, weight, changes, moves, gradients = self._gradients(batch, self._drawn(step), self._scale())
        known = weight
        if self._sums:
            gradients = [g + s.read_value() for g, s in zip(gradients, self._sums, strict=False)]
            known = weight + self._sums[-1].read_value()
        mean, fixed = self._split(moves)
        reduced = self._reduced([*gradients, total, weight, known, flags, *changes, *mean])
        gradients, (total, weight, known, flags) = reduced[:count], reduced[count : count + 4]
        changes, mean = reduced[count + 4 :][: len(changes)], reduced[count + 4 + len(changes) :]
        mean = [x / self._replicas for x in mean]
        gradients = [g / tf.cast(known, g.dtype) for g in gradients]
        squares = [tf.nn.l2_loss(tf.cast(g, "float32")) for g in gradients]
        # Where the square of a gradient overflows, clipping and Adam make NaN and infinities of it.
        faults = tf.stack([_fault(x) for x in squares])
        rate = tf.cast(tf.convert_to_tensor(self.updater.learning_rate), "float32")
        checks = self._checks(known, weight, total, faults, mean)
        checks.append(tf.debugging.Assert(tf.math.is_finite(rate), [RATE]))
        with tf.control_dependencies(checks):
            norm = tf.sqrt(2.0 * tf.add_n(squares)) / self._scale()
            self._optimizer.apply(gradients, self._variables)
            self._write(mean, fixed)
            if self._averages:
                self._average(tf.math.is_finite(norm))
            self.reset()
        return total, weight, changes, flags, rate, norm

    def _replica_accumulate(self, batch, step, flags):
        total, weight, changes, moves, gradients = self._gradients(batch, self._drawn(step), self._scale())
        mean, fixed = self._split(moves)
        faults = self._tf.stack([_fault(g) for g in gradients])
        total, count, flags, faults, *reduced = self._reduced([total, weight, flags, faults, *changes, *mean])
        changes, mean = reduced[: len(changes)], [x / self._replicas for x in reduced[len(changes) :]]
        with self._tf.control_dependencies(self._checks(None, count, total, faults, mean)):
            for variable, value in zip(self._sums, [*gradients, weight], strict=True):
                variable.assign_add(value)
            self._write(mean, fixed)
        return total, count, changes, flags

    def _checks(self, known, weight, total, faults, mean):
        """Operations that fail where a batch must leave no trace.

        Args:
            known: the weight of all that makes the update, or None where more is to come.
            weight: that of the batch.
            total: the sum of the losses.
            faults: a vector, above 0 for each gradient that is not finite.
            mean: what the model's states of floats are to become.
        """
        tf = self._tf
        checks = []
        if self._compute_loss is not None:
            checks.append(tf.debugging.Assert(tf.math.is_finite(weight), [WEIGHT]))
        with tf.control_dependencies(checks):
            checks.append(tf.debugging.Assert(tf.math.is_finite(total), [LOSS]))
        if known is not None:
            # NaN is no lack of tokens.
            checks.append(tf.debugging.Assert(tf.logical_not(known <= 0), [EMPTY]))
        named = []
        if self._scaled:
            # Keras skips gradients that overflow, and halves the scale.
            checks.append(tf.debugging.Assert(self._scale() >= _LEAST_SCALE, [SCALE]))
        else:
            named.append((GRADIENT, faults, self._variables))
        if mean:
            moved = [v for v in self._moved if v.value.dtype.is_floating]
            # A state may have been infinite from the start.
            faults = [_fault(tf.where(x == v.value, 0.0, x)) for v, x in zip(moved, mean, strict=True)]
            named.append((STATE, tf.stack(faults), moved))
        with tf.control_dependencies(checks):
            # The loss, where that is at fault, is named before what follows from it.
            checks += [
                tf.debugging.Assert(
                    tf.reduce_all(flags <= 0), [kind, tf.gather([v.path for v in variables], tf.argmax(flags))]
                )
                for kind, flags, variables in named
            ]
        return checks

    def _replica_evaluate(self, batch, flags):
        with self._scope() as scope:
            total, weight, outputs = self._forward(batch, 1 / self._replicas, training=False)
            total = self._with_added(total, weight, scope)
            changes = self._changes(batch, outputs)
        for variable in [*self._states, *self.seeds]:
            if (value := scope.get_current_value(variable)) is not None:
                variable.assign(value)
        total, weight, flags, *changes = self._reduced([total, weight, flags, *changes])
        return total, weight, changes, flags

    def _gradients(self, batch, seeds, scale):
        tf = self._tf
        with self._scope(zip(self.seeds, seeds, strict=True)) as scope:
            with tf.GradientTape() as tape:
                part = 1 / (self._replicas * self._accumulation_steps)
                total, weight, outputs = self._forward(batch, part, training=True)
                total = self._with_added(total, weight, scope)
                # In half precision the gradient of a mean fits where that of a sum does not.
                share = tf.maximum(weight, 1.0) if self._scaled else 1.0
                objective = total * (scale / share)
            changes = self._changes(batch, outputs)
        gradients = tape.gradient(objective, [v.value for v in self._variables])
        if self._compute_loss is not None and all(g is None for g in gradients):
            raise ValueError(
                "`compute_loss` must return a total that is made of what `model` gives, by operations that have a "
                "gradient. Received: a total that depends on none of its weights"
            )
        gradients = [
            tf.zeros(v.shape, v.dtype) if g is None else tf.convert_to_tensor(g) * tf.cast(share, g.dtype)
            for v, g in zip(self._variables, gradients, strict=True)
        ]
        moves = [(v, scope.get_current_value(v)) for v in self._states]
        self._moved = [v for v, value in moves if value is not None]
        return total, weight, changes, [value for _, value in moves if value is not None], gradients

    def _scope(self, states=()):
        if self._compute_loss is None:
            return keras.StatelessScope(states, collect_losses=True)
        return ModelScope(self._model, states)

    def _with_added(self, total, weight, scope):
        """The loss sum with what regularizers and layers of the model add to a loss."""
        regularized = [v for v in self._variables if v.regularizer is not None]
        if self._compute_loss is None:
            added = [*scope.losses, *(v.regularizer(v.value) for v in regularized)]
        else:
            # The scope has those of other models too. Keras asks it for the values that are regularized.
            for v in regularized:
                scope.add_update((v, v.value))
            added = self._model.losses
        if not added:
            return total
        # Means over a batch, which count by the batch's share of all tokens.
        return total + weight * self._tf.add_n([self._tf.cast(x, total.dtype) for x in added])

    def _forward(self, batch, part, training):
        """`(loss sum, weight, outputs)`; no outputs where the loss does without them, and no metric asks for them.

        `part` is what this is of all that makes one update.
        """
        model, (inputs, labels, weights, present) = self._model, batch
        if self._compute_loss is not None:
            return computed(self._compute_loss, model, batch, training, bool(self._metrics))
        if not self._metrics and hasattr(self._loss, "linear_total"):
            projection = getattr(model, "output_projection", lambda: None)()
            if projection is not None:
                hidden = model.hidden_states(inputs, training=training)
                weights = present if weights is None else weights
                return *self._loss.linear_total(labels, hidden, projection, weights), None
        outputs = only(model(inputs, training=training))
        return *batch_total(self._loss, batch, outputs, part), outputs

    def _changes(self, batch, outputs):
        """What a batch adds to the metrics; without any, labels may be a nest."""
        return self._metrics.changes(batch, outputs) if self._metrics else []

    def _drawn(self, step):
        """States of the model's random generators, another for each step and replica."""
        tf = self._tf
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        states = []
        for seed in self.seeds:
            first, _ = tf.unstack(tf.cast(seed.value, "int64"))
            # A prime sets replicas apart; a call of a layer may draw some hundred times.
            states.append(tf.cast(tf.stack([first + 7_368_787 * tf.cast(replica, "int64"), step * 256]), seed.dtype))
        return states

    @property
    def _scaled(self):
        return self._optimizer is not self.updater

    def _scale(self):
        return self._optimizer.dynamic_scale.value if self._scaled else self._tf.constant(1.0)

    @property
    def _replicas(self):
        return self._strategy.num_replicas_in_sync

    def _reduced(self, values):
        """Sums over replicas."""
        if self._replicas == 1:
            return values
        context, sums = self._tf.distribute.get_replica_context(), self._tf.distribute.ReduceOp.SUM
        reduced = [None] * len(values)
        # Values that travel together have one type. A tensor that replicas share would not count as one of each.
        for dtype in dict.fromkeys(x.dtype for x in values):
            places = [i for i, x in enumerate(values) if x.dtype == dtype]
            group = context.all_reduce(sums, [self._tf.identity(values[i]) for i in places])
            for place, value in zip(places, group, strict=True):
                reduced[place] = value
        return reduced

    def _split(self, moves):
        """New values of the model's other state: float ones, of which replicas take the mean; others."""
        mean = [x for x in moves if x.dtype.is_floating]
        return mean, [x for x in moves if not x.dtype.is_floating]

    def _write(self, mean, fixed):
        mean, fixed = iter(mean), iter(fixed)
        pairs = [(v.value, next(mean if v.value.dtype.is_floating else fixed)) for v in self._moved]
        self._at_all(lambda variable, value: variable.assign(value), pairs)

    def _average(self, finite):
        """The moving averages that an optimizer with `use_ema` keeps, as Keras computes them on one device."""
        tf, optimizer = self._tf, self.updater
        momentum = tf.where(optimizer.iterations > 1, optimizer.ema_momentum, 0.0)
        momentum = tf.where(finite, momentum, 1.0)

        def move(average, value):
            share = tf.cast(momentum, average.dtype)
            average.assign(share * average + (1 - share) * value)

        averages = compat.moving_averages(optimizer)
        pairs = [(a.value, v.value) for a, v in zip(averages, self._variables, strict=True) if a is not None]
        self._at_all(move, pairs)

    def _at_all(self, function, pairs):
        """Calls `function(variable, value)` with each device's own."""

        def update(strategy, pairs):
            for variable, value in pairs:
                strategy.extended.update(variable, function, args=(value,), group=False)

        if pairs:
            self._tf.distribute.get_replica_context().merge_call(update, args=(pairs,))


def _fault(x):
    """1 where a tensor holds what is no finite number, 0 otherwise."""
    import tensorflow as tf

    return 1.0 - tf.cast(tf.reduce_all(tf.math.is_finite(x)), "float32")


@contextlib.contextmanager
def _reduced_already(optimizer):
    """A scope in which an optimizer takes its gradients for sums over replicas, and leaves averages to the caller."""
    use_ema = optimizer.use_ema
    optimizer.use_ema = False
    try:
        with compat.without_all_reduce(optimizer):
            yield
    finally:
        optimizer.use_ema = use_ema
