"""Logit processors side by side with Hugging Face's."""

import numpy as np
import pytest

from keras_attn.generation.processors import (
    BANNED,
    BannedSequences,
    BannedTokens,
    EncoderNoRepeatNGram,
    EncoderRepetitionPenalty,
    EpsilonCutoff,
    EtaCutoff,
    ExponentialLengthDecay,
    ForcedEnd,
    ForcedPrefix,
    History,
    LogitNormalization,
    MinLength,
    MinP,
    NoRepeatNGram,
    RepetitionPenalty,
    SequenceBias,
    Temperature,
    TopH,
    TopK,
    TopP,
    Typical,
)

torch = pytest.importorskip("torch", reason="needs torch==2.13.0: make peers")
transformers = pytest.importorskip("transformers", reason="needs transformers==5.24.0: make peers")

R, V, LENGTH, ENDS = 3, 53, 7, (3, 11)
PROMPTS = ([4, 1, 2, 1, 2, 4, 1, 1], [2], [1, 2, 4, 1, 2])


def compare(ours, theirs, prompts=PROMPTS, ends=ENDS, seeds=3, atol=0.0):
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
                np.testing.assert_allclose(actual[row][kept], wanted[kept], rtol=1e-6, atol=atol)
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


@pytest.mark.peer("RepetitionPenalty", "transformers.RepetitionPenaltyLogitsProcessor")
@pytest.mark.parametrize("length", [0, 2, 20])
def test_repetition_penalty_of_a_part_of_the_prompt(length):
    ours = RepetitionPenalty(1.3, prompt_ignore_length=length)
    compare(ours, lambda n: transformers.RepetitionPenaltyLogitsProcessor(1.3, min(length, n)))


@pytest.mark.peer("EncoderRepetitionPenalty", "transformers.EncoderRepetitionPenaltyLogitsProcessor")
@pytest.mark.parametrize("penalty", [0.4, 1.3])
def test_encoder_repetition_penalty(penalty):
    compare(
        EncoderRepetitionPenalty(penalty),
        lambda n: transformers.EncoderRepetitionPenaltyLogitsProcessor(penalty, prompt_of(n)),
    )


@pytest.mark.peer("EncoderNoRepeatNGram", "transformers.EncoderNoRepeatNGramLogitsProcessor")
@pytest.mark.parametrize("size", [1, 2, 3])
def test_encoder_no_repeat_ngram(size):
    compare(EncoderNoRepeatNGram(size), lambda n: transformers.EncoderNoRepeatNGramLogitsProcessor(size, prompt_of(n)))


def prompt_of(length):
    return torch.tensor([next(row for row in PROMPTS if len(row) == length)])


SEQUENCES = ((40,), (1, 2, 4), (2, 2), (1, 2), (4, 4, 1, 2))


@pytest.mark.peer("BannedSequences", "transformers.NoBadWordsLogitsProcessor")
def test_banned_sequences():
    words = [list(sequence) for sequence in SEQUENCES]
    compare(
        BannedSequences(SEQUENCES), lambda n: transformers.NoBadWordsLogitsProcessor(words, eos_token_id=list(ENDS))
    )


@pytest.mark.peer("SequenceBias", "transformers.SequenceBiasLogitsProcessor")
def test_sequence_bias():
    biases = (1.0, -2.0, 0.5, 3.0, -0.1)
    theirs = dict(zip(SEQUENCES, biases, strict=True))
    compare(SequenceBias(SEQUENCES, biases), lambda n: transformers.SequenceBiasLogitsProcessor(theirs))


@pytest.mark.peer("ExponentialLengthDecay", "transformers.ExponentialDecayLengthPenalty")
@pytest.mark.parametrize("factor", [0.8, 1.6])
def test_exponential_length_decay(factor):
    compare(
        ExponentialLengthDecay(2, factor),
        lambda n: transformers.ExponentialDecayLengthPenalty((2, factor), list(ENDS), n),
    )


@pytest.mark.peer("EpsilonCutoff", "transformers.EpsilonLogitsWarper")
@pytest.mark.parametrize(("epsilon", "least"), [(0.01, 1), (0.3, 1), (0.3, 4)])
def test_epsilon_cutoff(epsilon, least):
    compare(
        EpsilonCutoff(epsilon, least), lambda n: transformers.EpsilonLogitsWarper(epsilon, min_tokens_to_keep=least)
    )


@pytest.mark.peer("EtaCutoff", "transformers.EtaLogitsWarper")
@pytest.mark.parametrize(("epsilon", "least"), [(0.01, 1), (0.3, 1), (0.3, 4)])
def test_eta_cutoff(epsilon, least):
    compare(EtaCutoff(epsilon, least), lambda n: transformers.EtaLogitsWarper(epsilon, min_tokens_to_keep=least))


@pytest.mark.peer("TopH", "transformers.TopHLogitsWarper")
@pytest.mark.parametrize("h", [0.05, 0.4, 0.9])
def test_top_h(h):
    compare(TopH(h), lambda n: transformers.TopHLogitsWarper(h))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (TopK(2, 4), ("TopK", 2)),
        (TopP(0.05, 4), ("TopP", 0.05)),
        (MinP(0.9, 4), ("MinP", 0.9)),
        (Typical(0.05, 4), ("Typical", 0.05)),
    ],
    ids=["top_k", "top_p", "min_p", "typical"],
)
def test_min_tokens_to_keep(ours, theirs):
    kind, value = theirs
    compare(ours, lambda n: getattr(transformers, f"{kind}LogitsWarper")(value, min_tokens_to_keep=4))


@pytest.mark.peer("BannedTokens", "transformers.SuppressTokensAtBeginLogitsProcessor")
def test_tokens_banned_at_one_step():
    compare(BannedTokens((0, 17), step=2), lambda n: transformers.SuppressTokensAtBeginLogitsProcessor([0, 17], n + 2))


@pytest.mark.peer("LogitNormalization", "transformers.LogitNormalization")
def test_logit_normalization():
    # Differences of nearly equal numbers.
    compare(LogitNormalization(), lambda n: transformers.LogitNormalization(), atol=1e-6)
