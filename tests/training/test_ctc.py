"""The CTC loss and decoding, side by side with all alignments written out."""

import itertools
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attn import EncoderModel, compat
from keras_attn.export import export
from keras_attn.layers import ClassificationHead, LearnedPositionEmbedding
from keras_attn.ops import ctc_beam_search, ctc_greedy, ctc_losses
from keras_attn.training import CTCLoss, Trainer

RNG = np.random.default_rng(5)
V = 3
LOGITS = RNG.normal(size=(4, 5, V)).astype("float32")
LABELS = np.array([[1, 2], [2, 2], [1, 0], [0, 0]])
FRAMES = np.array([5, 4, 3, 2])
MASK = np.arange(5) < FRAMES[:, None]


def masked(logits=LOGITS):
    tensor = tf.constant(logits)
    compat.attach_keras_mask(tensor, tf.constant(MASK))
    return tensor


def collapsed(alignment, blank=0):
    return tuple(token for token, _ in itertools.groupby(alignment) if token != blank)


def likelihoods(logits, blank=0):
    """The probability of every id sequence."""
    p, found = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True), {}
    for alignment in itertools.product(range(V), repeat=len(p)):
        key = collapsed(alignment, blank)
        found[key] = found.get(key, 0) + np.prod([frame[token] for frame, token in zip(p, alignment, strict=True)])
    return found


ROWS = [likelihoods(logits[:n].astype("float64")) for logits, n in zip(LOGITS, FRAMES, strict=True)]


def test_the_loss_is_that_of_all_alignments():
    expected = [-np.log(row[tuple(x for x in label if x)]) for row, label in zip(ROWS, LABELS, strict=True)]
    losses = CTCLoss(reduction=None)(LABELS, masked())
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    weights = np.array([1.0, 0.5, 0.0, 2.0])
    total, weight = CTCLoss().total(LABELS, masked(), weights)
    np.testing.assert_allclose([total, weight], [np.dot(weights, expected), 3.5], rtol=1e-5)
    np.testing.assert_allclose(CTCLoss()(LABELS, masked(), weights), np.dot(weights, expected) / 3.5, rtol=1e-5)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_as_in_tensorflow(jit_compile):
    def gradient(function):
        def both():
            logits = tf.constant(LOGITS)
            with tf.GradientTape() as tape:
                tape.watch(logits)
                losses = function(logits)
            return losses, tape.gradient(losses, logits)

        return tf.function(both, jit_compile=jit_compile, autograph=False)()

    ours = gradient(lambda logits: ctc_losses(LABELS, logits, LABELS > 0, MASK))
    theirs = gradient(lambda logits: tf.nn.ctc_loss(LABELS, logits, [2, 2, 1, 0], FRAMES, False, blank_index=0))
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_another_blank_and_padding():
    labels = np.array([[0, 1, -100]])
    expected = -np.log(likelihoods(LOGITS[0].astype("float64"), blank=2)[0, 1])
    np.testing.assert_allclose(CTCLoss(2, ignore_id=-100)(labels, LOGITS[:1]), expected, rtol=1e-5)


def test_rows_that_do_not_fit_are_infinite_and_move_nothing():
    loss, logits = CTCLoss(reduction=None), tf.constant(LOGITS[:3, :2])
    labels = np.array([[1, 2], [2, 2], [7, 0]])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        losses = loss(labels, logits, np.array([1.0, 0.0, 1.0]))
        first = losses[0]
    assert np.isfinite(losses[0])
    assert losses[1] == 0
    assert np.isnan(losses[2])
    gradient = tape.gradient(first, logits)
    assert np.all(np.isfinite(gradient))
    assert np.isinf(loss(labels[1:2], LOGITS[1:2, :2])[0])


def test_round_trip():
    loss = CTCLoss(2, -100, name="mine", reduction="sum")
    copy = keras.saving.deserialize_keras_object(json.loads(json.dumps(keras.saving.serialize_keras_object(loss))))
    assert copy.get_config() == loss.get_config()


def test_greedy_merges_and_drops():
    paths = np.array([[1, 1, 0, 1, 2], [0, 2, 2, 2, 0], [0, 0, 0, 0, 0], [2, 1, 2, 1, 2]])
    ids = ctc_greedy(np.eye(V, dtype="float32")[paths], MASK, pad_id=-1)
    np.testing.assert_array_equal(ids, [[1, 1, 2, -1, -1], [2, *[-1] * 4], [-1] * 5, [2, 1, -1, -1, -1]])
    mirrored = ctc_greedy(np.eye(V, dtype="float32")[2 - paths], MASK, blank_id=2)
    np.testing.assert_array_equal(mirrored[0], [1, 1, 0, 0, 0])


def test_beams_find_the_most_likely_ids():
    for (ids, score), row in zip(ctc_beam_search(LOGITS, MASK, num_beams=100), ROWS, strict=True):
        assert ids == max(row, key=row.get)
        np.testing.assert_allclose(score, np.log(row[ids]), rtol=1e-6)
    for (ids, score), row in zip(ctc_beam_search(LOGITS, MASK, num_beams=2), ROWS, strict=True):
        assert score <= np.log(row[ids]) + 1e-9


def listener():
    return EncoderModel(
        None,
        1,
        16,
        2,
        24,
        embeddings=keras.layers.Dense(16, name="features"),
        inputs={"frames": keras.Input((None, 4))},
        position=LearnedPositionEmbedding(9),
        norm="pre",
        dropout=0.0,
        head=ClassificationHead(4),
    )


def heard(length=9):
    """Frames that say 1, 2 or 3, and silence between them."""
    rng, said = np.random.default_rng(1), np.random.default_rng(0).integers(1, 4, size=(16, 3))
    frames = rng.normal(scale=0.1, size=(16, length, 4)).astype("float32")
    for row, ids in zip(frames, said, strict=True):
        row[np.arange(3) * length // 3, ids] += 2
    return {"frames": frames}, said


def test_a_model_learns_and_is_exported_as_transcripts(tmp_path):
    model, (inputs, labels) = listener(), heard()
    data = tf.data.Dataset.from_tensors((inputs, labels)).repeat()
    trainer = Trainer(model, keras.optimizers.Adam(0.01), CTCLoss())
    losses = trainer.fit(data, 120, validation_freq=60).history["loss"]
    assert losses[-1] < 0.5 < losses[0]
    formats = ["saved_model", "tflite", "onnx"]
    samples = {**inputs, "padding_mask": np.ones((16, 9), bool)}
    report = export(
        model, tmp_path, formats, tasks="transcribe", samples=samples, references=np.pad(labels, ((0, 0), (0, 6)))
    )
    assert [row["accuracy"] for row in report.rows] == [1.0] * 3


def test_labels_that_do_not_fit_are_refused_by_name():
    inputs, labels = heard()
    trainer = Trainer(listener(), keras.optimizers.Adam(0.01), CTCLoss())
    short = {"frames": inputs["frames"][:, :2]}
    with pytest.raises(ValueError, match=r"`dataset labels` must fit the frames.* need [345] of 2 frames in row 0"):
        trainer.fit(tf.data.Dataset.from_tensors((short, labels)), 1)
    with pytest.raises(ValueError, match="`dataset labels` must hold ids of the vocabulary, 0 to 3"):
        trainer.fit(tf.data.Dataset.from_tensors((inputs, labels + 2)), 1)
    with pytest.raises(ValueError, match="`dataset labels` must be padded on the right"):
        trainer.fit(tf.data.Dataset.from_tensors((inputs, labels * [0, 1, 1])), 1)
    with pytest.raises(ValueError, match="`y_true` must be labels"):
        CTCLoss()(labels[0], inputs["frames"])
