"""What is banned never comes: whatever the size of the logits, the temperature and the order of the processors."""

import functools

import keras
import numpy as np
import pytest
from keras import ops

from keras_attn import GenerationConfig, LanguageModel
from keras_attn.export import export
from keras_attn.generation import (
    BANNED,
    AllowedTokens,
    AutomatonConstraint,
    BannedSequences,
    BannedTokens,
    BeamSearch,
    ContrastiveSearch,
    Decoding,
    DiverseBeamSearch,
    EncoderNoRepeatNGram,
    EpsilonCutoff,
    EtaCutoff,
    ForcedEnd,
    ForcedPrefix,
    Greedy,
    History,
    MinLength,
    MinP,
    NoRepeatNGram,
    OccurrencePenalty,
    PromptLookup,
    RepetitionPenalty,
    Sampling,
    SpeculativeDecoding,
    Temperature,
    TokenAutomaton,
    TopH,
    TopK,
    TopP,
    Typical,
    generate,
    run,
)
from keras_attn.generation.processors.selection import log_probabilities

V, ENDS, PAD = 12, (3,), 0
ALLOWED = (4, 5, 6)
PROMPTS = np.array([[7, 8, 9], [10, 7, 0]])
SCALES = (1.0, 1e9, 1e38, -100.0, -1e38)
TEMPERATURES = (1e-45, 1e-30, 1e-8, 0.7, 1e8, 1e30)


def raw(scale):
    """Logits of which the largest are those of 9, 11, 10 and 6, in this order."""
    order = np.array([0, 5, 2, 4, 1, 6, 8, 3, 7, 11, 9, 10], "float32")
    share = (order + 1) / V
    return (scale * (share if scale > 0 else 2 - share)).astype("float32")


BANNING = {
    "allowed": AllowedTokens(ALLOWED),
    "banned": BannedTokens((9, 11)),
    "automaton": AutomatonConstraint(TokenAutomaton.from_phrases([[4, 5], [5, 4]], V)),
    "prefix": ForcedPrefix((5,)),
    "end": ForcedEnd(),
    "ngram": NoRepeatNGram(1),
    "top_k": TopK(1),
    "top_p": TopP(1e-9),
    "min_p": MinP(1.0),
    "typical": Typical(1e-9),
    "min_length": MinLength(1),
    "sequences": BannedSequences(((9,), (1, 11, 10))),
    "source_ngram": EncoderNoRepeatNGram(1),
    "epsilon": EpsilonCutoff(1.0),
    "eta": EtaCutoff(1.0),
    "top_h": TopH(1e-9),
}


# What these keep depends on the temperature before them.
OF_TEMPERATURE = ("typical", "eta", "epsilon")


@functools.cache
def outcomes(name):
    """What is banned, `(scales, V)`, and `(temperature, processors, logits, log-probabilities)` of each order, of a row
    for each scale."""
    banning, logits = BANNING[name], np.stack([raw(scale) for scale in SCALES])
    ids = np.array([[7, 8, 10, 1, 11]] * len(SCALES))
    length = 1 if name == "end" else 3
    history = History(ids, ids > 0, V, length, ENDS)
    banned = np.asarray(banning(logits, banning.start(history), 0)) <= BANNED
    others, found = (RepetitionPenalty(1e30), OccurrencePenalty(1e30, -1e38)), []
    for temperature in TEMPERATURES:
        for processors in (
            (banning, Temperature(temperature)),
            (Temperature(temperature), banning),
            (banning, *others, Temperature(temperature)),
            (Temperature(temperature), banning, *others),
        ):
            config = GenerationConfig(length, end_id=ENDS, processors=processors)
            decoding = Decoding(None, config, vocabulary_size=V)
            states = decoding.start_processors(history)
            processed = decoding.process(ops.convert_to_tensor(logits), states, 0)
            found.append((temperature, processors, np.asarray(processed), np.asarray(log_probabilities(processed))))
    return banned, found


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", BANNING)
def test_any_order(name, scale):
    row = SCALES.index(scale)
    banned, found = outcomes(name)
    banned = banned[row]
    assert banned.any()
    likeliest = np.argmax(np.where(banned, -np.inf, raw(scale)))
    for temperature, processors, processed, scored in found:
        kept, scores = processed[row], scored[row]
        assert np.isfinite(kept).all()
        if name not in OF_TEMPERATURE or processors[0] is BANNING[name]:
            assert (kept[banned] <= BANNED).all()
        assert (kept > BANNED).any()
        assert (scores[kept <= BANNED] <= BANNED).all()
        np.testing.assert_allclose(np.exp(scores[kept > BANNED].astype("float64")).sum(), 1, rtol=1e-5)
        if temperature <= 0.7 and len(processors) == 2 and name not in OF_TEMPERATURE:
            assert np.argmax(kept) == likeliest


@pytest.fixture(scope="module")
def model():
    return made()


def made(**kwargs):
    keras.utils.set_random_seed(0)
    return LanguageModel(V, 1, 8, 2, 16, tie_output=False, output_bias=True, **kwargs)


def with_logits(model, logits):
    table = model.embedding
    table.reverse_embeddings.assign(ops.zeros_like(table.reverse_embeddings))
    table.bias.assign(logits)
    return model


STRATEGIES = (
    Greedy(),
    Sampling(1, num_sequences=2),
    BeamSearch(5, num_sequences=5),
    DiverseBeamSearch(6, num_sequences=6, num_groups=2),
    ContrastiveSearch(6, 0.9),
    SpeculativeDecoding(PromptLookup(), sampling=True),
)
PROCESSORS = ((AllowedTokens(ALLOWED), Temperature(1e-8)), (Temperature(1e-8), AllowedTokens(ALLOWED)))


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda x: type(x).__name__)
def test_every_strategy(model, strategy):
    for scale in (-100.0, 1e38, -1e38):
        with_logits(model, raw(scale))
        for processors in PROCESSORS:
            config = GenerationConfig(3, end_id=ENDS, strategy=strategy, processors=processors)
            check(strategy, generate(model, PROMPTS, config=config, return_dict=True))
    check(strategy, {name: ops.convert_to_numpy(x) for name, x in run(Decoding(model, config), PROMPTS).items()})


def check(strategy, outputs):
    tokens = outputs["tokens"]
    assert np.isin(tokens, [*ALLOWED, PAD]).all()
    assert np.isfinite(outputs["scores"]).all()
    best = tokens if tokens.ndim == 2 else tokens[:, 0]
    # Sums of such log-probabilities leave float32's range.
    count = 1 if isinstance(strategy, BeamSearch) else tokens.shape[-1]
    if not isinstance(strategy, ContrastiveSearch):
        np.testing.assert_array_equal(best[:, :count], np.full_like(best[:, :count], 6))


@pytest.mark.parametrize("strategy", [Sampling(1), BeamSearch(5, num_sequences=5)], ids=["sampling", "beams"])
def test_under_xla(model, strategy):
    with_logits(model, raw(-1e38))
    config = GenerationConfig(3, end_id=ENDS, strategy=strategy, processors=PROCESSORS[0])
    check(strategy, generate(model, PROMPTS, config=config, return_dict=True, jit_compile=True))


@pytest.mark.parametrize("case", [0, 1], ids=["sampling", "beams"])
def test_in_every_format(case, tmp_path):
    strategy, scale = ((Sampling(1), -1e38), (BeamSearch(5, num_sequences=5), -100.0))[case]
    config = GenerationConfig(3, end_id=ENDS, strategy=strategy, processors=PROCESSORS[case])
    model = with_logits(made(generation_config=config), raw(scale))
    check(strategy, generate(model, PROMPTS, return_dict=True))
    report = export(model, tmp_path, ["saved_model", "tflite", "onnx"], tasks=["generate"])
    assert report.ok
    assert all(row["identical"] == row["total"] > 0 for row in report.rows)


def test_a_row_without_any_sequence_is_padding(model):
    """Beams never return what is banned, not even where nothing else is left."""
    with_logits(model, raw(1.0))
    strategy = BeamSearch(3, num_sequences=3, early_stopping="never")
    config = GenerationConfig(4, end_id=ENDS, strategy=strategy, processors=(ForcedPrefix((5, 3)),))
    outputs = generate(model, PROMPTS, config=config, return_dict=True)
    assert outputs["tokens"][0].tolist() == [[5, 3, PAD, PAD], [PAD] * 4, [PAD] * 4]
    assert (outputs["sequence_scores"][:, 1:] == np.float32(BANNED)).all()


def test_samples_of_large_equal_logits_are_even(model):
    """Noise is lost in the rounding of large numbers."""
    with_logits(model, np.full(V, -1e9, "float32"))
    strategy = Sampling(3, num_sequences=60)
    config = GenerationConfig(1, end_id=ENDS, strategy=strategy, processors=(AllowedTokens(ALLOWED),))
    tokens = generate(model, PROMPTS, config=config)
    assert all((tokens == token).sum() > 20 for token in ALLOWED)


def test_the_models_own_minus_infinity_is_no_ban(model):
    logits = raw(1.0)
    logits[[4, 6]] = -np.inf
    with_logits(model, logits)
    for ids in ((4, 5), (4, 6)):
        for strategy in (Greedy(), BeamSearch(2)):
            config = GenerationConfig(2, end_id=ENDS, strategy=strategy, processors=(AllowedTokens(ids),))
            outputs = generate(model, PROMPTS, config=config, return_dict=True)
            assert np.isin(outputs["tokens"], ids).all()
            assert not np.isnan(outputs["scores"]).any()
