"""Token masking for masked language modelling."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from keras import ops

from keras_attn.argument_checks import check_positive, check_vocabulary, is_count
from keras_attn.ops.arrays import add, axis_size
from keras_attn.ops.hashed_uniform import hashed_uniform, row_keys
from keras_attn.special_ids import NO_TOKEN
from keras_attn.typing import Tensor


def mask_tokens(
    ids: Tensor,
    step: Tensor = 0,
    *,
    mask_id: int,
    vocabulary_size: int,
    special_ids: Sequence[int] = (0,),
    rate: float = 0.15,
    seed: int = 0,
    ignore_id: int = NO_TOKEN,
    mask_selection_length: int | None = None,
) -> tuple[Tensor, ...]:
    """Selects tokens to predict, and replaces 80 % of them by `[MASK]`, 10 % by a random token, and 10 % not at all.

    The result depends only on `seed`, `step`, the row's real tokens and their positions. A row is masked in the same
    way whatever the rest of the batch, its padding and its replica, and differently at another step. The function is
    pure and also works in `tf.data.Dataset.map`. Use `MaskedCrossEntropy` as the loss.

    Args:
        ids: Integer `(B, T)`. Padding must be one of `special_ids`.
        step: Integer scalar, the number of the batch or epoch.
        mask_id: The id of `[MASK]`.
        vocabulary_size: Size of the vocabulary.
        special_ids: Ids that are never selected nor used as a replacement. `mask_id` is always one of them.
        rate: Fraction of the other tokens to select.
        seed: Integer random seed.
        ignore_id: Label of tokens that are not selected: -100, which `MaskedCrossEntropy` ignores by default, or a
            special id, the `ignore_id` of the loss.
        mask_selection_length: Optional maximum number `P` of selected tokens per row.

    Returns:
        `(masked_ids, labels)`, int32 `(B, T)`: the ids with the selected ones replaced, and the original ids at
        selected positions with `ignore_id` elsewhere. With `mask_selection_length`, `(masked_ids, mask_positions,
        labels)`, the last two int32 `(B, P)`: the selected positions in ascending order, as
        `EncoderModel(head="masked_lm")` takes them, and their original ids. If fewer are selected, the rest is 0 and
        `ignore_id`.

    Raises:
        ValueError: If an argument is not as described, or all ids are special.

    Reference:
        [Devlin et al., 2019](https://arxiv.org/abs/1810.04805), section 3.1

    Example:

    >>> import numpy as np
    >>> from keras_attn.training import mask_tokens
    >>> ids = np.array([[7, 8, 9, 10, 11, 0]])
    >>> masked, labels = mask_tokens(ids, mask_id=4, vocabulary_size=100, special_ids=(0, 1, 2, 3), rate=0.5)
    >>> bool(np.all(np.where(labels < 0, masked, labels) == ids))
    True
    """
    for name, value in (("mask_id", mask_id), ("seed", seed)):
        if not is_count(value):
            raise ValueError(f"`{name}` must be a non-negative integer. Received: {name}={value!r}")
    if not 0 < rate <= 1:
        raise ValueError(f"`rate` must be above 0, and 1 at most. Received: rate={rate!r}")
    special = tuple(sorted({*special_ids, mask_id}))
    check_vocabulary(vocabulary_size, mask_id=mask_id, special_ids=special)
    if ignore_id not in special and 0 <= ignore_id < vocabulary_size:
        raise ValueError(
            f"`ignore_id` must be a special id, or outside of the vocabulary. Received: ignore_id={ignore_id}"
        )
    ordinary = np.setdiff1d(np.arange(vocabulary_size, dtype="int32"), special)
    if not len(ordinary):
        raise ValueError(f"`special_ids` must leave some ids. Received: all {vocabulary_size} of them")

    ids = ops.cast(ops.convert_to_tensor(ids), "int32")
    real = functools.reduce(ops.logical_and, [ops.not_equal(ids, i) for i in special])
    keys, step = row_keys(ids, real), ops.cast(step, "int32")
    chosen, fate, other = (
        hashed_uniform(keys, add(ops.multiply(step, 3), draw), ops.cast(seed, "int32"), axis_size(ids, 1))
        for draw in range(3)
    )
    if mask_selection_length is not None:
        check_positive(mask_selection_length=mask_selection_length)
        places, is_used = _first_places(chosen, ops.logical_and(real, ops.less(chosen, rate)), mask_selection_length)
        chosen = ops.any(
            ops.equal(ops.expand_dims(places, -1), ops.arange(axis_size(ids, 1), dtype="int32"))
            & ops.expand_dims(is_used, -1),
            axis=1,
        )
    else:
        chosen = ops.logical_and(real, ops.less(chosen, rate))
    # Rounding must not exceed the last index.
    index = ops.minimum(ops.cast(other * len(ordinary), "int32"), len(ordinary) - 1)
    other = ops.take(ops.convert_to_tensor(ordinary), index)
    hidden = ops.where(fate < 0.8, mask_id, ops.where(fate < 0.9, other, ids))
    masked = ops.where(chosen, hidden, ids)
    if mask_selection_length is None:
        return masked, ops.where(chosen, ids, ignore_id)
    return masked, places, ops.where(is_used, ops.take_along_axis(ids, places, axis=1), ignore_id)


def _first_places(drawn, chosen, count):
    """Positions of the `count` selected tokens with the smallest random numbers, sorted, and which entries are used."""
    # A row may be shorter than `count`.
    worth = ops.pad(ops.where(chosen, 1.0 - drawn, -1.0), [[0, 0], [0, count]], constant_values=-1.0)
    worth, places = ops.top_k(worth, count)
    end = axis_size(chosen, 1)
    places = ops.sort(ops.where(worth > 0, ops.cast(places, "int32"), end), axis=-1)
    is_used = places < end
    return ops.where(is_used, places, 0), is_used
