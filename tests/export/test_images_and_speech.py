"""An image classifier and a speech model, trained, generating and exported, of public names alone."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attn import EncoderModel, GenerationConfig, Transformer
from keras_attn.export import export, verify
from keras_attn.generation import BeamSearch
from keras_attn.layers import AudioFrontEnd, LearnedPositionEmbedding, LogMelSpectrogram, PatchEmbedding
from keras_attn.text import CharacterTokenizer
from keras_attn.training import MaskedCrossEntropy, Trainer

WORDS = ["ab", "ba", "aab", "bb", "abb", "a"]


def spoken(texts, tokenizer):
    """Three noisy frames per letter, and the inputs and labels of their texts."""
    rng = np.random.default_rng(0)
    length = 3 * max(map(len, texts))
    mask = np.arange(length) < 3 * np.array([[len(text)] for text in texts])
    features = rng.normal(size=(len(texts), length, 4)).astype("float32") * 0.1
    for row, text in zip(features, texts, strict=True):
        for number, letter in enumerate(text):
            row[3 * number : 3 * number + 3, "ab".index(letter)] += 1
    rows = [[tokenizer.start_id, *tokens, tokenizer.end_id] for tokens in tokenizer.tokenize(texts)]
    ids = np.array([row + [tokenizer.pad_id] * (length - len(row)) for row in rows])
    return {"source_features": features, "source_mask": mask, "target_ids": ids[:, :-1]}, ids[:, 1:]


@pytest.fixture(scope="module")
def tokenizer():
    return CharacterTokenizer("ab")


@pytest.fixture(scope="module")
def speech(tokenizer):
    model = Transformer(
        tokenizer.vocabulary_size,
        num_layers=1,
        hidden_dim=32,
        num_heads=2,
        intermediate_dim=32,
        norm="pre",
        dropout=0.0,
        embeddings=AudioFrontEnd(32),
        inputs={"source_features": keras.Input((None, 4))},
        tokenizer=tokenizer,
        generation_config=GenerationConfig(5),
    )
    inputs, labels = spoken(WORDS, tokenizer)
    data = tf.data.Dataset.from_tensors((inputs, labels)).repeat()
    Trainer(model, keras.optimizers.Adam(0.003), MaskedCrossEntropy()).fit(data, 300)
    return model


@pytest.fixture(scope="module")
def frames(tokenizer):
    inputs, _ = spoken(WORDS, tokenizer)
    return {name: inputs[name] for name in ("source_features", "source_mask")}


@pytest.mark.parametrize("strategy", [None, BeamSearch(3)], ids=["greedy", "beams"])
def test_frames_become_text(speech, frames, strategy):
    assert speech.generate(frames, config=GenerationConfig(5, strategy=strategy)) == WORDS


def test_a_speech_model_is_exported_with_its_texts(speech, frames, tmp_path):
    formats = ["saved_model", "tflite", "onnx"]
    report = export(speech, tmp_path, formats, tasks="beam", samples=frames, references=WORDS)
    assert len(report.rows) == 3
    # The texts that an artefact returns are compared with these words.
    assert [row["accuracy"] for row in report.rows] == [1.0] * 3
    assert all(row["ok"] for row in verify(tmp_path).rows)


def test_an_image_classifier_is_exported(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.normal(size=(32, 8, 8, 3)).astype("float32")
    classes = (images[:, :4].mean(axis=(1, 2, 3)) > images[:, 4:].mean(axis=(1, 2, 3))).astype("int32")
    model = EncoderModel(
        None,
        num_layers=1,
        hidden_dim=16,
        num_heads=2,
        intermediate_dim=32,
        norm="pre",
        dropout=0.0,
        embeddings=PatchEmbedding(4, 16, class_token=True),
        inputs={"images": keras.Input((8, 8, 3))},
        position=LearnedPositionEmbedding(5),
        head="sequence_classification",
        labels=["top", "bottom"],
    )
    model.compile(keras.optimizers.Adam(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    losses = model.fit(images, classes, epochs=60, verbose=0).history["loss"]
    assert losses[-1] < 0.1
    report = export(model, tmp_path, ["saved_model", "tflite", "onnx"], tasks="classify", samples={"images": images})
    assert all(row["identical"] == row["total"] for row in report.rows)


@pytest.mark.parametrize(("format", "precision"), [("tflite", "int8"), ("tflite", "int8_full"), ("onnx", "int8")])
def test_no_precision_rounds_a_spectrogram(format, precision, tmp_path):
    samples = keras.Input((None,), name="samples")
    spectrogram = LogMelSpectrogram(8000, num_mels=32, frame_length=200, frame_step=80, fft_length=256)
    model = keras.Model(samples, keras.layers.Dense(8)(spectrogram(samples)))
    # A loud tone, and one of a thousandth of its volume, which 8 bits cannot tell from nothing.
    time = np.arange(4000) / 8000
    tones = [np.sin(2 * np.pi * low * time) + 1e-3 * np.sin(2 * np.pi * 3000 * time) for low in (300, 500, 700)]
    tones = 0.5 * np.array(tones, "float32")
    report = export(model, tmp_path, format, tasks="forward", precision=precision, samples={"samples": tones})
    assert report.rows[0]["cosine"] > 0.999
