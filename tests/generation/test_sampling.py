"""Samples against the exact distribution, and the noise that they are drawn with."""

import keras
import numpy as np
import pytest
from keras import ops
from model_checks import generated, scattered
from scipy import stats

from keras_attn import GenerationConfig, LanguageModel
from keras_attn.generation import MinP, Sampling, Temperature, TopK, TopP, Typical
from keras_attn.ops.hashed_uniform import hashed_uniform, row_keys

V, COUNT, LEAST = 11, 20000, 1e-4
PROMPTS = np.array([[5, 4, 1, 7], [6, 2, 0, 0], [9, 8, 10, 0]])


@pytest.fixture(scope="module")
def model():
    # Other weights may leave a filter one token, which tells nothing.
    keras.utils.set_random_seed(7)
    return scattered(LanguageModel(V, 1, 8, 2, 8, tie_output=False))


def config(length=2, seed=3, count=1, processors=()):
    # No token ends a row here but the last of the vocabulary.
    return GenerationConfig(length, end_id=V - 1, strategy=Sampling(seed, count), processors=processors)


def exact(model, text, processors):
    """The filtered distribution behind `text`, float64."""
    logits = np.asarray(model({"token_ids": np.array([text])}))[:, -1]
    for processor in processors:
        logits = np.asarray(processor(logits, (), 0))
    weights = np.exp(logits[0].astype("float64") - logits.max())
    return weights / weights.sum()


def check_counts(tokens, probabilities):
    counts = np.bincount(tokens, minlength=V)
    assert counts[probabilities == 0].sum() == 0
    likely = probabilities * len(tokens) >= 5
    rest = probabilities[~likely].sum() * len(tokens)
    observed, wanted = counts[likely], probabilities[likely] * len(tokens)
    if rest > 0:
        observed, wanted = np.append(observed, counts[~likely].sum()), np.append(wanted, rest)
    assert len(observed) > 1
    assert stats.chisquare(observed, wanted * observed.sum() / wanted.sum()).pvalue > LEAST


PROCESSORS = {
    "none": (),
    "temperature": (Temperature(0.6),),
    "hot": (Temperature(1.9),),
    "top_k": (TopK(4),),
    "top_p": (TopP(0.8),),
    "min_p": (MinP(0.3),),
    "typical": (Typical(0.7),),
    "several": (Temperature(1.4), TopK(7), TopP(0.9)),
}


@pytest.mark.parametrize("processors", PROCESSORS.values(), ids=PROCESSORS)
def test_tokens_are_distributed_as_they_should(model, processors):
    outputs = model.generate(PROMPTS[:1], config=config(3, 3, COUNT, processors), return_dict=True)
    tokens = outputs["tokens"][0]
    probabilities = exact(model, PROMPTS[0].tolist(), processors)
    check_counts(tokens[:, 0], probabilities)
    np.testing.assert_allclose(outputs["scores"][0, :, 0], np.log(probabilities[tokens[:, 0]]), atol=1e-4)
    first = int(np.argmax(probabilities * (np.arange(V) < V - 1)))
    behind = tokens[tokens[:, 0] == first]
    second = exact(model, [*PROMPTS[0], first], processors)
    check_counts(behind[:, 1], second)
    following = int(np.argmax(second * (np.arange(V) < V - 1)))
    behind = behind[behind[:, 1] == following]
    assert len(behind) > 50
    check_counts(behind[:, 2], exact(model, [*PROMPTS[0], first, following], processors))


def test_seeds_draw_alike(model):
    tokens = np.array([model.generate(PROMPTS[:1], config=config(1, seed))[0, 0] for seed in range(400)])
    check_counts(tokens, exact(model, PROMPTS[0].tolist(), ()))


def test_a_row_does_not_depend_on_its_place(model):
    settings = config(9, 5, 3)
    tokens = model.generate(PROMPTS, config=settings)
    np.testing.assert_array_equal(model.generate(PROMPTS[::-1], config=settings)[::-1], tokens)
    for row, expected in zip(PROMPTS, tokens, strict=True):
        np.testing.assert_array_equal(model.generate(row[None, row != 0], config=settings)[0], expected)
    assert len({tuple(x) for x in tokens.reshape(-1, 9)}) > 5


def test_seeds(model, monkeypatch):
    traces, prefill = [], model.prefill
    monkeypatch.setattr(model, "prefill", lambda *args, **kwargs: traces.append(1) or prefill(*args, **kwargs))
    settings = [config(12, seed, 2) for seed in (0, 1, 2**31 - 1)]
    tokens = [model.generate(PROMPTS, config=x) for x in settings]
    assert len(traces) <= 1
    assert all((a != b).any() for a, b in zip(tokens, tokens[1:] + tokens[:1], strict=True))
    np.testing.assert_array_equal(model.generate(PROMPTS, config=settings[1]), tokens[1])
    # Outside of any graph, and compiled by XLA.
    np.testing.assert_array_equal(generated(model, PROMPTS, settings[1])["tokens"], tokens[1])
    np.testing.assert_array_equal(model.generate(PROMPTS, config=settings[1], jit_compile=True), tokens[1])


def noise(size=1000, rows=3, steps=4, seeds=4):
    """float64 `(seeds, steps, rows, size)`."""
    ids = np.arange(rows * 2).reshape(rows, 2) + 1
    keys = row_keys(ids.astype("int32"), np.ones_like(ids, dtype=bool))
    return np.array(
        [[np.asarray(hashed_uniform(keys, step, seed, size)) for step in range(steps)] for seed in range(seeds)],
        "float64",
    )


def test_noise_is_uniform():
    numbers = noise(5000)
    assert (numbers > 0).all()
    assert (numbers < 1).all()
    assert stats.kstest(numbers.ravel(), "uniform").pvalue > LEAST
    for bins in (7, 64, 1000):
        counts, _ = np.histogram(numbers, bins, (0, 1))
        assert stats.chisquare(counts).pvalue > LEAST
    # And of each row, step and seed: the least of many p-values.
    values = [stats.kstest(x, "uniform").pvalue for x in numbers.reshape(-1, 5000)]
    assert min(values) * len(values) > LEAST


@pytest.mark.parametrize("axis", [0, 1, 2, 3], ids=["seed", "step", "row", "token"])
@pytest.mark.parametrize("distance", [1, 2])
def test_neighbours_are_independent(axis, distance):
    numbers = np.moveaxis(noise(3000), axis, 0)
    first, second = numbers[:-distance].ravel(), numbers[distance:].ravel()
    assert abs(np.corrcoef(first, second)[0, 1]) < 4.5 / np.sqrt(len(first))
    table, _, _ = np.histogram2d(first, second, 8, [[0, 1], [0, 1]])
    assert stats.chisquare(table.ravel()).pvalue > LEAST


def test_a_large_vocabulary_has_no_repeats():
    numbers = noise(60000, rows=2, steps=1, seeds=1).reshape(2, -1)
    half = 46337
    for row in numbers:
        # Pairs a period of one of the streams apart differ, and hardly any value occurs twice.
        assert (row[half:] != row[:-half]).all()
        assert len(np.unique(row)) > 59500
        # No two stretches are alike.
        for shift in (46307, 46337):
            assert abs(np.corrcoef(row[shift:], row[:-shift])[0, 1]) < 4.5 / np.sqrt(len(row) - shift)
        assert stats.kstest(row, "uniform").pvalue > LEAST


def test_padding_is_no_part_of_a_key():
    ids = np.array([[3, 4, 0, 0], [3, 4, 9, 9], [4, 3, 0, 0], [3, 4, 4, 0]], "int32")
    mask = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0]], bool)
    keys = np.stack(row_keys(ids, mask), axis=1)
    np.testing.assert_array_equal(keys[0], keys[1])
    np.testing.assert_array_equal(keys[0], np.stack(row_keys(ids[:1, :2], mask[:1, :2]), axis=1)[0])
    assert len(np.unique(keys, axis=0)) == 3


def test_noise_of_many_sequences_is_their_own(model):
    tokens = model.generate(PROMPTS[:2], config=config(16, 1, 200))
    shared = (tokens[0][:, None] == tokens[0][None]).all(axis=-1)
    # Equal sequences only where they ended at once.
    short = (tokens[0] == V - 1).any(axis=-1)
    assert not shared[~short][:, ~short][~np.eye((~short).sum(), dtype=bool)].any()
    assert ops.shape(tokens) == (2, 200, 16)
