"""The loss of a student that learns from a teacher."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from keras_attn import compat
from keras_attn.argument_checks import check_finite, check_positive_number
from keras_attn.labels import Labels
from keras_attn.layers.attention.multi_head_attention import MultiHeadAttention
from keras_attn.layers.transformer.stack import stacks_of
from keras_attn.training.distillation.distilled_model import DistilledModel
from keras_attn.training.distillation.layer_map import layer_pairs, recorded, row_means
from keras_attn.training.distillation.teacher_logits import NAME, TeacherLogits, fingerprint
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
    called without dropout and is not trained; with `TeacherLogits`, its logits come from the data instead, and it is
    called for `H` and `A` alone. Validation reports this loss too; add metrics for the accuracy. In a
    `tf.distribute.Strategy`, make student, teacher and `Distillation` in its scope.

    Args:
        student: The model to train.
        teacher: A trained model with the same inputs and classes or tokens, of any size.
        loss: Loss of the labels, one with `total` and `entry_weights`. Defaults to `MaskedCrossEntropy()`. The
            `Trainer` tells it the label of padding. With a loss of whole rows, such as `CTCLoss`, the divergences of a
            row's real frames are summed.
        alpha: Share of the teacher's probabilities, between 0 and 1.
        temperature: `T`, above 0.
        hidden_weight: Weight of `H`, at least 0. The student's projections, one per mapped layer without bias, are
            trained with it, as in TinyBERT, also if the widths are equal.
        attention_weight: Weight of `A`, at least 0. If the numbers of heads differ, the means over heads are compared.
        layer_map: Optional dict from layers of the student to layers of the teacher; 0 stands for the embeddings and
            `i` for the `i`-th block, of every stack. By default `i -> i M / N`, as in TinyBERT, where `N` must divide
            `M`. `A` needs blocks with `MultiHeadAttention` of this package.

    Attributes:
        model: The model to give to the `Trainer`: the student, or the student with its projections. Generation and
            callbacks use it as the student. Afterwards, go on with `student`.

    Raises:
        ValueError: If an argument is invalid, or student and teacher differ in their labels, their tokenizers, their
            padding ids or the sizes of their outputs; in training, if the model is another than `model`, or the data
            hold the logits of another teacher.

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
        check_finite(alpha=alpha, hidden_weight=hidden_weight, attention_weight=attention_weight)
        check_positive_number(temperature=temperature)
        if not 0 <= alpha <= 1:
            raise ValueError(f"`alpha` must be between 0 and 1. Received: alpha={alpha}")
        for name, value in (("hidden_weight", hidden_weight), ("attention_weight", attention_weight)):
            if value < 0:
                raise ValueError(f"`{name}` must be at least 0. Received: {name}={value}")
        if student is teacher:
            raise ValueError(f"`teacher` must be another model than `student`. Received: {teacher.name!r} twice")
        _check_alike(student, teacher)
        self.student, self.teacher = student, teacher
        self.loss = MaskedCrossEntropy() if loss is None else loss
        if not (hasattr(self.loss, "total") and hasattr(self.loss, "entry_weights")):
            raise ValueError(
                "`loss` must have `total` and `entry_weights`, as `MaskedCrossEntropy` and `CTCLoss` have. "
                f"Received: loss={loss!r}"
            )
        self.alpha, self.temperature = alpha, temperature
        self.hidden_weight, self.attention_weight = hidden_weight, attention_weight
        self.model, self._pairs = student, {}
        if not (hidden_weight or attention_weight):
            if layer_map is not None:
                raise ValueError("`layer_map` needs `hidden_weight` or `attention_weight` above 0. Received: 0 and 0")
            return
        self._pairs = layer_pairs(student, teacher, layer_map)
        if attention_weight:
            _check_attention(student, teacher, self._pairs)
        if hidden_weight:
            names = [f"{name}_{i}" for name, pairs in self._pairs.items() for i, _ in pairs]
            self.model = DistilledModel(student, names, teacher.hidden_dim)

    def __call__(
        self, model: keras.Model, inputs: Nest, labels: Nest, sample_weight: Tensor | None, training: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See `ComputeLoss`."""
        if model is not self.model:
            raise ValueError(
                "`model` of the `Trainer` must be `distillation.model`, which may have projections of hidden vectors. "
                f"Received: {model!r}"
            )
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
                computed = self.teacher(inputs, training=False)
            known = computed if known is None else known
        total, weight = self.loss.total(labels, logits, sample_weight)
        weights = self.loss.entry_weights(labels, logits, sample_weight)
        soft = self._divergences(logits, ops.stop_gradient(known))
        if len(soft.shape) > len(weights.shape):
            real = compat.keras_mask(logits)
            soft = ops.sum(soft if real is None else ops.where(real, soft, 0.0), axis=-1)
        soft = ops.sum(ops.where(ops.not_equal(weights, 0), weights * soft, 0.0))
        # Not 0 times a loss that may be infinite, as CTC's is for more labels than frames.
        total = soft if self.alpha == 1 else (1 - self.alpha) * total + self.alpha * soft
        if self._pairs:
            by_row = ops.sum(weights, axis=tuple(range(1, len(weights.shape)))) if len(weights.shape) > 1 else weights
            # Several texts of a row are rows of the stack.
            rows = ops.mean(ops.reshape(self._differences(inputs, ours, theirs), (ops.shape(by_row)[0], -1)), axis=-1)
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
            mask = self._real(name, inputs, ours)
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

    def _real(self, stack, inputs, ours):
        """The positions of a stack that are no padding, bool `(B, T)`."""
        if (mask := ours.masks[stack]) is not None:
            return ops.cast(mask, "bool")
        # A causal stack needs no mask of padding at the end.
        sizes = ops.shape(ours.vectors[stack][0])[:2]
        named = inputs if isinstance(inputs, Mapping) else {"token_ids": inputs}
        ids = next((named[name] for name in ("target_ids", "token_ids") if name in named), None)
        if stack == "encoder" or ids is None or self.student.pad_id is None:
            return ops.ones(sizes, dtype="bool")
        return ops.not_equal(ids, self.student.pad_id)

    def check_dataset(self, name: str, dataset: Any) -> None:
        """Raises a ValueError if a data set holds the logits of another teacher; see `ComputeLoss`."""
        for function in getattr(dataset, "functions", ()):
            if isinstance(function, TeacherLogits) and function.teacher is not self.teacher:
                own = fingerprint(self.teacher)
                if function.fingerprint != own:
                    raise ValueError(
                        f"`{name}` must hold the logits of `teacher`; give `TeacherLogits` the same model. Received: "
                        f"those of {function.teacher.name!r}, with checksum {function.fingerprint} instead of {own}"
                    )


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
    if len(outputs[0][0].shape) != len(outputs[1][0].shape):
        shapes = [found[0].shape for found in outputs]
        raise ValueError(
            "`student` and `teacher` must have outputs of the same rank, both of whole rows or both of positions. "
            f"Received: shapes {shapes[0]} and {shapes[1]}"
        )
    if outputs[0][0].shape[-1] != outputs[1][0].shape[-1]:
        raise ValueError(
            "`student` and `teacher` must have logits of the same classes or tokens. "
            f"Received: {outputs[0][0].shape[-1]} and {outputs[1][0].shape[-1]} of them"
        )
    padding = [getattr(model, "pad_id", None) for model in (student, teacher)]
    if None not in padding and padding[0] != padding[1]:
        raise ValueError(
            f"`student` and `teacher` must have the same `pad_id`. Received: pad_id={padding[0]} and {padding[1]}"
        )
    given = [getattr(model, "vocabularies", {}) for model in (student, teacher)]
    if given[0] != given[1]:
        raise ValueError(
            f"`student` and `teacher` must have the same vocabularies. Received: {given[0]} and {given[1]}"
        )


def _check_attention(student, teacher, pairs):
    """Raises a ValueError if mapped blocks have no scores to compare."""
    for model in (student, teacher):
        for stack in stacks_of(model).values():
            if any(block.remat for block in stack.blocks):
                raise ValueError(
                    "`attention_weight` must be 0 with `remat`, which does not keep the scores. "
                    f"Received: a model {model.name!r} with remat=True"
                )
    ours, theirs = stacks_of(student), stacks_of(teacher)
    for name, mapped in pairs.items():
        blocks = [(i, j) for i, j in mapped if i and j]
        if not blocks:
            raise ValueError(
                f"`layer_map` must map a block of the {name} to a block with `attention_weight`, as 0, the embeddings, "
                f"has no attention. Received: layer_map={dict(mapped)}"
            )
        for i, j in blocks:
            counts = [_num_attention(stack[name].layers[k - 1]) for stack, k in ((ours, i), (theirs, j))]
            if not counts[0] or counts[0] != counts[1]:
                raise ValueError(
                    "`attention_weight` must be 0 unless mapped blocks have as many layers of `MultiHeadAttention` of "
                    f"this package, and at least one. Received: {counts[0]} in block {i} of the student's {name}, "
                    f"{counts[1]} in block {j} of the teacher's"
                )


def _num_attention(block):
    return sum(isinstance(layer, MultiHeadAttention) for layer in compat.layers_of(block))
