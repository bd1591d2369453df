"""Beam search against exhaustive search, and against one of its own written without a cache."""

import contextlib
import functools
import itertools

import keras
import numpy as np
import pytest
from keras import ops
from model_checks import generated, scattered

from keras_attn import GenerationConfig, LanguageModel, Transformer
from keras_attn.generation import BannedTokens, BeamSearch, MinLength, NoRepeatNGram, score
from keras_attn.layers import recording
from keras_attn.models import Seq2SeqRNN
from keras_attn.ops.compiled import compiled

V, END = 6, 3
SIZES = {"num_layers": 1, "hidden_dim": 12}
KINDS = {
    "transformer": lambda: Transformer(V, **SIZES, num_heads=2, intermediate_dim=11),
    "language_model": lambda: LanguageModel(V, **SIZES, num_heads=2, intermediate_dim=11, tie_output=False),
    "rnn": lambda: Seq2SeqRNN(V, **SIZES, num_bidirectional_layers=1),
}
# Right-padded; 0 is never generated, since nothing would tell it from what stands behind an end.
SOURCE = np.array([[5, 4, 1, 5, 2], [4, 1, 5, 0, 0], [1, 0, 0, 0, 0]])
NO_PADDING = (BannedTokens((0,)),)


MECHANISMS = {"linear": {"mechanism": "linear"}, "local": {"mechanism": "local", "attention_options": {"window": 3}}}


@pytest.fixture(params=KINDS)
def model(request):
    return made(request.param)


@functools.cache
def made(kind):
    return scattered(KINDS[kind](), 0.6)


@functools.cache
def without_cache(model):
    """Log-probabilities of targets and attention to the sources, in one graph for all lengths."""
    paths = model.alignment_layers()

    def call(sources, targets):
        with recording() if paths else contextlib.nullcontext() as records:
            if isinstance(model, LanguageModel):
                token_ids = ops.concatenate([sources, targets], axis=1)
                logits = model({"token_ids": token_ids})[:, ops.shape(sources)[1] - 1 : -1]
            else:
                target_ids = ops.concatenate([ops.full_like(targets[:, :1], 2), targets[:, :-1]], axis=1)
                logits = model({"source_ids": sources, "target_ids": target_ids})
        return ops.log_softmax(logits), [records[path] for path in paths]

    return compiled(call, *[keras.KerasTensor((None, None), "int32")] * 2)


def whole(model, row, targets):
    """Log-probabilities `(n, T, V)` and attention `(n, T, S)` of equally long `targets`, without a cache."""
    sources = np.tile(row[row != 0], (len(targets), 1))
    logs, attention = without_cache(model)(*(ops.convert_to_tensor(x, "int32") for x in (sources, targets)))
    attention = np.mean([np.asarray(x).mean(axis=1) for x in attention], axis=0) if attention else None
    return np.asarray(logs).astype("float64"), attention


def worth(log_probability, length, strategy, attention=None):
    base = (5 + length) / 6 if strategy.penalty == "gnmt" else length
    value = log_probability / base**strategy.length_penalty
    if strategy.coverage_penalty:
        value += strategy.coverage_penalty * np.log(np.minimum(attention.sum(axis=0), 1)).sum()
    return value


def every_sequence(model, row, length, strategy):
    """All sequences that end or are of full length, best first: `(value, tokens)`."""
    tokens, found = [1, 2, END, 4, 5], []
    for size in range(1, length + 1):
        bodies = itertools.product([x for x in tokens if x != END], repeat=size - 1)
        lasts = tokens if size == length else [END]
        targets = np.array([[*body, last] for body in bodies for last in lasts])
        logs, attention = whole(model, row, targets)
        chosen = np.take_along_axis(logs, targets[..., None], axis=2)[..., 0].sum(axis=1)
        for i, target in enumerate(targets):
            seen = None if attention is None else attention[i]
            found.append((worth(chosen[i], size, strategy, seen), tuple(target.tolist())))
    return sorted(found, reverse=True)


def padded(tokens, length):
    return list(tokens) + [0] * (length - len(tokens))


def by_hand(model, row, length, strategy, ends=(END,)):
    """Beam search over lists: `[(value, tokens)]`, best first."""
    beams, finished = [(0.0, ())], []
    count = strategy.num_beams
    for step in range(1, length + 1):
        prefixes = np.array([[*tokens, 1] for _, tokens in beams])
        logs, attention = whole(model, row, prefixes)
        candidates = [
            (total + logs[i, -1, token], (*tokens, token), None if attention is None else attention[i])
            for i, (total, tokens) in enumerate(beams)
            for token in range(1, V)
        ]
        candidates.sort(key=lambda x: -x[0])
        over = [x[1][-1] in ends or step == length for x in candidates]
        # None comes in once all places are taken, which ends the search below.
        for (total, tokens, seen), ended in list(zip(candidates, over, strict=True))[:count]:
            if ended:
                finished.append((worth(total, step, strategy, seen), tokens))
        finished = sorted(finished, reverse=True)[:count]
        beams = [x[:2] for x, ended in zip(candidates, over, strict=True) if not ended][:count]
        if len(finished) == count:
            longest = length if strategy.early_stopping == "never" and strategy.length_penalty > 0 else step
            plain = BeamSearch(1, strategy.length_penalty, strategy.penalty)
            hopeless = not beams or worth(beams[0][0], longest, plain) <= finished[-1][0]
            if hopeless or strategy.early_stopping is True:
                break
    return finished


def check(model, strategy, expected, length, ends=END):
    config = GenerationConfig(length, end_id=ends, strategy=strategy, processors=NO_PADDING)
    outputs = model.generate(SOURCE, config=config, return_dict=True)
    shape = (len(SOURCE), strategy.num_sequences)
    tokens, values = outputs["tokens"].reshape(*shape, length), outputs["sequence_scores"].reshape(shape)
    for i, row in enumerate(SOURCE):
        wanted = expected(row)[: strategy.num_sequences]
        assert tokens[i].tolist() == [padded(x, length) for _, x in wanted]
        np.testing.assert_allclose(values[i], [value for value, _ in wanted], atol=1e-5, rtol=1e-5)
    return outputs


@pytest.mark.parametrize(("length_penalty", "penalty"), [(0.0, "power"), (1.0, "power"), (1.3, "gnmt")])
def test_enough_beams_find_the_best_of_all_sequences(model, length_penalty, penalty):
    strategy = BeamSearch(100, length_penalty, penalty, early_stopping="never", num_sequences=11)
    check(model, strategy, lambda row: every_sequence(model, row, 4, strategy), 4)


def test_enough_beams_find_the_best_by_coverage():
    model = made("transformer")
    strategy = BeamSearch(100, 0.7, "gnmt", 0.4, early_stopping="never", num_sequences=3)

    def best(row):
        return every_sequence(model, row, 4, strategy)

    outputs = check(model, strategy, best, 4)
    plain = BeamSearch(100, 0.7, "gnmt", early_stopping="never")
    assert (every_sequence(model, SOURCE[0], 4, plain)[0][1] != tuple(outputs["tokens"][0, 0])) or (
        every_sequence(model, SOURCE[0], 4, plain)[0][0] != best(SOURCE[0])[0][0]
    )


STRATEGIES = {
    "plain": BeamSearch(3, num_sequences=3),
    "early": BeamSearch(3, 0.6, early_stopping=True, num_sequences=3),
    "never": BeamSearch(2, 1.5, early_stopping="never", num_sequences=2),
    "gnmt": BeamSearch(3, 0.8, "gnmt", num_sequences=2),
    "coverage": BeamSearch(3, 0.8, "gnmt", 0.5, num_sequences=3),
}


@pytest.mark.parametrize("name", STRATEGIES)
def test_as_by_hand(model, name):
    strategy = STRATEGIES[name]
    if strategy.coverage_penalty and not model.alignment_layers():
        with pytest.raises(ValueError, match="`coverage_penalty` must be 0 for a model without attention"):
            model.generate(SOURCE, config=GenerationConfig(7, strategy=strategy))
        return
    check(model, strategy, lambda row: by_hand(model, row, 7, strategy), 7)


@pytest.mark.parametrize("name", MECHANISMS)
def test_beams_share_a_cache_whatever_the_mechanism(name):
    """Slots of other beams are hidden by a mask, which no caller has given."""
    sizes = {**SIZES, "num_heads": 2, "intermediate_dim": 11, "tie_output": False}
    model, strategy = scattered(LanguageModel(V, **sizes, **MECHANISMS[name]), 0.6), STRATEGIES["plain"]
    check(model, strategy, lambda row: by_hand(model, row, 7, strategy), 7)


def test_several_end_tokens(model):
    strategy = BeamSearch(3, 0.6, num_sequences=3)
    outputs = check(model, strategy, lambda row: by_hand(model, row, 7, strategy, (END, 5, 1)), 7, (END, 5, 1))
    ended = np.isin(outputs["tokens"], (END, 5, 1))
    assert (ended.sum(axis=-1) <= 1).all()
    assert ended.any()


def test_rows_are_as_each_alone_and_scores_as_of_one_pass(model):
    config = GenerationConfig(9, strategy=BeamSearch(4, 0.6, num_sequences=4), processors=(*NO_PADDING, MinLength(2)))
    outputs = model.generate(SOURCE, config=config, return_dict=True)
    for i, row in enumerate(SOURCE):
        alone = model.generate(row[None, row != 0], config=config, return_dict=True)
        np.testing.assert_array_equal(alone["tokens"][0], outputs["tokens"][i])
        np.testing.assert_allclose(alone["sequence_scores"][0], outputs["sequence_scores"][i], atol=1e-5)
    assert (np.diff(outputs["sequence_scores"], axis=1) <= 0).all()
    for n in range(4):
        tokens = outputs["tokens"][:, n]
        scored = score(model, SOURCE, tokens, config)
        np.testing.assert_allclose(outputs["scores"][:, n], scored["scores"], atol=1e-5)
        lengths = (scored["scores"] != 0).sum(axis=1)
        ranked = scored["sequence_scores"] / lengths**0.6
        np.testing.assert_allclose(outputs["sequence_scores"][:, n], ranked, atol=1e-5)
        # What has ended stays as it was.
        assert all((row[length:] == 0).all() for row, length in zip(tokens, lengths, strict=True))


def test_targets_that_the_model_does_not_know(model):
    size = model.output.shape[-1]
    with pytest.raises(ValueError, match=rf"`targets` must hold ids .* 0 to {size - 1}. Received: \[{size}, -1\]"):
        score(model, SOURCE[:1], np.array([[size, 5, -1]]))


def test_sequences_of_a_row_are_different(model):
    config = GenerationConfig(5, strategy=BeamSearch(5, num_sequences=5), processors=NO_PADDING)
    for row in model.generate(SOURCE, config=config):
        assert len({tuple(x) for x in row}) == 5


def test_one_beam_and_no_end_is_greedy(model):
    processors = (*NO_PADDING, MinLength(6))
    greedy = model.generate(SOURCE, config=GenerationConfig(7, processors=processors))[:, :6]
    config = GenerationConfig(7, strategy=BeamSearch(1), processors=processors)
    np.testing.assert_array_equal(model.generate(SOURCE, config=config)[:, :6], greedy)


def test_as_many_beams_as_rows_outside_of_a_graph(model):
    config = GenerationConfig(6, strategy=BeamSearch(3, num_sequences=3), processors=(*NO_PADDING, NoRepeatNGram(1)))
    outputs = generated(model, SOURCE.astype("int32"), config)
    np.testing.assert_array_equal(outputs["tokens"], model.generate(SOURCE, config=config))
