"""What a recurrent encoder-decoder does in training alone: scheduled sampling and guided alignment."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attn import attention_maps
from keras_attn.layers import AdditiveAttention, GuidedAlignment, LuongAttention, ScheduledSampling
from keras_attn.models import Seq2SeqRNN
from keras_attn.training import Checkpoints, MaskedCrossEntropy, Trainer

VOCABULARY, D = 23, 7
SOURCE = np.array([[5, 6, 7, 8, 9, 10, 11], [12, 13, 14, 15, 0, 0, 0], [4, 0, 0, 0, 0, 0, 0]])
TARGET = np.array([[2, 5, 7, 11, 13], [2, 6, 8, 12, 14], [2, 9, 9, 4, 6]])
INPUTS = {"source_ids": SOURCE, "target_ids": TARGET}


def make(probability, **kwargs):
    keras.utils.set_random_seed(7)
    settings = {"num_layers": 2, "hidden_dim": D, "dropout": 0.0, "tie_output": False}
    sampling = ScheduledSampling(probability, seed=5)
    model = Seq2SeqRNN(VOCABULARY, **{**settings, "scheduled_sampling": sampling, **kwargs})
    rng = np.random.default_rng(7)
    for weight in model.trainable_weights:
        weight.assign(weight + 0.5 * rng.standard_normal(weight.shape))
    # So sure of itself that a sample is the likeliest token.
    table = model.target_embedding.reverse_embeddings
    table.assign(table * 1e3)
    return model


def own_tokens(model):
    """The decoder's inputs when all but the first token are its own."""
    target = TARGET.copy()
    for t in range(1, target.shape[1]):
        target[:, t] = np.argmax(model({**INPUTS, "target_ids": target})[:, t - 1], axis=-1)
    return target


@pytest.mark.parametrize(
    "kwargs",
    [
        {"num_layers": 3, "residual_from": 3},
        {"cell": "gru", "bridge": False, "readout": "maxout", "attend_first": True},
        {
            "attention": [AdditiveAttention(5), LuongAttention("general")],
            "num_layers": 1,
        },
    ],
)
def test_a_decoder_is_given_its_own_samples_in_training_alone(kwargs):
    model = make(1.0, **kwargs)
    plain = np.asarray(model(INPUTS))
    expected = np.asarray(model({**INPUTS, "target_ids": own_tokens(model)}))
    assert np.abs(expected - plain).max() > 1
    np.testing.assert_allclose(model(INPUTS, training=True), expected, rtol=1e-4, atol=1e-2)
    hidden = model.hidden_states(INPUTS, training=True)
    np.testing.assert_allclose(model.logits(hidden), expected, rtol=1e-4, atol=1e-2)
    model.scheduled_sampling.probability = 0.0
    np.testing.assert_allclose(model(INPUTS, training=True), plain, rtol=1e-4, atol=1e-2)


def test_a_masked_target_leaves_samples_as_they_are():
    model = make(1.0)
    mask = np.broadcast_to(np.arange(5) != 2, TARGET.shape)
    with_gap = model({**INPUTS, "target_mask": mask}, training=True)
    without = model({**INPUTS, "target_ids": np.delete(TARGET, 2, axis=1)}, training=True)
    np.testing.assert_allclose(np.delete(with_gap, 2, axis=1), without, rtol=1e-4, atol=1e-2)


class Batches:
    """The `i`-th follows from `i` alone."""

    fingerprint = "batches"

    def batches(self, start=0, shard=0, num_shards=1):
        while True:
            rng = np.random.default_rng(start)
            labels = rng.integers(4, VOCABULARY, (4, 5), "int32")
            inputs = {"source_ids": rng.integers(4, VOCABULARY, (4, 6), "int32")}
            yield {**inputs, "target_ids": np.pad(labels[:, :-1], ((0, 0), (1, 0)), constant_values=2)}, labels
            start += 1


def trainer(folder=None):
    keras.utils.set_random_seed(1)
    schedule = keras.optimizers.schedules.PolynomialDecay(0.0, 4, 1.0)
    model = Seq2SeqRNN(VOCABULARY, 1, D, cell="gru", dropout=0.2, scheduled_sampling=ScheduledSampling(schedule))
    checkpoints = Checkpoints(folder, every=2) if folder else None
    return Trainer(model, keras.optimizers.Adam(1e-2), MaskedCrossEntropy(), checkpoints=checkpoints)


def test_a_training_run_that_is_resumed_goes_on_with_the_schedule(tmp_path):
    whole = trainer()
    whole.fit(Batches(), 4)
    trainer(tmp_path).fit(Batches(), 2)
    resumed = trainer(tmp_path)
    resumed.fit(Batches(), 4)
    assert int(resumed.model.scheduled_sampling.calls) == 4
    for actual, expected in zip(resumed.model.get_weights(), whole.model.get_weights(), strict=True):
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("loop", ["fit", "trainer"])
def test_guided_alignment_moves_the_attention(loop):
    sampling = ScheduledSampling(0.5) if loop == "trainer" else None
    keras.utils.set_random_seed(7)
    options = {"cell": "gru", "dropout": 0.0, "guided_alignment": GuidedAlignment(3.0), "scheduled_sampling": sampling}
    model = Seq2SeqRNN(VOCABULARY, 1, 16, **options)
    # The target's token t is aligned with the source's, the last row's with its only one.
    places = np.minimum(np.arange(5), (SOURCE != 0).sum(axis=1, keepdims=True) - 1)
    inputs = {**INPUTS, "alignments": np.eye(7, dtype="float32")[places]}

    def given():
        (scores,) = attention_maps(model, INPUTS).values()
        return np.mean(np.sum(scores[:, 0] * inputs["alignments"], axis=-1))

    before = given()
    data = tf.data.Dataset.from_tensors((inputs, TARGET)).repeat()
    if loop == "fit":
        model.compile(keras.optimizers.Adam(3e-2), MaskedCrossEntropy(), jit_compile=False)
        model.fit(data, steps_per_epoch=60, shuffle=False, verbose=0)
    else:
        Trainer(model, keras.optimizers.Adam(3e-2), MaskedCrossEntropy()).fit(data, 60)
    assert before < 0.5
    assert given() > 0.8
