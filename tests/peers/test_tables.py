"""Tables of other libraries are read by column."""

import pytest

from keras_attn.text import CharacterTokenizer
from keras_attn.training import LabelledTextDataset, ParallelTextDataset, Records, TextDataset, TokenBlockDataset

TOKENIZER = CharacterTokenizer("abcdefghijklmnopqrstuvwxyz ")
COLUMNS = {"text": ["first text", "a second", "third"], "source": ["x", "y", "z"], "label": [2, 0, 1]}
OPTIONS = {"batch_size": 3, "shuffle": False, "num_shapes": 1}


def pandas(columns=COLUMNS):
    return pytest.importorskip("pandas").DataFrame(columns)


def polars(columns=COLUMNS):
    return pytest.importorskip("polars").DataFrame(columns)


def arrow(columns=COLUMNS):
    return pytest.importorskip("pyarrow").table(columns)


def hugging_face(columns=COLUMNS):
    return pytest.importorskip("datasets").Dataset.from_dict(columns)


def streamed(columns=COLUMNS):
    return hugging_face(columns).to_iterable_dataset()


makers = pytest.mark.parametrize(
    "make", [pandas, polars, arrow, hugging_face, streamed], ids=lambda make: make.__name__
)


def batch(dataset):
    return next(dataset.batches())


@makers
def test_data_sets(make):
    data = TextDataset(make(), TOKENIZER, **OPTIONS)
    assert TOKENIZER.decode(batch(data)[0]["token_ids"]) == COLUMNS["text"]
    data = ParallelTextDataset(make(), TOKENIZER, columns=["source", "text"], **OPTIONS)
    assert TOKENIZER.decode(batch(data)[0]["source_ids"]) == COLUMNS["source"]
    assert TOKENIZER.decode(batch(data)[1]) == COLUMNS["text"]
    data = LabelledTextDataset(make(), TOKENIZER, **OPTIONS)
    assert (TOKENIZER.decode(batch(data)[0]["token_ids"]), batch(data)[1].tolist()) == (COLUMNS["text"], [2, 0, 1])
    blocks = TokenBlockDataset.from_records(make(), TOKENIZER, 4, 1, columns=["source"])
    assert blocks.ids.tolist() == [i for ids in TOKENIZER.tokenize(COLUMNS["source"]) for i in (*ids, 3)]
    with pytest.raises(ValueError, match=r"`columns` must be among \['text', 'source', 'label'\]"):
        TextDataset(make(), TOKENIZER, columns=["absent"], **OPTIONS)
    with pytest.raises(ValueError, match="2 columns for source and target: select them with"):
        ParallelTextDataset(make({"a": ["x"], "b": ["y"], "c": ["z"]}), TOKENIZER, **OPTIONS)


@makers
def test_missing_values_are_malformed(make):
    if make is not streamed:
        with pytest.warns(
            UserWarning, match="^1 of 2 records .* record 1: field 'text' must be a string or an integer"
        ):
            assert list(Records(make({"text": ["a", None]}), on_error="skip")) == [("a",)]


def test_fields_of_translations():
    table = {"translation": [{"de": "ein", "en": "one"}, {"de": "zwei", "en": "two"}]}
    for make in (hugging_face, streamed, polars, pandas):
        data = ParallelTextDataset(make(table), TOKENIZER, columns=["translation.de", "translation.en"], **OPTIONS)
        assert TOKENIZER.decode(batch(data)[1])[:2] == ["one", "two"]


def classes(table):
    data = LabelledTextDataset(table, TOKENIZER, **OPTIONS)
    return data.labels, batch(data)[1][:2].tolist()


def test_columns_that_know_their_classes():
    names = ["neg", "neutral", "pos"]
    texts = {"text": ["a", "b"]}
    pd, pl, hf = (pytest.importorskip(name) for name in ("pandas", "polars", "datasets"))
    assert classes(pd.DataFrame({**texts, "label": pd.Categorical(["pos", "neg"], names)})) == (names, [2, 0])
    assert classes(pd.DataFrame({**texts, "label": pd.Categorical([2, 1])})) == (["0", "1", "2"], [2, 1])
    schema = {"text": pl.String, "label": pl.Enum(names)}
    assert classes(pl.DataFrame({**texts, "label": ["pos", "neg"]}, schema=schema)) == (names, [2, 0])
    features = hf.Features({"text": hf.Value("string"), "label": hf.ClassLabel(names=names)})
    table = hf.Dataset.from_dict({**texts, "label": [2, 0]}, features=features)
    assert classes(table) == classes(table.to_iterable_dataset()) == (names, [2, 0])
    with pytest.raises(ValueError, match=r"must be one table, such as `records\['test'\]`"):
        classes(hf.DatasetDict(test=table))


def test_tables_that_cannot_be_read_at_once():
    with pytest.raises(ValueError, match=r"call `collect\(\)` first. Received: a LazyFrame"):
        TextDataset(polars().lazy(), TOKENIZER, batch_size=1)
    twice = pytest.importorskip("pandas").concat([pandas(), pandas()], axis=1)
    with pytest.raises(ValueError, match="names that occur once"):
        TextDataset(twice, TOKENIZER, columns=["text"], batch_size=1)
