"""Pruning of single weights, groups of four or blocks during training."""

from __future__ import annotations

import fnmatch
import warnings
import zlib
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_attn import compat
from keras_attn.argument_checks import check_count, check_finite, check_positive
from keras_attn.layers.base.projection import Projection
from keras_attn.training.callbacks.step_callback import StepCallback
from keras_attn.typing import Array, Tensor

SCORES = ("magnitude", "movement")
UNSTRUCTURED, TWO_OF_FOUR = "unstructured", "2:4"


class MagnitudePruning(StepCallback):
    """Sets the least important weights of each kernel to zero, more and more of them, during `fit`.

    After step `t`, the share of zeros is `s (1 - (1 - (t - begin) / (end - begin))^3)`, from 0 at `begin` to `s` at
    `end`, updated every `every` steps; training between the updates lets the other weights make up for it. Weights
    that are zero stay zero after every step, those of `use_ema` too, and in later calls of `fit` with this object.
    Works with `Trainer.fit` and `Model.fit`, where steps are those after which callbacks are called. With `Checkpoints`
    of a `Trainer`, a resumed run gives the same weights as an uninterrupted one, bit for bit; an average of checkpoints
    has all zeros only if they are from `end` on. Put it before callbacks that save weights, and after those that
    restore them, such as `EarlyStopping`. It warns if training ends with fewer zeros.

    The kernels are the trainable ones of `Dense` layers and of this package's projections, as matrices from inputs to
    outputs.
    Sparse kernels are as large as before in memory and in an artefact; they are small in a compressed file, and fast
    only where a runtime has sparse matrix products. `prune_structure` makes a model smaller and faster everywhere.

    Args:
        sparsity: Share `s` of zeros at the end, above 0 and below 1; 0.5 with pattern="2:4".
        end: Step from which the share is `s`.
        begin: Step after which pruning begins.
        every: Steps between two updates.
        pattern: "unstructured", single weights; "2:4", two of every four consecutive inputs of an output, as NVIDIA's
            GPUs want it, all at `end`; or `(inputs, outputs)`, blocks of this size.
        scores: "magnitude", `|w|`; or "movement", the sum over all steps since `begin` of `w dw`, the product of a
            weight and its update: it keeps those that move away from zero, whatever their size, which suits
            fine-tuning.
        layers: Patterns of paths of layers, such as `"*/feed_forward/*"`; all kernels by default.

    Attributes:
        masks: The masks of the kernels, bool, True at weights that are kept.
        pruned_to: The share of zeros of the latest update.

    Raises:
        ValueError: If an argument is invalid; in `fit`, if no layer matches, a kernel has other sizes than the pattern
            needs, or a checkpoint is of other kernels or other arguments that decide which weights are pruned.

    Reference:
        schedule [Zhu and Gupta, 2017](https://arxiv.org/abs/1710.01878); movement
        [Sanh et al., 2020](https://arxiv.org/abs/2005.07683); 2:4 [Mishra et al.,
        2021](https://arxiv.org/abs/2104.08378)

    Example:

    >>> import keras, numpy as np
    >>> from keras_attn.training.pruning import MagnitudePruning
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8)])
    >>> model.compile(keras.optimizers.SGD(0.1), "mse")
    >>> x = np.random.default_rng(0).normal(size=(32, 4)).astype("float32")
    >>> pruning = MagnitudePruning(0.75, end=4, every=1)
    >>> _ = model.fit(x, np.ones((32, 8)), batch_size=8, epochs=2, verbose=0, callbacks=[pruning])
    >>> float((np.asarray(model.layers[0].kernel) == 0).mean())
    0.75
    """

    checkpointed = ("settings", "masks", "movements", "pruned_to")

    def __init__(
        self,
        sparsity: float,
        end: int,
        begin: int = 0,
        every: int = 100,
        pattern: str | Sequence[int] = UNSTRUCTURED,
        scores: str = "magnitude",
        layers: Sequence[str] = ("*",),
    ) -> None:
        super().__init__()
        check_finite(sparsity=sparsity)
        if not 0 < sparsity < 1:
            raise ValueError(f"`sparsity` must be above 0 and below 1. Received: sparsity={sparsity}")
        check_count(begin=begin)
        check_positive(end=end, every=every)
        if end <= begin:
            raise ValueError(f"`end` must be after `begin`. Received: begin={begin}, end={end}")
        if scores not in SCORES:
            raise ValueError(f"`scores` must be 'magnitude' or 'movement'. Received: scores={scores!r}")
        if pattern == TWO_OF_FOUR and sparsity != 0.5:
            raise ValueError(f"`sparsity` must be 0.5 with pattern='2:4'. Received: sparsity={sparsity}")
        if pattern not in (UNSTRUCTURED, TWO_OF_FOUR):
            if not isinstance(pattern, Sequence) or isinstance(pattern, str) or len(pattern) != 2:
                raise ValueError(
                    "`pattern` must be 'unstructured', '2:4' or the sizes of blocks, (inputs, outputs). "
                    f"Received: pattern={pattern!r}"
                )
            check_positive(inputs_of_pattern=pattern[0], outputs_of_pattern=pattern[1])
            pattern = tuple(pattern)
        self.sparsity, self.begin, self.end, self.every = sparsity, begin, end, every
        self.pattern, self.scores = pattern, scores
        self.layers = [layers] if isinstance(layers, str) else layers
        if not isinstance(self.layers, Sequence) or not all(isinstance(x, str) for x in self.layers):
            raise ValueError(f"`layers` must be patterns of paths of layers. Received: layers={layers!r}")
        self.pruned_to = 0.0
        self._seen = 0
        self._kernels: list[tuple[Any, tuple[int, int]]] = []
        self._masks: list[Array] = []
        self._movements: list[Array] = []
        self._old: list[Array] = []
        self._tensors: list[Tensor] | None = None

    def sparsity_at(self, step: int) -> float:
        """The share of zeros after a step."""
        if self.pattern == TWO_OF_FOUR:
            return self.sparsity if step >= self.end else 0.0
        done = min(1.0, max(0.0, (step - self.begin) / (self.end - self.begin)))
        return self.sparsity * (1 - (1 - done) ** 3)

    @property
    def masks(self) -> list[Array]:
        return self._masks

    @masks.setter
    def masks(self, values: list[Array]) -> None:
        self._masks, self._tensors = [np.asarray(value, bool) for value in values], None

    @property
    def movements(self) -> list[Array]:
        """The sums of `w dw` of the kernels, float32; empty for other scores."""
        return self._movements

    @movements.setter
    def movements(self, values: list[Array]) -> None:
        self._movements = [np.asarray(value, "float32") for value in values]

    @property
    def settings(self) -> dict[str, float]:
        """What decides which weights are pruned, a checksum of each; a checkpoint of other ones is refused."""
        paths = [(compat.unnumbered(kernel.path), tuple(kernel.shape)) for kernel, _ in self._kernels]
        found = {"layers": paths, "pattern": self.pattern, "scores": self.scores}
        return {name: zlib.crc32(repr(value).encode()) for name, value in found.items()}

    @settings.setter
    def settings(self, values: dict[str, float]) -> None:
        differs = [name for name, value in self.settings.items() if values.get(name, value) != value]
        if differs:
            names = " and ".join(f"`{name}`" for name in differs)
            raise ValueError(
                f"{names} must be as in the run that this one goes on from, or give other checkpoints. "
                f"Received: {', '.join(f'{name}={getattr(self, name)!r}' for name in differs)}"
            )

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        before, self._kernels = self._kernels, self._found()
        kernels = [kernel for kernel, _ in self._kernels]
        if len(before) != len(kernels) or any(x is not y for (x, _), y in zip(before, kernels, strict=True)):
            self.masks = [np.ones(kernel.shape, bool) for kernel in kernels]
            self._movements = [np.zeros(kernel.shape, "float32") for kernel in kernels] if self._moves else []
            self.pruned_to = 0.0

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self._seen = self._before + batch
        if self._moves:
            self._old = self._values()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        super().on_train_batch_end(batch, logs)
        if self.step > self.begin:
            # Several steps may have passed since the last call.
            is_due = self.step // self.every > self._seen // self.every or self.step >= self.end
            is_due = is_due and self.sparsity_at(self.step) > self.pruned_to
            values = self._values() if is_due or self._moves else []
            if self._moves:
                self._movements = [
                    total + before * (value - before)
                    for total, before, value in zip(self._movements, self._old, values, strict=True)
                ]
            if is_due:
                self._update_masks(values)
        self._apply_masks()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        # The averages of `use_ema` have become the weights, or earlier weights were restored.
        self._apply_masks()
        if self.pruned_to < self.sparsity:
            warnings.warn(
                f"Training ended before `end`, step {self.end}, with {self.pruned_to:.0%} of zeros instead of "
                f"{self.sparsity:.0%}; give a smaller `end`, or train longer",
                stacklevel=2,
            )

    def _apply_masks(self):
        if not self.pruned_to:
            return
        if self._tensors is None:
            self._tensors = [ops.convert_to_tensor(mask) for mask in self._masks]
        averages = self._averages()
        for (kernel, _), mask in zip(self._kernels, self._tensors, strict=True):
            for variable in (kernel, *averages.get(id(kernel), ())):
                variable.assign(ops.where(mask, variable, ops.zeros_like(variable)))

    def _averages(self):
        """The moving averages of `use_ema`, by the ids of their variables."""
        optimizer = getattr(self.model, "optimizer", None)
        optimizer = getattr(optimizer, "inner_optimizer", optimizer)
        if not getattr(optimizer, "use_ema", False):
            return {}
        pairs = zip(self.model.trainable_variables, compat.moving_averages(optimizer), strict=True)
        return {id(variable): [average] for variable, average in pairs if average is not None}

    @property
    def _moves(self):
        return self.scores == "movement"

    def _values(self):
        return [ops.convert_to_numpy(kernel) for kernel, _ in self._kernels]

    def _update_masks(self, values):
        share = self.sparsity_at(self.step)
        found = self._movements if self._moves else [np.abs(value) for value in values]
        masks = []
        for (_, shape), mask, scores in zip(self._kernels, self._masks, found, strict=True):
            # What is zero stays zero.
            scores = np.where(mask, scores, -np.inf).reshape(shape)
            masks.append(mask & self._mask(scores, share).reshape(mask.shape))
        self.masks, self.pruned_to = masks, share

    def _mask(self, scores, share):
        """The weights of a matrix that are kept, bool, of the least scores of which `share` are not."""
        rows, columns = scores.shape
        if self.pattern == TWO_OF_FOUR:
            if not share:
                return np.ones_like(scores, bool)
            ranks = scores.reshape(rows // 4, 4, columns).argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")
            return (ranks >= 2).reshape(rows, columns)
        height, width = (1, 1) if self.pattern == UNSTRUCTURED else self.pattern
        means = scores.reshape(rows // height, height, columns // width, width).mean(axis=(1, 3))
        kept = np.ones(means.size, bool)
        kept[means.reshape(-1).argsort(kind="stable")[: round(share * means.size)]] = False
        return kept.reshape(means.shape).repeat(height, axis=0).repeat(width, axis=1)

    def _found(self):
        """`(kernel, (inputs, outputs))` of the layers that match."""
        found = {}
        for layer in compat.layers_of(self.model):
            if not isinstance(layer, keras.layers.Dense | Projection):
                continue
            if not any(fnmatch.fnmatchcase(layer.path, pattern) for pattern in self.layers):
                continue
            if getattr(layer, "lora_enabled", False) or layer.quantization_mode is not None:
                raise ValueError(
                    "`layers` must match layers with trainable float kernels; merge LoRA, and prune before `quantize`. "
                    f"Received: {layer.path}"
                )
            kernel = layer.kernel
            if not kernel.trainable:
                continue
            rows = int(np.prod(kernel.shape[: getattr(layer, "num_contracted", 1)]))
            shape = rows, int(np.prod(kernel.shape)) // rows
            self._check_sizes(layer, shape)
            # Nested models may have layers of the same path.
            found[id(kernel)] = kernel, shape
        if not found:
            layers = [x for x in compat.layers_of(self.model) if isinstance(x, keras.layers.Dense | Projection)]
            paths = [layer.path for layer in layers if layer.kernel.trainable]
            raise ValueError(
                f"`layers` must match trainable kernels of the model, such as {paths[:4]}. "
                f"Received: layers={self.layers}"
            )
        return list(found.values())

    def _check_sizes(self, layer, shape):
        if self.pattern == UNSTRUCTURED:
            return
        sizes = (4, 1) if self.pattern == TWO_OF_FOUR else self.pattern
        if any(x % y for x, y in zip(shape, sizes, strict=True)):
            raise ValueError(
                f"`pattern` must divide the kernels, as matrices of (inputs, outputs); leave others out by `layers`. "
                f"Received: pattern={self.pattern!r}, and {layer.path} with {shape}"
            )
