"""LoRA on a whole model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras

from keras_attn import compat
from keras_attn.argument_checks import check_positive
from keras_attn.layers import Projection
from keras_attn.layers.base.freezable import set_own_trainable
from keras_attn.layers.base.lora import Lora

# The layers of a classifier.
_HEAD = ("pooler", "pooler_norm", "classifier", "head")


def enable_lora(
    model: keras.Model,
    rank: int,
    alpha: float | None = None,
    targets: Sequence[str] = ("query", "value"),
    trained: Sequence[str] = _HEAD,
) -> None:
    """Freezes a model, and gives LoRA to some of its projections: `kernel + alpha / rank * A B`.

    As in PEFT: `A` is `(inputs, rank)`, drawn at random, `B` is `(rank, outputs)`, zeros, and biases of these
    projections are frozen too. Call it before the model is compiled, or passed to a `Trainer`.

    Args:
        model: A model of this package.
        rank: The rank.
        alpha: The scale, times the rank. Defaults to `rank`.
        targets: How the paths of the projections end, such as "query", "attention_output", "intermediate" or
            "encoder_0/feed_forward/network/output".
        trained: How the paths of other layers begin that stay as they are. Defaults to the layers of a classifier.

    Raises:
        ValueError: If an argument is invalid, or a projection has LoRA already.

    Reference:
        [Hu et al., 2021](https://arxiv.org/abs/2106.09685)

    Example:

    >>> from keras_attn.models import EncoderModel
    >>> from keras_attn.pretrained import enable_lora
    >>> model = EncoderModel(100, 2, 16, 2, 32, head="sequence_classification", num_classes=3)
    >>> enable_lora(model, rank=4, alpha=8)
    >>> sorted({x.name for x in model.trainable_variables})
    ['bias', 'kernel', 'lora_kernel_a', 'lora_kernel_b']
    """
    check_positive(rank=rank)
    if alpha is not None and not alpha > 0:
        raise ValueError(f"`alpha` must be a positive number or None. Received: alpha={alpha!r}")
    paths = {
        path_of(layer): layer for layer in compat.layers_of(model) if isinstance(layer, Projection) and layer.built
    }
    chosen = {path: layer for path, layer in paths.items() if any(_ends(path, x) for x in targets)}
    unknown = [x for x in targets if not any(_ends(path, x) for path in paths)]
    if isinstance(targets, str) or unknown or not chosen:
        names = sorted({path.rpartition("/")[2] for path in paths})
        raise ValueError(
            f"`targets` must be a list of ends of paths of projections, such as {names}. Received: targets={targets!r}"
        )
    if adapted := sorted(path for path, layer in paths.items() if layer.lora_enabled):
        raise ValueError(f"`model` must have no LoRA yet: call `merge_lora(model)` first. Received: {adapted}")
    for layer in chosen.values():
        layer.enable_lora(rank, lora_alpha=alpha, as_matrix=True)
    freeze(model, lambda layer: layer in chosen.values() or any(_begins(path_of(layer), x) for x in trained))


def merge_lora(model: keras.Model) -> None:
    """Adds the products of the LoRA matrices of all layers to their weights, and removes the matrices.

    Frozen layers stay frozen.

    Args:
        model: A model.
    """
    for layer in compat.layers_of(model):
        if isinstance(layer, Lora):
            layer.merge_lora()


def path_of(layer: keras.layers.Layer) -> str:
    """The path of a layer, as that of its variables."""
    return layer.variables[0].path.rpartition("/")[0] if layer.variables else layer.path or layer.name


def freeze(model: keras.Model, is_exempt: Callable[[keras.layers.Layer], bool]) -> None:
    """Freezes all layers except some, which keep their state."""
    for layer in compat.layers_of(model, include_self=False):
        # Composite layers without weights of their own would only hide what is below.
        if own_weights(layer) and not is_exempt(layer):
            set_own_trainable(layer, False)


def own_weights(layer: keras.layers.Layer) -> list[Any]:
    """The weights of a layer without those of its sub-layers."""
    below = {id(x) for sub in compat.sublayers_of(layer) for x in sub.weights}
    return [x for x in layer.weights if id(x) not in below]


def _ends(path, target):
    return path == target or path.endswith(f"/{target}")


def _begins(path, prefix):
    return path == prefix or path.startswith(f"{prefix}/")
