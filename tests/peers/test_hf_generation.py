"""Generation side by side with Hugging Face's `generate`: tokens, their scores, and what sequences are ranked by."""

import functools

import numpy as np
import pytest

from keras_attn import GenerationConfig
from keras_attn.generation import (
    BeamSearch,
    ClassifierFreeGuidance,
    ForcedEnd,
    ForcedPrefix,
    Greedy,
    MinLength,
    NoRepeatNGram,
    RepetitionPenalty,
    Sampling,
    TopK,
)

torch = pytest.importorskip("torch", reason="needs torch==2.13.0: make peers")
transformers = pytest.importorskip("transformers", reason="needs transformers==5.24.0: make peers")

from peers.test_hf_models import IDS, LENGTHS, PADDED, REAL, gpt2, t5  # noqa: E402

STEPS, START, PAD = 8, 0, 0


@functools.cache
def models(name):
    """A pair with the same weights, and two tokens at which its greedy sequences of different rows end."""
    theirs, ours = gpt2() if name == "GPT2LMHeadModel" else t5("1.1")
    free = ours.generate(PADDED, config=GenerationConfig(STEPS, START, 1))
    return theirs, ours, (int(free[0, 2]), int(free[1, 4]))


def expected(name, theirs, settings):
    """Lists, a row, of `(tokens, scores, sequence_score)` of the best sequences; a prompt alone, sources in a batch."""
    rows = []
    if name == "GPT2LMHeadModel":
        calls = [
            (row[None, :length], np.ones((1, length), "int64")) for row, length in zip(IDS, LENGTHS[:, 0], strict=True)
        ]
    else:
        calls = [(PADDED, REAL.astype("int64"))]
        settings = {**settings, "decoder_start_token_id": START}
    count = settings.get("num_return_sequences", 1)
    for ids, mask in calls:
        result = theirs.generate(
            torch.tensor(ids),
            attention_mask=torch.tensor(mask),
            max_new_tokens=STEPS,
            do_sample=False,
            pad_token_id=PAD,
            return_dict_in_generate=True,
            output_scores=True,
            **settings,
        )
        beams = result.get("beam_indices")
        scores = theirs.compute_transition_scores(
            result.sequences, result.scores, beams, normalize_logits=beams is None
        ).numpy()
        start = 1 if name != "GPT2LMHeadModel" else ids.shape[1]
        tokens = result.sequences[:, start:].numpy()
        ranks = scores[:, 0] * np.nan if beams is None else result.sequences_scores.numpy()
        found = list(zip(tokens, scores, ranks, strict=True))
        rows += [found[i : i + count] for i in range(0, len(found), count)]
    return rows


def compare(name, strategy=None, processors=(), num_ends=2, scored=True, **settings):
    theirs, ours, ends = models(name)
    ends = ends[:num_ends]
    if isinstance(strategy, BeamSearch):
        settings |= {"num_beams": strategy.num_beams, "length_penalty": strategy.length_penalty}
        settings |= {"early_stopping": strategy.early_stopping, "num_return_sequences": strategy.num_sequences}
    config = GenerationConfig(STEPS, START, ends, PAD, strategy, processors)
    outputs = ours.generate(PADDED, config=config, return_dict=True)
    count = settings.get("num_return_sequences", 1)
    tokens, scores = (outputs[key].reshape(len(PADDED), count, STEPS) for key in ("tokens", "scores"))
    ranks = outputs["sequence_scores"].reshape(len(PADDED), count)
    wanted = expected(name, theirs, {"eos_token_id": list(ends), **settings})
    assert len(wanted) == len(PADDED)
    lengths, worst = [], 0.0
    for i, row in enumerate(wanted):
        for j, (their_tokens, their_scores, rank) in enumerate(row):
            is_end = np.isin(their_tokens, ends)
            length = int(np.argmax(is_end)) + 1 if is_end.any() else STEPS
            # Behind the end, their beams have an end token where the id of padding is 0.
            np.testing.assert_array_equal(tokens[i, j, :length], their_tokens[:length])
            np.testing.assert_array_equal(tokens[i, j, length:], PAD)
            lengths.append(length)
            if not scored:
                continue
            np.testing.assert_allclose(scores[i, j, :length], their_scores[:length], atol=1e-4, rtol=0)
            np.testing.assert_array_equal(scores[i, j, length:], 0)
            total = their_scores[:length].sum() if np.isnan(rank) else rank
            np.testing.assert_allclose(ranks[i, j], total, atol=1e-4, rtol=0)
            worst = max(worst, np.abs(scores[i, j, :length] - their_scores[:length]).max(), abs(ranks[i, j] - total))
    if count > 1:
        assert len({tuple(x) for x in tokens.reshape(-1, STEPS).tolist()}) > 1
    return tokens, lengths, worst


PEERS = ["GPT2LMHeadModel", "T5ForConditionalGeneration"]
of_peers = pytest.mark.parametrize("peer", PEERS)


@pytest.mark.peer("Greedy", "transformers.generate")
@of_peers
def test_greedy(peer):
    _, lengths, _ = compare(peer)
    assert len(set(lengths)) > 1


@pytest.mark.peer("Sampling", "transformers.generate")
@of_peers
def test_sampling_of_one_token_is_greedy(peer):
    tokens, _, _ = compare(peer, Sampling(5), (TopK(1),), scored=False)
    assert len(np.unique(tokens)) > 4


PROCESSORS = {
    "no_repeat_ngram_size": ((NoRepeatNGram(1),), {"no_repeat_ngram_size": 1}),
    "repetition_penalty": ((RepetitionPenalty(2.5),), {"repetition_penalty": 2.5}),
    "min_new_tokens": ((MinLength(5),), {"min_new_tokens": 5}),
    "all": (
        (RepetitionPenalty(1.3), NoRepeatNGram(2), MinLength(4)),
        {"repetition_penalty": 1.3, "no_repeat_ngram_size": 2, "min_new_tokens": 4},
    ),
}
of_processors = pytest.mark.parametrize(("processors", "settings"), PROCESSORS.values(), ids=PROCESSORS)


def changed(peer, strategy, processors, settings, **ends):
    """The settings are felt: without them there are other tokens."""
    tokens, _, _ = compare(peer, strategy, processors, **ends, **settings)
    plain, _, _ = compare(peer, strategy, **ends)
    assert (tokens != plain).any()


@pytest.mark.peer("Greedy", "transformers.generate")
@of_processors
@of_peers
def test_greedy_with(peer, processors, settings):
    changed(peer, Greedy(), processors, settings, num_ends=1)


BEAMS = {
    "num_beams=1,length_penalty=0": BeamSearch(1, 0.0),
    "num_beams=2,early_stopping=True": BeamSearch(2, early_stopping=True),
    "num_beams=3,length_penalty=0,n_best=3": BeamSearch(3, 0.0, num_sequences=3),
    "num_beams=4,length_penalty=0.6,early_stopping=True,n_best=2": BeamSearch(
        4, 0.6, early_stopping=True, num_sequences=2
    ),
    "num_beams=4,n_best=4": BeamSearch(4, num_sequences=4),
    "num_beams=5,length_penalty=2,early_stopping=never,n_best=5": BeamSearch(
        5, 2.0, early_stopping="never", num_sequences=5
    ),
    "num_beams=4,length_penalty=2,n_best=3": BeamSearch(4, 2.0, num_sequences=3),
    "num_beams=4,length_penalty=-1,n_best=4": BeamSearch(4, -1.0, num_sequences=4),
    "num_beams=3,length_penalty=-1,early_stopping=never": BeamSearch(3, -1.0, early_stopping="never"),
    "num_beams=7,length_penalty=0,early_stopping=never,n_best=7": BeamSearch(
        7, 0.0, early_stopping="never", num_sequences=7
    ),
}


@pytest.mark.peer("BeamSearch", "transformers.generate")
@pytest.mark.parametrize("strategy", BEAMS.values(), ids=BEAMS)
@of_peers
def test_beam_search(peer, strategy):
    compare(peer, strategy)


@pytest.mark.peer("BeamSearch", "transformers.generate")
@of_processors
@of_peers
def test_beam_search_with(peer, processors, settings):
    changed(peer, BeamSearch(3, num_sequences=3), processors, settings)


FORCED = (
    (NoRepeatNGram(2), MinLength(3), ForcedPrefix((11,)), ForcedEnd()),
    {"no_repeat_ngram_size": 2, "min_new_tokens": 3, "forced_bos_token_id": 11},
)


@pytest.mark.peer("BeamSearch", "transformers.generate")
@pytest.mark.parametrize("strategy", [Greedy(), BeamSearch(3, 0.6, num_sequences=2)], ids=["greedy", "beam_search"])
def test_forced_first_and_last_token(strategy):
    peer = "T5ForConditionalGeneration"
    [end, _] = models(peer)[2]
    tokens, _, _ = compare(peer, strategy, FORCED[0], num_ends=1, forced_eos_token_id=end, **FORCED[1])
    assert (tokens[..., 0] == 11).all()
    assert (tokens == end).any(axis=-1).all()


@pytest.mark.peer("ClassifierFreeGuidance", "transformers.UnbatchedClassifierFreeGuidanceLogitsProcessor")
@pytest.mark.parametrize("others", [None, (7, 3)], ids=["last-token", "negative-prompt"])
def test_classifier_free_guidance(others):
    theirs, ours, ends = models("GPT2LMHeadModel")
    config = GenerationConfig(STEPS, START, ends, PAD, ClassifierFreeGuidance(2.5, others))
    outputs = ours.generate(PADDED, config=config, return_dict=True)
    for row, length, tokens, scores in zip(IDS, LENGTHS[:, 0], outputs["tokens"], outputs["scores"], strict=True):
        guide = transformers.UnbatchedClassifierFreeGuidanceLogitsProcessor(
            2.5, theirs, None if others is None else torch.tensor([others]), use_cache=False
        )
        result = theirs.generate(
            torch.tensor(row[None, :length]),
            attention_mask=torch.ones((1, int(length)), dtype=torch.long),
            max_new_tokens=STEPS,
            do_sample=False,
            pad_token_id=PAD,
            eos_token_id=list(ends),
            logits_processor=transformers.LogitsProcessorList([guide]),
            return_dict_in_generate=True,
            output_scores=True,
        )
        wanted = result.sequences[0, length:].numpy()
        np.testing.assert_array_equal(tokens[: len(wanted)], wanted)
        logs = theirs.compute_transition_scores(result.sequences, result.scores, normalize_logits=True)
        np.testing.assert_allclose(scores[: len(wanted)], logs[0].numpy(), atol=1e-4)
