import gc
import json
import subprocess
import sys
import weakref

import keras
import numpy as np
import pytest
from keras import ops
from model_checks import generated

from keras_attn import GenerationConfig, LanguageModel, Seq2SeqRNN, Transformer
from keras_attn.generation import BeamSearch, MinLength, Sampling, TopK, generate
from keras_attn.layers import (
    LearnedPositionEmbedding,
    PositionEncoding,
    RotaryPositionEncoding,
    SinusoidalPositionEncoding,
)
from keras_attn.ops.target import EAGER, ONNX, TENSORFLOW, XLA, tracing_for
from keras_attn.text import CharacterTokenizer, WordPieceTokenizer

CONFIG = GenerationConfig(max_length=7, end_id=22).resolved()
# Right-padded to lengths 7, 5, 3 and 1.
SOURCE = np.array([[5, 6, 7, 8, 9, 10, 11], [12, 13, 14, 15, 16, 0, 0], [17, 18, 19, 0, 0, 0, 0], [4] + [0] * 6])


def make(**kwargs):
    settings = {"num_layers": 1, "hidden_dim": 15, "num_heads": 3, "intermediate_dim": 19, "tie_output": False}
    keras.utils.set_random_seed(7)
    model = Transformer(**{"vocabulary_size": 23, **settings, **kwargs})
    rng = np.random.default_rng(7)
    model.set_weights([w + 0.1 * rng.standard_normal(w.shape) for w in model.get_weights()])
    # A random model repeats one token for ever, whatever its cache holds, unless a token's output favours another one.
    table = model.target_embedding
    table.reverse_embeddings.assign(ops.convert_to_numpy(table.embeddings)[rng.permutation(table.input_dim)].T)
    return model


def log_probabilities(model, source, target):
    logits = model({"source_ids": source, "target_ids": target})
    return ops.convert_to_numpy(ops.log_softmax(ops.cast(logits, "float32")))


def without_cache(model, source, config):
    """Tokens and scores from the whole model, called once more for each token."""
    batch, config = len(source), config.resolved()
    target = np.full((batch, 1), config.start_id)
    scores, done = np.zeros((batch, config.max_length)), np.zeros(batch, bool)
    for step in range(config.max_length):
        last = log_probabilities(model, source, target)[:, -1]
        token = np.where(done, config.pad_id, last.argmax(-1))
        scores[:, step] = np.where(done, 0, last.max(-1))
        done |= token == config.end_id
        target = np.concatenate([target, token[:, None]], axis=1)
    return target[:, 1:], scores


@pytest.fixture(scope="module")
def model():
    return make(num_layers=2)


@pytest.fixture(scope="module")
def text_model():
    return make(tokenizer=CharacterTokenizer("abcdefghijklmnopqr "), generation_config=GenerationConfig(13))


POSITIONS = {
    "none": PositionEncoding,
    "sinusoidal": SinusoidalPositionEncoding,
    "learned": lambda: LearnedPositionEmbedding(11, keras.initializers.RandomNormal(stddev=0.5, seed=7)),
    "rotary": lambda: RotaryPositionEncoding(base=100.0, rotary_dim=4),
}


@pytest.mark.parametrize(
    ("norm", "position"), [*(("pre", position) for position in POSITIONS), ("post", "sinusoidal"), ("post", "rotary")]
)
def test_a_cache_changes_no_token(norm, position):
    # Layers have caches of their own, whatever their norms and positions are.
    model = make(norm=norm, position=POSITIONS[position](), num_layers=2 if position == "sinusoidal" else 1)
    tokens, scores = without_cache(model, SOURCE, CONFIG)
    assert len(np.unique(tokens)) > 2
    # For TensorFlow, which writes in place.
    np.testing.assert_array_equal(model.generate(SOURCE, config=CONFIG), tokens)
    with tracing_for(EAGER):
        outputs = generated(model, SOURCE, CONFIG)
    np.testing.assert_array_equal(outputs["tokens"], tokens)
    np.testing.assert_allclose(outputs["scores"], scores, atol=1e-5)


def test_all_targets_give_the_same_scores(model):
    scores = []
    for target in (XLA, TENSORFLOW, ONNX):
        with tracing_for(target):
            scores.append(generated(model, SOURCE, CONFIG)["scores"])
    for other in scores[1:]:
        np.testing.assert_allclose(other, scores[0], atol=1e-6)


def test_padded_rows_are_as_each_alone(model):
    tokens = model.generate(SOURCE, config=CONFIG)
    assert len({tuple(row) for row in tokens}) == 4
    for row, source in zip(tokens, SOURCE, strict=True):
        np.testing.assert_array_equal(model.generate(source[None, source != 0], config=CONFIG)[0], row)


def test_rows_end_where_the_end_token_is_likeliest(model):
    free, _ = without_cache(model, SOURCE, CONFIG)
    config = GenerationConfig(max_length=7, end_id=int(free[0, 3]), pad_id=21)
    tokens, scores = without_cache(model, SOURCE, config)
    assert (tokens == 21).any()
    np.testing.assert_array_equal(model.generate(SOURCE, config=config), tokens)
    outputs = generated(model, SOURCE, config)
    np.testing.assert_allclose(outputs["scores"], scores, atol=1e-5)
    np.testing.assert_array_equal(np.asarray(outputs["scores"])[tokens == 21], 0)


class Scripted:
    """A model that says its lines, whatever it hears, and writes down what it heard."""

    output = keras.KerasTensor((None, None, 10))
    has_slots = False

    def __init__(self, lines):
        self.lines = np.array(lines)
        self.heard = []

    def decoder_prompt(self, source_ids, source_mask, start_id):
        return np.full((len(source_ids), 1), start_id, "int32"), np.ones((len(source_ids), 1), "bool")

    def first_decoder_inputs(self, source_ids, source_mask, start_id):
        return np.full((len(source_ids), 1), start_id, "int32"), np.zeros((1, 1), "int32")

    def prefill(self, source_ids, source_mask, *, length, bounded):
        return (), ()

    def decode(self, target_ids, positions, cache, memory):
        self.heard.append(np.asarray(target_ids)[:, 0].tolist())
        # Half of the probability, to be seen in the score.
        chosen = np.eye(10, dtype="float32")[self.lines[:, int(positions[0, 0])]]
        return ops.convert_to_tensor(np.log(9) * chosen[:, None]), cache


def test_the_loop_stops_once_all_rows_have_ended():
    model = Scripted([[5, 6, 3, 8, 9, 9, 9], [4, 3, 7, 8, 9, 9, 9], [4, 5, 6, 3, 3, 9, 9]])
    outputs = generated(model, np.ones((3, 5), "int32"), GenerationConfig(max_length=7, pad_id=1))
    expected = [[5, 6, 3, 1, 1, 1, 1], [4, 3, 1, 1, 1, 1, 1], [4, 5, 6, 3, 1, 1, 1]]
    np.testing.assert_array_equal(outputs["tokens"], expected)
    np.testing.assert_allclose(outputs["scores"], np.log(0.5) * (np.array(expected) != 1), atol=1e-6)
    assert model.heard == [[2, 2, 2], [5, 4, 4], [6, 3, 5], [3, 1, 6]]


def test_the_loop_stops_at_max_length():
    model = Scripted([[5, 6, 7, 8]])
    tokens = generated(model, np.ones((1, 5), "int32"), GenerationConfig(max_length=3))["tokens"]
    np.testing.assert_array_equal(tokens, [[5, 6, 7]])
    assert len(model.heard) == 3


def test_a_source_mask_hides_source_tokens(model):
    mask = SOURCE != 0
    garbage = np.where(mask, SOURCE, 20)
    tokens = np.asarray(generated(model, SOURCE, CONFIG)["tokens"])
    np.testing.assert_array_equal(generated(model, garbage, CONFIG, mask=mask)["tokens"], tokens)
    assert (model.generate(garbage, config=CONFIG) != tokens).any()


def test_one_trace_serves_every_batch_and_length(monkeypatch):
    model = make()
    traces = []
    prefill = model.prefill
    monkeypatch.setattr(model, "prefill", lambda *args, **kwargs: traces.append(1) or prefill(*args, **kwargs))
    for batch, length in ((4, 7), (3, 7), (1, 2), (2, 1)):
        assert model.generate(SOURCE[:batch, :length], max_length=5).shape == (batch, 5)
    assert model.generate(SOURCE.astype("int64"), config=GenerationConfig(max_length=5)).shape == (4, 5)
    tokens = [model.generate(SOURCE, max_length=length) for length in (6, 9, 16)]
    assert [x.shape[1] for x in tokens] == [6, 9, 16]
    np.testing.assert_array_equal(tokens[0], tokens[2][:, :6])
    assert len(traces) == 1
    model.generate(SOURCE, max_length=17)
    assert len(traces) == 2


def test_strings_in_strings_out(text_model):
    texts = ["abc abc", "", "b", "c??q"]
    tokens = text_model.generate(text_model.tokenizer.encode(texts))
    assert tokens.shape == (4, 13)
    strings = text_model.generate(texts)
    assert strings == text_model.tokenizer.decode(tokens)
    assert len(set(strings)) > 1
    assert text_model.generate(tuple(texts), max_length=2) == text_model.tokenizer.decode(tokens[:, :2])


def test_ids_may_be_lists_arrays_or_tensors(model):
    expected = generate(model, SOURCE, max_length=5)
    assert expected.dtype == "int32"
    for ids in (SOURCE.tolist(), SOURCE.astype("uint8"), ops.convert_to_tensor(SOURCE)):
        np.testing.assert_array_equal(generate(model, ids, 5), expected)


def test_which_settings_count(text_model):
    ids = np.array([[5, 6, 7]])
    assert text_model.generate(ids).shape == (1, 13)
    assert text_model.generate(ids, config=GenerationConfig(max_length=5)).shape == (1, 5)
    assert text_model.generate(ids, 3, GenerationConfig(max_length=5)).shape == (1, 3)
    assert make().generate(ids).shape == (1, 64)


@pytest.mark.parametrize(
    ("inputs", "received"),
    [
        ("ab", "Received: a string"),
        ([], r"not empty.*Received: shape \(0,\)"),
        ([["a"]], "Received: shape .*, dtype <U1"),
        (["a", 1], "Received: shape .*, dtype <U"),
        (np.array([4, 5]), r"Received: shape \(2,\)"),
        (np.zeros((0, 3), int), r"not empty.*Received: shape \(0, 3\)"),
        (np.zeros((3, 0), int), r"not empty.*Received: shape \(3, 0\)"),
        (np.ones((1, 2)), r"integer ids.*Received: shape \(1, 2\), dtype float64"),
    ],
)
def test_bad_inputs(text_model, inputs, received):
    with pytest.raises(ValueError, match=f"`inputs` must be a list of strings, or .*{received}"):
        text_model.generate(inputs)


def test_ids_that_the_model_does_not_know(model):
    size = model.output.shape[-1]
    for stray in (size, -1):
        with pytest.raises(ValueError, match=rf"`inputs` must hold ids .* 0 to {size - 1}. Received: .*{stray}"):
            model.generate(np.array([[5, stray]]), max_length=3)


def test_an_empty_prompt():
    continuing = LanguageModel(50, num_layers=1, hidden_dim=16, num_heads=2, intermediate_dim=32)
    with pytest.raises(ValueError, match=r"`inputs` must be prompts of one token or more.* in row 1"):
        continuing.generate(np.array([[5, 6], [0, 0]]), max_length=3)


def test_bad_settings(model):
    with pytest.raises(ValueError, match="carries no tokenizer"):
        model.generate(["ab"])
    with pytest.raises(ValueError, match=r"`config` must be a GenerationConfig.*Received: config=\{'max_length': 3\}"):
        model.generate(SOURCE, config={"max_length": 3})
    with pytest.raises(ValueError, match=r"`max_length` must be a positive integer.*Received: max_length=0"):
        model.generate(SOURCE, max_length=0)


def test_no_more_tokens_than_learned_positions():
    model = make(position=LearnedPositionEmbedding(11))
    assert model.generate(SOURCE, max_length=11).shape == (4, 11)
    # Beams lie side by side, as many as one likes.
    assert model.generate(SOURCE, config=GenerationConfig(11, strategy=BeamSearch(12))).shape == (4, 11)
    with pytest.raises(ValueError, match=r"`max_length`.* at most the 11 positions.*Received: max_length=12"):
        model.generate(SOURCE, max_length=12)
    with pytest.raises(ValueError, match=r"`inputs` must be at most the 11 positions.*Received: shape \(4, 12\)"):
        model.generate(np.pad(SOURCE, ((0, 0), (0, 5))), max_length=3)


def test_generating_keeps_no_model_alive():
    model = make()
    model.generate(SOURCE, max_length=3)
    reference = weakref.ref(model)
    del model
    gc.collect()
    assert reference() is None


def test_new_weights_are_seen():
    model, other = make(), make()
    other.set_weights([w[::-1] for w in model.get_weights()])
    before, expected = model.generate(SOURCE, config=CONFIG), other.generate(SOURCE, config=CONFIG)
    assert (before != expected).any()
    model.set_weights(other.get_weights())
    np.testing.assert_array_equal(model.generate(SOURCE, config=CONFIG), expected)


def test_a_model_changed_by_lora_or_quantisation_is_seen():
    model = make()
    tokens = [model.generate(SOURCE, config=CONFIG)]
    projection = model.decoder.blocks[0].feed_forward.layer.intermediate_dense
    projection.enable_lora(2)
    projection.lora_kernel_b.assign(np.random.default_rng(3).standard_normal((2, 19)))
    tokens.append(model.generate(SOURCE, config=CONFIG))
    np.testing.assert_array_equal(tokens[1], generated(model, SOURCE, CONFIG)["tokens"])
    projection.quantize("int8")
    projection.kernel_scale.assign(projection.kernel_scale * 3)
    tokens.append(model.generate(SOURCE, config=CONFIG))
    np.testing.assert_array_equal(tokens[2], generated(model, SOURCE, CONFIG)["tokens"])
    assert (tokens[0] != tokens[1]).any()
    assert (tokens[1] != tokens[2]).any()


@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(dtype):
    model = make(dtype=dtype, norm="pre")
    outputs = generated(model, SOURCE, CONFIG)
    np.testing.assert_array_equal(model.generate(SOURCE, config=CONFIG), outputs["tokens"])
    np.testing.assert_allclose(
        outputs["scores"][:, 0], generated(make(norm="pre"), SOURCE, CONFIG)["scores"][:, 0], atol=0.1
    )


def test_generation_config_round_trip():
    config = GenerationConfig(max_length=5, start_id=7, end_id=11, pad_id=13)
    written = json.loads(json.dumps(keras.saving.serialize_keras_object(config)))
    assert keras.saving.deserialize_keras_object(written) == config
    assert hash(config) == hash(GenerationConfig(5, 7, 11, 13))


@pytest.mark.parametrize(
    ("name", "value"),
    [("max_length", 0), ("max_length", 2.0), ("start_id", -1), ("end_id", ()), ("pad_id", "0")],
)
def test_generation_config_refuses(name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be a .*integer.*Received: {name}={value!r}"):
        GenerationConfig(**{name: value})


@pytest.mark.parametrize("strategy", [Sampling(3, num_sequences=2), BeamSearch(3, num_sequences=2)])
@pytest.mark.parametrize("cls", [Transformer, Seq2SeqRNN])
def test_one_row_of_known_size(cls, strategy):
    """A batch that is known to be one is no batch of one for all."""
    keras.utils.set_random_seed(7)
    sizes = {"num_layers": 1, "hidden_dim": 16}
    model = cls(23, **sizes, **({"num_heads": 2, "intermediate_dim": 32} if cls is Transformer else {}))
    config = GenerationConfig(5, end_id=22, strategy=strategy)
    np.testing.assert_array_equal(
        generated(model, SOURCE[:1], config)["tokens"], model.generate(SOURCE[:1], config=config)
    )


def test_processors_come_as_a_tuple():
    with pytest.raises(ValueError, match=r"`processors` must be a tuple of LogitProcessor.*MinLength"):
        GenerationConfig(processors=MinLength(2))


def test_alignments_are_refused_before_any_work():
    model = LanguageModel(23, 1, 16, 2, 32)
    with pytest.raises(ValueError, match=r"`return_alignments` must be False.*Received: LanguageModel"):
        model.generate(SOURCE, max_length=4, return_alignments=True)


def test_a_fresh_process_knows_what_a_saved_model_carries(tmp_path):
    tokenizer = WordPieceTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b"])
    config = GenerationConfig(3, end_id=3, strategy=Sampling(1), processors=(TopK(3),))
    sizes = {"num_layers": 1, "hidden_dim": 8, "num_heads": 2, "intermediate_dim": 8}
    LanguageModel(7, **sizes, generation_config=config, tokenizer=tokenizer).save(tmp_path / "model.keras")
    code = "import keras, keras_attn, sys; model = keras.saving.load_model(sys.argv[1]); "
    code += "print(type(model.generation_config.strategy).__name__, model.tokenizer.tokenize(['a b']))"
    command = [sys.executable, "-c", code, str(tmp_path / "model.keras")]
    process = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert process.stdout.strip() == "Sampling [[5, 6]]", process.stderr


def test_texts_of_any_number_continue_under_xla():
    """XLA compiles for four rows, of which the last is repeated."""
    tokenizer = CharacterTokenizer("abc ")
    model = LanguageModel(tokenizer.vocabulary_size, 1, 16, 2, 24, tokenizer=tokenizer)
    texts = ["ab", "c", "abca"]
    compiled = model.generate(texts, max_length=3, jit_compile=True, return_dict=True)
    plain = model.generate(texts, max_length=3, return_dict=True)
    assert compiled["text"] == plain["text"]
    np.testing.assert_array_equal(compiled["tokens"], plain["tokens"])
