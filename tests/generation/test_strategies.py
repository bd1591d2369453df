"""Strategies beyond greedy, sampling and beam search."""

import dataclasses
import functools
import json

import keras
import numpy as np
import pytest
from keras import ops
from model_checks import generated, scattered

from keras_attn import GenerationConfig, LanguageModel, Transformer
from keras_attn.generation import (
    BeamSearch,
    ClassifierFreeGuidance,
    ContrastiveSearch,
    DiverseBeamSearch,
    EncoderNoRepeatNGram,
    Greedy,
    MinLength,
    NoRepeatNGram,
    PromptLookup,
    RepetitionPenalty,
    Sampling,
    SpeculativeDecoding,
    Strategy,
    Temperature,
    TopK,
    generate,
    minimum_bayes_risk,
    stream,
)
from keras_attn.layers import LearnedPositionEmbedding
from keras_attn.models import Seq2SeqRNN
from keras_attn.ops.compiled import compiled
from keras_attn.text import CharacterTokenizer

SIZES = {"num_layers": 1, "hidden_dim": 12, "num_heads": 2, "intermediate_dim": 17}
# Right-padded to lengths 7, 5, 3 and 1.
PROMPTS = np.array([[5, 6, 7, 8, 9, 10, 11], [12, 13, 5, 12, 13, 0, 0], [17, 18, 19, 0, 0, 0, 0], [4] + [0] * 6])
CONFIG = GenerationConfig(max_length=13, end_id=(3, 4)).resolved()


def make(kind, seed=7, vocabulary_size=23, scale=0.4, **kwargs):
    keras.utils.set_random_seed(seed)
    model = scattered(kind(vocabulary_size, **{**SIZES, "tie_output": False, **kwargs}), scale)
    # A random model repeats one token for ever, unless a token's output favours another one.
    table = model.embedding if kind is LanguageModel else model.target_embedding
    order = np.random.default_rng(seed).permutation(vocabulary_size)
    table.reverse_embeddings.assign(ops.convert_to_numpy(table.embeddings)[order].T)
    return model


def near(model, noise):
    """A model whose weights are those of `model`, and a little beside."""
    other = type(model).from_config(model.get_config())
    rng = np.random.default_rng(11)
    other.set_weights([w + noise * rng.standard_normal(w.shape) for w in model.get_weights()])
    return other


@functools.cache
def shared(kind):
    """One model for all tests that leave it as it is, and its graphs with it."""
    return make(kind, seed=7 if kind is LanguageModel else 4)


@functools.cache
def shared_draft(model, name):
    if name == "lookup":
        return PromptLookup()
    if name == "useless":
        return make(type(model), seed=3, scale=1.0, hidden_dim=8)
    return near(model, {"perfect": 0.0, "good": 0.05}[name])


@pytest.fixture(scope="module", autouse=True)
def _forget():
    yield
    for cached in (shared, shared_draft, without_cache):
        cached.cache_clear()


@pytest.fixture(scope="module", params=[LanguageModel, Transformer], ids=lambda kind: kind.__name__)
def model(request):
    return shared(request.param)


@pytest.fixture(scope="module")
def language_model():
    return shared(LanguageModel)


@pytest.mark.parametrize("sampling", [False, True])
def test_speculation_changes_no_token(model, sampling):
    check_speculation(model, sampling, ("lookup", "perfect", "good", "useless") if not sampling else ("lookup", "good"))


def test_speculation_under_xla(language_model):
    check_speculation(language_model, True, ("good",), jit_compile=True)


def check_speculation(model, sampling, names, jit_compile=False):
    plain = Sampling(5) if sampling else Greedy()
    expected = generate(
        model, PROMPTS, config=dataclasses.replace(CONFIG, strategy=plain), return_dict=True, jit_compile=jit_compile
    )
    assert len(np.unique(expected["tokens"])) > 3
    rounds = {}
    for name in names:
        strategy = SpeculativeDecoding(shared_draft(model, name), num_tokens=3, sampling=sampling, seed=5 * sampling)
        config = dataclasses.replace(CONFIG, strategy=strategy)
        outputs = generate(model, PROMPTS, config=config, return_dict=True, jit_compile=jit_compile)
        np.testing.assert_array_equal(outputs["tokens"], expected["tokens"])
        np.testing.assert_allclose(outputs["scores"], expected["scores"], atol=2e-5)
        rounds[name] = outputs["rounds"].max()
    if not sampling:
        steps = (expected["tokens"] != 0).sum(axis=1).max()
        assert rounds["perfect"] == -(-steps // 4) <= rounds["good"] <= rounds["useless"] <= steps
        assert rounds["perfect"] < rounds["useless"]


@functools.cache
def without_cache(model):
    """The decoder's outputs and log-probabilities at all tokens, in one graph for all lengths."""

    def call(prompt, target):
        if isinstance(model, Transformer):
            hidden = model.decoder(model._embed_target(target, None), model.encode(prompt))
        else:
            ids = ops.concatenate([prompt, target], axis=1)
            hidden = model.decoder(model._embed(ids, ops.expand_dims(ops.arange(ops.shape(ids)[1]), 0)))
        return hidden, ops.log_softmax(ops.cast(model.logits(hidden), "float32"))

    return compiled(call, *[keras.KerasTensor((1, None), "int32")] * 2)


def outputs_of(model, prompt, tokens):
    """The decoder's outputs and log-probabilities at the real tokens of a prompt and behind, without a cache."""
    first = [CONFIG.start_id] if isinstance(model, Transformer) else []
    given = prompt[prompt != 0], [*first, *tokens]
    hidden, log_probabilities = without_cache(model)(*(ops.convert_to_tensor([x], "int32") for x in given))
    return ops.convert_to_numpy(hidden)[0].astype("float64"), ops.convert_to_numpy(log_probabilities)[0]


def test_processors_apply_to_every_proposal(language_model):
    model = language_model
    processors = (NoRepeatNGram(2), RepetitionPenalty(1.3), Temperature(0.7), TopK(9))
    for sampling, plain in ((False, Greedy()), (True, Sampling(3))):
        config = GenerationConfig(11, strategy=plain, processors=processors)
        expected = generate(model, PROMPTS, config=config)
        draft = shared_draft(model, "good") if sampling else PromptLookup()
        strategy = SpeculativeDecoding(draft, sampling=sampling, seed=3 * sampling)
        config = dataclasses.replace(config, strategy=strategy)
        np.testing.assert_array_equal(generate(model, PROMPTS, config=config), expected)


def test_speculative_rows_are_as_each_alone(language_model):
    strategy = SpeculativeDecoding(near(language_model, 0.1), sampling=True, seed=11)
    config = dataclasses.replace(CONFIG, strategy=strategy)
    tokens = generate(language_model, PROMPTS, config=config)
    assert len({tuple(row) for row in tokens}) == 4
    for row, prompt in zip(tokens, PROMPTS, strict=True):
        np.testing.assert_array_equal(generate(language_model, prompt[None, prompt != 0], config=config)[0], row)


@pytest.mark.parametrize("draft", ["lookup", "model"])
def test_speculative_samples_are_of_the_models_distribution(draft):
    vocabulary_size, length = 5, 2
    model = make(LanguageModel, vocabulary_size=vocabulary_size)
    proposing = PromptLookup() if draft == "lookup" else make(LanguageModel, seed=3, vocabulary_size=vocabulary_size)
    prompt = np.array([4, 1, 4])
    _, first = outputs_of(model, prompt, [])
    exact = np.zeros((vocabulary_size,) * length)
    for token in range(vocabulary_size):
        exact[token] = np.exp(first[-1, token] + outputs_of(model, prompt, [token])[1][-1])
    counts, draws = np.zeros_like(exact), 1000
    for seed in range(draws):
        # Seeds share one graph.
        strategy = SpeculativeDecoding(proposing, num_tokens=1, sampling=True, seed=seed)
        config = GenerationConfig(length, start_id=0, end_id=0, strategy=strategy)
        sample = generate(model, prompt[None], config=config)[0]
        counts[tuple(sample)] += 1
    # An end token first leaves padding, which is the same id here.
    exact[0] = [exact[0].sum(), 0, 0, 0, 0]
    assert (counts[exact == 0] == 0).all()
    expected = exact[exact > 0] * draws
    statistic = ((counts[exact > 0] - expected) ** 2 / expected).sum()
    freedom = len(expected) - 1
    assert statistic < freedom + 3.1 * np.sqrt(2 * freedom)


def test_lookup_saves_rounds_where_text_repeats(language_model):
    config = GenerationConfig(32, end_id=22, strategy=SpeculativeDecoding(PromptLookup(), num_tokens=4))
    outputs = generate(language_model, PROMPTS[:1], config=config, return_dict=True)
    generated_tokens = (outputs["tokens"] != 0).sum()
    assert outputs["rounds"][0] < generated_tokens


@pytest.mark.parametrize(
    ("context", "size", "expected"),
    [
        ([5, 6, 7, 8, 5, 6], 3, [7, 8, 5, 6]),
        # The latest of equal matches, over and over.
        ([5, 6, 7, 5, 6, 8, 5, 6], 2, [8, 5, 6, 8]),
        # A longer match counts more than a later one.
        ([4, 5, 6, 9, 5, 6, 7, 4, 5, 6], 3, [9, 5, 6, 7]),
        ([4, 5, 6, 9, 5, 6, 7, 4, 5, 6], 2, [7, 4, 5, 6]),
        ([5, 7, 7], 3, [7, 7, 7, 7]),
        ([5, 6, 7], 3, [7, 7, 7, 7]),
        ([5], 3, [5, 5, 5, 5]),
    ],
)
def test_lookup(context, size, expected):
    length = len(context)
    padded = np.array([context + [-1] * 3])
    proposals = ops.convert_to_numpy(PromptLookup(size).proposals(padded, np.array([[length]]), 4))
    np.testing.assert_array_equal(proposals, [expected])


def test_learned_positions_leave_room_for_proposals():
    model = make(LanguageModel, position=LearnedPositionEmbedding(20))
    config = GenerationConfig(9, strategy=SpeculativeDecoding(PromptLookup()))
    expected = generate(model, PROMPTS, 9)
    np.testing.assert_array_equal(generate(model, PROMPTS, config=config), expected)
    with pytest.raises(ValueError, match="within the 20 positions"):
        generate(model, PROMPTS, 10, config)


def test_a_draft_that_was_changed_is_seen(language_model):
    draft = near(language_model, 0.0)
    config = dataclasses.replace(CONFIG, strategy=SpeculativeDecoding(draft))
    outputs = [generate(language_model, PROMPTS, config=config, return_dict=True)]
    projection = draft.decoder.blocks[0].feed_forward.layer.intermediate_dense
    projection.enable_lora(2)
    projection.lora_kernel_b.assign(3 * np.random.default_rng(3).standard_normal((2, 17)))
    outputs.append(generate(language_model, PROMPTS, config=config, return_dict=True))
    np.testing.assert_array_equal(outputs[0]["tokens"], outputs[1]["tokens"])
    assert outputs[1]["rounds"].max() > outputs[0]["rounds"].max()


def test_speculative_settings(language_model):
    strategy = SpeculativeDecoding(PromptLookup(2), 3, True, 5)
    written = json.loads(json.dumps(keras.saving.serialize_keras_object(strategy)))
    assert keras.saving.deserialize_keras_object(written) == strategy
    draft = make(LanguageModel, seed=3)
    assert SpeculativeDecoding(draft) == SpeculativeDecoding(draft) != SpeculativeDecoding(near(draft, 0.0))
    with pytest.raises(ValueError, match=r"`draft` must be a PromptLookup if settings are saved"):
        keras.saving.serialize_keras_object(GenerationConfig(strategy=SpeculativeDecoding(draft)))
    with pytest.raises(ValueError, match=r"`draft` must be a PromptLookup, or a model. Received: draft=3"):
        SpeculativeDecoding(3)
    with pytest.raises(ValueError, match="`num_tokens` must be a positive integer"):
        SpeculativeDecoding(num_tokens=0)
    with pytest.raises(ValueError, match="`seed` must be"):
        SpeculativeDecoding(seed=-1)
    with pytest.raises(ValueError, match="`ngram_size` must be a positive integer"):
        PromptLookup(0)
    recurrent = Seq2SeqRNN(23, num_layers=1, hidden_dim=5)
    for model, strategy, message in (
        (recurrent, SpeculativeDecoding(), "`model` must have a cache .* Received: Seq2SeqRNN"),
        (language_model, SpeculativeDecoding(recurrent), "`draft` must have a cache .* Received: Seq2SeqRNN"),
        (language_model, SpeculativeDecoding(language_model), "`draft` must be another model"),
        (language_model, SpeculativeDecoding(make(LanguageModel, vocabulary_size=19)), "vocabulary of 23 .* of 19"),
        (recurrent, ContrastiveSearch(), "`strategy` must be another one .* for Seq2SeqRNN"),
        (language_model, ContrastiveSearch(24), "`top_k` must be at most the vocabulary of 23"),
    ):
        with pytest.raises(ValueError, match=message):
            generate(model, PROMPTS, 3, GenerationConfig(strategy=strategy))


def contrastive_reference(model, prompt, config):
    strategy, tokens, scores = config.strategy, [], []
    for _ in range(config.max_length):
        hidden, log_probabilities = outputs_of(model, prompt, tokens)
        last = log_probabilities[-1]
        worth = {}
        for token in np.argsort(-last, kind="stable")[: strategy.top_k]:
            own = outputs_of(model, prompt, [*tokens, token])[0][-1]
            cosines = hidden @ own / np.linalg.norm(hidden, axis=-1) / np.linalg.norm(own)
            worth[token] = (1 - strategy.alpha) * np.exp(last[token]) - strategy.alpha * cosines.max()
        tokens.append(int(max(worth, key=worth.get)))
        scores.append(last[tokens[-1]])
        if tokens[-1] in config.end_ids:
            break
    padding = config.max_length - len(tokens)
    return tokens + [config.resolved().pad_id] * padding, scores + [0.0] * padding


def test_contrastive_search_is_that_without_a_cache(model):
    config = GenerationConfig(5, end_id=(3, 4), strategy=ContrastiveSearch(5, 0.6))
    outputs = generate(model, PROMPTS, config=config, return_dict=True)
    for prompt, tokens, scores in zip(PROMPTS, outputs["tokens"], outputs["scores"], strict=True):
        expected, expected_scores = contrastive_reference(model, prompt, config)
        np.testing.assert_array_equal(tokens, expected)
        np.testing.assert_allclose(scores, expected_scores, atol=2e-5)
    np.testing.assert_array_equal(outputs["tokens"], generated(model, PROMPTS, config)["tokens"])


def test_contrastive_search_without_a_penalty_is_greedy(language_model):
    greedy = generate(language_model, PROMPTS, config=GenerationConfig(5, end_id=(3, 4), strategy=Greedy()))
    for alpha in (0.0, 0.6):
        config = GenerationConfig(5, end_id=(3, 4), strategy=ContrastiveSearch(5, alpha))
        assert (generate(language_model, PROMPTS, config=config) == greedy).all() == (alpha == 0.0)


def test_contrastive_search_under_xla_and_processors(language_model):
    config = GenerationConfig(7, strategy=ContrastiveSearch(3), processors=(NoRepeatNGram(1),))
    tokens = generate(language_model, PROMPTS, config=config)
    assert all(len(set(row)) == len(row) for row in tokens if 3 not in row)
    np.testing.assert_array_equal(generate(language_model, PROMPTS, config=config, jit_compile=True), tokens)


def test_contrastive_search_refuses():
    with pytest.raises(ValueError, match="`top_k` must be a positive integer"):
        ContrastiveSearch(0)
    with pytest.raises(ValueError, match=r"`alpha` must be a number in 0 to 1\. Received: alpha=2"):
        ContrastiveSearch(alpha=2)


def diverse_reference(model, prompt, config):
    """Sequences, values and token scores of all groups, best first."""
    strategy, last = config.strategy, config.max_length - 1
    size = strategy.num_beams // strategy.num_groups
    groups = [{"running": [((), (), 0.0)], "finished": [], "going": True} for _ in range(strategy.num_groups)]
    for step in range(config.max_length):
        penalties = np.zeros(23)
        for group in groups:
            if not group["going"]:
                continue
            candidates = []
            for tokens, scores, value in group["running"]:
                own = outputs_of(model, prompt, list(tokens))[1][-1]
                for token in range(23):
                    worth = value + own[token] - penalties[token]
                    candidates.append(((*tokens, token), (*scores, own[token]), worth))
            candidates.sort(key=lambda candidate: -candidate[2])
            candidates = candidates[: size * (1 + len(config.end_ids))]
            for i, (tokens, scores, value) in enumerate(candidates):
                if (tokens[-1] in config.end_ids or step == last) and i < size:
                    group["finished"].append((tokens, scores, value / len(tokens) ** strategy.length_penalty))
            group["finished"] = sorted(group["finished"], key=lambda kept: -kept[2])[:size]
            group["running"] = [kept for kept in candidates if step == last or kept[0][-1] not in config.end_ids][:size]
            for tokens, _, _ in group["running"]:
                penalties[tokens[-1]] += strategy.diversity_penalty
            best = group["running"][0][2] / (step + 1) ** strategy.length_penalty
            group["going"] = len(group["finished"]) < size or best > group["finished"][-1][2]
    return sorted([kept for group in groups for kept in group["finished"]], key=lambda kept: -kept[2])


def test_diverse_beams_are_those_without_a_cache(model):
    strategy = DiverseBeamSearch(4, num_sequences=4, num_groups=2, diversity_penalty=0.7)
    config = GenerationConfig(5, end_id=(3, 4), strategy=strategy)
    outputs = generate(model, PROMPTS, config=config, return_dict=True)
    for i, prompt in enumerate(PROMPTS):
        for j, (tokens, scores, value) in enumerate(diverse_reference(model, prompt, config)):
            np.testing.assert_array_equal(outputs["tokens"][i, j], [*tokens, *[0] * (5 - len(tokens))])
            np.testing.assert_allclose(outputs["scores"][i, j, : len(tokens)], scores, atol=2e-5)
            np.testing.assert_allclose(outputs["sequence_scores"][i, j], value, atol=2e-5)
    alone = generate(model, PROMPTS[1:2, :5], config=config)
    np.testing.assert_array_equal(alone[0], outputs["tokens"][1])
    np.testing.assert_array_equal(generated(model, PROMPTS, config)["tokens"], outputs["tokens"])


def test_diverse_beams_of_one_group_or_without_a_penalty(language_model):
    def result(strategy, *processors, **kwargs):
        config = GenerationConfig(7, end_id=(3, 4), strategy=strategy, processors=processors)
        return generate(language_model, PROMPTS, config=config, return_dict=True, **kwargs)

    def same(left, right):
        np.testing.assert_array_equal(left["tokens"], right["tokens"])
        np.testing.assert_allclose(left["sequence_scores"], right["sequence_scores"], atol=1e-5)

    one = DiverseBeamSearch(3, num_sequences=3, num_groups=1)
    same(result(one), result(BeamSearch(3, num_sequences=3)))
    free = result(DiverseBeamSearch(6, num_sequences=6, num_groups=2, diversity_penalty=0.0))
    same({name: x[:, ::2] for name, x in free.items()}, result(BeamSearch(3, num_sequences=3)))
    same({name: x[:, 1::2] for name, x in free.items()}, result(BeamSearch(3, num_sequences=3)))
    diverse = DiverseBeamSearch(4, num_sequences=4, num_groups=4, diversity_penalty=50.0)
    # Sequences that have ended repel none.
    tokens = result(diverse, MinLength(2))["tokens"]
    assert all(len(set(row[:, 0])) == 4 for row in tokens)
    np.testing.assert_array_equal(result(diverse, MinLength(2), jit_compile=True)["tokens"], tokens)


@pytest.mark.parametrize("early_stopping", [True, "never"])
def test_diverse_beams_stop_by_group(language_model, early_stopping):
    settings = {"num_beams": 3, "early_stopping": early_stopping, "length_penalty": 0.5}
    free = DiverseBeamSearch(**{**settings, "num_beams": 6}, num_sequences=1, diversity_penalty=0.0)
    tokens = [
        generate(language_model, PROMPTS, config=GenerationConfig(9, end_id=(3, 4, 5), strategy=strategy))
        for strategy in (free, BeamSearch(**settings))
    ]
    np.testing.assert_array_equal(*tokens)


def test_diverse_beams_refuse():
    with pytest.raises(ValueError, match=r"`num_groups` must divide `num_beams`=4\. Received: num_groups=3"):
        DiverseBeamSearch(4, num_groups=3)
    with pytest.raises(ValueError, match="`diversity_penalty` must be at least 0"):
        DiverseBeamSearch(4, diversity_penalty=-1.0)
    with pytest.raises(ValueError, match="`num_groups` must be a positive integer"):
        DiverseBeamSearch(4, num_groups=0)
    strategy = DiverseBeamSearch(6, num_groups=3)
    assert keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(strategy)) == strategy


def test_minimum_bayes_risk_is_that_of_all_pairs(language_model):
    def overlap(candidate, reference):
        return len(set(candidate) & set(reference)) / max(len(candidate), 1)

    config = GenerationConfig(5, end_id=(3, 4), processors=(Temperature(0.5),))
    outputs = minimum_bayes_risk(
        language_model, PROMPTS, config=config, num_samples=7, seed=5, utility=overlap, return_dict=True
    )
    samples = generate(language_model, PROMPTS, config=dataclasses.replace(config, strategy=Sampling(5, 7)))
    np.testing.assert_array_equal(outputs["samples"], samples)
    for i, row in enumerate(samples):
        texts = [[int(x) for x in tokens[: np.argmax([*np.isin(tokens, (3, 4)), True])]] for tokens in row]
        mean = [np.mean([overlap(x, y) for j, y in enumerate(texts) if j != k]) for k, x in enumerate(texts)]
        np.testing.assert_allclose(outputs["sample_utilities"][i], mean, atol=1e-6)
        np.testing.assert_array_equal(outputs["tokens"][i], row[np.argmax(np.float32(mean))])
        np.testing.assert_allclose(outputs["utility"][i], max(mean), atol=1e-6)
    tokens = minimum_bayes_risk(language_model, PROMPTS, config=config, num_samples=7, seed=5, utility=overlap)
    np.testing.assert_array_equal(tokens, outputs["tokens"])


def test_minimum_bayes_risk_chooses_no_sample_of_unknown_utility(language_model):
    def unknown(candidate, reference):
        return np.nan if candidate[:1] < [11] else len(set(candidate) & set(reference))

    options = {"num_samples": 7, "seed": 5, "utility": unknown, "max_length": 6, "return_dict": True}
    outputs = minimum_bayes_risk(language_model, PROMPTS, **options)
    utilities = outputs["sample_utilities"]
    assert np.isnan(utilities).any()
    is_known = ~np.isnan(utilities).all(axis=1)
    assert is_known.any()
    np.testing.assert_array_equal(outputs["utility"][is_known], np.nanmax(utilities[is_known], axis=1))


def test_minimum_bayes_risk_of_text():
    metrics = pytest.importorskip("sacrebleu.metrics")
    model = make(Transformer, tokenizer=CharacterTokenizer("abcdefghijklmnopqr "))
    texts = ["abc abc", "b"]
    chosen = minimum_bayes_risk(model, texts, 6, num_samples=5, seed=2)
    config = GenerationConfig(6, strategy=Sampling(2, 5))
    for text, samples in zip(chosen, generate(model, texts, config=config), strict=True):
        chrf = [
            np.mean([metrics.CHRF().sentence_score(x, [y]).score for j, y in enumerate(samples) if j != i])
            for i, x in enumerate(samples)
        ]
        assert text == samples[int(np.argmax(np.float32(chrf)))]


def test_minimum_bayes_risk_refuses(language_model):
    with pytest.raises(ValueError, match=r"`num_samples` must be an integer above 1\. Received: num_samples=1"):
        minimum_bayes_risk(language_model, PROMPTS, num_samples=1)
    with pytest.raises(ValueError, match="`utility` must be given if `inputs` are ids"):
        minimum_bayes_risk(language_model, PROMPTS, 3, num_samples=2)
    with pytest.raises(ValueError, match="`config` must be a GenerationConfig"):
        minimum_bayes_risk(language_model, PROMPTS, 3, config=3)


@pytest.mark.parametrize("others", [None, (6, 9, 4)], ids=["last token", "given"])
def test_guidance_weighs_two_conditions(model, others):
    if others is None and isinstance(model, Transformer):
        with pytest.raises(ValueError, match="`unconditional_ids` must be given for a model with sources"):
            generate(model, PROMPTS, config=dataclasses.replace(CONFIG, strategy=ClassifierFreeGuidance()))
        return
    scale, length = 2.5, 6
    config = GenerationConfig(length, end_id=3, strategy=ClassifierFreeGuidance(scale, others))
    outputs = generate(model, PROMPTS, config=config, return_dict=True)
    plain = generate(model, PROMPTS, config=dataclasses.replace(config, strategy=None))
    assert (outputs["tokens"] != plain).any()
    for prompt, tokens, scores in zip(PROMPTS, outputs["tokens"], outputs["scores"], strict=True):
        real = prompt[prompt != 0]
        other = real[-1:] if others is None else np.array(others)
        for step, (token, score) in enumerate(zip(tokens, scores, strict=True)):
            likely, unlikely = (outputs_of(model, x, tokens[:step])[1][-1].astype("float64") for x in (real, other))
            guided = unlikely + scale * (likely - unlikely)
            assert token == np.argmax(guided)
            np.testing.assert_allclose(score, guided[token] - np.log(np.exp(guided).sum()), atol=1e-4)
            if token == 3:
                break


def test_guided_samples_are_the_same_under_xla_and_stream(language_model):
    strategy = ClassifierFreeGuidance(1.7, (6, 9), sampling=True, seed=4)
    config = GenerationConfig(5, end_id=3, strategy=strategy)
    tokens = generate(language_model, PROMPTS, config=config)
    np.testing.assert_array_equal(generate(language_model, PROMPTS, config=config, jit_compile=True), tokens)
    streamed = np.concatenate(list(stream(language_model, PROMPTS, config=config)), axis=1)
    np.testing.assert_array_equal(streamed, tokens[:, : streamed.shape[1]])
    unguided = dataclasses.replace(config, strategy=dataclasses.replace(strategy, scale=1.0))
    np.testing.assert_array_equal(
        generate(language_model, PROMPTS, config=unguided),
        generate(language_model, PROMPTS, config=dataclasses.replace(config, strategy=Sampling(4))),
    )


def test_encoder_processors_see_the_source(model):
    config = GenerationConfig(6, end_id=3, processors=(EncoderNoRepeatNGram(1),))
    for strategy in (Greedy(), BeamSearch(2), Sampling(1, num_sequences=2)):
        tokens = generate(model, PROMPTS, config=dataclasses.replace(config, strategy=strategy))
        for prompt, row in zip(PROMPTS, tokens, strict=True):
            assert not np.isin(row[row != 0], prompt[prompt != 0]).any()


@dataclasses.dataclass(frozen=True)
class OwnGreedy(Strategy):
    """Greedy search to the last step as a user may write it, with dicts as constants and variables of the loop."""

    def start(self, decoding, inputs, mask):
        cache, memory = decoding.model.prefill(inputs, mask, length=decoding.config.max_length)
        token, position = decoding.model.first_decoder_inputs(inputs, mask, decoding.config.start_id)
        tokens = ops.zeros((ops.shape(inputs)[0], decoding.config.max_length), "int32")
        state = {"count": ops.zeros((), "int32"), "token": token, "cache": cache, "tokens": tokens}
        return {"memory": memory, "position": position}, state

    def unfinished(self, decoding, state):
        return state["count"] < decoding.last_step

    def advance(self, decoding, fixed, state):
        count, positions = state["count"], fixed["position"] + state["count"]
        logits, cache = decoding.decode(state["token"], positions, state["cache"], fixed["memory"])
        token = ops.cast(ops.argmax(logits, axis=-1), "int32")
        column = ops.arange(decoding.config.max_length, dtype="int32")
        tokens = ops.where(ops.equal(column, count), token, state["tokens"])
        return {"count": count + 1, "token": token, "cache": cache, "tokens": tokens}

    def result(self, decoding, fixed, state):
        scores = ops.zeros_like(state["tokens"], dtype="float32")
        return {"tokens": state["tokens"], "scores": scores, "sequence_scores": scores[:, 0]}


@pytest.mark.parametrize("kind", [LanguageModel, Transformer])
def test_a_strategy_of_a_users_own(kind):
    model = shared(kind)
    expected = model.generate(PROMPTS, config=CONFIG)
    found = model.generate(PROMPTS, config=dataclasses.replace(CONFIG, strategy=OwnGreedy()))
    np.testing.assert_array_equal(np.where(expected == CONFIG.pad_id, CONFIG.pad_id, found), expected)
