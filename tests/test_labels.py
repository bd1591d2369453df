"""Which class a label is, wherever it stands."""

import keras
import pytest

from keras_attn import EncoderModel
from keras_attn.labels import Labels, check_agreement
from keras_attn.models import LanguageModel

SIZES = {"num_layers": 1, "hidden_dim": 8, "num_heads": 2, "intermediate_dim": 8}


@pytest.mark.parametrize(
    ("found", "names"),
    [
        (["9", "10", "2"], [str(i) for i in range(11)]),
        (["1"], ["0", "1"]),
        (["True"], ["False", "True"]),
        (["true", "false"], ["false", "true"]),
        (["b", "a", "10"], ["10", "a", "b"]),
        (["01", "02"], ["01", "02"]),
        (["2.0", "1.0"], ["1.0", "2.0"]),
    ],
)
def test_labels_found(found, names):
    labels = Labels.found(found)
    assert labels.names == names
    assert [names[labels.number(label)] for label in found] == found


@pytest.mark.parametrize("stray", ["-1", "1000000", str(10**30)])
def test_integers_that_are_no_classes(stray):
    with pytest.raises(ValueError, match=rf"class numbers, from 0 on; give `labels` .* Received: {stray}$"):
        Labels.found(["0", stray])


def test_numbers_are_classes_where_no_name_is_a_number():
    named = Labels(["bad", "good"])
    assert [named.number(label) for label in ("good", "0", "1", "False", "True")] == [1, 0, 1, 0, 1]
    assert [Labels([1, 2, 10]).number(label) for label in ("1", "10")] == [0, 2]
    assert Labels([False, True]).number("True") == 1
    for labels, label in [(named, "2"), (named, "-1"), (named, "ugly"), (named, " bad"), (Labels(["1", "2"]), "0")]:
        with pytest.raises(ValueError, match=f"label '{label}' is not one of"):
            labels.number(label)


def test_booleans_are_classes_of_their_names_or_of_two():
    for names in (["True", "False"], ["true", "false"], ["TRUE", "FALSE"]):
        assert [Labels(names).number(label) for label in ("true", "False", "TRUE")] == [0, 1, 0]
    for names in (["e", "n", "c"], ["True", "other"], ["true", "True"], ["1", "2"], ["True", "False", "x"]):
        with pytest.raises(ValueError, match="label 'false' is not one of"):
            Labels(names).number("false")


@pytest.mark.parametrize("names", ["ab", {"a": 0}, {"a", "b"}, 3, None])
def test_names_are_a_list(names):
    with pytest.raises(ValueError, match="`labels` must be a list of names, in the order of"):
        Labels(names)


@pytest.mark.parametrize("names", [[], ["a", "a"], ["1", 1]])
def test_names_are_different(names):
    with pytest.raises(ValueError, match="`labels` must be unique"):
        Labels(names)


@pytest.mark.parametrize(
    ("one", "other", "agree"),
    [
        (["a", "b"], ["a", "b"], True),
        (["a", "b"], ["b", "a"], False),
        (["a", "b"], ["a", "b", "c"], False),
        (["0", "1", "2"], ["0", "1"], True),
        (["0", "1"], ["a", "b", "c"], True),
        (["0", "1", "2", "3"], ["a", "b", "c"], False),
        (["0", "1"], ["1", "2", "3"], False),
        (["0", "1"], ["False", "True"], True),
        (None, ["a", "b"], True),
    ],
)
def test_agreement(one, other, agree):
    class Source:
        def __init__(self, labels):
            self.labels = labels

    for pair in ({"model": Source(one), "dataset": Source(other)}, {"model": Source(other), "dataset": Source(one)}):
        if agree:
            check_agreement(**pair, unknown=object())
        else:
            with pytest.raises(ValueError, match="`dataset` must number classes as `model` does"):
                check_agreement(**pair)


def test_a_model_keeps_its_labels(tmp_path):
    model = EncoderModel(9, **SIZES, head="sequence_classification", labels=["bad", "good", "ugly"])
    assert model.output.shape[-1] == 3
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert list(loaded.labels) == ["bad", "good", "ugly"]
    assert EncoderModel(9, **SIZES, head="token_classification", num_classes=2).labels is None
    with pytest.raises(ValueError, match="`labels` must name 2 classes"):
        EncoderModel(9, **SIZES, head="sequence_classification", num_classes=2, labels=["a", "b", "c"])
    with pytest.raises(ValueError, match="must be None without a classifier"):
        EncoderModel(9, **SIZES, labels=["a", "b"])
    assert not hasattr(LanguageModel(9, **SIZES), "labels")
