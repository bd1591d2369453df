import numpy as np
import pytest
import tensorflow as tf

from keras_attn.training import mask_tokens

V, MASK, SPECIAL = 211, 4, (0, 1, 2, 3)
SETTINGS = {"ignore_id": 0, "mask_id": MASK, "vocabulary_size": V, "special_ids": SPECIAL}
RNG = np.random.default_rng(3)
LENGTHS = RNG.integers(40, 90, (257, 1))
IDS = np.where(np.arange(90) < LENGTHS, RNG.integers(5, V, (257, 90)), 0)
IDS[:, 0] = 2


def masked(ids=IDS, step=0, **settings):
    return [np.asarray(x) for x in mask_tokens(ids, step, **{**SETTINGS, **settings})]


def test_labels_are_the_hidden_ids_and_others_stay():
    ids, labels = masked()
    assert ids.dtype == labels.dtype == "int32"
    np.testing.assert_array_equal(labels[labels != 0], IDS[labels != 0])
    np.testing.assert_array_equal(ids[labels == 0], IDS[labels == 0])


def test_special_ids_are_neither_chosen_nor_put_in():
    ids, labels = masked(rate=1.0)
    assert np.all((labels != 0) == (IDS > 4))
    assert set(np.unique(ids[labels != 0])) <= {*range(5, V), MASK}


def test_shares_are_devlins():
    ids, labels = masked(rate=0.3)
    chosen = labels != 0
    # Five standard deviations of some 16,000 and 5,000 draws.
    assert chosen.sum() / (IDS > 4).sum() == pytest.approx(0.3, abs=0.019)
    parts = (ids == MASK, (ids != MASK) & (ids != labels), ids == labels)
    for part, share in zip(parts, (0.8, 0.1, 0.1), strict=True):
        assert part[chosen].mean() == pytest.approx(share, abs=0.03)


def test_replacements_and_places_are_spread_evenly():
    ids, labels = masked(rate=1.0)
    replaced = ids[(labels != 0) & (ids != MASK) & (ids != labels)]
    counts = np.bincount(replaced, minlength=V)[5:]
    assert counts.min() > 0
    assert counts.max() < 4 * counts.mean()
    by_place = (masked(rate=0.5)[1] != 0)[:, 1:40].mean(0)
    assert np.all(np.abs(by_place - 0.5) < 5 * 0.5 / 257**0.5)


def test_a_row_is_masked_in_the_same_way_whatever_is_beside_or_behind_it():
    ids, labels = masked(step=5)
    alone, alone_labels = masked(IDS[7:8, : LENGTHS[7, 0]], step=5)
    np.testing.assert_array_equal(alone, ids[7:8, : LENGTHS[7, 0]])
    np.testing.assert_array_equal(alone_labels, labels[7:8, : LENGTHS[7, 0]])


def test_step_and_seed_change_the_choice():
    choices = [masked(step=step, seed=seed)[1] != 0 for step, seed in ((0, 0), (1, 0), (0, 1), (123456, 0))]
    for i, a in enumerate(choices):
        for b in choices[:i]:
            # As often together as independent choices are: 0.15 ** 2 / 0.15.
            assert (a & b).sum() / a.sum() == pytest.approx(0.15, abs=0.05)


def test_in_a_dataset():
    dataset = tf.data.Dataset.from_tensor_slices(IDS[:6]).batch(3).enumerate()
    for step, result in enumerate(dataset.map(lambda step, ids: mask_tokens(ids, step, **SETTINGS))):
        for actual, expected in zip(result, masked(IDS[3 * step : 3 * step + 3], step), strict=True):
            np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rate": 0}, "`rate` must be above 0, and 1 at most. Received: rate=0"),
        ({"mask_id": V}, rf"`mask_id` must hold ids .* 0 to {V - 1}. Received: \[{V}\]"),
        ({"seed": -1}, "`seed` must be a non-negative integer. Received: seed=-1"),
        ({"ignore_id": 7}, "`ignore_id` must be a special id, or outside of the vocabulary. Received: ignore_id=7"),
        ({"special_ids": range(V)}, f"`special_ids` must leave some ids. Received: all {V} of them"),
    ],
)
def test_bad_arguments(settings, message):
    with pytest.raises(ValueError, match=message):
        masked(**settings)


def test_places_of_the_hidden_tokens():
    """A length that suffices for all selects the same as no limit; a shorter one selects some of them."""
    ids, labels = masked(rate=0.3)
    all_ids, places, chosen = masked(rate=0.3, mask_selection_length=100)
    np.testing.assert_array_equal(all_ids, ids)
    assert places.shape == chosen.shape == (257, 100)
    assert places.dtype == chosen.dtype == "int32"
    for row in range(257):
        (expected,) = np.nonzero(labels[row])
        np.testing.assert_array_equal(places[row], np.pad(expected, (0, 100 - len(expected))))
        np.testing.assert_array_equal(chosen[row], np.pad(labels[row][expected], (0, 100 - len(expected))))
    few_ids, few_places, few = masked(rate=0.3, mask_selection_length=4)
    is_hidden = np.zeros_like(IDS, bool)
    np.put_along_axis(is_hidden, few_places, few != 0, axis=1)
    np.testing.assert_array_equal(few_ids, np.where(is_hidden, ids, IDS))
    np.testing.assert_array_equal(few, np.take_along_axis(IDS, few_places, axis=1) * (few != 0))
    assert ((few != 0).sum(1) == np.minimum((labels != 0).sum(1), 4)).all()
    # Wherever in the row they are.
    assert np.abs(few_places / LENGTHS).mean() == pytest.approx(0.5, abs=0.05)
    with pytest.raises(ValueError, match="`mask_selection_length` must be a positive integer"):
        masked(mask_selection_length=0)


def test_places_in_a_map_over_short_rows():
    def choose(ids):
        return mask_tokens(ids, 3, **SETTINGS, rate=0.5, mask_selection_length=9)

    rows = np.array([[2, 7, 8, 9, 3], [2, 9, 3, 0, 0]], "int32")
    data = tf.data.Dataset.from_tensors(rows).map(lambda ids: choose(tf.ensure_shape(ids, (None, None))))
    for a, b in zip(next(data.as_numpy_iterator()), choose(rows), strict=True):
        np.testing.assert_array_equal(a, b)
