"""A model that is none of this package's, with the two methods that generation needs."""

import gc

import keras
import numpy as np
import pytest
from keras import ops

from keras_attn import GenerationConfig
from keras_attn.export import export
from keras_attn.generation import BeamSearch, MinLength, RepetitionPenalty, Sampling, generate, score, stream
from keras_attn.layers import Recurrence

VOCABULARY, WIDTH, START, END = 7, 8, 2, 3
SOURCES = np.array([[5, 4, 6], [6, 5, 0], [4, 0, 0]])


class RecurrentTranslator(keras.Model):
    """The last state of one GRU is the first of another."""

    vocabulary_size = VOCABULARY

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.embedding = keras.layers.Embedding(VOCABULARY, WIDTH, embeddings_initializer="normal")
        self.encoder = Recurrence(keras.layers.GRUCell(WIDTH), return_state=True)
        self.cell = keras.layers.GRUCell(WIDTH)
        self.head = keras.layers.Dense(VOCABULARY)

    def prefill(self, ids, mask=None, *, length, bounded=True):
        _, state = self.encoder(self.embedding(ids), mask=ops.not_equal(ids, 0))
        return state, ()

    def decode(self, ids, positions, cache, memory=()):
        outputs, [state] = self.cell(self.embedding(ids[:, 0]), [cache])
        return self.head(ops.expand_dims(outputs, 1)), state


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(1)
    model = RecurrentTranslator()
    generate(model, SOURCES, 1)
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(scale=1.5, size=w.shape) for w in model.weights])
    return model


def log_probabilities(model, source, targets):
    """Of all tokens of each target, by one step after another."""
    state, _ = model.prefill(np.array([source]), length=len(targets))
    tokens, found = [START, *targets[:-1]], []
    for token in tokens:
        logits, state = model.decode(np.array([[token]]), None, state)
        found.append(np.asarray(ops.log_softmax(logits[0, 0])))
    return np.array(found)


def test_greedy_takes_the_likeliest_token(model):
    tokens = generate(model, SOURCES, config=GenerationConfig(6, end_id=END))
    assert len(np.unique(tokens)) > 2
    for source, row in zip(SOURCES, tokens, strict=True):
        length = (row == END).argmax() + 1 if END in row else len(row)
        found = log_probabilities(model, source, row[:length])
        assert found.argmax(axis=1).tolist() == row[:length].tolist()


def test_beams_find_the_best_of_all_sequences(model):
    config = GenerationConfig(3, end_id=END, strategy=BeamSearch(VOCABULARY * 2, length_penalty=0.0))
    outputs = generate(model, SOURCES, config=config, return_dict=True)
    for source, tokens, found in zip(SOURCES, outputs["tokens"], outputs["sequence_scores"], strict=True):
        totals = dict(all_sequences(model, model.prefill(np.array([source]), length=3)[0], (START,), 0.0, 3))
        best = max(totals, key=totals.get)
        assert tuple(tokens[: len(best)]) == best
        np.testing.assert_allclose(found, totals[best], atol=1e-5)


def all_sequences(model, state, tokens, total, length):
    """Every sequence of at most `length` tokens, and the sum of its log-probabilities."""
    logits, state = model.decode(np.array([tokens[-1:]]), None, state)
    for token, found in enumerate(np.asarray(ops.log_softmax(logits[0, 0]))):
        if token == END or length == 1:
            yield (*tokens[1:], token), total + found
        else:
            yield from all_sequences(model, state, (*tokens, token), total + found, length - 1)


@pytest.mark.parametrize(
    "config",
    [
        GenerationConfig(5, end_id=END),
        GenerationConfig(5, end_id=END, strategy=Sampling(seed=3), processors=(RepetitionPenalty(1.5),)),
        GenerationConfig(5, end_id=END, processors=(MinLength(3),)),
    ],
)
def test_streaming_scoring_and_xla_agree(config, model):
    outputs = generate(model, SOURCES, config=config, return_dict=True)
    pieces = np.concatenate(list(stream(model, SOURCES, config=config)), axis=1)
    np.testing.assert_array_equal(pieces, outputs["tokens"][:, : pieces.shape[1]])
    np.testing.assert_array_equal(generate(model, SOURCES, config=config, jit_compile=True), outputs["tokens"])
    if not config.processors:
        scores = score(model, SOURCES, outputs["tokens"], config)["scores"]
        np.testing.assert_allclose(scores, outputs["scores"], atol=1e-5)


def test_it_is_exported_to_every_format(model, tmp_path):
    model.generation_config = GenerationConfig(5, end_id=END)
    report = export(model, tmp_path, ["saved_model", "tflite", "onnx"], tasks=["beam", "prefill", "decode"])
    assert all(row["ok"] and row["identical"] == row["total"] > 0 for row in report.rows)


def test_what_it_cannot_do_is_named(model, tmp_path):
    with pytest.raises(ValueError, match="`tasks` may hold 'forward' only for a functional"):
        export(model, tmp_path, "onnx", tasks="forward")
    with pytest.raises(ValueError, match="`model` must have `prefill` and `decode`"):
        generate(keras.layers.Dense(2), SOURCES)


class WithoutASize(RecurrentTranslator):
    vocabulary_size = None


def test_the_number_of_tokens_must_be_known():
    with pytest.raises(ValueError, match="`model` must have a `vocabulary_size`"):
        generate(WithoutASize(), SOURCES)


def test_a_temporary_model_lives_while_it_generates():
    for _ in range(3):
        tokens = generate(RecurrentTranslator(), np.array([[3, 4]]), max_length=2)
        gc.collect()
        assert tokens.shape == (1, 2)
