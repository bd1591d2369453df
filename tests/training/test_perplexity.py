import keras
import numpy as np
import pytest

from keras_attn.training import MaskedCrossEntropy, Perplexity

LABELS = np.array([[3, 1, 6, 0, 0], [2, 5, 4, 1, 3], [6, 0, 0, 0, 0]])
LOGITS = np.random.default_rng(3).standard_normal((3, 5, 7)).astype("float32")
WEIGHTS = np.random.default_rng(5).uniform(0.1, 2, (3, 5))


def nats(weights):
    """Sum and weight of `-log p` in float64."""
    log_p = LOGITS - np.log(np.exp(LOGITS.astype("float64")).sum(-1, keepdims=True))
    weights = weights * (LABELS != 0)
    return -(np.take_along_axis(log_p, LABELS[..., None], -1)[..., 0] * weights).sum(), weights.sum()


@pytest.mark.parametrize("weights", [None, WEIGHTS, WEIGHTS[:, 0]], ids=["none", "tokens", "rows"])
def test_batches_of_unequal_size(weights):
    full = np.ones((3, 5)) if weights is None else weights if weights.ndim == 2 else weights[:, None]
    total, weight = nats(full)
    metric = Perplexity()
    for row in range(3):
        given = None if weights is None else weights[row : row + 1]
        metric.update_state(LABELS[row : row + 1], LOGITS[row : row + 1], given)
    assert float(metric.result()) == pytest.approx(np.exp(total / weight), rel=1e-5)
    metric.reset_state()
    assert float(metric(LABELS, LOGITS)) == pytest.approx(np.exp(np.divide(*nats(1.0))), rel=1e-5)


def test_totals_of_a_loss_may_be_added():
    metric, loss = Perplexity(), MaskedCrossEntropy()
    for row in range(3):
        metric.update_total(*loss.total(LABELS[row : row + 1], LOGITS[row : row + 1]))
    assert float(metric.result()) == pytest.approx(float(Perplexity()(LABELS, LOGITS)), rel=1e-6)


def test_in_evaluate_and_round_trip():
    keras.utils.set_random_seed(7)
    model = keras.Sequential([keras.layers.Embedding(7, 3), keras.layers.Dense(7)])
    model.compile(loss=MaskedCrossEntropy(), metrics=[Perplexity(name="ppl")])
    logs = model.evaluate(LABELS, LABELS, batch_size=1, return_dict=True, verbose=0)
    expected = float(Perplexity()(LABELS, model.predict(LABELS, verbose=0)))
    assert logs["ppl"] == pytest.approx(expected, rel=1e-5)
    metric = Perplexity(ignore_id=-100, name="ppl")
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(metric))
    assert type(copy) is Perplexity
    assert copy.get_config() == metric.get_config()
