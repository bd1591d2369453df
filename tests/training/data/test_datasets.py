"""Batches: their order, their shapes, and what stands in them."""

import gc
import threading
import time

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_attn.text import BytePairTokenizer, CharacterTokenizer
from keras_attn.training import (
    CallableTokenizer,
    Dataset,
    LabelledTextDataset,
    MaskedCrossEntropy,
    ParallelTextDataset,
    Records,
    TextDataset,
    TokenBlockDataset,
    mask_tokens,
)
from keras_attn.training.data.batch_shapes import BatchSizes, batch_shapes
from keras_attn.training.data.prefetched import Prefetched, _end_all

TOKENIZER = CharacterTokenizer("0123456789,")
RNG = np.random.default_rng(7)
# Each text begins with its own number, by which a row is recognised.
TEXTS = [f"{i}," + "5" * int(n) for i, n in enumerate(RNG.gamma(2.0, 5.0, 307))]
PAIRS = [
    (text, f"{i}," + "7" * int(n)) for i, (text, n) in enumerate(zip(TEXTS, RNG.gamma(2.0, 4.0, 307), strict=True))
]


def parallel(**options):
    if "batch_size" not in options:
        options = {"tokens_per_batch": 500, **options}
    return ParallelTextDataset(PAIRS, TOKENIZER, **{"seed": 3, **options})


def texts(**options):
    return TextDataset(TEXTS, TOKENIZER, **{"batch_size": 12, "seed": 5, **options})


def labelled(**options):
    records = [(text, len(text) % 3) for text in TEXTS]
    return LabelledTextDataset(records, TOKENIZER, **{"tokens_per_batch": 600, "seed": 1, **options})


def blocks(**options):
    return TokenBlockDataset(np.arange(1013, dtype=np.uint16), 7, 12, **{"seed": 2, **options})


def mapped(**options):
    def noisy(batch, number):
        inputs, *rest = batch
        noise = np.random.default_rng(number).integers(9, size=inputs["token_ids"].shape, dtype=np.int32)
        return {"token_ids": inputs["token_ids"] + noise}, *rest

    return texts(**options).map(noisy)


KINDS = [parallel, texts, labelled, blocks, lambda **o: blocks(shuffle=False, **o), mapped]
kinds = pytest.mark.parametrize("make", KINDS, ids=["parallel", "text", "labelled", "blocks", "consecutive", "mapped"])


def take(dataset, count, *args, **kwargs):
    iterator = dataset.batches(*args, **kwargs)
    batches = [next(iterator) for _ in range(count)]
    iterator.close()
    return batches


def assert_equal(xs, ys):
    assert len(xs) == len(ys)
    for x, y in zip(keras.tree.flatten(xs), keras.tree.flatten(ys), strict=True):
        np.testing.assert_array_equal(x, y)
        assert (x.dtype, x.shape) == (y.dtype, y.shape)


@kinds
def test_a_resumed_run_sees_the_same_batches(make):
    size = len(make())
    whole = take(make(), 2 * size + 3)
    for start in (1, size - 1, size, size + 1, 2 * size):
        # Another object, as in another process.
        assert_equal(take(make(), len(whole) - start, start), whole[start:])


@kinds
def test_shards_are_slices_of_the_same_batch(make):
    size = len(make())
    for num_shards in (2, 4):
        shards = [take(make(), size + 1, size // 2, shard, num_shards) for shard in range(num_shards)]
        joined = [
            keras.tree.map_structure(lambda *arrays: np.concatenate(arrays), *parts)
            for parts in zip(*shards, strict=True)
        ]
        assert_equal(joined, take(make(), size + 1, size // 2))
        assert len({array.shape for part in shards for array in keras.tree.flatten(part[0])}) <= 2


@kinds
def test_epochs_end(make):
    data = make(epochs=2)
    batches = list(data.batches())
    assert len(batches) == 2 * len(data)
    assert_equal(list(data.batches(2 * len(data) - 1)), batches[-1:])
    assert list(data.batches(2 * len(data))) == []
    with pytest.raises(ValueError, match=f"`start` must be at most {2 * len(data)}"):
        data.batches(2 * len(data) + 1)


@kinds
def test_tf_data_has_the_same_batches(make):
    data = make(epochs=1)
    dataset = data.as_tf_dataset()
    assert dataset.cardinality() == len(data)
    assert make().as_tf_dataset().cardinality() == -1
    assert dataset.options().autotune.enabled is False
    assert all(spec.shape[0] is None for spec in keras.tree.flatten(dataset.element_spec))
    batches = [keras.tree.map_structure(lambda tensor: tensor.numpy(), batch) for batch in dataset]
    assert_equal(batches, list(data.batches()))
    rest = [keras.tree.map_structure(lambda tensor: tensor.numpy(), batch) for batch in data.as_tf_dataset(3)]
    assert_equal(rest, batches[3:])


def numbers(rows):
    """The number that each row of ids begins with, without rows of padding."""
    found = TOKENIZER.decode(rows)
    return [int(text.split(",")[0]) for text in found if text]


@pytest.mark.parametrize("make", [parallel, texts, labelled], ids=["parallel", "text", "labelled"])
@pytest.mark.parametrize("shuffle", [True, False])
def test_every_example_is_in_every_epoch_once(make, shuffle):
    data = make(shuffle=shuffle)
    batches = take(data, 2 * len(data))
    orders = []
    for epoch in (batches[: len(data)], batches[len(data) :]):
        rows = [next(iter(inputs.values())) for inputs, *_ in epoch]
        orders.append([number for matrix in rows for number in numbers(matrix)])
        assert sorted(orders[-1]) == list(range(len(TEXTS)))
    assert (orders[0] == orders[1]) == (not shuffle)
    assert data.summary.examples == data.summary.records == len(TEXTS)


def test_another_seed_is_another_order():
    first, other = (numbers(take(texts(seed=seed), 1)[0][0]["token_ids"]) for seed in (1, 2))
    assert first != other


@pytest.mark.parametrize(
    "options", [{"tokens_per_batch": 500}, {"tokens_per_batch": 999, "row_multiple": 3}, {"batch_size": 24}]
)
def test_few_shapes_within_the_budget(options):
    fills = []
    for num_shapes in (1, 5, 8):
        data = parallel(num_shapes=num_shapes, epochs=1, **options)
        shapes = {(*inputs["source_ids"].shape, *inputs["target_ids"].shape) for inputs, _ in data.batches()}
        assert shapes == {(rows, source, rows, target) for rows, (source, target) in data.summary.shapes}
        assert len(shapes) <= num_shapes
        for rows, source, _, target in shapes:
            if "batch_size" in options:
                assert rows == options["batch_size"]
            else:
                assert rows * max(source, target) <= options["tokens_per_batch"]
                assert rows % options.get("row_multiple", 8) == 0
        cells = sum(sum(x.size for x in inputs.values()) for inputs, _ in data.batches())
        real = sum(sum((x != 0).sum() for x in inputs.values()) for inputs, _ in data.batches())
        assert data.summary.padding_share == pytest.approx(1 - real / cells)
        assert data.summary.tokens == real
        fills.append(real / cells)
    assert fills[0] < fills[1] <= fills[2]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60)), min_size=1, max_size=200),
    st.integers(1, 9),
    st.sampled_from([1, 3, 8]),
    st.integers(0, 400),
)
def test_shapes_hold_each_example_once(widths, num_shapes, multiple, more):
    widths = np.array(widths)
    budget = int(widths.max()) * multiple + more
    shapes = batch_shapes(widths, BatchSizes(None, budget, multiple), num_shapes)
    assert 1 <= len(shapes) <= num_shapes
    assert sorted(np.concatenate([shape.members for shape in shapes])) == list(range(len(widths)))
    for shape in shapes:
        assert tuple(widths[shape.members].max(axis=0)) == shape.widths
        assert shape.rows % multiple == 0
        assert shape.rows * max(shape.widths) <= budget
        # Less than a multiple of rows of padding a batch, and no batch of padding alone.
        assert 0 <= shape.rows * shape.batches - len(shape.members) < shape.batches * multiple
        assert shape.batches <= len(shape.members)


def test_parallel_batches_are_what_the_tokenizer_gives():
    for inputs, labels in parallel(epochs=1).batches():
        for source, target, label in zip(inputs["source_ids"], inputs["target_ids"], labels, strict=True):
            (number,) = numbers(source[None]) or (None,)
            if number is None:
                assert not source.any()
                assert not target.any()
                assert not label.any()
                continue
            text, output = (TOKENIZER.tokenize([text])[0] for text in PAIRS[number])
            start, end = TOKENIZER.start_id, TOKENIZER.end_id
            np.testing.assert_array_equal(source, np.pad(text, (0, len(source) - len(text))))
            np.testing.assert_array_equal(target, np.pad([start, *output], (0, len(target) - len(output) - 1)))
            np.testing.assert_array_equal(label, np.pad([*output, end], (0, len(label) - len(output) - 1)))


def test_where_end_and_padding_are_one_id_labels_tell_them_apart():
    tokenizer = BytePairTokenizer.train(["c"], 257, add_start=True)
    end = tokenizer.end_id
    assert end == tokenizer.pad_id
    with pytest.raises(ValueError, match="`ignore_id` must differ from the end id"):
        TextDataset(["ab"], tokenizer, batch_size=1, ignore_id=end)
    ((inputs, labels),) = take(TextDataset(["c", "ab"], tokenizer, batch_size=2, shuffle=False), 1)
    (c,), (a, b) = tokenizer.tokenize(["c", "ab"])
    assert inputs["token_ids"].tolist() == [[end, c, end], [end, a, b]]
    assert labels.tolist() == [[c, end, -100], [a, b, end]]


def test_tokens_are_masked_anew_in_each_batch():
    data = TextDataset(TEXTS, TOKENIZER, batch_size=16, causal=False, epochs=2)

    def masked(batch, number):
        ids, labels = mask_tokens(batch[0]["token_ids"], number, mask_id=1, vocabulary_size=15, special_ids=range(4))
        return {"token_ids": ids}, labels

    hidden = []
    for (inputs, same), (changed, labels) in zip(data.batches(), data.map(masked).batches(), strict=True):
        ids = inputs["token_ids"]
        np.testing.assert_array_equal(ids, same)
        np.testing.assert_array_equal(np.where(labels < 0, changed["token_ids"], labels), ids)
        hidden.append((labels >= 0).sum() / (ids != 0).sum())
    assert 0.13 < np.mean(hidden) < 0.17
    assert isinstance(labels, np.ndarray)


def test_classes_and_weights():
    data = labelled(epochs=1)
    assert data.labels == ["0", "1", "2"]
    seen = 0
    for inputs, labels, weights in data.batches():
        found = TOKENIZER.decode(inputs["token_ids"])
        np.testing.assert_array_equal(weights, [bool(text) for text in found])
        np.testing.assert_array_equal(labels, [len(text) % 3 for text in found])
        seen += int(weights.sum())
    assert seen == len(TEXTS)
    assert (labels.dtype, weights.dtype) == ("int32", "float32")


def test_several_texts_are_joined_before_the_label():
    data = LabelledTextDataset(
        [("1", "2", "b"), ("3", "4", "a")], lambda texts: [[len(t)] for t in texts], batch_size=2
    )
    assert take(data, 1)[0][0]["token_ids"].tolist() == [[3], [3]]


def test_too_long_texts_are_cut_or_dropped_and_counted():
    long = ["1234567", "12", "12345"]
    data = TextDataset(long, TOKENIZER, max_length=5, batch_size=3, shuffle=False)
    ((_, labels),) = take(data, 1)
    assert (data.summary.truncated, data.summary.dropped, data.summary.examples) == (1, 0, 3)
    # Cut in the middle, a text has no end; whole, it has one.
    assert TOKENIZER.decode(labels) == ["23456", "2", "2345"]
    assert (labels == TOKENIZER.end_id).sum(axis=1).tolist() == [0, 1, 1]
    data = ParallelTextDataset(
        [(t, "1") for t in long] + [("1", t) for t in long], TOKENIZER, max_length=5, batch_size=3
    )
    assert (data.summary.records, data.summary.dropped, data.summary.examples) == (6, 3, 3)


def test_functions_are_tokenizers():
    lookup = keras.layers.TextVectorization(vocabulary=["a", "b", "c"])
    tokenizer = CallableTokenizer(lookup, start_id=5, end_id=6)
    assert tokenizer.tokenize(["a b c", "c", ""]) == [[2, 3, 4], [4], []]
    data = ParallelTextDataset([("a b", "c")], tokenizer, batch_size=1)
    inputs, labels = take(data, 1)[0]
    assert (inputs["target_ids"].tolist(), labels.tolist()) == ([[5, 4]], [[4, 6]])
    import tensorflow as tf

    assert CallableTokenizer(lambda texts: tf.ragged.constant([[7], [8, 9]])).tokenize(["", ""]) == [[7], [8, 9]]


@pytest.mark.parametrize(("row", "words"), [([7, 8, 3], r"the end ids, \(3,\)"), ([2, 7, 8], r"the start ids, \(2,\)")])
def test_a_function_that_frames_texts_is_not_framed_again(row, words):
    tokenizer = CallableTokenizer(lambda texts: [row for _ in texts], start_id=2, end_id=3)
    with pytest.raises(ValueError, match=words):
        ParallelTextDataset([("a", "b"), ("c", "d")], tokenizer, batch_size=1)


def test_random_blocks_are_windows_of_the_text():
    starts = []
    for inputs, labels in take(blocks(), 1500):
        np.testing.assert_array_equal(labels, inputs["token_ids"] + 1)
        assert labels.shape == (12, 7)
        starts.extend(inputs["token_ids"][:, 0].tolist())
    assert set(starts) == set(range(1013 - 7))


def test_consecutive_blocks_have_each_label_once():
    batches = list(blocks(shuffle=False, epochs=1).batches())
    labels = np.concatenate([labels[weights == 1] for _, labels, weights in batches])
    np.testing.assert_array_equal(labels, np.arange(1, 1013))


def test_blocks_of_records():
    data = TokenBlockDataset.from_records(["12", "345"], TOKENIZER, 3, 1, shuffle=False)
    assert data.ids.tolist() == [*TOKENIZER.tokenize(["12"])[0], 3, *TOKENIZER.tokenize(["345"])[0], 3]


@kinds
def test_fingerprints_tell_data_apart(make):
    assert make().fingerprint == make().fingerprint
    assert isinstance(make().fingerprint, str)


def test_fingerprints_of_other_data():
    prints = {data.fingerprint for data in (*(kind() for kind in KINDS[:5]), texts(seed=6), texts(batch_size=4))}
    changed = [TEXTS[0].replace("5", "6"), *TEXTS[1:]]
    prints |= {TextDataset(changed, TOKENIZER, batch_size=12, seed=5).fingerprint, blocks(seed=9).fingerprint}
    assert len(prints) == 9


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: texts(tokens_per_batch=8), "One of `batch_size` and `tokens_per_batch`"),
        (lambda: texts(batch_size=None), "One of `batch_size` and `tokens_per_batch`"),
        (lambda: texts(batch_size=0), "`batch_size` must be a positive integer"),
        (lambda: texts(epochs=0), "`epochs` must be a positive integer"),
        (lambda: texts(seed=-1), "`seed` must be a non-negative integer"),
        (lambda: texts(max_length=1.5), "`max_length` must be a positive integer"),
        (lambda: texts(too_long="cut"), "`too_long` must be one of"),
        (lambda: texts(tokens_per_batch=64, batch_size=None), "must be at least .* 8 rows of the longest example"),
        (lambda: TextDataset([], TOKENIZER, batch_size=1), "must contain an example. Received: 0 records"),
        (lambda: TextDataset("text", TOKENIZER, batch_size=1), "`records` must be"),
        (lambda: TextDataset([("a", "b")], TOKENIZER, batch_size=1), "record 0: expected 1 texts, got 2"),
        (lambda: TextDataset([None], TOKENIZER, batch_size=1), "record 0: expected texts"),
        (lambda: TextDataset(["a"], lambda texts: [["x"]], batch_size=1), "must return a row of ids"),
        (lambda: TextDataset(["a"], lambda texts: [], batch_size=1), "must return a row of ids"),
        (lambda: TextDataset(["a"], lambda texts: [[]], batch_size=1), "record 0: a text has too few tokens"),
        (lambda: ParallelTextDataset(PAIRS, lambda texts: texts, batch_size=1), "a `start_id` and an `end_id`"),
        (
            lambda: ParallelTextDataset(PAIRS, TOKENIZER, batch_size=1, max_length=1),
            "307 records, 0 malformed and 307 too long",
        ),
        (lambda: LabelledTextDataset([("1",)], TOKENIZER, batch_size=1), "expected a text and a label"),
        (lambda: LabelledTextDataset([("1", "a")], TOKENIZER, ["a", "a"], batch_size=1), "must be unique"),
        (lambda: TokenBlockDataset(np.arange(3), 3, 1), "`ids` must be longer than a block of 3"),
        (lambda: TokenBlockDataset(np.ones(9), 3, 1), "`ids` must be integers of rank 1"),
        (lambda: CallableTokenizer("x"), "`function` must be callable"),
        (lambda: CallableTokenizer(len, pad_id=None), "Special ids must be"),
        (lambda: texts().batches(-1), "`start` must be a non-negative integer"),
        (lambda: texts().batches(0, 2, 2), "`shard` must be below `num_shards`"),
        (lambda: texts().batches(0, 0, 5), "`num_shards` must divide 12"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def live_threads():
    return [thread for thread in threading.enumerate() if thread.name == "prefetch"]


def wait_for_end(threads):
    deadline = time.monotonic() + 5
    while any(thread.is_alive() for thread in threads):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("how", ["close", "collect", "exhaust"])
def test_the_thread_ends_with_its_iterator(how):
    before = set(live_threads())
    iterator = Prefetched(iter(range(10)) if how == "exhaust" else iter(int, 1))
    threads = set(live_threads()) - before
    assert len(threads) == 1
    next(iterator)
    if how == "close":
        iterator.close()
        assert next(iterator, "end") == "end"
    elif how == "collect":
        del iterator
        gc.collect()
    else:
        assert list(iterator) == list(range(1, 10))
        assert next(iterator, "end") == "end"
    wait_for_end(threads)


def test_errors_come_out_where_the_item_would():
    def items():
        yield 1
        raise KeyError("lost")

    iterator = Prefetched(items())
    assert next(iterator) == 1
    with pytest.raises(KeyError, match="lost"):
        next(iterator)
    assert next(iterator, "end") == "end"


def test_no_more_is_made_than_asked_for():
    made = []

    def items():
        for i in range(100):
            made.append(i)
            yield i

    iterator = Prefetched(items(), depth=3)
    next(iterator)
    time.sleep(0.2)
    assert len(made) <= 6
    iterator.close()


def test_fit_takes_it():
    data = texts(epochs=3)
    model = keras.Sequential(
        [keras.layers.Embedding(TOKENIZER.vocabulary_size, 8), keras.layers.Dense(TOKENIZER.vocabulary_size)]
    )
    inputs = keras.Input((None,), dtype="int32", name="token_ids")
    model = keras.Model({"token_ids": inputs}, model(inputs))
    model.compile("adam", MaskedCrossEntropy(), jit_compile=False)
    history = model.fit(data.as_tf_dataset(), steps_per_epoch=len(data), epochs=3, shuffle=False, verbose=0)
    assert history.history["loss"][-1] < history.history["loss"][0]


def test_a_summary_prints_what_happened(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"1234\n\n12\n\xff\n123456789\n1\n")
    with pytest.warns(UserWarning, match="2 of 6"):
        data = TextDataset(Records(path, on_error="skip"), TOKENIZER, batch_size=2, max_length=6, too_long="drop")
    assert data.summary.records == data.summary.examples + data.summary.malformed + data.summary.dropped
    printed = str(data.summary)
    assert "6 records: 3 examples" in printed
    assert f"{path}:2: a text is empty" in printed


def test_own_data_needs_a_length_and_a_batch():
    class Squares(Dataset):
        row_divisor = 2

        def __len__(self):
            return 5

        def batch(self, plan, index):
            x = np.array([plan, index])
            return x, x**2

    assert [x.tolist() for x, _ in take(Squares(), 3, start=9, shard=1, num_shards=2)] == [[4], [0], [1]]
    assert Squares().fingerprint == Squares().fingerprint
    Squares.__len__ = lambda self: 0
    with pytest.raises(ValueError, match="`batches_of_an_epoch` must be a positive integer"):
        Squares().batches()


def test_no_thread_outlives_the_interpreter():
    running = [Prefetched(iter(int, 1)) for _ in range(2)]
    _end_all()
    assert not any(iterator._thread.is_alive() for iterator in running)
