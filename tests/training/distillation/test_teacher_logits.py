"""Logits of a teacher that are kept on disk, and what it generates as targets."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_attn
from keras_attn.text import CharacterTokenizer
from keras_attn.training import (
    Dataset,
    LabelledTextDataset,
    MaskedCrossEntropy,
    ParallelTextDataset,
    TokenBlockDataset,
    Trainer,
)
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
    config = (
        None
        if layers is None
        else keras_attn.GenerationConfig(max_length=4, strategy=keras_attn.generation.BeamSearch(2))
    )
    settings = {"tokenizer": TOKENIZER, "generation_config": config}
    return keras_attn.Transformer(TOKENIZER.vocabulary_size, layers or 1, 8, 2, 16, **settings)


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


def test_a_teacher_from_a_file_is_the_same(tmp_path):
    teacher = classifier()
    teacher.save(tmp_path / "teacher.keras")
    (batch, *_) = texts(0).map(TeacherLogits(teacher, tmp_path / "logits")).batches()
    # Dropout draws new seeds.
    teacher({"token_ids": batch[0]["token_ids"]}, training=True)
    for again in (teacher, keras.saving.load_model(tmp_path / "teacher.keras")):
        keras.utils.set_random_seed(4)
        logits = TeacherLogits(again, tmp_path / "logits")
        logits._call = fail
        check(teacher, next(texts(0).map(logits).batches()))
    # The same weights do not make the same outputs.
    config = teacher.get_config() | {"activation": "tanh"}
    other = type(teacher).from_config(config)
    other.set_weights(teacher.get_weights())
    with pytest.raises(ValueError, match="`folder` must hold the logits of this teacher"):
        TeacherLogits(other, tmp_path / "logits")


def test_logits_of_another_teacher_are_refused(tmp_path):
    teacher, other, student = classifier(), classifier(seed=1), classifier(1)
    distillation = Distillation(student, other)
    trainer = Trainer(student, keras.optimizers.SGD(0.1), compute_loss=distillation)
    data = texts(0).map(TeacherLogits(teacher, tmp_path / "teacher"))
    for given in (data, data.map(lambda batch, index: batch), data.as_tf_dataset()):
        with pytest.raises(ValueError, match="`dataset` must hold the logits of `teacher`"):
            trainer.fit(given, 1)
        with pytest.raises(ValueError, match="`validation_data` must hold the logits of `teacher`"):
            trainer.fit(texts(0), 1, validation_data=given)
    trainer.fit(texts(0).map(TeacherLogits(other, tmp_path / "other")), 1)


def test_threads_do_not_mix_up_the_vectors_of_a_teacher(tmp_path):
    class Rows(Dataset):
        row_divisor = 4

        def __len__(self):
            return 8

        def batch(self, plan, index):
            # Each batch has a shape of its own, which another thread traces the teacher for.
            ids = np.random.default_rng((plan, index)).integers(1, 8, (4, 3 + index)).astype("int32")
            return {"token_ids": ids}, ids[:, 0] % 2

    found = []
    for cached in (False, True):
        teacher, student = classifier(6), classifier(1)
        distillation = Distillation(student, teacher, hidden_weight=1.0, attention_weight=1.0)
        data = Rows().map(TeacherLogits(teacher, tmp_path)) if cached else Rows()
        trainer = Trainer(distillation.model, keras.optimizers.SGD(0.01), compute_loss=distillation)
        found.append(trainer.fit(data, 4, validation_freq=1).history["loss"])
    np.testing.assert_allclose(found[0], found[1], rtol=1e-4)


def test_every_token_of_text_without_padding_counts(tmp_path):
    make = lambda: keras_attn.LanguageModel(20, 1, 8, 2, 16, dropout=0.0)  # noqa: E731
    teacher, student = make(), make()
    distillation = Distillation(student, teacher, MaskedCrossEntropy(ignore_id=None), alpha=1.0)
    ids = np.random.default_rng(0).integers(0, 4, 400)
    data = TokenBlockDataset(ids, length=6, batch_size=8)
    (inputs, labels), (known, _) = (x.batch(x.plan(0), 0) for x in (data, data.map(TeacherLogits(teacher, tmp_path))))
    assert (inputs["token_ids"][:, -1] == 0).any()
    totals = [float(distillation(student, x, labels, None, False)[0]) for x in (inputs, known)]
    assert totals[0] == pytest.approx(totals[1], rel=1e-6)


def test_padding_that_a_teacher_sees_is_part_of_a_text(tmp_path):
    teacher = keras_attn.EncoderModel(
        20, 1, 8, 2, 16, head="sequence_classification", num_classes=3, mask_padding=False
    )
    logits = TeacherLogits(teacher, tmp_path)
    for ids in ([[5, 6]], [[5, 6, 0, 0, 0]]):
        inputs, _ = logits(({"token_ids": np.array(ids)}, np.zeros(1)))
        np.testing.assert_allclose(inputs["teacher_logits"], teacher(np.array(ids)), atol=1e-6)


def test_logits_of_chosen_positions(tmp_path):
    teacher = keras_attn.EncoderModel(20, 1, 8, 2, 16, head="masked_lm")
    ids = {"token_ids": np.array([[4, 5, 6, 0]]), "mask_positions": np.array([[1, 0]])}
    logits = TeacherLogits(teacher, tmp_path)
    for _ in range(2):
        inputs, _ = logits((ids, np.zeros((1, 2))))
        np.testing.assert_allclose(inputs["teacher_logits"], teacher(ids), atol=1e-6)


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
    teacher.set_weights([np.full_like(x, 1e5) for x in teacher.get_weights()])
    with pytest.raises(ValueError, match="`dtype` must be 'float32' for logits as large as"):
        TeacherLogits(teacher, tmp_path / "half", "float16")(({"token_ids": np.array([[3, 4]])}, np.zeros(1)))


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
    path.write_text("".join([first, "3\n"]))
    with pytest.raises(ValueError, match="`path` must hold the pairs"):
        teacher_texts(teacher, sources, path)
    path.write_text("".join([first, lines[0]]))
    with pytest.raises(ValueError, match="`path` must hold a pair for each of 6 sources"):
        teacher_texts(teacher, sources, path)


def test_texts_go_on_after_a_cut_at_any_byte(tmp_path, monkeypatch):
    teacher, path = translator(), tmp_path / "pairs.jsonl"
    sources = [f"{source} é 漢" for source, _ in PAIRS[:2]]
    pairs = teacher_texts(teacher, sources, path, batch_size=1)
    content = path.read_bytes()
    texts = dict(pairs)
    monkeypatch.setattr(type(teacher), "generate", lambda model, inputs, config: [texts[x] for x in inputs])
    for end in range(len(content)):
        path.unlink()
        Path(f"{path}.unfinished").write_bytes(content[:end])
        assert teacher_texts(teacher, sources, path, batch_size=1) == pairs
        assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sources": []}, "`sources` must be a list of strings"),
        ({"sources": [3]}, "`sources` must be a list of strings"),
        ({"batch_size": 0}, "`batch_size`"),
        ({"sources": "abc"}, "`sources` must be a list of strings. Received a single one"),
        ({"teacher": classifier}, "`teacher` must be a generative model"),
        ({"teacher": lambda: translator(None)}, "`config` must be given"),
    ],
)
def test_bad_arguments(settings, message, tmp_path):
    settings = {"teacher": translator, "sources": ["a"], "path": tmp_path / "x", **settings}
    teacher = settings.pop("teacher")()
    teacher.generation_config = getattr(teacher, "generation_config", None)
    with pytest.raises(ValueError, match=message):
        teacher_texts(teacher, **settings)
    assert not list(tmp_path.iterdir())
