"""Automata over tokens against `re` and sets, and the constraint against the automaton walked in Python."""

import dataclasses
import itertools
import json
import re
import time
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from keras_attn.export import registry
from keras_attn.export.tensor_spec import TensorSpec
from keras_attn.generation import (
    BANNED,
    AutomatonConstraint,
    BeamSearch,
    GenerationConfig,
    Greedy,
    History,
    MinLength,
    Sampling,
    StopStrings,
    TokenAutomaton,
    generate,
)
from keras_attn.models import LanguageModel, Transformer
from keras_attn.text import CharacterTokenizer

V, LENGTH, ENDS = 7, 5, (3, 6)
PIECES = ["", "a", "b", "", "ab", "ba", ""]

ATOMS = st.sampled_from(
    ["a", "b", "c", ".", "[ab]", "[^a]", r"\w", r"\d", "(?i:A)", "a|b", "", r"\.", r"[^\W\d]", "[.-]"]
)
PATTERNS = st.recursive(
    ATOMS.map("(?:{})".format),
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3).map("".join)
        | st.lists(inner, min_size=2, max_size=3).map(lambda x: f"({'|'.join(x)})")
        | st.tuples(inner, st.sampled_from(["*", "+", "?", "*?", "{2}", "{1,2}", "{0}", "{,2}", "{2,}"])).map(
            lambda x: f"(?:{x[0]}){x[1]}"
        )
    ),
    max_leaves=5,
)
TEXTS = st.text("abcA1.-\n", max_size=3)


def sequences(vocabulary_size, longest):
    for length in range(longest + 1):
        yield from itertools.product(range(vocabulary_size), repeat=length)


def texts_that_match(pattern, pieces, longest):
    """By Python's `re`."""
    compiled = re.compile(pattern, re.ASCII)
    return {
        tokens
        for tokens in sequences(len(pieces), longest)
        if all(pieces[t] for t in tokens) and compiled.fullmatch("".join(pieces[t] for t in tokens))
    }


def made(make):
    """The automaton and no message, or none and why."""
    try:
        return make(), ""
    except ValueError as error:
        return None, str(error)


@settings(max_examples=300, deadline=None)
@given(PATTERNS, st.lists(TEXTS, min_size=1, max_size=5))
def test_regex_accepts_what_re_matches(pattern, pieces):
    wanted = texts_that_match(pattern, pieces, longest=4)
    automaton, message = made(lambda: TokenAutomaton.from_regex(pattern, pieces))
    if automaton is None:
        assert "must match a text that `pieces` can spell" in message
        assert not wanted
        return
    assert {tokens for tokens in sequences(len(pieces), 4) if automaton.accepts(tokens)} == wanted
    if wanted:
        assert automaton.distances[0] == min(map(len, wanted))
    else:
        assert automaton.distances[0] > 4
    assert not automaton.token_classes[[not piece for piece in pieces]].any()


PHRASES = st.lists(st.lists(st.integers(0, 4), max_size=4), min_size=1, max_size=8)


@settings(max_examples=200, deadline=None)
@given(PHRASES)
def test_phrases_accept_the_set(phrases):
    automaton = TokenAutomaton.from_phrases(phrases, 6)
    wanted = set(map(tuple, phrases))
    assert {tokens for tokens in sequences(6, 5) if automaton.accepts(tokens)} == wanted
    # As an expression of single characters: another way to the same table.
    pattern = "|".join("".join(map(str, phrase)) for phrase in phrases)
    assert TokenAutomaton.from_regex(pattern, [*"01234", ""]) == automaton


@st.composite
def automata(draw):
    states, classes, tokens = draw(st.integers(1, 6)), draw(st.integers(1, 4)), draw(st.integers(1, 5))
    numbers = st.lists(st.integers(-1, states - 1), min_size=states * classes, max_size=states * classes)
    table = np.array(draw(numbers)).reshape(states, classes)
    token_classes = draw(st.lists(st.integers(0, classes - 1), min_size=tokens, max_size=tokens))
    accepting = draw(st.lists(st.booleans(), min_size=states, max_size=states))
    return table, np.array(token_classes), np.array(accepting)


def walk(table, token_classes, accepting, tokens):
    state = 0
    for token in tokens:
        state = table[state, token_classes[token]]
        if state < 0:
            return False
    return bool(accepting[state])


@settings(max_examples=300, deadline=None)
@given(automata())
def test_the_smallest_table_of_the_same_language(tables):
    count = len(tables[1])
    # A language of six states or fewer that holds a text holds one shorter than that.
    texts = list(sequences(count, 5))
    wanted = {text for text in texts if walk(*tables, text)}
    automaton, message = made(lambda: TokenAutomaton(*tables))
    if automaton is None:
        assert "must lead from state 0 to an accepting state" in message
        assert not wanted
        return
    assert {text for text in texts if automaton.accepts(text)} == wanted
    assert TokenAutomaton(automaton.transitions, automaton.token_classes, automaton.accepting) == automaton
    # Brute force: every state in reach, each with a language of its own; the least distance by search.
    transitions, columns, accepts = automaton.transitions, automaton.token_classes, automaton.accepting
    reached = {0} | set(transitions[transitions >= 0].tolist())
    assert reached == set(range(len(accepts)))
    languages = [frozenset(t for t in sequences(count, 4) if walk_from(s, automaton, t)) for s in sorted(reached)]
    if count <= 3 and len(accepts) <= 4:
        assert len(set(languages)) == len(languages)
    for state, distance in enumerate(automaton.distances):
        lengths = [len(text) for text in languages[state]]
        assert distance == min(lengths) if lengths else distance > 4
    assert (transitions[:, 0] == -1).all()
    used = {tuple(transitions[:, c]) for c in columns if c}
    assert len(used) == len({int(c) for c in columns} - {0})


def walk_from(state, automaton, tokens):
    for token in tokens:
        state = automaton.transitions[state, automaton.token_classes[token]]
        if state < 0:
            return False
    return bool(automaton.accepting[state])


def test_equal_languages_are_equal_values():
    one, other = (TokenAutomaton.from_regex(pattern, PIECES) for pattern in ("(ab)+", "ab(ab)*|(ab){3,}"))
    assert one == other
    assert len({one, other, TokenAutomaton.from_regex("(ab)*", PIECES)}) == 2
    assert one != "automaton"
    with pytest.raises(ValueError, match="read-only"):
        one.transitions[0, 0] = 1


def test_config_round_trip():
    processor = AutomatonConstraint(TokenAutomaton.from_regex("(ab)+b?", PIECES))
    config = GenerationConfig(max_length=LENGTH, end_id=ENDS, processors=(processor,))
    config.validate(V)
    read = keras.saving.deserialize_keras_object(json.loads(json.dumps(keras.saving.serialize_keras_object(config))))
    assert read == config
    assert hash(read) == hash(config)


def test_fifty_thousand_tokens():
    rng = np.random.default_rng(0)
    letters = list('abcdefghijklmnopqrstuvwxyz0123456789 ":,{}')
    pieces = ["".join(rng.choice(letters, size=rng.integers(1, 9))) for _ in range(50_000 - len(letters))] + letters
    start = time.perf_counter()
    automaton = TokenAutomaton.from_regex(r'\{"name":"[a-z ]{1,300}","age":\d{1,3}\}', pieces)
    assert time.perf_counter() - start < 60
    assert len(automaton.accepting) > 300
    ids = [pieces.index(c) for c in '{"name":"ada","age":36}']
    assert automaton.accepts(ids)
    assert not automaton.accepts(ids[:-1])
    assert len(json.dumps(automaton.get_config())) < 100_000


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("a(", "must be a regular expression: "),
        (None, "must be a string"),
        *((p, "must not use anchors") for p in ("^a", "a$", r"a\b", r"(a)\1", "(?=a)a", "a(?!b)", "(?<=a)b")),
        *((p, "must not use anchors") for p in ("[]a]", "[^]a]b", "a{}", r"[\D\W]", "(?-i:a)", "(?m)a", r"[a\S\W]")),
        ("ac", "must match a text that `pieces` can spell"),
        (r"[^\s\S]", "must match a text that `pieces` can spell"),
        ("c+", "must match a text that `pieces` can spell"),
    ],
)
def test_bad_patterns(pattern, message):
    with pytest.raises(ValueError, match=f"`pattern` {message}.*Received: .*"):
        TokenAutomaton.from_regex(pattern, PIECES)


@pytest.mark.filterwarnings("ignore:Possible nested set")
@pytest.mark.parametrize("pattern", [r"\[\]a", r"[\]a]b", r"a\{\}", r"[\s\S]b", r"\(\?=a", r"[[]a|b", r"[{}]a|b"])
def test_what_only_looks_like_a_bad_pattern(pattern):
    pieces = ["[", "]", "a", "b", "{", "}", "(?=", "\\"]
    automaton = TokenAutomaton.from_regex(pattern, pieces)
    accepted = {tokens for tokens in sequences(len(pieces), 3) if automaton.accepts(tokens)}
    assert accepted == texts_that_match(pattern, pieces, 3) != set()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TokenAutomaton.from_regex("a", "abc"), "`pieces` must be a list of one string per token"),
        (lambda: TokenAutomaton.from_regex("a", []), "`pieces` must be a list of one string per token"),
        (lambda: TokenAutomaton.from_regex("a", [b"a"]), "`pieces` must be a list of one string per token"),
        (lambda: TokenAutomaton.from_phrases([], 5), "`phrases` must hold at least one"),
        (lambda: TokenAutomaton.from_phrases([[1, 5]], 5), r"`phrases` must be in \[0, 5\)"),
        (lambda: TokenAutomaton.from_phrases([[-1]], 5), r"`phrases` must be in \[0, 5\)"),
        (lambda: TokenAutomaton.from_phrases([[1.5]], 5), "`phrases` must hold integers"),
        (lambda: TokenAutomaton.from_phrases([[[1]]], 5), "`phrases` must hold sequences"),
        (lambda: TokenAutomaton.from_phrases([[1]], 0), "`vocabulary_size` must be a positive integer"),
        (lambda: TokenAutomaton([[1]], [0], [True]), r"`transitions` must be in \[-1, 1\)"),
        (lambda: TokenAutomaton([[0]], [1], [True]), r"`token_classes` must be in \[0, 1\)"),
        (lambda: TokenAutomaton([[0]], [0], [1]), r"`accepting` bool \(states,\)"),
        (lambda: TokenAutomaton([[0]], [0], [False]), "`transitions` must lead from state 0"),
        (lambda: AutomatonConstraint("a"), "`automaton` must be a TokenAutomaton"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=f"{message}.*Received"):
        make()


@pytest.mark.parametrize(
    ("automaton", "message"),
    [
        (TokenAutomaton.from_phrases([[1]], V + 1), f"`automaton` must be over the model's vocabulary of {V}"),
        (TokenAutomaton.from_phrases([[1, 6]], V), "`automaton` must not allow end tokens"),
        (TokenAutomaton.from_phrases([[1] * LENGTH], V), "`max_length` must be at least the length of .* 6 tokens"),
    ],
)
def test_contradictions(automaton, message):
    config = GenerationConfig(max_length=LENGTH, end_id=ENDS, processors=(AutomatonConstraint(automaton),))
    with pytest.raises(ValueError, match=f"{message}.*Received"):
        config.validate(V)


AUTOMATA = [
    TokenAutomaton.from_regex("(ab)+", PIECES),
    TokenAutomaton.from_regex("a*b{2,3}", PIECES),
    TokenAutomaton.from_regex("(ba)?", PIECES),
    TokenAutomaton.from_phrases([[1, 4, 2, 5], [1, 4], [5]], V),
]


def allowed_next(automaton, generated):
    """By search: the tokens from which some accepted output of `LENGTH - 1` tokens at most can still be reached."""
    if any(t in ENDS for t in generated) or not any(
        automaton.accepts([*generated, *rest]) for rest in sequences(V, LENGTH - 1 - len(generated))
    ):
        return set(ENDS)
    room = LENGTH - 1 - len(generated)
    nexts = {
        t
        for t in range(V)
        if any(automaton.accepts([*generated, t, *r]) for k in [room - 1] if k >= 0 for r in sequences(V, k))
    }
    return nexts | (set(ENDS) if automaton.accepts(generated) else set())


def run(automaton, ids, logits, tokens):
    processor = AutomatonConstraint(automaton)
    state, outputs = processor.start(History(ids, ops.ones_like(ids, "bool"), V, LENGTH, ENDS)), []
    for step in range(tokens.shape[0]):
        index = ops.convert_to_tensor(step, "int32")
        outputs.append(processor(logits[step], state, index))
        state = processor.update(state, tokens[step], index)
    return ops.stack(outputs)


def arrays(automaton, rows=5, width=2, seed=0, steps=LENGTH):
    """Tokens drawn from those allowed, but in the last row, which soon leaves the automaton."""
    rng = np.random.default_rng(seed)
    tokens = np.zeros((steps, rows), "int32")
    for row in range(rows):
        for step in range(steps):
            allowed = sorted(allowed_next(automaton, tokens[:step, row].tolist()))
            tokens[step, row] = rng.integers(V) if row == rows - 1 else rng.choice(allowed)
    logits = rng.normal(size=(steps, rows, V)).astype("float32")
    return {"ids": np.ones((rows, width), "int32"), "logits": logits, "tokens": tokens}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("automaton", AUTOMATA, ids=range(len(AUTOMATA)))
def test_constraint_step_by_step(automaton, seed):
    given = arrays(automaton, seed=seed)
    actual = np.asarray(run(automaton, **given))
    assert actual.dtype == "float32"
    for step, row in np.ndindex(actual.shape[:2]):
        allowed = allowed_next(automaton, given["tokens"][:step, row].tolist())
        wanted = np.where(np.isin(np.arange(V), list(allowed)), given["logits"][step, row], BANNED)
        np.testing.assert_array_equal(actual[step, row], wanted, err_msg=f"step {step}, row {row}")


def test_rows_may_be_reordered():
    given, order = arrays(AUTOMATA[0]), np.array([3, 3, 0, 4])
    processor = AutomatonConstraint(AUTOMATA[0])
    state = processor.start(History(given["ids"], given["ids"] > 0, V, LENGTH, ENDS))
    for step in range(2):
        state = processor.update(state, given["tokens"][step], step)
    whole = np.asarray(processor(given["logits"][2], state, 2))
    taken = processor(given["logits"][2][order], tuple(ops.take(x, order, axis=0) for x in state), 2)
    np.testing.assert_array_equal(taken, whole[order])


SPECS = {
    "ids": TensorSpec(("batch", "source_length"), "int32"),
    "logits": TensorSpec((3, "batch", V), "float32"),
    "tokens": TensorSpec((3, "batch"), "int32"),
}


@pytest.mark.parametrize("jit", [False, True])
def test_one_graph_for_all_sizes(jit):
    specs = {name: tf.TensorSpec(spec.shape, spec.dtype) for name, spec in SPECS.items()}
    for automaton in AUTOMATA:
        function = tf.function(
            lambda x, automaton=automaton: run(automaton, **x),
            input_signature=[specs],
            autograph=False,
            jit_compile=jit,
        )
        for rows, width in ((5, 7), (2, 1)):
            given = arrays(automaton, rows, width, steps=3)
            np.testing.assert_array_equal(function(given), run(automaton, **given))
        assert function.experimental_get_tracing_count() == 1


@pytest.mark.parametrize("format_name", ["saved_model", "tflite", "onnx"])
def test_export(format_name, tmp_path):
    from harness_export import RUNNERS

    names = [f"output_{i}" for i in range(len(AUTOMATA))]
    task = types.SimpleNamespace(
        name="forward",
        tokenizer=None,
        call=lambda **x: {name: run(automaton, **x) for name, automaton in zip(names, AUTOMATA, strict=True)},
        inputs=SPECS,
        model=types.SimpleNamespace(variables=[]),
    )
    writer = registry.load("formats", format_name)()
    writer.write(writer.convert([task], tmp_path), tmp_path)
    artefact = RUNNERS[format_name](tmp_path / writer.path("forward"))
    for rows, width in ((5, 7), (2, 1)):
        given = arrays(AUTOMATA[1], rows, width, steps=3)
        actual = artefact(given)
        for name, automaton in zip(names, AUTOMATA, strict=True):
            np.testing.assert_allclose(actual[name], run(automaton, **given), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("strategy", [Greedy(), Sampling(), "beams"])
@pytest.mark.parametrize("automaton", AUTOMATA, ids=range(len(AUTOMATA)))
def test_a_random_model_writes_nothing_else(automaton, strategy):
    if strategy == "beams":
        from keras_attn.generation import BeamSearch

        strategy = BeamSearch(3)
    keras.utils.set_random_seed(0)
    constraint = AutomatonConstraint(automaton)
    config = GenerationConfig(max_length=LENGTH, end_id=ENDS, strategy=strategy, processors=(constraint,))
    options = {"num_layers": 1, "hidden_dim": 8, "num_heads": 2, "intermediate_dim": 8}
    prompts = np.random.default_rng(0).integers(1, V, size=(23, 4)).astype("int32")
    for model in (Transformer(V, **options), LanguageModel(V, **options)):
        for row in generate(model, prompts, config=config):
            tokens = list(itertools.takewhile(lambda token: token not in ENDS, row.tolist()))
            assert len(tokens) < LENGTH
            assert automaton.accepts(tokens)


WORDS = st.text("abc", min_size=1, max_size=4)


@settings(max_examples=200, deadline=None)
@given(st.lists(WORDS, min_size=1, max_size=4), st.lists(st.text("abcd", max_size=3), min_size=1, max_size=5))
def test_containing_accepts_what_holds_a_string(strings, pieces):
    longest = 4
    wanted = {
        tokens
        for tokens in sequences(len(pieces), longest)
        if any(x in "".join(pieces[t] for t in tokens) for x in strings) and all(pieces[t] for t in tokens)
    }
    automaton, message = made(lambda: TokenAutomaton.containing(tuple(strings), pieces))
    if automaton is None:
        assert "`strings` must contain one that `pieces` can spell" in message
        assert not wanted
        return
    assert {tokens for tokens in sequences(len(pieces), longest) if automaton.accepts(tokens)} == wanted


def test_containing_looks_at_bytes():
    """A character may be made of several tokens."""
    pieces = [bytes([byte]) for byte in "xé€".encode()]
    automaton = TokenAutomaton.containing(("é€",), pieces)
    assert automaton.accepts([0, 1, 2, 3, 4, 5, 0])
    assert not automaton.accepts([0, 1, 2, 0, 3, 4, 5])


@settings(max_examples=100, deadline=None)
@given(st.sets(st.lists(st.integers(0, 4), max_size=4).map(tuple), min_size=1, max_size=6))
def test_a_function_of_the_tokens_so_far(phrases):
    def next_tokens(prefix):
        longer = [x for x in phrases if x[: len(prefix)] == prefix]
        return [x[len(prefix)] for x in longer if len(x) > len(prefix)] + [6] * (prefix in phrases)

    automaton = TokenAutomaton.from_function(next_tokens, V, end_id=6)
    assert automaton == TokenAutomaton.from_phrases(sorted(phrases), V)


def test_a_function_that_does_not_come_to_an_end():
    with pytest.raises(ValueError, match="`next_tokens` must allow finitely many sequences"):
        TokenAutomaton.from_function(lambda prefix: [1, 2], V, end_id=3, max_prefixes=50)
    with pytest.raises(ValueError, match="`next_tokens` must allow `end_id` after some sequence"):
        TokenAutomaton.from_function(lambda prefix: [], V, end_id=3)


def test_generation_stops_behind_a_string():
    tokenizer = CharacterTokenizer("abcd")
    keras.utils.set_random_seed(2)
    model = LanguageModel(tokenizer.vocabulary_size, 1, 8, 2, 16, tokenizer=tokenizer)
    long = MinLength(29)
    free = GenerationConfig(30, strategy=Sampling(1), processors=(long,))
    [text] = generate(model, ["ab"], config=free)
    stop = text[5:7]
    config = dataclasses.replace(free, processors=(long, StopStrings.of(tokenizer, ("dddddddd", stop))))
    [stopped] = generate(model, ["ab"], config=config)
    assert stopped == text[: text.index(stop) + 2]
    [beam] = generate(model, ["ab"], config=dataclasses.replace(config, strategy=BeamSearch(3)))
    assert beam.find(stop) in (-1, len(beam) - 2)
    assert keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(config)) == config
