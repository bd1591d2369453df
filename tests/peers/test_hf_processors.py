"""Logit processors side by side with Hugging Face's."""

import numpy as np
import pytest

from keras_attn.generation.processors import (
    BANNED,
    BannedTokens,
    ForcedEnd,
    ForcedPrefix,
    History,
    MinLength,
    MinP,
    NoRepeatNGram,
    RepetitionPenalty,
    Temperature,
    TopK,
    TopP,
    Typical,
)

torch = pytest.importorskip("torch", reason="needs torch==2.13.0: make peers")
transformers = pytest.importorskip("transformers", reason="needs transformers==5.24.0: make peers")

R, V, LENGTH, ENDS = 3, 53, 7, (3, 11)
PROMPTS = ([4, 1, 2, 1, 2, 4, 1, 1], [2], [1, 2, 4, 1, 2])


def compare(ours, theirs, prompts=PROMPTS, ends=ENDS, seeds=3):
    """`theirs` takes the length of a prompt, since they count it; each row alone, since they know no padding behind."""
    width = max(map(len, prompts))
    ids = np.array([[*row, *[5] * (width - len(row))] for row in prompts], "int32")
    mask = np.array([[i < len(row) for i in range(width)] for row in prompts])
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        state = ours.start(History(ids, mask, V, LENGTH, ends))
        texts = [list(row) for row in prompts]
        for step in range(LENGTH):
            logits = (rng.normal(size=(R, V)) * 3).astype("float32")
            actual = np.asarray(ours(logits, state, step))
            for row, text in enumerate(texts):
                scores = torch.tensor(logits[row : row + 1])
                wanted = theirs(len(prompts[row]))(torch.tensor([text]), scores)[0].numpy()
                np.testing.assert_array_equal(actual[row] <= BANNED, np.isneginf(wanted))
                kept = actual[row] > BANNED
                np.testing.assert_allclose(actual[row][kept], wanted[kept], rtol=1e-6)
            tokens = rng.choice([1, 2, 4], size=R).astype("int32")
            state = ours.update(state, tokens, step)
            for text, token in zip(texts, tokens, strict=True):
                text.append(int(token))


@pytest.mark.peer("RepetitionPenalty", "transformers.RepetitionPenaltyLogitsProcessor")
@pytest.mark.parametrize("penalty", [0.4, 1.3])
def test_repetition_penalty(penalty):
    compare(RepetitionPenalty(penalty), lambda n: transformers.RepetitionPenaltyLogitsProcessor(penalty))


@pytest.mark.peer("NoRepeatNGram", "transformers.NoRepeatNGramLogitsProcessor")
@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_no_repeat_ngram(size):
    compare(NoRepeatNGram(size), lambda n: transformers.NoRepeatNGramLogitsProcessor(size))


@pytest.mark.peer("MinLength", "transformers.MinNewTokensLengthLogitsProcessor")
def test_min_length():
    compare(MinLength(4), lambda n: transformers.MinNewTokensLengthLogitsProcessor(n, 4, list(ENDS)))


@pytest.mark.peer("ForcedPrefix", "transformers.ForcedBOSTokenLogitsProcessor")
def test_forced_prefix():
    compare(ForcedPrefix((6,)), lambda n: transformers.ForcedBOSTokenLogitsProcessor(6), prompts=([2], [2], [4]))


@pytest.mark.peer("ForcedEnd", "transformers.ForcedEOSTokenLogitsProcessor")
def test_forced_end():
    compare(ForcedEnd(), lambda n: transformers.ForcedEOSTokenLogitsProcessor(n + LENGTH, ENDS[0]), ends=ENDS[:1])


@pytest.mark.peer("BannedTokens", "transformers.SuppressTokensLogitsProcessor")
def test_banned_tokens():
    compare(BannedTokens((0, 17, 52)), lambda n: transformers.SuppressTokensLogitsProcessor([0, 17, 52]))


@pytest.mark.peer("Temperature", "transformers.TemperatureLogitsWarper")
def test_temperature():
    compare(Temperature(0.7), lambda n: transformers.TemperatureLogitsWarper(0.7))


@pytest.mark.peer("TopK", "transformers.TopKLogitsWarper")
@pytest.mark.parametrize("k", [1, 5, V + 1])
def test_top_k(k):
    compare(TopK(k), lambda n: transformers.TopKLogitsWarper(k))


@pytest.mark.peer("TopP", "transformers.TopPLogitsWarper")
@pytest.mark.parametrize("p", [0.05, 0.5, 0.9, 0.99, 1.0])
def test_top_p(p):
    compare(TopP(p), lambda n: transformers.TopPLogitsWarper(p))


@pytest.mark.peer("MinP", "transformers.MinPLogitsWarper")
@pytest.mark.parametrize("p", [0.02, 0.3, 1.0])
def test_min_p(p):
    compare(MinP(p), lambda n: transformers.MinPLogitsWarper(p))


@pytest.mark.peer("Typical", "transformers.TypicalLogitsWarper")
@pytest.mark.parametrize("p", [0.05, 0.5, 0.9, 0.99])
def test_typical(p):
    compare(Typical(p), lambda n: transformers.TypicalLogitsWarper(p))
