"""The vocabulary and the names of classes lie in every artefact, and its client answers by them."""

from types import SimpleNamespace

import deployed_clients
import keras
import numpy as np
import pytest

from keras_attn import EncoderModel
from keras_attn.export import export, inspect, registry
from keras_attn.export.labelled_data import class_ids
from keras_attn.text import CharacterTokenizer, Tokenizer

PATHS = {"saved_model": "saved_model", "tflite": "model.tflite", "onnx": "classify.onnx"}
LABELS = ["Wörter\u2028\x85", "news,\x1c world", "日"]
TEXTS = ["abba", "e", "héé c", "日日", "dada"]


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(5)
    tokenizer = CharacterTokenizer("abcdeéh 日")
    sizes = {"num_layers": 1, "hidden_dim": 8, "num_heads": 2, "intermediate_dim": 16}
    model = EncoderModel(
        tokenizer.vocabulary_size, **sizes, head="sequence_classification", num_classes=3, tokenizer=tokenizer
    )
    model.embedding.embeddings.assign(model.embedding.embeddings * 20)
    return model


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("attachments")
    export(model, path, list(PATHS), tasks="classify", samples=TEXTS, labels=LABELS)
    return path


@pytest.mark.parametrize("format", PATHS)
def test_attached(format, model, folder, tmp_path):
    attached = registry.load("formats", format)().attached(folder / PATHS[format])
    assert attached["labels.txt"] == "".join(f"{label}\n" for label in LABELS)
    (tmp_path / "vocabulary.json").write_text(attached["vocabulary.json"], encoding="utf-8")
    assert Tokenizer.load(tmp_path / "vocabulary.json") == model.tokenizer
    [item] = inspect(folder / PATHS[format]).items
    assert item["attached"] == {name: len(text.encode()) for name, text in attached.items()}


@pytest.mark.parametrize("format", PATHS)
def test_clients_answer_by_name(format, model, folder):
    expected = [LABELS[i] for i in np.argmax(model.predict(model.tokenizer.encode(TEXTS), verbose=0), axis=-1)]
    assert len(set(expected)) > 1
    answers = deployed_clients.run(format, folder / PATHS[format], "--task", "classify", *TEXTS)
    assert answers.returncode == 0, answers.stderr
    assert answers.stdout == "".join(f"{label}\n" for label in expected)


def test_ids_come_with_the_vocabulary(model, tmp_path):
    export(model, tmp_path, "tflite", tasks="classify", tokenizer=False)
    attached = registry.load("formats", "tflite")().attached(tmp_path / "model.tflite")
    assert attached == {"vocabulary.json": model.tokenizer.to_json()}


@pytest.mark.parametrize(
    "labels", [["a", "b"], ["a", "b", "a"], ["a", "b", ""], ["a", "b", "c\nd"], ["a", "b", "c\r"], "abc", [1, 2, 3]]
)
def test_labels_that_do_not_fit(labels, model, tmp_path):
    with pytest.raises(
        ValueError, match=r"`labels` must be distinct single-line names.* the model's 3 classes. Received: labels="
    ):
        export(model, tmp_path / "out", "tflite", tasks="classify", labels=labels)
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def named():
    tokenizer = CharacterTokenizer("abcdeéh 日")
    sizes = {"num_layers": 1, "hidden_dim": 8, "num_heads": 2, "intermediate_dim": 16}
    settings = {"head": "sequence_classification", "labels": LABELS, "tokenizer": tokenizer}
    return EncoderModel(tokenizer.vocabulary_size, **sizes, **settings)


def test_a_model_with_labels_brings_them(named, tmp_path):
    right = np.argmax(named.predict(named.tokenizer.encode(TEXTS), verbose=0), axis=-1)
    references = [LABELS[i] for i in right]
    report = export(named, tmp_path, "tflite", tasks="classify", samples=TEXTS, references=references)
    assert report.rows[0]["model_accuracy"] == 1.0
    attached = registry.load("formats", "tflite")().attached(tmp_path / "model.tflite")
    assert attached["labels.txt"].split("\n")[:-1] == LABELS


@pytest.mark.parametrize(
    ("task", "labels", "references", "expected"),
    [
        ("classify", ["1", "2", "3"], [1, 3], [0, 2]),
        ("classify", ["-1", "0", "1"], [-1, 1], [0, 2]),
        ("classify", ["0", "1", "2"], [0, 2], [0, 2]),
        ("classify", ["a", "b", "c"], [0, 2], [0, 2]),
        ("classify", None, [0, 2], [0, 2]),
        ("classify", ["True", "False", "other"], [True, False], [0, 1]),
        ("classify", None, [True, False], [1, 0]),
        ("forward", ["1", "2", "3"], [[1, -100], [3, 2]], [[0, -100], [2, 1]]),
        ("classify", ["1", "2", "3"], [0], "label '0' is not one of"),
        ("classify", ["1", "2", "3"], [-1], "label '-1' is not one of"),
        ("classify", ["e", "n", "c"], [True], "label 'True' is not one of"),
    ],
)
def test_references_are_the_classes_that_data_sets_read(task, labels, references, expected):
    model = SimpleNamespace(outputs=[SimpleNamespace(shape=(None, 3))])
    tasks = [SimpleNamespace(name=task, model=model, counts_classes=True)]
    if isinstance(expected, str):
        with pytest.raises(ValueError, match=f"`references` must be .*{expected}"):
            class_ids(tasks, references, labels)
    else:
        assert np.asarray(class_ids(tasks, references, labels)).tolist() == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"labels": LABELS[::-1]}, "`labels` must be None or the labels of the model"),
        (
            {"samples": ["a"], "references": ["other"]},
            "`references` must be class ids, or names among `labels`",
        ),
        ({"samples": ["a"], "references": [3]}, r"`references` must be class ids from 0 to 2. Received: \[3\]"),
        ({"samples": ["a"], "references": [-1]}, r"`references` must be class ids from 0 to 2. Received: \[-1\]"),
    ],
)
def test_labels_and_references_that_contradict_the_model(arguments, message, named, tmp_path):
    with pytest.raises(ValueError, match=message):
        export(named, tmp_path / "out", "tflite", tasks="classify", **arguments)
    assert not (tmp_path / "out").exists()
