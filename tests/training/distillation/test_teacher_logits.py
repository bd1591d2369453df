"""Logits of a teacher that are kept on disk, and what it generates as targets."""

import json

import keras
import numpy as np
import pytest

import keras_attn
from keras_attn.text import CharacterTokenizer
from keras_attn.training import LabelledTextDataset, MaskedCrossEntropy, ParallelTextDataset, Trainer
from keras_attn.training.distillation import Distillation, TeacherLogits, teacher_texts

TOKENIZER = CharacterTokenizer("abcdef")
TEXTS = [("abc", "x"), ("fe", "y"), ("dddd", "x"), ("a", "y"), ("cabfed", "x"), ("eb", "y")]
PAIRS = [(text, text[::-1]) for text, _ in TEXTS]


def classifier(layers=2, seed=0):
    keras.utils.set_random_seed(seed)
    settings = {"head": "sequence_classification", "labels": ["x", "y"], "tokenizer": TOKENIZER}
    return keras_attn.EncoderModel(TOKENIZER.vocabulary_size, layers, 8, 2, 16, **settings)


def translator(layers=2):
    keras.utils.set_random_seed(0)
    config = keras_attn.GenerationConfig(max_length=4, strategy=keras_attn.generation.BeamSearch(2))
    settings = {"tokenizer": TOKENIZER, "generation_config": config}
    return keras_attn.Transformer(TOKENIZER.vocabulary_size, layers, 8, 2, 16, **settings)


def texts(seed, size=2):
    return LabelledTextDataset(TEXTS, TOKENIZER, labels=["x", "y"], batch_size=size, seed=seed, epochs=2)


def check(teacher, batch):
    inputs, *_ = batch
    known = inputs.pop("teacher_logits")
    expected = np.asarray(teacher(inputs, training=False))
    real = inputs["target_ids"] != TOKENIZER.pad_id if "target_ids" in inputs else np.ones(len(known), bool)
    np.testing.assert_allclose(known[real], expected[real], atol=1e-5)
    assert known.shape == expected.shape
    assert np.isfinite(known).all()


def fail(_):
    raise AssertionError("the teacher was called")


def test_each_text_is_computed_once(tmp_path):
    teacher = classifier()
    for batch in texts(0).map(TeacherLogits(teacher, tmp_path)).batches():
        check(teacher, batch)
    again = TeacherLogits(teacher, tmp_path)
    again._call = fail
    for batch in texts(5, size=3).map(again).batches():
        check(teacher, batch)
    assert not list(tmp_path.glob("*.unfinished"))


def test_logits_of_tokens(tmp_path):
    teacher = translator()
    data = ParallelTextDataset(PAIRS, TOKENIZER, batch_size=2, epochs=2)
    for batch in data.map(TeacherLogits(teacher, tmp_path)).batches():
        check(teacher, batch)
    again = TeacherLogits(teacher, tmp_path)
    again._call = fail
    # Other batches are padded to another length.
    for batch in ParallelTextDataset(PAIRS, TOKENIZER, batch_size=6, epochs=1).map(again).batches():
        check(teacher, batch)


@pytest.mark.parametrize("kind", ["classifier", "translator"])
def test_a_student_learns_the_same_from_disk(kind, tmp_path):
    make = {"classifier": classifier, "translator": translator}[kind]
    data = texts(0) if kind == "classifier" else ParallelTextDataset(PAIRS, TOKENIZER, batch_size=2)
    found = []
    for cached in (False, True):
        teacher, student = make(), make(layers=1)
        loss = MaskedCrossEntropy()
        distillation = Distillation(student, teacher, loss)
        trainer = Trainer(student, keras.optimizers.SGD(0.1), loss, compute_loss=distillation)
        trainer.fit(data.map(TeacherLogits(teacher, tmp_path)) if cached else data, 5)
        found.append(student.get_weights())
    for x, y in zip(*found, strict=True):
        np.testing.assert_allclose(x, y, atol=1e-6)


def test_half_precision_takes_half(tmp_path):
    teacher = translator()
    data = ParallelTextDataset(PAIRS, TOKENIZER, batch_size=6, epochs=1)
    sizes = {}
    for dtype in ("float32", "float16"):
        (batch,) = data.map(TeacherLogits(teacher, tmp_path / dtype, dtype)).batches()
        assert batch[0]["teacher_logits"].dtype == "float32"
        (file,) = (tmp_path / dtype).glob("*.npz")
        sizes[dtype] = np.load(file)["logits"].nbytes
    assert sizes["float32"] == 2 * sizes["float16"]


def test_folders_that_do_not_fit(tmp_path):
    (batch,) = texts(0, size=6).map(TeacherLogits(classifier(), tmp_path)).batches(start=1)
    with pytest.raises(ValueError, match="`folder` must hold the logits of this teacher"):
        TeacherLogits(classifier(seed=1), tmp_path)
    with pytest.raises(ValueError, match="`folder` must hold the logits of this teacher"):
        TeacherLogits(classifier(), tmp_path, "float16")
    (file,) = tmp_path.glob("*.npz")
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(ValueError, match=f"`folder` must hold files .*{file.name}"):
        TeacherLogits(classifier(), tmp_path)
    with pytest.raises(ValueError, match="`dtype` must be"):
        TeacherLogits(classifier(), tmp_path / "other", "int8")
    with pytest.raises(ValueError, match="`batch` must have a dict"):
        TeacherLogits(classifier(), tmp_path / "other")((batch[0]["token_ids"], batch[1]))


def test_a_teacher_without_finite_logits(tmp_path):
    teacher = classifier()
    teacher.set_weights([np.full_like(x, np.nan) for x in teacher.get_weights()])
    with pytest.raises(ValueError, match="`teacher` must have finite logits"):
        TeacherLogits(teacher, tmp_path)(({"token_ids": np.array([[3, 4]], "int32")}, np.zeros(1)))
    assert not list(tmp_path.glob("*.npz"))


def test_texts_of_a_teacher_are_generated_once(tmp_path, monkeypatch):
    teacher, path = translator(), tmp_path / "texts" / "pairs.jsonl"
    sources = [source for source, _ in PAIRS]
    calls = []
    generate = type(teacher).generate

    def interrupted(model, inputs, **kwargs):
        calls.append(list(inputs))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return generate(model, inputs, **kwargs)

    monkeypatch.setattr(type(teacher), "generate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        teacher_texts(teacher, sources, path, batch_size=2)
    assert not path.exists()
    with open(f"{path}.unfinished", "a") as file:
        file.write('["cut')
    pairs = teacher_texts(teacher, sources, path, batch_size=2)
    assert calls == [sources[:2], sources[2:4], sources[4:], sources[4:]]
    monkeypatch.undo()
    texts = teacher.generate(sources)
    texts = [x if isinstance(x, str) else x[0] for x in texts]
    assert pairs == list(zip(sources, texts, strict=True))
    monkeypatch.setattr(type(teacher), "generate", fail)
    assert teacher_texts(teacher, sources, path) == pairs
    assert [path.name] == [x.name for x in path.parent.iterdir()]
    with pytest.raises(ValueError, match="`path` must not be a file of another teacher"):
        teacher_texts(teacher, sources[:3], path)
    with pytest.raises(ValueError, match="`path` must not be a file of another teacher"):
        teacher_texts(teacher, sources, path, keras_attn.GenerationConfig(max_length=3))
    first, *lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([first, json.dumps(["other", "x"]) + "\n", *lines[1:]]))
    with pytest.raises(ValueError, match="`path` must hold the pairs"):
        teacher_texts(teacher, sources, path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sources": []}, "`sources` must be a list of strings"),
        ({"sources": [3]}, "`sources` must be a list of strings"),
        ({"batch_size": 0}, "`batch_size`"),
        ({"teacher": classifier}, "`config` must be given"),
    ],
)
def test_bad_arguments(settings, message, tmp_path):
    settings = {"teacher": translator, "sources": ["a"], "path": tmp_path / "x", **settings}
    teacher = settings.pop("teacher")()
    teacher.generation_config = getattr(teacher, "generation_config", None)
    with pytest.raises(ValueError, match=message):
        teacher_texts(teacher, **settings)
