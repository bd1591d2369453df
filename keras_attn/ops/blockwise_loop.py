"""The loop of blockwise attention on TensorFlow: some heads and one block of queries per step.

A step computes as many heads as fit into `LOGITS` logits, so that its memory does not grow with the length and short
sequences do not take many small steps. `InplaceUpdate` and `InplaceAdd` write results into buffers from `Empty`, which
no graph optimiser shares or folds; each buffer has one user at a time.
"""

import dataclasses
import functools

import keras
import numpy as np
import tensorflow as tf

from keras_attn.ops.attention_blocks import Blocks, blocked_mask
from keras_attn.ops.attention_mask import block
from keras_attn.ops.masked_softmax import MASKED_LOGIT, MASKING_BIAS

QUERIES, KEYS = 256, 256
LOGITS = 2**21


def attend_in_loop(q, k, v, arguments):
    """Softmax attention with the logits of one block of queries at a time, forward and backward.

    Args:
        q, k, v: As for `dense_attention`.
        arguments: `AttentionArguments` with a scale. A bias has rank 4. With dropout the seed is a `FixedSeed`, so
            that the gradient drops the same weights.

    Returns:
        `(B, N, T, Hv)`.
    """
    queries, keys = Blocks.of(q, QUERIES), Blocks.of(k, KEYS)
    mask, bias, sinks = arguments.mask, arguments.bias, arguments.sinks
    is_triangular = q.dtype != tf.float16 and _is_triangular(mask, queries, keys)
    if mask is not None and mask.explicit is not None:
        mask = dataclasses.replace(mask, explicit=_spelled_out(mask.explicit, None, None, queries, keys))
    mask, ranges = blocked_mask(mask, queries, keys)
    if bias is not None:
        bias = keys.pad(queries.pad(_spelled_out(bias, tf.shape(q)[0], q.shape[1], queries, keys), 2), 3)
    loop = functools.partial(
        _Loop,
        arguments=arguments,
        queries=queries,
        keys=keys,
        mask=mask,
        ranges=ranges,
        is_triangular=is_triangular,
    )

    @tf.custom_gradient
    def attend(*inputs):
        run = loop(*inputs)
        output = run.forward()
        return output, lambda gradient: run.backward(output, gradient)

    # Converted to tensors, since the gradient of a function with variables needs an argument for them.
    floats = (tf.convert_to_tensor(x) for x in (bias, sinks) if x is not None)
    output = attend(queries.pad(q), keys.pad(k), keys.pad(v), *floats)
    output = output if queries.fit else output[:, :, : queries.length]
    output.set_shape((*q.shape[:3], v.shape[3]))
    return output


class _Loop:
    def __init__(self, q, k, v, *others, arguments, **settings):
        self.scale, self.logit_soft_cap = arguments.scale, arguments.logit_soft_cap
        self.dropout, self.seed = arguments.active_dropout, arguments.seed
        vars(self).update(settings)
        self.inputs = (q, k, v, *others)
        self.bias = others[0] if arguments.bias is not None else None
        self.sinks = others[-1] if arguments.sinks is not None else None
        self.num_heads, self.num_kv_heads = q.shape[1], k.shape[1]
        self.group = self.num_heads // self.num_kv_heads
        self.kv_heads = self._kv_heads_a_step()
        self.heads = self.kv_heads * self.group
        self.steps_a_row = self.num_kv_heads // self.kv_heads * self.queries.count
        self.steps = tf.shape(q)[0] * self.steps_a_row
        self.q, self.k, self.v = (_heads_in_a_row(x) for x in (q, k, v))
        self.wide = tf.float64 if q.dtype == tf.float64 else tf.float32
        if self.is_triangular:
            hidden = np.triu(np.full((self.queries.size,) * 2, MASKING_BIAS), 1)
            self.triangle = tf.constant(np.tile(hidden, (self.heads, 1)), self.wide)

    def _kv_heads_a_step(self):
        keys = self.keys.padded if isinstance(self.keys.padded, int) else 4096
        size = self.queries.size if isinstance(self.queries.size, int) else QUERIES
        most = max(1, LOGITS // (keys * size * self.group))
        return max(n for n in range(1, self.num_kv_heads + 1) if self.num_kv_heads % n == 0 and n <= most)

    def forward(self):
        def body(step, output):
            at = _Step(self, step)
            weights = tf.cast(at.weights(), self.v.dtype)
            weights = self._drop(weights, step)
            return step + 1, at.put_queries(output, at.zero_fully_masked(tf.matmul(weights, at.v)))

        [output] = self._run(body, self._query_buffer(self.v))
        return self._as_heads(output, self.q, self.v.shape[-1])

    def backward(self, output, gradient):
        outputs, gradients = _heads_in_a_row(output), _heads_in_a_row(gradient)

        def body(step, dq, dk, dv, *others):
            at = _Step(self, step)
            do = at.zero_fully_masked(at.of_queries(gradients))
            weights = at.weights()
            kept, slopes = tf.cast(weights, self.v.dtype), tf.matmul(do, at.v, transpose_b=True)
            kept, slopes = self._drop(kept, step), self._drop(slopes, step)
            dv = at.add_keys(dv, tf.matmul(kept, do, transpose_a=True))
            mean = tf.cast(do, self.wide) * tf.cast(at.of_queries(outputs), self.wide)
            mean = tf.reduce_sum(mean, -1, keepdims=True)
            slopes = weights * (tf.cast(slopes, self.wide) - mean)
            others = list(others)
            if self.bias is not None:
                others[0] = at.add_bias(others[0], slopes)
            if self.sinks is not None:
                others[-1] = at.add_sinks(others[-1], mean)
            if self.logit_soft_cap is not None:
                # Logits of what is at padding may be NaN.
                slopes = tf.math.multiply_no_nan(at.cap_slopes, slopes)
            slopes = tf.cast(slopes, self.q.dtype)
            dq = at.put_queries(dq, tf.matmul(slopes, at.k) * tf.cast(self.scale, self.q.dtype))
            dk = at.add_keys(dk, tf.matmul(slopes, at.q, transpose_a=True))
            return step + 1, dq, dk, dv, *others

        buffers = [self._query_buffer(self.q), self._key_buffer(self.k), self._key_buffer(self.v)]
        if self.bias is not None:
            buffers.append(_empty(self._bias_layout(), self.wide))
        if self.sinks is not None:
            buffers.append(_empty((self.num_heads, 1), self.wide))
        results = self._run(body, *buffers)
        results[0] = self._as_heads(results[0], self.q, self.q.shape[-1])
        return [tf.cast(tf.reshape(d, tf.shape(x)), x.dtype) for d, x in zip(results, self.inputs, strict=True)]

    def _drop(self, x, step):
        return keras.random.dropout(x, self.dropout, seed=self.seed.at(step)) if self.dropout else x

    def _run(self, body, *buffers):
        start = (tf.constant(0), *buffers)
        return list(tf.while_loop(lambda step, *_: step < self.steps, body, start, parallel_iterations=1)[1:])

    def _query_buffer(self, like):
        return _empty((tf.shape(self.q)[0] * self.queries.count, self.queries.size * like.shape[-1]), like.dtype)

    def _key_buffer(self, like):
        return _empty((tf.shape(like)[0] * self.keys.count, self.keys.size * like.shape[-1]), self.wide)

    def _bias_layout(self):
        rows, heads, length, _ = tf.unstack(tf.shape(self.bias))
        return (rows * heads * length * (1 if self.bias.shape[3] == 1 else self.keys.count), self._bias_keys)

    @property
    def _bias_keys(self):
        return 1 if self.bias.shape[3] == 1 else self.keys.size

    def _as_heads(self, rows, like, width):
        return tf.reshape(rows, (-1, self.num_heads, tf.shape(like)[1], width))


class _Step:
    """A block of queries of some heads, and its keys; tensors have shape `(kv_heads, group * queries, ...)`."""

    def __init__(self, loop, step):
        self.loop = loop
        queries, keys = loop.queries, loop.keys
        self.row, within = step // loop.steps_a_row, step % loop.steps_a_row
        self.index = within % queries.count
        self.head = within // queries.count * loop.heads
        self.first_head = self.row * loop.num_heads + self.head
        self.first_kv_head = self.row * loop.num_kv_heads + self.head // loop.group
        if loop.ranges is None:
            self.start, self.middle, self.end = 0, keys.count, keys.count
        else:
            row = tf.minimum(self.row, tf.shape(loop.ranges)[0] - 1)
            self.start, self.middle, self.end = tf.unstack(loop.ranges[row, self.index])
        self.count = self.end - self.start
        self.q = self.of_queries(loop.q) * tf.cast(loop.scale, loop.q.dtype)
        self.k, self.v = self._of_keys(loop.k), self._of_keys(loop.v)
        self.unmasked = self.pairs = None
        if loop.mask is not None and not loop.is_triangular:
            self._look_at_mask()

    def of_queries(self, heads):
        loop = self.loop
        start = (self.first_head, self.index * loop.queries.size, 0)
        x = tf.slice(heads, start, (loop.heads, loop.queries.size, heads.shape[-1]))
        return x if loop.group == 1 else tf.reshape(x, (loop.kv_heads, -1, heads.shape[-1]))

    def _of_keys(self, heads):
        loop = self.loop
        start = (self.first_kv_head, self.start * loop.keys.size, 0)
        return tf.slice(heads, start, (loop.kv_heads, self.count * loop.keys.size, heads.shape[-1]))

    def weights(self):
        """Softmax over the keys, before dropout."""
        loop = self.loop
        logits = tf.cast(tf.matmul(self.q, self.k, transpose_b=True), loop.wide)
        if loop.logit_soft_cap is not None:
            bent = tf.tanh(logits / loop.logit_soft_cap)
            self.cap_slopes = 1 - bent * bent
            logits = loop.logit_soft_cap * bent
        if loop.bias is not None:
            queries, keys = (self.index * loop.queries.size, loop.queries.size), self._keys(self.start, self.end)
            bias = block(loop.bias, (self.row, 1), (self.head, loop.heads), queries, keys)
            bias = tf.maximum(tf.cast(bias, logits.dtype), MASKING_BIAS)
            logits = self._grouped(self._by_head(logits) + bias)
        if loop.is_triangular:
            # Later keys hold finite numbers, so adding a mask in place is enough.
            blocks = tf.reshape(logits, (-1, loop.keys.size))
            slots = tf.range(self.count - 1, tf.shape(blocks)[0], self.count)
            blocks = tf.raw_ops.InplaceAdd(x=blocks, i=slots, v=loop.triangle)
            logits = tf.reshape(blocks, tf.shape(logits))
        elif self.pairs is not None:
            logits = self._hide(logits)
        if loop.sinks is None:
            return tf.nn.softmax(logits)
        sinks = tf.cast(loop.sinks[self.head : self.head + loop.heads], logits.dtype)
        sinks = tf.reshape(tf.repeat(sinks, loop.queries.size), (loop.kv_heads, -1, 1))
        weights = tf.nn.softmax(tf.concat([logits, sinks], axis=-1))
        self.sink_weights = weights[..., -1:]
        return weights[..., :-1]

    def zero_fully_masked(self, x):
        """`x` of this block's queries, with zeros for fully masked ones."""
        if self.unmasked is None:
            return x
        return self._grouped(tf.where(self.unmasked, self._by_head(x), tf.zeros((), x.dtype)))

    def put_queries(self, buffer, x):
        heads = tf.range(self.first_head, self.first_head + self.loop.heads)
        x = tf.reshape(x, (self.loop.heads, -1))
        return tf.raw_ops.InplaceUpdate(x=buffer, i=heads * self.loop.queries.count + self.index, v=x)

    def add_keys(self, buffer, x):
        keys, heads = self.loop.keys, tf.range(self.first_kv_head, self.first_kv_head + self.loop.kv_heads)
        slots = tf.expand_dims(heads * keys.count, -1) + tf.range(self.start, self.end)
        x = tf.reshape(tf.cast(x, buffer.dtype), (-1, buffer.shape[-1] or tf.shape(buffer)[-1]))
        return tf.raw_ops.InplaceAdd(x=buffer, i=tf.reshape(slots, (-1,)), v=x)

    def add_bias(self, buffer, slopes):
        """Sums `slopes` over the broadcast axes of the bias, and adds them to its gradient."""
        loop, bias, slopes = self.loop, self.loop.bias, self._by_head(slopes)
        head = tf.range(self.head, self.head + loop.heads)
        time = self.index * loop.queries.size + tf.range(loop.queries.size)
        blocks = tf.range(self.start, self.end)
        slots = tf.zeros((1, 1, 1), "int32") if bias.shape[0] == 1 else tf.reshape(self.row, (1, 1, 1))
        for axis, (index, count) in enumerate(
            ((head, loop.num_heads), (time, tf.shape(bias)[2]), (blocks, loop.keys.count)), start=1
        ):
            if bias.shape[axis] == 1:
                slopes = tf.reduce_sum(slopes, axis, keepdims=True)
            else:
                slots = slots * count + tf.reshape(index, [-1 if a == axis else 1 for a in (1, 2, 3)])
        slots = tf.reshape(slots, (-1,))
        return tf.raw_ops.InplaceAdd(x=buffer, i=slots, v=tf.reshape(slopes, (tf.shape(slots)[0], -1)))

    def add_sinks(self, buffer, mean):
        heads = tf.range(self.head, self.head + self.loop.heads)
        x = -tf.reduce_sum(self._by_head(self.sink_weights * mean), axis=(0, 2))
        return tf.raw_ops.InplaceAdd(x=buffer, i=heads, v=x)

    def _look_at_mask(self):
        loop = self.loop
        queries = (self.index * loop.queries.size, loop.queries.size)
        # With an explicit mask every block needs the mask.
        self.hides_all = loop.mask.explicit is not None
        first = self.start if self.hides_all else self.middle
        mask = loop.mask.block(queries, self._keys(first, self.end), (self.row, 1), (self.head, loop.heads))
        self.pairs = mask.pairs
        if self.pairs is not None:
            self.unmasked = tf.reduce_any(self.pairs, -1, keepdims=True) | (self.middle > self.start)
        if mask.query_mask is not None:
            real = tf.reshape(mask.query_mask, (1, 1, -1, 1))
            self.unmasked = real if self.unmasked is None else self.unmasked & real

    def _hide(self, logits):
        """Masks the logits of hidden pairs; in place, if most blocks of keys have none."""
        hidden = tf.constant(MASKED_LOGIT, logits.dtype)
        if self.hides_all:
            return self._grouped(tf.where(self.pairs, self._by_head(logits), hidden))
        size = self.loop.keys.size
        rows = tf.range(tf.shape(logits)[0] * tf.shape(logits)[1])
        slots = tf.expand_dims(rows * self.count, -1) + tf.range(self.middle - self.start, self.count)
        blocks = tf.reshape(logits, (-1, size))
        seen = tf.gather(blocks, slots)
        seen = tf.reshape(seen, (1, self.loop.heads, self.loop.queries.size, -1))
        seen = tf.where(self.pairs, seen, hidden)
        blocks = tf.raw_ops.InplaceUpdate(x=blocks, i=tf.reshape(slots, (-1,)), v=tf.reshape(seen, (-1, size)))
        return tf.reshape(blocks, tf.shape(logits))

    def _keys(self, start, end):
        return start * self.loop.keys.size, (end - start) * self.loop.keys.size

    def _by_head(self, x):
        return tf.reshape(x, (1, self.loop.heads, self.loop.queries.size, tf.shape(x)[-1]))

    def _grouped(self, x):
        return tf.reshape(x, (self.loop.kv_heads, -1, tf.shape(x)[-1]))


def _is_triangular(mask, queries, keys):
    """Whether query `t` is known to attend to the first `t + 1` keys, so that all diagonal blocks are equal."""
    is_known = isinstance(queries.size, int) and isinstance(keys.size, int)
    return is_known and mask is not None and mask.is_triangular and queries.size == keys.size


def _heads_in_a_row(x):
    """`(B, N, T, H)` as `(B * N, T, H)`."""
    return tf.reshape(x, (-1, tf.shape(x)[2], x.shape[-1]))


def _empty(shape, dtype):
    return tf.raw_ops.Empty(shape=shape, dtype=dtype, init=True)


def _spelled_out(pairs, rows, heads, queries, keys):
    """A bias or a mask broadcast along axes of unknown length, which might be one.

    Rows and heads are left if their number is not given.
    """
    if None not in pairs.shape:
        return pairs
    own, sizes = tf.unstack(tf.shape(pairs)), (rows, heads, queries.length, keys.length)
    shape = [
        known if known is not None else present if full is None else full
        for known, present, full in zip(pairs.shape, own, sizes, strict=True)
    ]
    return tf.broadcast_to(pairs, shape)
