"""The loss of a student that learns from a teacher."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from keras_attn import compat
from keras_attn.labels import Labels
from keras_attn.layers.transformer.stack import stacks_of
from keras_attn.training.distillation.distilled_model import DistilledModel
from keras_attn.training.distillation.layer_map import layer_pairs, recorded, row_means
from keras_attn.training.distillation.teacher_logits import NAME
from keras_attn.training.losses.masked_cross_entropy import MaskedCrossEntropy
from keras_attn.typing import Nest, Tensor


class Distillation:
    """`(1 - alpha) CE + alpha T^2 KL(p_t || p_s) + hidden_weight H + attention_weight A`, a mean over real entries.

    `p_t` and `p_s` are the softmax of the logits of teacher and student divided by the temperature `T`. `H` is the sum
    over the mapped layers of the mean squared difference of the hidden vectors, those of the student being projected
    to the teacher's width; `A` is the sum over the mapped layers, and over self- and cross-attention, of the squared
    differences of the attention scores, summed over the keys and averaged over heads and real queries. A row's `H` and
    `A` count by the weight of its entries.

    It is a `ComputeLoss`: `Trainer(distillation.model, optimizer, loss, compute_loss=distillation)`. The teacher is
    called without dropout and is not trained; with `TeacherLogits`, its logits come from the data instead. Validation
    reports this loss too; add metrics for the accuracy.

    Args:
        student: The model to train.
        teacher: A trained model with the same inputs and classes or tokens, of any size.
        loss: Loss of the labels, one with `total` and `entry_weights`. Defaults to `MaskedCrossEntropy()`. The
            `Trainer` tells it the label of padding.
        alpha: Share of the teacher's probabilities, between 0 and 1.
        temperature: `T`, above 0.
        hidden_weight: Weight of `H`, at least 0. The student's projections, one per mapped layer without bias, are
            trained with it, as in TinyBERT, also if the widths are equal.
        attention_weight: Weight of `A`, at least 0. If the numbers of heads differ, the means over heads are compared.
        layer_map: Optional dict from layers of the student to layers of the teacher; 0 stands for the embeddings and
            `i` for the `i`-th block, of every stack. By default `i -> i M / N`, as in TinyBERT, where `N` must divide
            `M`.

    Attributes:
        model: The model to give to the `Trainer`: the student, or the student with its projections. Generation and
            callbacks use it as the student. Afterwards, go on with `student`.

    Raises:
        ValueError: If an argument is invalid, or student and teacher differ in their labels, their tokenizers or the
            sizes of their outputs.

    Reference:
        [Hinton et al., 2015](https://arxiv.org/abs/1503.02531); hidden vectors, attention and the map of layers
        [Jiao et al., 2020](https://arxiv.org/abs/1909.10351)

    Example:

    >>> import keras, numpy as np
    >>> import tensorflow as tf
    >>> import keras_attn
    >>> from keras_attn.training import Trainer
    >>> from keras_attn.training.distillation import Distillation
    >>> def classifier(layers, width):
    ...     return keras_attn.EncoderModel(20, layers, width, 2, 16, head="sequence_classification", num_classes=3)
    >>> student, teacher = classifier(1, 8), classifier(2, 12)
    >>> distillation = Distillation(student, teacher, hidden_weight=0.1, attention_weight=0.1)
    >>> ids = np.random.default_rng(0).integers(1, 20, (16, 6))
    >>> data = tf.data.Dataset.from_tensor_slices(({"token_ids": ids}, ids[:, 0] % 3)).batch(8)
    >>> trainer = Trainer(distillation.model, keras.optimizers.Adam(1e-2), compute_loss=distillation)
    >>> losses = trainer.fit(data, steps=20).history["loss"]
    """

    def __init__(
        self,
        student: keras.Model,
        teacher: keras.Model,
        loss: Any = None,
        *,
        alpha: float = 0.5,
        temperature: float = 2.0,
        hidden_weight: float = 0.0,
        attention_weight: float = 0.0,
        layer_map: Mapping[int, int] | None = None,
    ) -> None:
        if not 0 <= alpha <= 1:
            raise ValueError(f"`alpha` must be between 0 and 1. Received: alpha={alpha}")
        if not 0 < temperature < float("inf"):
            raise ValueError(f"`temperature` must be above 0. Received: temperature={temperature}")
        for name, value in (("hidden_weight", hidden_weight), ("attention_weight", attention_weight)):
            if not 0 <= value < float("inf"):
                raise ValueError(f"`{name}` must be at least 0. Received: {name}={value}")
        _check_alike(student, teacher)
        self.student, self.teacher = student, teacher
        self.loss = MaskedCrossEntropy() if loss is None else loss
        self.alpha, self.temperature = alpha, temperature
        self.hidden_weight, self.attention_weight = hidden_weight, attention_weight
        self.model, self._pairs = student, {}
        if not (hidden_weight or attention_weight):
            if layer_map is not None:
                raise ValueError("`layer_map` needs `hidden_weight` or `attention_weight` above 0. Received: 0 and 0")
            return
        self._pairs = layer_pairs(student, teacher, layer_map)
        if attention_weight:
            _check_attention(student, teacher)
        if hidden_weight:
            names = [f"{name}_{i}" for name, pairs in self._pairs.items() for i, _ in pairs]
            self.model = DistilledModel(student, names, teacher.hidden_dim)

    def __call__(
        self, model: keras.Model, inputs: Nest, labels: Nest, sample_weight: Tensor | None, training: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See `ComputeLoss`."""
        known = None
        if isinstance(inputs, Mapping) and NAME in inputs:
            known, inputs = inputs[NAME], {name: x for name, x in inputs.items() if name != NAME}
        with_scores = bool(self.attention_weight)
        if not self._pairs:
            logits = model(inputs, training=training)
            known = self.teacher(inputs, training=False) if known is None else known
        else:
            with recorded(self.student, with_scores) as ours:
                logits = model(inputs, training=training)
            with recorded(self.teacher, with_scores) as theirs:
                known = self.teacher(inputs, training=False)
        total, weight = self.loss.total(labels, logits, sample_weight)
        weights = self.loss.entry_weights(labels, logits, sample_weight)
        soft = self._divergences(logits, ops.stop_gradient(known))
        soft = ops.sum(ops.where(ops.not_equal(weights, 0), weights * soft, 0.0))
        total = (1 - self.alpha) * total + self.alpha * soft
        if self._pairs:
            by_row = ops.sum(weights, axis=tuple(range(1, len(weights.shape)))) if len(weights.shape) > 1 else weights
            rows = self._differences(inputs, ours, theirs)
            total = total + ops.sum(ops.where(ops.not_equal(by_row, 0), by_row * rows, 0.0))
        return total, weight, logits

    def _divergences(self, logits, known):
        """`T^2 KL(p_t || p_s)` of each entry, float32."""
        ours, theirs = (ops.log_softmax(ops.cast(x, "float32") / self.temperature, axis=-1) for x in (logits, known))
        return self.temperature**2 * ops.sum(ops.exp(theirs) * (theirs - ours), axis=-1)

    def _differences(self, inputs, ours, theirs):
        """The differences of hidden vectors and attention scores of each row, float32 `(B,)`."""
        found = []
        for name, pairs in self._pairs.items():
            mask = self._real(name, inputs, ours.vectors[name][0])
            for i, j in pairs:
                x, y = ours.vectors[name][i], ops.stop_gradient(theirs.vectors[name][j])
                if self.hidden_weight:
                    x = self.model.projections[f"{name}_{i}"](x)
                    found.append(self.hidden_weight * row_means(_mean_square(x, y), mask))
                if self.attention_weight and i and j:
                    found += [
                        self.attention_weight * row_means(_scores_apart(x, ops.stop_gradient(y)), mask)
                        for x, y in zip(ours.scores[name][i - 1], theirs.scores[name][j - 1], strict=True)
                    ]
        return sum(found[1:], found[0])

    def _real(self, stack, inputs, vectors):
        """The positions of a stack that are no padding, bool `(B, T)`."""
        named = inputs if isinstance(inputs, Mapping) else {}
        prefix = ("target",) if stack == "decoder" and "target_ids" in named else ("source", "token")
        mask = next((named[key] for key in (f"{prefix[0]}_mask", "padding_mask") if named.get(key) is not None), None)
        if mask is None:
            ids = next((named[f"{x}_ids"] for x in prefix if f"{x}_ids" in named), None)
            if ids is None and not named:
                ids = inputs
            if ids is not None and len(ids.shape) == 2 and self.student.pad_id is not None:
                mask = ops.not_equal(ids, self.student.pad_id)
        elif tuple(mask.shape[1:]) != tuple(vectors.shape[1:2]):
            mask = compat.keras_mask(vectors)
        return ops.ones(ops.shape(vectors)[:2], dtype="bool") if mask is None else ops.cast(mask, "bool")


def _mean_square(x, y):
    return ops.mean(ops.square(ops.cast(x, "float32") - ops.cast(y, "float32")), axis=-1)


def _scores_apart(x, y):
    """The squared differences of scores `(B, N, T, S)`, summed over keys and averaged over heads, `(B, T)`."""
    x, y = ops.cast(x, "float32"), ops.cast(y, "float32")
    if x.shape[1] != y.shape[1]:
        x, y = (ops.mean(z, axis=1, keepdims=True) for z in (x, y))
    return ops.mean(ops.sum(ops.square(x - y), axis=-1), axis=1)


def _check_alike(student, teacher):
    """Raises a ValueError if the outputs of student and teacher do not mean the same."""
    names = [getattr(model, "labels", None) for model in (student, teacher)]
    if None not in names and list(names[0]) != list(names[1]):
        raise ValueError(
            "`student` and `teacher` must have the same labels in the same order. "
            f"Received: {Labels(names[0])} and {Labels(names[1])}"
        )
    tokenizers = [getattr(model, "tokenizer", None) for model in (student, teacher)]
    if None not in tokenizers and tokenizers[0] != tokenizers[1]:
        raise ValueError(
            "`student` and `teacher` must have the same tokenizer, as ids of one are other tokens to the other. "
            f"Received: {tokenizers[0]!r} and {tokenizers[1]!r}"
        )
    outputs = [getattr(model, "outputs", None) or () for model in (student, teacher)]
    if any(len(found) != 1 for found in outputs):
        counts = [len(found) for found in outputs]
        raise ValueError(f"`student` and `teacher` must be models of one output each. Received: {counts} outputs")
    if outputs[0][0].shape[-1] != outputs[1][0].shape[-1]:
        raise ValueError(
            "`student` and `teacher` must have logits of the same classes or tokens. "
            f"Received: {outputs[0][0].shape[-1]} and {outputs[1][0].shape[-1]} of them"
        )
    given = [getattr(model, "vocabularies", {}) for model in (student, teacher)]
    if given[0] != given[1]:
        raise ValueError(
            f"`student` and `teacher` must have the same vocabularies. Received: {given[0]} and {given[1]}"
        )


def _check_attention(*models):
    for model in models:
        for stack in stacks_of(model).values():
            if any(block.remat for block in stack.blocks):
                raise ValueError(
                    "`attention_weight` must be 0 with `remat`, which does not keep the scores. "
                    f"Received: a model {model.name!r} with remat=True"
                )
