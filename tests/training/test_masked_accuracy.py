import keras
import numpy as np
import pytest

from keras_attn.training import InverseSquareRootSchedule, MaskedAccuracy, MaskedCrossEntropy

B, T, V = 3, 5, 7
LABELS = np.array([[3, 1, 6, 0, 0], [2, 5, 4, 1, 3], [6, 0, 0, 0, 0]])
# Right, wrong, right, padding, padding; and so on.
HITS = np.array([[1, 0, 1, 1, 0], [1, 1, 0, 0, 1], [0, 1, 1, 0, 0]])
LOGITS = np.eye(V, dtype="float32")[np.where(HITS, LABELS, (LABELS + 1) % V)]
REAL = LABELS != 0


def test_padding_does_not_count():
    assert float(MaskedAccuracy()(LABELS, LOGITS)) == pytest.approx(5 / 9)


@pytest.mark.parametrize(("ignore_id", "expected"), [(None, 8 / 15), (6, 7 / 13), (-100, 8 / 15)])
def test_ignore_id(ignore_id, expected):
    assert float(MaskedAccuracy(ignore_id)(LABELS, LOGITS)) == pytest.approx(expected)


def test_mean_over_batches_of_unequal_size():
    metric = MaskedAccuracy()
    for row in range(B):
        metric.update_state(LABELS[row : row + 1], LOGITS[row : row + 1])
    assert float(metric.result()) == pytest.approx(5 / 9)
    metric.reset_state()
    assert float(metric(LABELS[:1], LOGITS[:1])) == pytest.approx(2 / 3)


def test_a_batch_of_padding_gives_zero():
    assert MaskedAccuracy()(np.zeros((B, T), int), LOGITS) == 0


@pytest.mark.parametrize("shape", [(B, T), (B, 1), (1, T), (B,)])
def test_sample_weight(shape):
    weights = np.random.default_rng(5).uniform(0.1, 2, shape)
    column = weights[:, None] if len(shape) == 1 else weights
    expected = (HITS * REAL * column).sum() / (REAL * column).sum()
    assert float(MaskedAccuracy()(LABELS, LOGITS, sample_weight=weights)) == pytest.approx(expected, rel=1e-5)


def test_sample_weight_of_rows_is_not_that_of_columns():
    weights = np.array([0.0, 1.0, 0.0])
    assert float(MaskedAccuracy()(LABELS[:, :3], LOGITS[:, :3], sample_weight=weights)) == pytest.approx(2 / 3)


def test_round_trip():
    metric = MaskedAccuracy(ignore_id=-100, name="token_accuracy")
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(metric))
    assert type(copy) is MaskedAccuracy
    assert copy.get_config() == metric.get_config()
    assert (copy.ignore_id, copy.name) == (-100, "token_accuracy")


def test_a_compiled_model_saves_its_training_settings(tmp_path):
    keras.utils.set_random_seed(7)
    model = keras.Sequential([keras.layers.Embedding(V, 3), keras.layers.Dense(V)])
    optimizer = keras.optimizers.Adam(InverseSquareRootSchedule(16, warmup_steps=3, scale=2.0))
    model.compile(optimizer, MaskedCrossEntropy(0.1), metrics=[MaskedAccuracy()], jit_compile=False)
    model.fit(LABELS, LABELS, epochs=2, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.loss.get_config() == model.loss.get_config()
    assert loaded.optimizer.get_config() == model.optimizer.get_config()
    logits = model.predict(LABELS, verbose=0)
    for m in (model, loaded):
        loss, accuracy = m.evaluate(LABELS, LABELS, verbose=0)
        assert loss == pytest.approx(float(MaskedCrossEntropy(0.1)(LABELS, logits)), rel=1e-5)
        assert accuracy == pytest.approx(float(MaskedAccuracy()(LABELS, logits)), rel=1e-5)
