import json

import keras
import numpy as np
import oracle
import pytest
import tensorflow as tf
from keras import ops

from keras_attn import GenerationConfig, attention_maps
from keras_attn.export import export
from keras_attn.layers import (
    AdditiveAttention,
    GuidedAlignment,
    LocationSensitiveAttention,
    LuongAttention,
    MonotonicAttention,
    ScheduledSampling,
)
from keras_attn.models import Seq2SeqRNN
from keras_attn.text import CharacterTokenizer
from keras_attn.training import MaskedCrossEntropy

VOCABULARY, D = 23, 7
SOURCE = np.array([[5, 6, 7, 8, 9, 10, 11], [12, 13, 14, 15, 0, 0, 0], [4, 0, 0, 0, 0, 0, 0]])
TARGET = np.array([[2, 5, 7, 11, 13], [2, 6, 8, 12, 14], [2, 9, 9, 4, 6]])
CONFIG = GenerationConfig(max_length=7, end_id=22).resolved()


def randomize(model, seed=7):
    """At Keras' initial values biases are zero, which would hide a mix-up."""
    rng = np.random.default_rng(seed)
    model.set_weights([w + 0.5 * rng.standard_normal(w.shape) for w in model.get_weights()])
    return model


def make(kind=Seq2SeqRNN, **kwargs):
    keras.utils.set_random_seed(7)
    return randomize(kind(**{"vocabulary_size": VOCABULARY, "num_layers": 2, "hidden_dim": D, **kwargs}))


def bahdanau(**kwargs):
    return make(Seq2SeqRNN.bahdanau, **{"num_layers": 1, **kwargs})


def gnmt(**kwargs):
    return make(Seq2SeqRNN.gnmt, **{"num_layers": 4, **kwargs})


def logits(model, source=SOURCE, target=TARGET, **masks):
    outputs = model({"source_ids": source, "target_ids": target, **masks})
    return ops.convert_to_numpy(ops.cast(outputs, "float32"))


@pytest.fixture(scope="module")
def model():
    return make()


# What a decoder of each kind hands from step to step differs.
KINDS = {
    "default": lambda: make(cell="gru"),
    "bahdanau": bahdanau,
    "gnmt": lambda: randomize(gnmt(num_layers=3), seed=3),
    "luong": lambda: make(attention=LuongAttention("general"), cell="gru", readout=None, num_layers=1),
    "simple unfed": lambda: make(cell="simple", input_feeding=False, num_bidirectional_layers=2),
    "location": lambda: make(
        attention=LocationSensitiveAttention(5, 3, 3, cumulative=True), bridge=False, num_layers=1
    ),
    "monotonic": lambda: make(attention=MonotonicAttention(AdditiveAttention(5, normalize=True)), num_layers=1),
    "several": lambda: make(
        attention=[LocationSensitiveAttention(5, 3, 3), LuongAttention("scaled_general")],
        readout=keras.layers.Dense(D, "relu"),
        scheduled_sampling=ScheduledSampling(0.5),
        guided_alignment=GuidedAlignment(),
        cell="gru",
        num_layers=1,
    ),
}


@pytest.fixture(scope="module", params=KINDS)
def of_any_kind(request):
    """One model for all tests that leave it as it is."""
    return KINDS[request.param]()


def weights_of(layer):
    return [np.asarray(w, "float64") for w in layer.weights]


def zeros(count):
    return tuple(np.zeros((len(SOURCE), D)) for _ in range(count))


def both_ways(step, layer, x, mask, count):
    """`(outputs, final states of the backward direction)` of a bidirectional layer."""
    forward, backward = weights_of(layer.forward_layer), weights_of(layer.backward_layer)
    ahead, _ = oracle.recurrence(lambda *a: step(forward, *a), x, mask, zeros(count))
    back, states = oracle.recurrence(lambda *a: step(backward, *a), x[:, ::-1], mask[:, ::-1], zeros(count))
    return np.concatenate([ahead, back[:, ::-1]], axis=-1), states


def bahdanau_attention(attention, step, x, start, memory, mask):
    """`(outputs, contexts)` of a layer whose last output is the query."""
    v, *g, w, b, u = weights_of(attention.cell.attention)
    v = v[:, 0] * g[0] / np.linalg.norm(v) if g else v[:, 0]
    cell = weights_of(attention.cell.cell)

    def advance(x, states):
        energies = np.tanh((states[0] @ w + b)[:, None] + memory @ u) @ v
        context = np.einsum("bs,bsd->bd", oracle.masked_softmax(energies, mask), memory)
        output, states = step(cell, np.concatenate([x, context], -1), states)
        return np.concatenate([output, context], -1), states

    outputs, _ = oracle.recurrence(advance, x, np.ones(x.shape[:2], bool), start)
    return outputs[..., :D], outputs[..., D:]


def test_bahdanau_is_the_paper():
    model, mask = bahdanau(), SOURCE != 0
    table, output_table = np.asarray(model.target_embedding.embeddings), model.target_embedding.reverse_embeddings
    x = table[SOURCE]
    memory, (last,) = both_ways(oracle.gru_step, model.encoder_layers[0], x, mask, 1)
    kernel, bias = weights_of(model.bridges[0][0])
    start = (np.tanh(last @ kernel + bias),)
    y = table[TARGET]
    s, c = bahdanau_attention(model.attention_layer, oracle.gru_step, y, start, memory, mask)
    kernel, bias = weights_of(model.readout_dense)
    maxout = np.concatenate([s, c, y], -1) @ kernel + bias
    expected = np.maximum(maxout[..., :D], maxout[..., D:]) @ np.asarray(output_table)
    np.testing.assert_allclose(logits(model), expected, atol=1e-5)


def test_gnmt_is_the_paper():
    model, mask = gnmt(), SOURCE != 0
    table, output_table = np.asarray(model.target_embedding.embeddings), model.target_embedding.reverse_embeddings
    x, _ = both_ways(oracle.lstm_step, model.encoder_layers[0], table[SOURCE], mask, 2)
    for i in (1, 2, 3):
        cell = weights_of(model.encoder_layers[i])
        y, _ = oracle.recurrence(lambda *a, cell=cell: oracle.lstm_step(cell, *a), x, mask, zeros(2))
        x = x + y if i >= 2 else y
    memory, everywhere = x, np.ones(TARGET.shape, bool)
    x, c = bahdanau_attention(model.attention_layer, oracle.lstm_step, table[TARGET], zeros(2), memory, mask)
    for i in (1, 2, 3):
        cell = weights_of(model.decoder_layers[i - 1])
        inputs = np.concatenate([x, c], -1)
        y, _ = oracle.recurrence(lambda *a, cell=cell: oracle.lstm_step(cell, *a), inputs, everywhere, zeros(2))
        x = x + y if i >= 2 else y
    np.testing.assert_allclose(logits(model), x @ np.asarray(output_table), atol=1e-4)


def test_named_models_have_the_layers_of_the_papers():
    config = Seq2SeqRNN.gnmt(VOCABULARY, hidden_dim=D).get_config()
    expected = {"num_layers": 8, "cell": "lstm", "num_bidirectional_layers": 1, "residual_from": 3, "dropout": 0.2}
    assert {name: config[name] for name in expected} == expected
    assert config["attention"]["config"]["normalize"]
    config = Seq2SeqRNN.bahdanau(VOCABULARY, dropout=0.5).get_config()
    expected = {"num_layers": 1, "hidden_dim": 1000, "cell": "gru", "num_bidirectional_layers": 1, "dropout": 0.5}
    assert {name: config[name] for name in expected} == expected


def test_padding_changes_no_real_position(of_any_kind):
    model = of_any_kind
    expected = logits(model)
    padded = {
        "source": np.pad(SOURCE, ((0, 0), (0, 4))),
        "target": np.pad(TARGET, ((0, 0), (0, 2)), constant_values=3),
        "target_mask": np.arange(7)[None] < np.full((3, 1), 5),
    }
    np.testing.assert_allclose(logits(model, **padded)[:, :5], expected, atol=1e-5)
    garbage = np.where(SOURCE == 0, 21, SOURCE)
    np.testing.assert_allclose(logits(model, garbage, source_mask=SOURCE != 0), expected, atol=1e-6)
    np.testing.assert_allclose(logits(model, SOURCE[1:2, :4], TARGET[1:2]), expected[1:2], atol=1e-5)
    assert np.abs(logits(model, garbage)[1:] - expected[1:]).max() > 1e-3


def test_a_masked_target_leaves_the_states_as_they_are(model):
    mask = np.broadcast_to(np.arange(5) != 2, TARGET.shape)
    without = np.delete(TARGET, 2, axis=1)
    np.testing.assert_allclose(
        logits(model, target_mask=mask)[:, [0, 1, 3, 4]], logits(model, target=without), atol=1e-5
    )


def test_a_source_of_padding_only_gives_finite_logits_and_gradients(model):
    inputs = {"source_ids": np.zeros_like(SOURCE), "target_ids": TARGET}
    with tf.GradientTape() as tape:
        loss = MaskedCrossEntropy()(TARGET, model(inputs))
    gradients = tape.gradient(loss, [v.value for v in model.trainable_variables])
    assert np.isfinite(loss)
    assert all(g is None or np.isfinite(tf.convert_to_tensor(g)).all() for g in gradients)


def test_a_token_is_not_seen_before_its_time(model):
    changed = TARGET.copy()
    changed[:, 2] = 4
    moved = np.abs(logits(model) - logits(model, target=changed)).max(axis=(0, 2)) > 1e-4
    np.testing.assert_array_equal(moved, [False, False, True, True, True])


def test_decode_in_pieces_is_call(of_any_kind):
    model = of_any_kind
    cache, memory = model.prefill(SOURCE, length=5)
    pieces = []
    for start, stop in ((0, 1), (1, 4), (4, 5)):
        positions = np.arange(start, stop, dtype="int32")[None]
        piece, cache = model.decode(TARGET[:, start:stop], positions, cache, memory)
        pieces.append(piece)
    np.testing.assert_allclose(np.concatenate(pieces, axis=1), logits(model), atol=1e-5)


def test_a_cache_changes_no_token(of_any_kind):
    model = of_any_kind
    tokens = model.generate(SOURCE, config=CONFIG)
    target = np.pad(tokens, ((0, 0), (1, 0)), constant_values=CONFIG.start_id)
    # A token is the likeliest one after those before it, of which no later one is seen.
    likeliest = logits(model, target=target[:, :-1]).argmax(-1)
    ended = np.cumsum(target == CONFIG.end_id, axis=1)[:, :-1] > 0
    np.testing.assert_array_equal(tokens, np.where(ended, CONFIG.pad_id, likeliest))
    assert len(np.unique(target)) > 2


@pytest.mark.parametrize("jit_compile", [False, True])
def test_it_learns_to_reverse(jit_compile):
    keras.utils.set_random_seed(3)
    rng = np.random.default_rng(3)
    lengths = rng.integers(2, 6, (640, 1))
    words = np.where(np.arange(5) < lengths, rng.integers(4, 11, (640, 5)), 0)
    answers = np.full((640, 6), 0)
    for row, word in enumerate(words):
        answer = [*word[word != 0][::-1], 3]
        answers[row, : len(answer)] = answer
    inputs = {"source_ids": words, "target_ids": np.pad(answers[:, :-1], ((0, 0), (1, 0)), constant_values=2)}
    model = Seq2SeqRNN(11, num_layers=1, hidden_dim=32, cell="gru", dropout=0.0)
    model.compile(keras.optimizers.Adam(1e-2), MaskedCrossEntropy(), jit_compile=jit_compile)
    trained = {name: ids[:512] for name, ids in inputs.items()}
    losses = model.fit(trained, answers[:512], epochs=12, batch_size=32, verbose=0).history["loss"]
    assert losses[0] > 1.0
    assert losses[-1] < 0.2
    found = model.generate(words[512:], config=GenerationConfig(max_length=6))
    assert np.mean(np.all(found == answers[512:], axis=1)) > 0.8


VARIANTS = {
    "gru": {"cell": "gru", "num_bidirectional_layers": 0, "residual_from": 1, "dropout": 0.3},
    "source vocabulary": {
        "num_layers": 1,
        "source_vocabulary_size": 29,
        "pad_id": 1,
        "readout": None,
        "input_feeding": False,
    },
    "attention": {"attention": LocationSensitiveAttention(5, 3, 3), "bridge": False, "attend_first": True},
    "several": {
        "num_layers": 1,
        "attention": [AdditiveAttention(5), LuongAttention("scaled_general")],
        "readout": "linear",
        "scheduled_sampling": ScheduledSampling(keras.optimizers.schedules.PolynomialDecay(0.0, 4, 1.0)),
        "guided_alignment": GuidedAlignment(0.5),
    },
    "nested": {
        "num_layers": 1,
        "attention": MonotonicAttention(AdditiveAttention(5)),
        "tie_output": False,
        "readout": "maxout",
    },
    "text": {
        "num_layers": 1,
        "vocabulary_size": 8,
        "tokenizer": CharacterTokenizer("abc "),
        "generation_config": GenerationConfig(max_length=3),
    },
    "mixed": {"dtype": "mixed_bfloat16", "name": "translator", "trainable": False, "num_layers": 1},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_config_and_file_round_trips(variant, tmp_path):
    model = make(**VARIANTS[variant])
    inputs = (SOURCE % 8, TARGET % 8) if variant == "text" else (SOURCE, TARGET)
    expected = logits(model, *inputs)
    config = json.loads(json.dumps(model.get_config()))
    plain = {n: v for n, v in VARIANTS[variant].items() if isinstance(v, (int, float, str)) and n != "dtype"}
    assert {name: config[name] for name in plain} == plain

    rebuilt = Seq2SeqRNN.from_config(config)
    rebuilt.set_weights(model.get_weights())
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for copy in (rebuilt, loaded):
        assert type(copy) is Seq2SeqRNN
        assert (copy.tokenizer, copy.generation_config) == (model.tokenizer, model.generation_config)
        np.testing.assert_array_equal(logits(copy, *inputs), expected)
    loaded.save(tmp_path / "again.keras")
    np.testing.assert_array_equal(logits(keras.saving.load_model(tmp_path / "again.keras"), *inputs), expected)


@pytest.mark.filterwarnings("ignore:.*does not have a `quantize` method")
def test_a_quantised_model_round_trips(tmp_path):
    model = make(num_layers=1)
    before = logits(model)
    model.quantize("int8")
    expected = logits(model)
    assert 0 < np.abs(expected - before).max() < 0.1 * np.abs(before).max()
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(logits(loaded), expected)
    assert loaded.readout_dense.kernel.dtype == "int8"


@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("kind", [bahdanau, gnmt])
def test_mixed_precision_has_no_nan(kind, dtype):
    model, single = kind(dtype=dtype), kind()
    with tf.GradientTape() as tape:
        outputs = model({"source_ids": SOURCE, "target_ids": TARGET})
        loss = MaskedCrossEntropy()(TARGET, outputs)
    assert keras.backend.standardize_dtype(outputs.dtype) == dtype.removeprefix("mixed_")
    assert {keras.backend.standardize_dtype(v.dtype) for v in model.trainable_variables} == {"float32"}
    gradients = tape.gradient(loss, [v.value for v in model.trainable_variables])
    assert all(np.isfinite(tf.convert_to_tensor(g)).all() for g in gradients)
    np.testing.assert_allclose(logits(model), logits(single), atol=0.06 * np.abs(logits(single)).max())


@pytest.mark.parametrize("kind", ["default", "location"])
def test_attention_maps_show_the_alignment(kind):
    model = KINDS[kind]()
    maps = attention_maps(model, {"source_ids": SOURCE, "target_ids": TARGET})
    [(path, scores)] = maps.items()
    assert path.endswith("cell/" + model.attention_layer.cell.attention.name)
    assert scores.shape == (3, 1, 5, 7)
    allowed = np.broadcast_to((SOURCE != 0)[:, None, None], scores.shape)
    assert (scores[~allowed] == 0).all()
    assert (scores[allowed] > 0).all()
    np.testing.assert_allclose(scores.sum(-1), 1, atol=1e-5)


@pytest.mark.parametrize("kind", ["gnmt", "location", "several"])
def test_export_in_every_format(kind, tmp_path):
    model = KINDS[kind]()
    model.generation_config = CONFIG
    report = export(model, tmp_path, ["saved_model", "tflite", "onnx"], tasks=["generate", "forward"])
    assert len(report.rows) == 6
    for row in report.rows:
        assert row["max_abs_diff"] <= 1e-4
        assert row["identical"] == row["total"] > 5
        assert row["flex_ops"] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_layers": 0}, "`num_layers` must .*Received: num_layers=0"),
        ({"vocabulary_size": 0}, "`vocabulary_size` must .*Received: vocabulary_size=0"),
        ({"hidden_dim": 7.5}, "`hidden_dim` must .*Received: hidden_dim=7.5"),
        ({"cell": "qrnn"}, "`cell` must .*Received: cell='qrnn'"),
        ({"attention": []}, "`attention` must .*Received: attention=\\[\\]"),
        ({"scheduled_sampling": 0.5}, "`scheduled_sampling` must be a ScheduledSampling layer.*Received: .*0.5"),
        ({"guided_alignment": True}, "`guided_alignment` must be a GuidedAlignment layer.*Received: .*True"),
        ({"attention": "additive"}, "`attention` must .*Received: attention='additive'"),
        ({"readout": "relu"}, "`readout` must .*Received: readout='relu'"),
        ({"num_bidirectional_layers": 3}, "`num_bidirectional_layers` must be in 0 to 2. Received: 3"),
        ({"residual_from": 2}, "`residual_from` must be above 2.*Received: residual_from=2"),
        ({"residual_from": 0}, "`residual_from` must .*Received: residual_from=0"),
        (
            {"tokenizer": CharacterTokenizer("abcdefghijklmnopqrst")},
            "`vocabulary_size` must be at least that of the tokenizer, 24. Received: vocabulary_size=23",
        ),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        make(**arguments)


def test_bad_inputs(model):
    with pytest.raises(ValueError, match=r"`source_ids` must .*rank 2.*Received: shape \(7,\)"):
        model({"source_ids": SOURCE[0], "target_ids": TARGET})
    with pytest.raises(ValueError, match=r"`inputs` may hold .*unknown: \['memory_attention_mask'\]"):
        model({"source_ids": SOURCE, "target_ids": TARGET, "memory_attention_mask": None})
