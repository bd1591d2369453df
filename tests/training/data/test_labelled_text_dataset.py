"""Classes of labels: one order for all splits, the model and the trainer."""

import warnings

import keras
import numpy as np
import pytest

from keras_attn import EncoderModel
from keras_attn.text import CharacterTokenizer
from keras_attn.training import FusedAdam, LabelledTextDataset, MaskedCrossEntropy, Records, Trainer

TOKENIZER = CharacterTokenizer("abcd ")


def labelled(labels, names=None, **options):
    options = {"batch_size": len(labels), "shuffle": False, "epochs": 1, **options}
    return LabelledTextDataset([("ab", label) for label in labels], TOKENIZER, names, **options)


def classes(data):
    _, labels, weights = next(data.batches())
    return labels[weights > 0].tolist()


@pytest.mark.parametrize("kind", [int, np.int64, np.uint8, str], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("numbers", [range(12), [1, 2], [10, 9], [3]], ids=str)
def test_integers_keep_their_numbers(kind, numbers):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = labelled([kind(number) for number in numbers])
    assert classes(data) == list(numbers)
    assert data.labels == [str(number) for number in range(max(numbers) + 1)]


@pytest.mark.parametrize("label", [True, np.True_, "True", "true"])
def test_true_is_one_without_false(label):
    assert classes(labelled([label])) == [1]


def test_integers_of_files_keep_their_numbers(tmp_path):
    (tmp_path / "a.csv").write_text("ab,10\ncd,2\n")
    (tmp_path / "a.jsonl").write_text('{"t": "ab", "l": 10}\n{"t": "cd", "l": 2}\n')
    for records in (Records(tmp_path / "a.csv"), Records(tmp_path / "a.jsonl", columns=["t", "l"])):
        assert classes(LabelledTextDataset(records, TOKENIZER, batch_size=2, shuffle=False)) == [10, 2]


def test_names_have_one_order():
    train = labelled(["pos", "neg", "neutral"], shuffle=True)
    assert train.labels == ["neg", "neutral", "pos"]
    assert classes(labelled(["pos", "neg"], train.labels)) == [2, 0]
    # Integers are numbers of classes that have names.
    assert classes(labelled([2, "neg"], train.labels)) == [2, 0]
    assert classes(labelled(["1", "2"], ["2", "1"])) == [1, 0]
    for stray in ("other", 3, -1, True):
        with pytest.raises(ValueError, match=f"record 0: label {str(stray)!r} is not one of"):
            labelled([stray], train.labels)
    with pytest.raises(ValueError, match="from 0 on; give `labels` for other"):
        labelled([1, -1])
    assert classes(labelled([1, -1], [-1, 1])) == [1, 0]


def test_a_split_that_may_lack_a_class_says_so():
    with pytest.warns(
        UserWarning, match=r"numbered in the order of the labels found here: \['neg', 'pos'\]\. .* pass its `labels`"
    ):
        labelled(["pos", "neg"])


class ClassTable:
    """A `datasets.Dataset` with a column of classes."""

    column_names = ("text", "label")

    def __init__(self, names, label):
        class Features:
            pass

        Features.names = names
        self.features, self._columns = {"text": None, "label": Features()}, {"text": ["a", "b"], "label": label}

    def __getitem__(self, name):
        return self._columns[name]


@pytest.mark.parametrize("names", [["neg", "neutral", "pos"], ["1", "2", "3"], ["2", "1", "0"]], ids=str)
@pytest.mark.parametrize("kind", [list, np.array, lambda values: [np.int64(v) for v in values]])
def test_columns_that_know_their_classes(names, kind):
    table = ClassTable(names, kind([2, 0]))

    def found(labels=None):
        data = LabelledTextDataset(table, TOKENIZER, labels, batch_size=2, shuffle=False)
        return data.labels, classes(data)

    assert found() == found(names) == (names, [2, 0])
    assert found(names[::-1]) == (names[::-1], [0, 2])
    assert found(["a", "b", "c"]) == (["a", "b", "c"], [2, 0])
    with pytest.raises(ValueError, match=r"`labels` must be as many as the classes .* of the data"):
        found(["a", "b"])
    assert list(Records(table)) == [("a", names[2]), ("b", names[0])]
    table = ClassTable(names, kind([-1, 0]))
    with pytest.raises(ValueError, match="record 0: label '-1' is not one of"):
        found()


def test_the_trainer_compares_labels():
    def model(labels):
        sizes = {"num_layers": 1, "hidden_dim": 8, "num_heads": 2, "intermediate_dim": 8}
        return EncoderModel(TOKENIZER.vocabulary_size, **sizes, head="sequence_classification", labels=labels)

    train = labelled(["b", "a", "c"], shuffle=True, epochs=None)
    same, other = labelled(["c", "a"], train.labels), labelled(["c", "a"], ["a", "c", "b"])
    numbers = labelled([1, 2])

    def trainer(labels=("a", "b", "c")):
        return Trainer(model(list(labels)), FusedAdam(), MaskedCrossEntropy(ignore_id=None))

    message = "must number classes as `{}` does"
    with pytest.raises(ValueError, match=message.format("model")):
        trainer("cba").fit(train, 1)
    unnamed = trainer("012")
    with pytest.raises(ValueError, match=message.format("dataset")):
        unnamed.fit(train, 1, validation_data=other.map(lambda batch, number: batch))
    unnamed.fit(train, 1, validation_data=same)
    with pytest.raises(ValueError, match=message.format("training_data")):
        unnamed.evaluate(other)
    assert unnamed.evaluate(numbers)["loss"] > 0
    assert isinstance(unnamed.model, keras.Model)
