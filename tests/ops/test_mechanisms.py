import pytest

from keras_attn.ops import (
    AttentionRequest,
    Mechanism,
    dense_attention,
    mechanisms,
    register_mechanism,
    select_mechanism,
)


@pytest.fixture(autouse=True)
def _registry(monkeypatch):
    monkeypatch.setattr(mechanisms, "_MECHANISMS", dict(mechanisms._MECHANISMS))


def test_dense_answers_by_name_and_by_default():
    assert select_mechanism("dense", AttentionRequest()) is dense_attention
    assert select_mechanism("auto", AttentionRequest(return_scores=True)) is dense_attention


def test_unknown_name():
    register_mechanism("linear", Mechanism(len, lambda request: []))
    message = "`mechanism` must be one of 'auto', 'dense', 'linear'. Received: mechanism='quadratic'"
    with pytest.raises(ValueError, match=message):
        select_mechanism("quadratic", AttentionRequest())


def test_auto_goes_on_to_one_that_accepts():
    register_mechanism("frugal", Mechanism(len, lambda request: ["no scores"] if request.return_scores else []))
    assert select_mechanism("auto", AttentionRequest(memory_efficient=True)) is len
    assert select_mechanism("auto", AttentionRequest(return_scores=True)) is dense_attention


@pytest.mark.parametrize("name", ["auto", "frugal"])
def test_a_refusal_holds_every_reason(name):
    register_mechanism("frugal", Mechanism(len, lambda request: ["it forgets the scores", "it is Monday"]))
    request = AttentionRequest(return_scores=True, memory_efficient=True)
    message = r"`mechanism` cannot answer .*frugal: it forgets the scores; frugal: it is Monday"
    with pytest.raises(ValueError, match=message):
        select_mechanism(name, request)
