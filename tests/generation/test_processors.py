"""Each logit processor against NumPy, on prompts of different lengths; and what all of them must hold."""

import dataclasses
import json
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from harness_export import RUNNERS, TOGETHER
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from keras_attn.export import registry
from keras_attn.export.tensor_spec import TensorSpec
from keras_attn.generation import processors as package
from keras_attn.generation.automata.automaton import TokenAutomaton
from keras_attn.generation.generation_config import GenerationConfig
from keras_attn.generation.processors import (
    BANNED,
    AllowedTokens,
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
    OccurrencePenalty,
    RepetitionPenalty,
    SequenceBias,
    StopStrings,
    Temperature,
    TopH,
    TopK,
    TopP,
    Typical,
    Watermark,
)
from keras_attn.ops.occurrences import occurrences

V, LENGTH, ENDS = 11, 5, (3, 7)


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


def ban(logits, banned):
    return np.where(banned, BANNED, logits)


def certain(token):
    return ban(np.zeros(V), np.arange(V) != token)


# The oracles: what a processor must make of one row, from lists of its prompt and of the tokens generated. The prompt,
# reversed, is the source.


def min_length(p, logits, prompt, generated):
    return ban(logits, np.isin(np.arange(V), ENDS) & (len(generated) < p.length))


def forced_prefix(p, logits, prompt, generated):
    if len(generated) >= len(p.ids):
        return logits
    entry = p.ids[len(generated)]
    return ban(logits, ~np.isin(np.arange(V), entry)) if isinstance(entry, tuple) else certain(entry)


def forced_end(p, logits, prompt, generated):
    return certain(ENDS[0]) if len(generated) == LENGTH - 1 else logits


def repetition(p, logits, prompt, generated):
    return penalised(logits, {*prompt[p.prompt_ignore_length or 0 :], *generated}, p.penalty)


def encoder_repetition(p, logits, prompt, generated):
    return penalised(logits, set(prompt), 1 / p.penalty)


def penalised(logits, tokens, penalty):
    x = logits.copy()
    for token in tokens:
        if x[token] > BANNED:
            x[token] = x[token] * penalty if x[token] < 0 else x[token] / penalty
    return x


def occurrence(p, logits, prompt, generated):
    x = logits.copy()
    for token in set(generated):
        x[token] -= p.presence + p.frequency * generated.count(token)
    return x


def no_repeat(p, logits, prompt, generated):
    return repeated(p, logits, [*prompt, *generated], [*prompt, *generated])


def encoder_no_repeat(p, logits, prompt, generated):
    return repeated(p, logits, [*prompt, *generated], prompt[::-1])


def repeated(p, logits, text, known):
    n = p.size
    grams = {tuple(known[i : i + n]) for i in range(len(known) - n + 1)}
    if len(text) + 1 < n:
        return logits
    return ban(logits, [(*text[len(text) + 1 - n :], token) in grams for token in range(V)])


def completed(sequences, prompt, generated):
    text = (0, *prompt, *generated)
    return [sequence for sequence in sequences if text[1:][-len(sequence) + 1 or len(text) :] == sequence[:-1]]


def banned_sequences(p, logits, prompt, generated):
    return ban(logits, np.isin(np.arange(V), [x[-1] for x in completed(p.sequences, prompt, generated)]))


def sequence_bias(p, logits, prompt, generated):
    x = logits.copy()
    for sequence in completed(p.sequences, prompt, generated):
        if x[sequence[-1]] > BANNED:
            x[sequence[-1]] += p.biases[p.sequences.index(sequence)]
    return x


def length_decay(p, logits, prompt, generated):
    x = logits.copy()
    for end in ENDS:
        x[end] += abs(x[end]) * (p.factor ** max(len(generated) - p.start_length, 0) - 1)
    return x


def stop_strings(p, logits, prompt, generated):
    text = "".join(PIECES[token] for token in generated)
    return certain(ENDS[0]) if any(stop in text for stop in STOPS) else logits


def watermark(p, logits, prompt, generated):
    """The vocabulary's green part has its size, is that of the last tokens, and has the bias."""
    last = np.array([[*prompt, *generated][-p.context_width :]], "int32")
    [none] = np.full((1, p.context_width - last.shape[1]), -2, "int32")
    green = np.asarray(p._is_green(np.array([[*none, *last[0]]], "int32"), V))[0]
    return np.where(logits > BANNED, logits + p.bias * green, BANNED)


def banned(p, logits, prompt, generated):
    return ban(logits, [token in p.ids and p.step in (None, len(generated)) for token in range(V)])


def allowed(p, logits, prompt, generated):
    return ban(logits, [token not in p.ids for token in range(V)])


def normalized(p, logits, prompt, generated):
    return np.where(logits > BANNED, logits - np.log(np.exp(logits[logits > BANNED]).sum()), BANNED)


def temperature(p, logits, prompt, generated):
    return np.where(logits > BANNED, logits / p.value, BANNED)


def top_k(p, logits, prompt, generated):
    return keep_likeliest(p, ban(logits, [(logits > x).sum() >= p.k for x in logits]), logits)


def keep_likeliest(p, processed, logits):
    return np.where([(logits > x).sum() < p.min_tokens_to_keep for x in logits], logits, processed)


def top_p(p, logits, prompt, generated):
    return keep_likeliest(p, keep_mass(logits, logits, p.p), logits)


def min_p(p, logits, prompt, generated):
    probabilities = softmax(logits)
    return keep_likeliest(p, ban(logits, probabilities < p.p * probabilities.max()), logits)


def epsilon(p, logits, prompt, generated):
    probabilities = softmax(logits)
    return keep_likeliest(p, ban(logits, probabilities < min(p.epsilon, probabilities.max())), logits)


def eta(p, logits, prompt, generated):
    probabilities = softmax(logits)
    entropy = -(probabilities * np.log(np.maximum(probabilities, 1e-300))).sum()
    limit = min(p.epsilon, p.epsilon**0.5 * np.exp(-entropy), probabilities.max())
    return keep_likeliest(p, ban(logits, probabilities < limit), logits)


def top_h(p, logits, prompt, generated):
    order = np.argsort(-logits)[: p.top_n]
    probabilities = softmax(logits[order])
    terms = -probabilities * np.log(np.maximum(probabilities, 1e-300))
    count = max(1, (terms.cumsum() <= p.h * terms.sum()).sum())
    return ban(logits, ~np.isin(np.arange(V), order[:count]))


def typical(p, logits, prompt, generated):
    probabilities = softmax(logits)
    logs = np.log(np.maximum(probabilities, 1e-300))
    closeness = -np.abs(-logs + (probabilities * logs).sum())
    processed = keep_mass(closeness, logits, p.p)
    return np.where([(closeness > x).sum() < p.min_tokens_to_keep for x in closeness], logits, processed)


def keep_mass(scores, logits, mass):
    kept, total = set(), 0.0
    for token in np.argsort(-scores):
        if total >= mass:
            break
        kept.add(token)
        total += softmax(logits)[token]
    return ban(logits, [token not in kept for token in range(V)])


PIECES, STOPS = ["", "ab", "ca", "", "bc", "x", "y", "", "z", "w", "ab"], ("bca", "caab", "never")
# The last two have the same last token, and one of them is the other's end.
SEQUENCES = ((10,), (1, 2, 4), (2, 2), (1, 2), (4, 4, 1, 2), (2, 1, 2, 4, 1, 1, 2, 4, 4))
CASES = [
    (MinLength(3), min_length),
    (ForcedPrefix((4, 1)), forced_prefix),
    (ForcedPrefix((5, (1, 4), 2)), forced_prefix),
    (ForcedEnd(), forced_end),
    (RepetitionPenalty(1.7), repetition),
    (RepetitionPenalty(0.3), repetition),
    (EncoderRepetitionPenalty(1.7), encoder_repetition),
    (OccurrencePenalty(presence=0.7), occurrence),
    (OccurrencePenalty(frequency=-0.3), occurrence),
    (OccurrencePenalty(0.7, 0.3), occurrence),
    (NoRepeatNGram(1), no_repeat),
    (NoRepeatNGram(2), no_repeat),
    (NoRepeatNGram(3), no_repeat),
    (NoRepeatNGram(13), no_repeat),
    (EncoderNoRepeatNGram(3), encoder_no_repeat),
    (BannedSequences(SEQUENCES), banned_sequences),
    (SequenceBias(SEQUENCES, (1.0, -2.0, 0.5, 3.0, -0.1, 7.0)), sequence_bias),
    (ExponentialLengthDecay(1, 1.7), length_decay),
    (StopStrings(TokenAutomaton.containing(STOPS, PIECES)), stop_strings),
    (Watermark(0.6, -3.0, 7, context_width=3), watermark),
    (BannedTokens((0, 7)), banned),
    (BannedTokens((0, 7), step=1), banned),
    (LogitNormalization(), normalized),
    (AllowedTokens((1, 3, 8)), allowed),
    (Temperature(0.6), temperature),
    (Temperature(2), temperature),
    (TopK(3), top_k),
    (TopK(V + 2), top_k),
    (TopP(0.7), top_p),
    (TopP(0.01), top_p),
    (TopP(1), top_p),
    (TopP(0.01, min_tokens_to_keep=3), top_p),
    (MinP(0.2), min_p),
    (MinP(1), min_p),
    (EpsilonCutoff(0.1), epsilon),
    (EtaCutoff(0.1), eta),
    (TopH(0.7), top_h),
    (Typical(0.6), typical),
    (Typical(0.01), typical),
    (Typical(1), typical),
]
# Settings that no format takes otherwise than those above.
OTHER_SETTINGS = [
    (RepetitionPenalty(1.7, prompt_ignore_length=3), repetition),
    (EncoderNoRepeatNGram(1), encoder_no_repeat),
    (EncoderNoRepeatNGram(9), encoder_no_repeat),
    (BannedSequences(((5,), (6,))), banned_sequences),
    (Watermark(), watermark),
    (TopK(3, min_tokens_to_keep=5), top_k),
    (MinP(0.9, min_tokens_to_keep=V + 1), min_p),
    (EpsilonCutoff(0.99, min_tokens_to_keep=2), epsilon),
    (EtaCutoff(0.9, min_tokens_to_keep=3), eta),
    (TopH(0.99, top_n=3), top_h),
    (Typical(0.01, min_tokens_to_keep=3), typical),
]
PROCESSORS = [processor for processor, _ in CASES]


def arrays(rows=5, width=7, seed=0, steps=LENGTH):
    """Prompts of all lengths up to `width`, of few tokens, so that they repeat; logits, some banned; chosen tokens."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, width + 1, size=rows)
    lengths[0] = width
    logits = rng.normal(size=(steps, rows, V)) * 2
    logits[:, :, 9] = BANNED
    return {
        "ids": rng.choice([1, 2, 4], size=(rows, width)).astype("int32"),
        "mask": np.arange(width) < lengths[:, None],
        "logits": logits.astype("float32"),
        "tokens": rng.choice([1, 2, 4, 10], size=(steps, rows)).astype("int32"),
    }


def history_of(ids, mask):
    lengths = ops.sum(ops.cast(mask, "int32"), axis=1, keepdims=True)
    places = ops.expand_dims(ops.arange(ops.shape(ids)[1], dtype="int32"), 0)
    source = ops.take_along_axis(ids, ops.maximum(lengths - 1 - places, 0), axis=1)
    return History(ids, mask, V, LENGTH, ENDS, source=source, source_mask=mask)


def run(processor, ids, mask, logits, tokens):
    """The logits of every step, `(steps, R, V)`, one step after another."""
    state, outputs = processor.start(history_of(ids, mask)), []
    for step in range(tokens.shape[0]):
        index = ops.convert_to_tensor(step, "int32")
        outputs.append(processor(logits[step], state, index))
        state = processor.update(state, tokens[step], index)
    return ops.stack(outputs)


def expected(processor, oracle, ids, mask, logits, tokens):
    return np.array(
        [
            [oracle(processor, x.astype("float64"), list(i[m]), list(t)) for x, i, m, t in zip(*rows, strict=True)]
            for step in range(len(tokens))
            for rows in [(logits[step], ids, mask, tokens[:step].T)]
        ]
    )


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("processor", "oracle"), CASES + OTHER_SETTINGS, ids=lambda x: getattr(x, "__name__", None) or str(x)
)
def test_oracle(processor, oracle, seed):
    given = arrays(seed=seed)
    actual = np.asarray(run(processor, **given))
    assert actual.dtype == "float32"
    np.testing.assert_allclose(actual, expected(processor, oracle, **given), rtol=1e-5, atol=1e-5)


def test_the_cases_name_every_processor():
    public = {getattr(package, name) for name in package.__all__ if isinstance(getattr(package, name), type)}
    ours = {x for x in public if x.__module__.rpartition(".")[2] in FILES}
    assert {type(processor) for processor in PROCESSORS} == ours
    assert len(ours) == len(FILES)


FILES = [
    *("min_length", "forced_prefix", "forced_end", "repetition_penalty", "occurrence_penalty", "no_repeat_ngram"),
    *("banned_tokens", "allowed_tokens", "temperature", "top_k", "top_p", "min_p", "typical", "epsilon_cutoff"),
    *("eta_cutoff", "top_h", "banned_sequences", "sequence_bias", "encoder_no_repeat_ngram", "stop_strings"),
    *("encoder_repetition_penalty", "exponential_length_decay", "watermark", "logit_normalization"),
]


@settings(max_examples=60, deadline=None)
@given(
    size=st.integers(1, 5),
    rows=st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=6), min_size=1, max_size=3),
    filler=st.integers(0, V - 1),
    data=st.data(),
)
def test_ngrams_of_ragged_rows(size, rows, filler, data):
    width = max(map(len, rows)) + data.draw(st.integers(0, 2))
    ids = np.array([row + [filler] * (width - len(row)) for row in rows], "int32")
    mask = np.array([[i < len(row) for i in range(width)] for row in rows])
    tokens = [[data.draw(st.integers(0, 2)) for _ in rows] for _ in range(LENGTH)]
    logits = np.zeros((LENGTH, len(rows), V), "float32")
    given = {"ids": ids, "mask": mask, "logits": logits, "tokens": np.array(tokens, "int32")}
    processor = NoRepeatNGram(size)
    np.testing.assert_array_equal(run(processor, **given), expected(processor, no_repeat, **given))


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([TopK, TopP, MinP, Typical]),
    st.lists(st.sampled_from([-3, 0, 0.5, 4, BANNED]), min_size=V, max_size=V),
)
def test_ties_stay_together_and_one_token_always_stays(kind, values):
    logits = np.array([values], "float32")
    actual = np.asarray(kind(1 if kind is TopK else 0.3)(logits, (), 0))
    assert np.isin(actual, [*logits[0], BANNED]).all()
    kept = {value for value, x in zip(values, actual[0], strict=True) if x > BANNED}
    assert bool(kept) == (max(values) > BANNED)
    for value, x in zip(values, actual[0], strict=True):
        assert (x > BANNED) == (value in kept - {BANNED})


def test_a_watermark_is_found_by_its_key():
    rng, watermark = np.random.default_rng(0), Watermark(bias=3.0)
    rows, length, size = 3, 120, 200
    last = rng.integers(0, size, (rows, 1)).astype("int32")
    state, tokens = watermark.start(History(last, last >= 0, size, length, ENDS)), [last[:, 0]]
    for step in range(length):
        logits = np.asarray(watermark(np.zeros((rows, size), "float32"), state, step))
        tokens.append(np.argmax(logits + rng.gumbel(size=(rows, size)), axis=1).astype("int32"))
        state = watermark.update(state, tokens[-1], step)
    marked = np.stack(tokens, axis=1)
    plain = rng.integers(0, size, marked.shape)
    assert (watermark.z_scores(marked) > 6).all()
    assert (np.abs(watermark.z_scores(plain)) < 4).all()
    assert (np.abs(dataclasses.replace(watermark, key=8).z_scores(marked)) < 4).all()
    mask = np.tile(np.arange(length + 1) < 30, (rows, 1))
    np.testing.assert_array_equal(watermark.z_scores(marked, mask), watermark.z_scores(marked[:, :30]))
    np.testing.assert_array_equal(watermark.z_scores(marked[:, :1]), 0)


def test_occurrences():
    ids, mask = np.array([[1, 1, V + 3, 2], [4, 2, 2, 0]]), np.array([[True, True, True, False], [True] * 4])
    wanted = [[j in ([1], [0, 2, 4])[i] for j in range(V)] for i in range(2)]
    np.testing.assert_array_equal(occurrences(ids.astype("int32"), mask, V), wanted)


@pytest.mark.parametrize("processor", PROCESSORS, ids=str)
def test_reordered_state(processor):
    """Rows taken elsewhere, as beams are: all that a processor knows of a row is in its row of the state."""
    given, order = arrays(), np.array([3, 3, 0, 4])
    state = processor.start(history_of(given["ids"], given["mask"]))
    assert isinstance(state, tuple)
    for step in range(2):
        state = processor.update(state, given["tokens"][step], step)
    whole = np.asarray(processor(given["logits"][2], state, 2))
    taken = processor(given["logits"][2][order], tuple(ops.take(x, order, axis=0) for x in state), 2)
    np.testing.assert_array_equal(taken, whole[order])


@pytest.mark.parametrize("processor", PROCESSORS, ids=str)
def test_what_padding_holds_is_nothing(processor):
    given = arrays()
    wide = {**given, "ids": np.pad(given["ids"], ((0, 0), (0, 2))), "mask": np.pad(given["mask"], ((0, 0), (0, 2)))}
    wide["ids"][~wide["mask"]] = 10
    np.testing.assert_array_equal(run(processor, **wide), run(processor, **given))


@pytest.mark.parametrize("processor", PROCESSORS, ids=str)
def test_banned_stays_banned(processor):
    outputs = np.asarray(run(processor, **arrays()))[..., 9]
    np.testing.assert_array_equal(outputs, np.full_like(outputs, BANNED))


@pytest.mark.parametrize("processor", PROCESSORS, ids=str)
def test_config_round_trip(processor):
    written = json.loads(json.dumps(keras.saving.serialize_keras_object(processor)))
    read = keras.saving.deserialize_keras_object(written)
    assert read == processor
    assert hash(read) == hash(processor)
    config = GenerationConfig(max_length=LENGTH, end_id=ENDS, processors=(processor,))
    config.validate(V)
    read = keras.saving.deserialize_keras_object(json.loads(json.dumps(keras.saving.serialize_keras_object(config))))
    assert read == config
    assert hash(read) == hash(config)
    with pytest.raises(dataclasses.FrozenInstanceError):
        processor.other = 1


SPECS = {
    "ids": TensorSpec(("batch", "source_length"), "int32"),
    "mask": TensorSpec(("batch", "source_length"), "bool"),
    "logits": TensorSpec((3, "batch", V), "float32"),
    "tokens": TensorSpec((3, "batch"), "int32"),
}


@pytest.mark.parametrize("jit", [False, True])
def test_one_graph_for_all_sizes(jit):
    specs = {name: tf.TensorSpec(spec.shape, spec.dtype) for name, spec in SPECS.items()}
    function = tf.function(
        lambda x: [run(processor, **x) for processor in PROCESSORS],
        input_signature=[specs],
        autograph=False,
        jit_compile=jit,
    )
    for rows, width in ((5, 7), (2, 1), (3, 4)):
        given = arrays(rows, width, steps=3)
        for processor, actual in zip(PROCESSORS, function(given), strict=True):
            np.testing.assert_allclose(actual, run(processor, **given), rtol=1e-5, atol=1e-5, err_msg=str(processor))
    assert function.experimental_get_tracing_count() == 1


@pytest.mark.parametrize("format_name", ["saved_model", "tflite", "onnx"])
def test_export(format_name, tmp_path):
    def loop(processor, ids, mask, logits, tokens):
        """As `run`, but as a strategy does it: in a loop of the graph."""
        state = processor.start(history_of(ids, mask))

        def advance(step, outputs, *state):
            logit, token = (ops.squeeze(ops.take(x, ops.expand_dims(step, 0), axis=0), 0) for x in (logits, tokens))
            new = ops.expand_dims(processor(ops.reshape(logit, (-1, V)), state, step), 0)
            here = ops.equal(ops.reshape(ops.arange(3, dtype="int32"), (3, 1, 1)), step)
            return step + 1, ops.where(here, new, outputs), *processor.update(state, token, step)

        start = (ops.zeros((), "int32"), ops.zeros_like(logits), *state)
        return ops.while_loop(lambda step, *_: step < 3, advance, start)[1]

    writer = registry.load("formats", format_name)()
    for start in range(0, len(PROCESSORS), TOGETHER):
        named = {f"output_{i}": processor for i, processor in enumerate(PROCESSORS[start : start + TOGETHER])}
        task = types.SimpleNamespace(
            name="forward",
            tokenizer=None,
            call=lambda named=named, **x: {name: loop(processor, **x) for name, processor in named.items()},
            inputs=SPECS,
            model=types.SimpleNamespace(variables=[]),
        )
        folder = tmp_path / str(start)
        folder.mkdir()
        writer.write(writer.convert([task], folder), folder)
        artefact = RUNNERS[format_name](folder / writer.path("forward"))
        for rows, width in ((5, 7), (2, 1)):
            given = arrays(rows, width, steps=3)
            actual = artefact(given)
            for name, processor in named.items():
                wanted = run(processor, **given)
                np.testing.assert_allclose(actual[name], wanted, rtol=1e-5, atol=1e-5, err_msg=str(processor))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MinLength(0), "`length` must be a positive integer"),
        (lambda: MinLength(True), "`length` must be a positive integer"),
        (lambda: ForcedPrefix(()), "`ids` must be a tuple, not empty"),
        (lambda: ForcedPrefix([1]), "`ids` must be a tuple"),
        (lambda: ForcedPrefix((1, ())), "`ids` must be a tuple"),
        (lambda: BannedTokens((1,), step=-1), "`step` must be a non-negative integer"),
        (lambda: BannedTokens((1, -1)), "`ids` must be a tuple, not empty, of non-negative integers"),
        (lambda: AllowedTokens(()), "`ids` must be a tuple, not empty"),
        (lambda: AllowedTokens((1.0,)), "`ids` must be a tuple, not empty, of non-negative integers"),
        (lambda: RepetitionPenalty(0), "`penalty` must be a positive number"),
        (lambda: RepetitionPenalty(float("inf")), "`penalty` must be a positive number"),
        (lambda: OccurrencePenalty(presence=float("nan")), "`presence` must be a finite number"),
        (lambda: OccurrencePenalty(frequency="1"), "`frequency` must be a finite number"),
        (lambda: NoRepeatNGram(0), "`size` must be a positive integer"),
        (lambda: Temperature(0.0), "`value` must be a positive number"),
        (lambda: TopK(1.5), "`k` must be a positive integer"),
        (lambda: TopP(0), "`p` must be above 0, and 1 at most"),
        (lambda: MinP(1.1), "`p` must be above 0, and 1 at most"),
        (lambda: Typical(None), "`p` must be above 0, and 1 at most"),
        (lambda: TopK(2, 0), "`min_tokens_to_keep` must be a positive integer"),
        (lambda: TopP(0.5, 1.5), "`min_tokens_to_keep` must be a positive integer"),
        (lambda: EpsilonCutoff(0), "`epsilon` must be above 0"),
        (lambda: EtaCutoff(0.1, 0), "`min_tokens_to_keep` must be a positive integer"),
        (lambda: TopH(1.1), "`h` must be above 0, and 1 at most"),
        (lambda: RepetitionPenalty(1.1, -1), "`prompt_ignore_length` must be a non-negative integer"),
        (lambda: BannedSequences(()), "`sequences` must be a non-empty tuple"),
        (lambda: BannedSequences(((),)), "`sequences` must be a tuple, not empty"),
        (lambda: BannedSequences((1, 2)), "`sequences` must be a tuple, not empty"),
        (
            lambda: SequenceBias(((1,),), (1.0, 2.0)),
            "`biases` must be a tuple of one number for each of the 1 sequences",
        ),
        (lambda: SequenceBias(((1,),), (float("inf"),)), "`biases` must be a finite number"),
        (lambda: ExponentialLengthDecay(1, 0.0), "`factor` must be a positive number"),
        (lambda: StopStrings("stop"), "`automaton` must be a TokenAutomaton"),
        (lambda: TokenAutomaton.containing("stop", PIECES), "`strings` must be a tuple of non-empty strings"),
        (lambda: TokenAutomaton.containing(("stop",), PIECES), "`strings` must contain one that `pieces` can spell"),
        (lambda: Watermark(1.0), "`green_share` must be between 0 and 1"),
        (lambda: Watermark(key=2**31), "`key` must be below 2"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=f"{message}.*Received"):
        make()


@pytest.mark.parametrize(
    ("processors", "message"),
    [
        ((MinLength(LENGTH),), "`length` of MinLength must be below `max_length`=5"),
        ((ForcedPrefix((1, V)),), f"`ids` must hold ids .* 0 to {V - 1}"),
        ((ForcedPrefix((1,) * (LENGTH + 1)),), "`ids` of ForcedPrefix must not be longer than `max_length`=5"),
        ((ForcedPrefix((1, 7, 1)),), "`ids` of ForcedPrefix must not continue after an end token"),
        ((BannedTokens((V,)),), f"`ids` must hold ids .* 0 to {V - 1}"),
        ((BannedTokens(tuple(range(V))),), "`ids` of BannedTokens must not ban every token"),
        ((BannedSequences(((1, V),)),), f"`sequences` must hold ids .* 0 to {V - 1}"),
        ((BannedSequences(tuple((x,) for x in range(V))),), "`sequences` of BannedSequences must not ban every token"),
        ((StopStrings(TokenAutomaton.containing(("a",), ["a"] * (V + 1))),), "`automaton` must be over the model's"),
        ((AllowedTokens((0, V)),), f"`ids` must hold ids .* 0 to {V - 1}"),
        ((AllowedTokens((0, 1)), BannedTokens((0, 1, 2))), "`ids` of AllowedTokens must not all be banned"),
    ],
)
def test_contradictions(processors, message):
    config = GenerationConfig(max_length=LENGTH, end_id=ENDS, processors=processors)
    with pytest.raises(ValueError, match=f"{message}.*Received"):
        config.validate(V)


@pytest.mark.parametrize("rows", [2, 3, 5])
def test_as_many_rows_as_tokens(rows):
    ids = np.arange(rows * 3).reshape(rows, 3) % 7
    [seen] = RepetitionPenalty(2.0).start(History(ids, np.ones_like(ids, bool), 7, 5, (3,)))
    np.testing.assert_array_equal(seen, [np.isin(np.arange(7), row) for row in ids])
