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
    assert classes(labelled([2, "neg", True], train.labels)) == [2, 0, 1]
    assert classes(labelled(["1", "2"], ["2", "1"])) == [1, 0]
    for stray in ("other", 3, -1):
        with pytest.raises(ValueError, match=f"record 0: label {str(stray)!r} is none of"):
            labelled([stray], train.labels)
    with pytest.raises(ValueError, match="from 0 on; `labels` gives others an order"):
        labelled([1, -1])
    assert classes(labelled([1, -1], [-1, 1])) == [1, 0]


def test_a_split_that_may_lack_a_class_says_so():
    with pytest.warns(
        UserWarning, match=r"numbered by the labels found here: \['neg', 'pos'\]\. .* give their `labels`"
    ):
        labelled(["pos", "neg"])


def test_columns_that_know_their_classes():
    class Features:
        """What a `datasets.Dataset` says of a column of classes."""

        names = ("neg", "neutral", "pos")

    class Table:
        column_names = ("text", "label")
        features = {"text": None, "label": Features()}  # noqa: RUF012

        def __getitem__(self, name):
            return {"text": ["a", "b"], "label": [2, 0]}[name]

    data = LabelledTextDataset(Table(), TOKENIZER, batch_size=2, shuffle=False)
    assert (data.labels, classes(data)) == (["neg", "neutral", "pos"], [2, 0])
    data = LabelledTextDataset(Table(), TOKENIZER, ["a", "b", "c"], batch_size=2, shuffle=False)
    assert data.labels == ["a", "b", "c"]


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
