"""Records out of tables: by column, or refused; never the names of the columns."""

import numpy as np
import pytest

from keras_attn.export import export
from keras_attn.text import BytePairTokenizer, CharacterTokenizer
from keras_attn.training import (
    ExactMatch,
    LabelledTextDataset,
    ParallelTextDataset,
    Records,
    TextDataset,
    TextEvaluation,
    TokenBlockDataset,
)

TOKENIZER = CharacterTokenizer("abcdefghijklmnopqrstuvwxyz ")
COLUMNS = {"text": ["first text", "a second", "third"], "source": ["x", "y", "z"], "label": [2, 0, 1]}


class Column:
    """A column of another library."""

    def __init__(self, values):
        self._values = values

    def __len__(self):
        return len(self._values)

    def __getitem__(self, index):
        return self._values[index]

    def to_list(self):
        return list(self._values)


class Frame:
    """A DataFrame of another library: iterated, it gives the names of its columns."""

    def __init__(self, columns):
        self._columns, self.columns = columns, list(columns)

    def __len__(self):
        return len(next(iter(self._columns.values())))

    def __iter__(self):
        return iter(self._columns)

    def __getitem__(self, name):
        return Column(self._columns[name])


def arrays(columns):
    return {name: np.array(values) for name, values in columns.items()}


def rows(columns):
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


KINDS = {"dict": dict, "arrays": arrays, "frame": Frame, "rows": rows}


@pytest.fixture(params=KINDS)
def table(request):
    return KINDS[request.param](COLUMNS)


def batch(dataset):
    iterator = dataset.batches()
    found = next(iterator)
    iterator.close()
    return found


def texts(dataset, name="token_ids"):
    return TOKENIZER.decode(batch(dataset)[0][name])


OPTIONS = {"batch_size": 3, "shuffle": False, "num_shapes": 1}


def test_data_sets_read_columns(table):
    assert texts(TextDataset(table, TOKENIZER, **OPTIONS)) == COLUMNS["text"]
    assert texts(TextDataset(table, TOKENIZER, columns=["source"], **OPTIONS)) == COLUMNS["source"]
    pairs = ParallelTextDataset(table, TOKENIZER, columns=["source", "text"], **OPTIONS)
    assert (texts(pairs, "source_ids"), texts(pairs, "target_ids")) == (COLUMNS["source"], COLUMNS["text"])
    labelled = LabelledTextDataset(table, TOKENIZER, **OPTIONS)
    assert (texts(labelled), batch(labelled)[1].tolist()) == (COLUMNS["text"], [2, 0, 1])
    joined = LabelledTextDataset(table, TOKENIZER, columns=["source", "text", "label"], **OPTIONS)
    assert texts(joined)[0] == "x first text"
    blocks = TokenBlockDataset.from_records(table, TOKENIZER, 4, 1, columns=["source"])
    assert blocks.ids.tolist() == [i for ids in TOKENIZER.tokenize(COLUMNS["source"]) for i in (*ids, 3)]


@pytest.mark.parametrize("kind", ["dict", "arrays", "frame"])
def test_records_read_columns(kind, tmp_path):
    table = KINDS[kind](COLUMNS)
    expected = [("first text", "x", "2"), ("a second", "y", "0"), ("third", "z", "1")]
    assert list(Records(table)) == expected
    assert list(Records(table, columns=["label", "text"])) == [(label, text) for text, _, label in expected]
    assert list(Records(table, columns=[1])) == [("x",), ("y",), ("z",)]
    assert list(Records([table, table], columns=["source"])) == [("x",), ("y",), ("z",)] * 2
    (tmp_path / "a.txt").write_text("1\n2\n3\n")
    assert list(Records({"text": COLUMNS["text"]}, tmp_path / "a.txt"))[1] == ("a second", "2")


@pytest.mark.parametrize(
    ("columns", "source", "target"),
    [
        ({"de": ["ein"], "en": ["one"]}, "ein", "one"),
        ({"target": ["one"], "de": ["ein"]}, "ein", "one"),
        ({"id": ["no"], "target": ["one"], "source": ["ein"]}, "ein", "one"),
    ],
)
def test_usual_names_come_before_the_order(columns, source, target):
    data = ParallelTextDataset(columns, TOKENIZER, batch_size=1)
    assert (texts(data, "source_ids"), texts(data, "target_ids")) == ([source], [target])


def test_fields_of_a_column_of_dicts():
    table = {"id": [1, 2], "translation": [{"de": "ein", "en": "one"}, {"de": "zwei", "en": "two"}]}
    columns = ["translation.en", "translation.de"]
    for given in (table, Frame(table), rows(table), iter(rows(table))):
        data = ParallelTextDataset(given, TOKENIZER, columns=columns, **OPTIONS)
        assert texts(data, "source_ids")[:2] == ["one", "two"]


def test_malformed_values_are_named_and_may_be_skipped():
    table = {"text": ["a", None, "", 5, 1.5, np.array("b")], "label": [0, 1, 0, 1, 1, np.int64(1)]}
    with pytest.raises(ValueError, match="record 1: field 'text' must be a string or an integer, got NoneType"):
        TextDataset(table, TOKENIZER, batch_size=1)
    with pytest.warns(UserWarning, match="^3 of 6 .* record 1: .*; record 2: a text is empty; record 4: .* got float"):
        assert list(Records(table, on_error="skip")) == [("a", "0"), ("5", "1"), ("b", "1")]


class Split(Frame):
    """Two columns of one name."""

    def __init__(self):
        super().__init__({"text": ["a"]})
        self.columns = ["text", "text"]


class Lazy:
    columns = ("text",)

    def __getitem__(self, name):
        raise NotImplementedError

    def collect(self):
        raise NotImplementedError


PLAIN = {"a": ["x"], "b": ["y"]}


@pytest.mark.parametrize(
    ("table", "columns", "message"),
    [
        (
            PLAIN,
            None,
            r"must have a column for text: select them with `columns=\[...\]`. Received: columns \['a', 'b'\]",
        ),
        (Frame(PLAIN), ["c"], r"`columns` must be among \['a', 'b'\]. Received: \['c'\]"),
        (PLAIN, [2], r"`columns` must be among \['a', 'b'\]. Received: \[2\]"),
        (PLAIN, "a", "`columns` must be a list of names"),
        (PLAIN, [], "`columns` must be a list of names"),
        ({"text": ["x"], "b": []}, None, r"columns of equal length. Received: {'text': 1, 'b': 0}"),
        ({"text": "x"}, None, "a list or an array for each column. Received: str for 'text'"),
        ({"text": {"x"}}, None, "a list or an array for each column. Received: set for 'text'"),
        ({"train": PLAIN}, None, r"must be one table, such as `records\['train'\]`"),
        ({}, None, "must have columns"),
        (Split(), None, "select them with"),
        (Split(), ["text"], r"names that occur once. Received: \['text'\]"),
        (Lazy(), None, r"call `collect\(\)` first. Received: a Lazy"),
        (["x"], ["text"], "`columns` must be None for records without names"),
        (Records(PLAIN), ["a"], "`columns` must be passed to `Records`"),
        (Records(PLAIN), None, "expected 1 texts, got 2; select them with `columns`"),
        (Records(Split()), None, "names that occur once"),
        ([{"text": "a"}, {"other": "a"}], None, "record 1: no field 'text'"),
    ],
)
def test_tables_that_do_not_fit(table, columns, message):
    with pytest.raises(ValueError, match=message):
        TextDataset(table, TOKENIZER, columns=columns, batch_size=1)


@pytest.mark.parametrize(
    "use",
    [
        lambda table: TOKENIZER.encode(table),
        lambda table: BytePairTokenizer.train(table, 260),
        lambda table: TextEvaluation(table, ["a"], [ExactMatch()]),
        lambda table: ExactMatch()(table, ["a"]),
    ],
)
def test_a_table_is_no_list_of_texts(use):
    with pytest.raises(ValueError, match=r"one column of a table. Received: a Frame with columns \['text'\]"):
        use(Frame({"text": ["a"]}))


def test_samples_of_an_export_are_no_data_frame(tmp_path):
    import keras

    inputs = keras.Input((3,), name="x")
    with pytest.raises(ValueError, match="`samples` must be a list, such as one column"):
        export(
            keras.Model(inputs, keras.layers.Dense(2)(inputs)), tmp_path, "onnx", tasks="forward", samples=Frame(PLAIN)
        )
