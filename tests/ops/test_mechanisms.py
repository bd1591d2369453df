import numpy as np
import pytest

from keras_attn.ops import (
    AttentionMask,
    AttentionRequest,
    Mechanism,
    blockwise_attention,
    dense_attention,
    mechanisms,
    register_mechanism,
    select_mechanism,
)
from keras_attn.ops.target import EAGER, tracing_for


@pytest.fixture(autouse=True)
def _registry(monkeypatch):
    monkeypatch.setattr(mechanisms, "_MECHANISMS", dict(mechanisms._MECHANISMS))


def test_dense_answers_by_name_and_by_default():
    assert select_mechanism("dense", AttentionRequest()) is dense_attention
    assert select_mechanism("auto", AttentionRequest(return_scores=True)) is dense_attention


def test_unknown_name():
    register_mechanism("odd", Mechanism(len, lambda request: []))
    message = r"`mechanism` must be one of 'auto', .*'dense', .*'odd'.*Received: mechanism='quadratic'"
    with pytest.raises(ValueError, match=message):
        select_mechanism("quadratic", AttentionRequest())


def test_auto_goes_on_to_one_that_accepts():
    assert select_mechanism("auto", AttentionRequest(memory_efficient=True)) is blockwise_attention
    assert select_mechanism("auto", AttentionRequest(return_scores=True)) is dense_attention


@pytest.mark.parametrize("name", ["auto", "frugal"])
def test_the_error_holds_every_reason(name):
    register_mechanism("frugal", Mechanism(len, lambda request: ["it forgets the scores", "it is Monday"]))
    request = AttentionRequest(return_scores=True, memory_efficient=True)
    message = r"`mechanism` must support .*frugal: it forgets the scores; frugal: it is Monday"
    with pytest.raises(ValueError, match=message):
        select_mechanism(name, request)


def _twice(q, k, v, arguments):
    assert not arguments.return_scores
    return 2 * dense_attention(q, k, v, arguments)


def test_recording_adds_dense_scores_and_keeps_the_output():
    register_mechanism("twice", Mechanism(_twice, lambda request: ["no scores"] if request.return_scores else []))
    q, k, v = (np.random.default_rng(i).normal(size=(2, 3, 5, 4)).astype("float32") for i in range(3))
    output, scores = select_mechanism("twice", AttentionRequest(), recording=True)(q, k, v, return_scores=True)
    expected = dense_attention(q, k, v, return_scores=True)
    np.testing.assert_array_equal(output, 2 * expected[0])
    np.testing.assert_array_equal(scores, expected[1])
    assert select_mechanism("dense", AttentionRequest(), recording=True) is dense_attention


def test_what_is_not_softmax_has_no_scores_to_record():
    reasons = lambda request: ["it sums keys before queries"] if request.return_scores else []  # noqa: E731
    register_mechanism("linear", Mechanism(len, reasons, is_softmax=False))
    assert select_mechanism("linear", AttentionRequest()) is len
    with pytest.raises(
        ValueError, match=r"`mechanism` must be one that returns scores.*'linear': it sums keys before queries"
    ):
        select_mechanism("linear", AttentionRequest(), recording=True)


def causal_request(length, batch=1, **kwargs):
    positions = np.arange(length or 1)[None]
    mask = AttentionMask(query_positions=positions, key_positions=positions, causal=True)
    return AttentionRequest((batch, 8, length, 64), (batch, 8, length, 64), mask, **kwargs)


def test_auto_takes_blocks_where_they_win():
    free = lambda length, batch=1: AttentionRequest(*[(batch, 8, length, 64)] * 2)  # noqa: E731
    assert select_mechanism("auto", causal_request(512)) is dense_attention
    assert select_mechanism("auto", causal_request(4096)) is blockwise_attention
    assert select_mechanism("auto", causal_request(4096, return_scores=True)) is dense_attention
    assert select_mechanism("auto", causal_request(None)) is dense_attention
    assert select_mechanism("auto", free(2048)) is dense_attention
    assert select_mechanism("auto", free(32768)) is blockwise_attention
    assert select_mechanism("auto", free(1024, batch=4)) is dense_attention
    assert select_mechanism("auto", free(1024, batch=8)) is blockwise_attention
    assert select_mechanism("auto", free(512, batch=64)) is dense_attention
    assert select_mechanism("auto", free(512, batch=256)) is blockwise_attention
    assert select_mechanism("auto", causal_request(128, memory_efficient=True)) is blockwise_attention
    with tracing_for(EAGER, has_unequal_loops=False):
        assert select_mechanism("auto", causal_request(4096)) is dense_attention


def test_auto_takes_the_kernel_of_highest_priority():
    register_mechanism("eager", Mechanism(len, lambda request: [], priority=lambda request: request.has_sinks))
    assert select_mechanism("auto", AttentionRequest()) is dense_attention
    assert select_mechanism("auto", AttentionRequest(has_sinks=True)) is len


@pytest.mark.parametrize("name", ["blockwise", "auto"])
def test_blocks_have_no_scores(name):
    request = AttentionRequest(return_scores=True, memory_efficient=True)
    with pytest.raises(ValueError, match="blockwise: blockwise attention never computes the scores"):
        select_mechanism(name, request)
