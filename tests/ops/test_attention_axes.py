import itertools

import numpy as np
import pytest

from keras_attn.ops.attention_axes import AttentionAxes

SHAPES = {3: (2, 5, 13), 4: (2, 3, 5, 13), 5: (2, 3, 5, 7, 13)}
FOLDS = [
    (rank, axes)
    for rank in SHAPES
    for size in range(1, rank - 1)
    for axes in itertools.permutations(range(1, rank - 1), size)
]


@pytest.mark.parametrize(("rank", "chosen"), FOLDS)
def test_fold_puts_the_attended_axes_on_one_and_unfold_takes_them_back(rank, chosen):
    x = np.random.default_rng(0).normal(size=SHAPES[rank]).astype("float32")
    axes = AttentionAxes(rank, chosen)
    folded = np.asarray(axes.fold(x))
    others = [axis for axis in range(rank - 1) if axis not in chosen]
    for index in itertools.product(*(range(size) for size in x.shape[:-1])):
        row = np.ravel_multi_index([index[a] for a in others], [x.shape[a] for a in others])
        column = np.ravel_multi_index([index[a] for a in chosen], [x.shape[a] for a in chosen])
        np.testing.assert_array_equal(folded[row, column], x[index])
    np.testing.assert_array_equal(axes.unfold(folded, x), x)
    mask = x[..., 0] > 0
    np.testing.assert_array_equal(axes.fold_padding(mask), folded[..., 0] > 0)


@pytest.mark.parametrize("axes", [(0,), (-1,), (3,), ()])
def test_axes_lie_between_batch_and_channels(axes):
    with pytest.raises(ValueError, match="`attention_axes` must lie between"):
        AttentionAxes(4, axes)
