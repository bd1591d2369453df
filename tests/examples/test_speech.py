"""examples/recognize_speech.py: its data, its files and tiny runs."""

import importlib
import json
import os
import sys
import tarfile
import wave
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_attn.text import CharacterTokenizer

DATA = os.environ.get("KERAS_ATTN_DATA")


@pytest.fixture(autouse=True)
def _path(monkeypatch):
    monkeypatch.delenv("KERAS_ATTN_DATA", raising=False)
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parents[2] / "examples"), *sys.path])


@pytest.fixture
def corpus():
    return importlib.import_module("digit_corpus")


@pytest.fixture
def corpora():
    return importlib.import_module("corpora")


@pytest.mark.parametrize(
    ("steps", "options", "metric", "least"),
    [
        ("80", [], "accuracy", 0.3),
        ("2", ["--task", "transcribe", "--hold-out", "speaker1"], "digit_error_rate", 0.0),
        (
            "2",
            ["--task", "transcribe", "--head", "ctc", "--stream", "--formats", "tflite", "onnx"],
            "digit_error_rate",
            0.0,
        ),
    ],
    ids=["classify", "decoder", "ctc"],
)
def test_runs(steps, options, metric, least, tmp_path, monkeypatch):
    module = importlib.import_module("recognize_speech")
    for name, value in {"TESTED": 1, "STREAMED": 6, "WIDTH": 32, "BATCH_SIZE": 16}.items():
        monkeypatch.setattr(module, name, value)
    assert module.main(["--out", str(tmp_path), "--formats", "--steps", steps, *options]) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert report[metric] >= least
    assert (tmp_path / "curves.png").stat().st_size
    assert (tmp_path / "alignment.png").exists() == ("--task" in options)
    model = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    assert next(iter(model.input)) == ("source_samples" if "--hold-out" in options else "samples")
    if "--stream" in options:
        assert report["stream"]["digits"] == 6
        assert [row["task"] for row in report["artefacts"] if row["ok"]] == ["transcribe"] * 2


def test_a_batch_depends_on_seed_and_number_alone(corpus):
    recordings, tokenizer = corpus.made_up(2, 2), CharacterTokenizer("0123456789")

    def sequences(seed):
        return corpus.Sequences(recordings, tokenizer, False, 4, 3, seed).map(corpus.noisy)

    resumed, other = next(sequences(1).batches(start=4)), next(sequences(2).batches(start=4))
    fifth = [batch for batch, _ in zip(sequences(1).batches(), range(5), strict=False)][4]
    for one, again in zip(keras.tree.flatten(fifth), keras.tree.flatten(resumed), strict=True):
        np.testing.assert_array_equal(one, again)
    assert fifth[0]["source_samples"].shape != other[0]["source_samples"].shape or np.any(fifth[1] != other[1])


def test_labels_are_the_digits_that_are_spoken(corpus):
    recordings, tokenizer = corpus.made_up(1, 1), CharacterTokenizer("0123456789")
    inputs, labels = next(corpus.Sequences(recordings, tokenizer, False, 3, 1, training=False).batches())
    np.testing.assert_array_equal(inputs["target_ids"][:, 1:], labels[:, :-1])
    ctc_inputs, ctc = next(corpus.Sequences(recordings, tokenizer, True, 3, 1, training=False).batches())
    np.testing.assert_array_equal(ctc_inputs["samples"], inputs["source_samples"])
    assert tokenizer.decode(ctc) == tokenizer.decode(labels)
    for x, mask, text in zip(inputs["source_samples"], inputs["source_mask"], tokenizer.decode(labels), strict=True):
        said = np.concatenate([recordings[int(digit)].samples for digit in text])
        np.testing.assert_allclose(np.sum(x**2), np.sum(said**2), rtol=1e-4)
        assert not np.any(x[~mask])
    windows = list(corpus.Windows(recordings, 4, training=False).batches())
    assert [weights.sum() for *_, weights in windows] == [4, 4, 2]
    assert np.concatenate([labels for _, labels, _ in windows])[:10].tolist() == list(range(10))


def test_who_is_held_out(corpus):
    recordings = corpus.made_up(3, 7)
    train, test = corpus.split(recordings, "take")
    assert {x.take for x in test} == set(range(5))
    assert len(train) + len(test) == len(recordings)
    train, test = corpus.split(recordings, "speaker2")
    assert {x.speaker for x in test} == {"speaker2"} != {x.speaker for x in train}
    with pytest.raises(ValueError, match=r"--hold-out must be take or one of speaker0, .* Received: theo"):
        corpus.split(recordings, "theo")
    with pytest.raises(
        ValueError, match=r"which is takes 0 to 4, must leave .* of each digit for training. Received: none of \[0, 1,"
    ):
        corpus.split(recordings[:30], "take")
    with pytest.raises(ValueError, match=r"must leave recordings of each digit for the test. Received: none of \[9\]"):
        corpus.split([x for x in recordings if x.digit < 9 or x.take > 4], "take")


def test_long_audio_is_cut_where_it_is_quiet(corpus):
    recordings = corpus.made_up(1, 1)
    samples, _ = corpus.spoken(recordings, np.random.default_rng(0), 20)
    parts = list(corpus.pieces(samples, 2.0))
    np.testing.assert_array_equal(np.concatenate(parts), samples)
    assert len(parts) > 3
    assert all(len(part) <= 2 * corpus.DIGIT_RATE for part in parts)
    assert all(np.abs(part[-80:]).max() < 0.02 for part in parts[:-1])
    assert [corpus.errors(*pair) for pair in (("123", "123"), ("", "12"), ("1293", "123"), ("321", "123"))] == [
        0,
        2,
        1,
        2,
    ]


def write(path, frames=b"\0\0" * 9, rate=8000, channels=1):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(frames)


def cut(path, count):
    write(path)
    path.write_bytes(path.read_bytes()[:-count])


def pack(path, damage):
    """Archives a recording, and changes the bytes of the archive."""
    with tarfile.open(path, "w:gz") as archive:
        archive.add(path.parent / "2_me_0.wav", "recordings/2_me_0.wav")
    path.write_bytes(damage(path.read_bytes()))


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("3_me_0.wav", lambda path: write(path, rate=16000), "8000 samples per second.*Received: 16000 samples"),
        ("3_me_0.wav", lambda path: write(path, channels=2, frames=b"\0" * 8), r"Received: .* 2 channel\(s\)"),
        ("3_me_0.wav", lambda path: write(path, frames=b""), "must hold samples"),
        ("3_me_0.wav", lambda path: path.write_bytes(b""), "must be a WAV file of integers: it ends early"),
        ("3_me_0.wav", lambda path: path.write_bytes(b"ID3 is a music file"), "must be a WAV file of integers"),
        ("3_me_0.wav", lambda path: cut(path, 1), "must be a WAV file of integers: it ends early"),
        ("3_me_0.wav", lambda path: cut(path, 4), "must be a WAV file of integers: it ends early"),
        ("3_me_0.WAV", lambda path: write(path, rate=16000), "8000 samples per second"),
        ("three.wav", write, "must be named digit_speaker_take.wav"),
        ("spoken_digits.tar.gz", lambda path: path.write_bytes(b"no archive"), "is damaged"),
        ("spoken_digits.tar.gz", lambda path: pack(path, lambda content: content[:-20]), "is damaged"),
        (
            "spoken_digits.tar.gz",
            lambda path: pack(path, lambda content: content[:-6] + b"12" + content[-4:]),
            "is damaged: CRC",
        ),
    ],
)
def test_files_that_cannot_be_used_are_named(corpora, name, make, message, tmp_path):
    write(tmp_path / "2_me_0.wav")
    make(tmp_path / name)
    module = importlib.import_module("recognize_speech")
    with pytest.raises(ValueError, match=rf"{name} .*{message}"):
        module.main(["--data", str(tmp_path), "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_recordings_are_read(corpora, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"spoken_digits.tar.gz or .wav files"):
        corpora.spoken_digits(tmp_path)
    write(tmp_path / "2_me_11.wav", np.array([0, 2**14, -(2**15)], "<i2").tobytes())
    [(digit, speaker, take, samples)] = corpora.spoken_digits(tmp_path)
    assert (digit, speaker, take, samples.tolist()) == (2, "me", 11, [0.0, 0.5, -1.0])
    if DATA is not None:
        assert len(corpora.spoken_digits(DATA)) == 3000
