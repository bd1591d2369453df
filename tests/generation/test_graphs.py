"""The graphs that a model keeps: which settings share one, how many there are, and what threads may do with them."""

import dataclasses
import gc
import threading
import weakref

import keras
import numpy as np
import pytest
from model_checks import generated, scattered

from keras_attn import GenerationConfig, LanguageModel, Transformer
from keras_attn.generation import (
    BannedTokens,
    BeamSearch,
    ClassifierFreeGuidance,
    ContrastiveSearch,
    DiverseBeamSearch,
    EncoderRepetitionPenalty,
    EpsilonCutoff,
    EtaCutoff,
    ExponentialLengthDecay,
    MinLength,
    MinP,
    OccurrencePenalty,
    RepetitionPenalty,
    Sampling,
    Temperature,
    TopH,
    TopK,
    TopP,
    Typical,
    Watermark,
    generate,
    stream,
)

graphs = __import__(generate.__module__, fromlist=["_graphs"])

SIZES = {"num_layers": 1, "hidden_dim": 12, "num_heads": 2, "intermediate_dim": 13, "tie_output": False}
PROMPTS = np.array([[5, 4, 1, 5, 2], [4, 1, 5, 0, 0], [1, 0, 0, 0, 0]])


@pytest.fixture(scope="module")
def model():
    # The seed of each test is set after this.
    keras.utils.set_random_seed(0)
    return scattered(LanguageModel(23, **SIZES))


@pytest.fixture(autouse=True)
def _no_graphs():
    graphs._graphs.clear()


def sampled(*processors):
    return GenerationConfig(7, strategy=Sampling(1, 4), processors=processors)


def searched(strategy):
    return GenerationConfig(7, strategy=strategy)


# What a server's callers choose: each pair has one graph.
NUMBERS = {
    "filters": [
        sampled(Temperature(t), TopK(k, 2), TopP(p), MinP(p / 50), TopH(p), Typical(p), EpsilonCutoff(e), EtaCutoff(e))
        for t, k, p, e in ((0.6, 9, 0.95, 0.01), (1.8, 1, 0.8, 0.02))
    ],
    "penalties": [
        sampled(
            RepetitionPenalty(x, int(2 * x)),
            EncoderRepetitionPenalty(1 / x),
            OccurrencePenalty(x, -x),
            ExponentialLengthDecay(int(x), 1 + x / 9),
            MinLength(int(2 * x)),
            Watermark(x / 4, x),
        )
        for x in (1.2, 3.1)
    ],
    "beams": [searched(BeamSearch(3, x, early_stopping="never", num_sequences=3)) for x in (-1.0, 1.5)],
    "diverse": [
        searched(DiverseBeamSearch(4, x, num_groups=2, diversity_penalty=3 * x, num_sequences=4)) for x in (0.2, 1.0)
    ],
    "contrast": [searched(ContrastiveSearch(3, x)) for x in (0.2, 0.9)],
    "guidance": [searched(ClassifierFreeGuidance(x)) for x in (1.5, 4.0)],
}


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_are_inputs_of_one_graph(model, name):
    results = [model.generate(PROMPTS, config=config, return_dict=True) for config in NUMBERS[name]]
    assert len(graphs._graphs[model]) == 1
    for config, outputs in zip(NUMBERS[name], results, strict=True):
        # Constants, as an exported graph has them.
        expected = generated(model, PROMPTS.astype("int32"), config.resolved())
        np.testing.assert_array_equal(outputs["tokens"], expected["tokens"])
        np.testing.assert_allclose(outputs["sequence_scores"], expected["sequence_scores"], rtol=1e-5, atol=1e-5)
    assert (results[0]["tokens"] != results[1]["tokens"]).any() or name == "beams"
    assert (results[0]["sequence_scores"] != results[1]["sequence_scores"]).any()


def test_coverage_is_an_input_too():
    model = scattered(Transformer(23, **SIZES))
    worth = [
        model.generate(PROMPTS, config=searched(BeamSearch(2, coverage_penalty=x)), return_dict=True)
        for x in (0.1, 0.7, 0.0)
    ]
    assert len({outputs["sequence_scores"].tobytes() for outputs in worth}) == 3
    # Without coverage nothing is recorded.
    assert len(graphs._graphs[model]) == 2


def test_pieces_share_their_graphs(model):
    for config in (sampled(Temperature(0.5)), sampled(Temperature(2.0))):
        config = dataclasses.replace(config, strategy=Sampling(1))
        pieces = list(stream(model, PROMPTS, config=config))
        whole = model.generate(PROMPTS, config=config)
        np.testing.assert_array_equal(np.concatenate(pieces, axis=1), whole[:, : len(pieces)])
    assert len(graphs._graphs[model]) == 3


@dataclasses.dataclass(frozen=True)
class Warmer(Temperature):
    """Computes in Python with the number of its base."""

    def __call__(self, logits, state, step):
        return super().__call__(logits, state, step) if self.value > 1 else logits


def test_numbers_of_a_subclass_stay_what_they_are(model):
    for value, same in ((0.5, sampled()), (3.0, sampled(Temperature(3.0)))):
        expected = generated(model, PROMPTS.astype("int32"), same.resolved())["tokens"]
        np.testing.assert_array_equal(model.generate(PROMPTS, config=sampled(Warmer(value))), expected)


def test_graphs_that_are_not_used_go(model, monkeypatch):
    monkeypatch.setattr(graphs, "MOST_GRAPHS", 2)
    configs = [GenerationConfig(3, processors=(BannedTokens((token,)),)) for token in (7, 8, 9)]
    expected = [model.generate(PROMPTS, config=config) for config in configs[:2]]
    (_, first), (_, second) = graphs._graphs[model].values()
    first, second = weakref.ref(first), weakref.ref(second)
    np.testing.assert_array_equal(model.generate(PROMPTS, config=configs[0]), expected[0])
    model.generate(PROMPTS, config=configs[2])
    gc.collect()
    assert len(graphs._graphs[model]) == 2
    assert first() is not None
    assert second() is None
    np.testing.assert_array_equal(model.generate(PROMPTS, config=configs[1]), expected[1])


def test_threads_get_what_each_would_alone(model):
    """All start at once, on graphs that nobody has traced yet."""
    drawn = dataclasses.replace(sampled(Temperature(2.0)), strategy=Sampling(1))
    asks = [
        lambda: model.generate(PROMPTS, config=drawn),
        lambda: model.generate(PROMPTS[1:], config=dataclasses.replace(drawn, processors=(Temperature(0.5),))),
        lambda: np.concatenate(list(stream(model, PROMPTS[:2], config=drawn)), axis=1),
        lambda: model.generate(PROMPTS[:2], config=searched(BeamSearch(2))),
    ] * 2
    found, barrier = [[] for _ in asks], threading.Barrier(len(asks))

    def work(ask, results):
        barrier.wait()
        results.extend(ask() for _ in range(4))

    threads = [threading.Thread(target=work, args=given) for given in zip(asks, found, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(graphs._graphs[model]) == 4
    for ask, results in zip(asks, found, strict=True):
        expected = ask()
        assert len(results) == 4
        for tokens in results:
            np.testing.assert_array_equal(tokens, expected)
