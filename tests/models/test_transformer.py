import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from model_checks import rounding

from keras_attn import GenerationConfig, Transformer, attention_maps
from keras_attn.layers import LearnedPositionEmbedding, RotaryPositionEncoding
from keras_attn.ops.attention_recording import recorder
from keras_attn.text import CharacterTokenizer
from keras_attn.training import MaskedCrossEntropy, get_strategy

VOCABULARY = 23
SOURCE = np.array([[5, 6, 7, 8, 9, 10, 11], [12, 13, 14, 15, 16, 17, 18]])
TARGET = np.array([[2, 5, 7, 11, 13], [2, 6, 8, 12, 14]])


def make(**kwargs):
    settings = {"num_layers": 1, "hidden_dim": 15, "num_heads": 3, "intermediate_dim": 19}
    keras.utils.set_random_seed(7)
    model = Transformer(**{"vocabulary_size": VOCABULARY, **settings, **kwargs})
    # At Keras' initial values biases are zero and norms the identity, which would hide a mix-up.
    rng = np.random.default_rng(7)
    model.set_weights([w + 0.3 * rng.standard_normal(w.shape) for w in model.get_weights()])
    return model


def logits(model, source=SOURCE, target=TARGET, **masks):
    outputs = model({"source_ids": source, "target_ids": target, **masks})
    return ops.convert_to_numpy(ops.cast(outputs, "float32"))


def changed(ids, position):
    """`ids` with another token at `position` in every row."""
    ids = ids.copy()
    ids[:, position] = 4
    return ids


def differs(a, b):
    """Which target positions of two logits differ."""
    return np.abs(a - b).max(axis=(0, 2)) > 1e-4


@pytest.fixture(scope="module")
def model():
    return make(num_layers=2)


@pytest.mark.parametrize(("variant", "width", "inner", "millions"), [("base", 512, 2048, 63), ("big", 1024, 4096, 214)])
def test_parameters_of_the_paper(variant, width, inner, millions):
    attention, norm = 4 * width * width, 2 * width
    feed_forward = width * inner + inner + inner * width + width
    encoder = 6 * (attention + feed_forward + 2 * norm)
    decoder = 6 * (2 * attention + feed_forward + 3 * norm)
    count = getattr(Transformer, variant)(37000).count_params()
    assert count == 37000 * width + encoder + decoder
    assert round(count / 1e6) == millions


def test_named_models_take_other_arguments():
    model = Transformer.base(VOCABULARY, num_layers=1, use_attention_bias=True, dropout=0.3)
    assert (len(model.encoder.blocks), model.hidden_dim, model.dropout.rate) == (1, 512, 0.3)
    assert model.encoder.blocks[0].use_attention_bias


@pytest.mark.parametrize("norm", ["pre", "post", "sandwich", None])
def test_padding_changes_no_real_position(norm):
    model = make(norm=norm)
    expected = logits(model)
    padded = {
        "source": np.pad(SOURCE, ((0, 0), (0, 4))),
        "target": np.pad(TARGET, ((0, 0), (0, 2))),
        "target_mask": np.arange(7)[None] < np.array([[5], [5]]),
    }
    np.testing.assert_allclose(logits(model, **padded)[:, :5], expected, atol=rounding(expected))
    garbage = np.pad(SOURCE, ((0, 0), (0, 4)), constant_values=21)
    mask = np.broadcast_to(np.arange(11) < 7, (2, 11))
    np.testing.assert_allclose(logits(model, garbage, source_mask=mask), expected, atol=rounding(expected))


def test_rows_of_unequal_length_are_as_each_alone(model):
    source = SOURCE.copy()
    source[1, 3:] = 0
    np.testing.assert_allclose(logits(model, source)[1:], logits(model, SOURCE[1:, :3], TARGET[1:]), atol=1e-5)


def test_a_source_of_padding_only_gives_finite_logits_and_gradients(model):
    inputs = {"source_ids": np.zeros_like(SOURCE), "target_ids": TARGET}
    with tf.GradientTape() as tape:
        loss = MaskedCrossEntropy()(TARGET, model(inputs))
    gradients = tape.gradient(loss, [v.value for v in model.trainable_variables])
    assert np.isfinite(loss)
    assert all(np.isfinite(tf.convert_to_tensor(g)).all() for g in gradients)


MASKS = {
    "source_mask": (2, 7),
    "target_mask": (2, 5),
    "source_attention_mask": (2, 7, 7),
    "target_attention_mask": (2, 5, 5),
    "memory_attention_mask": (2, 5, 7),
}


@pytest.mark.parametrize("name", MASKS)
def test_optional_inputs_may_be_absent_or_none_or_all_true(model, name):
    expected = logits(model)
    np.testing.assert_array_equal(logits(model, **{name: None}), expected)
    np.testing.assert_allclose(logits(model, **{name: np.ones(MASKS[name], bool)}), expected, atol=1e-5)


def test_all_optional_inputs_at_once(model):
    masks = {name: np.ones(shape, bool) for name, shape in MASKS.items()}
    np.testing.assert_allclose(logits(model, **masks), logits(model), atol=1e-5)


@pytest.mark.parametrize("names", [(), ("memory_attention_mask", "source_mask"), tuple(MASKS)])
def test_predict_takes_the_same_inputs_as_call(model, names):
    masks = {name: np.arange(np.prod(MASKS[name])).reshape(MASKS[name]) % 3 > 0 for name in names}
    predicted = model.predict({"source_ids": SOURCE, "target_ids": TARGET, **masks}, verbose=0)
    np.testing.assert_allclose(predicted, logits(model, **masks), atol=1e-5)


def test_source_mask_hides_source_tokens(model):
    mask = np.broadcast_to(np.arange(7) != 3, (2, 7))
    masked = [logits(model, source, source_mask=mask) for source in (SOURCE, changed(SOURCE, 3))]
    np.testing.assert_allclose(*masked, atol=1e-5)
    assert differs(logits(model), logits(model, changed(SOURCE, 3))).all()


def test_source_and_memory_attention_masks_hide_a_source_token_together(model):
    source_mask = np.ones((1, 7, 7), bool)
    source_mask[:, :, 3] = np.arange(7) == 3
    memory_mask = np.ones((1, 5, 7), bool)
    memory_mask[:, :, 3] = False
    masks = {"source_attention_mask": source_mask, "memory_attention_mask": memory_mask}
    outputs = [logits(model, source, **masks) for source in (SOURCE, changed(SOURCE, 3))]
    np.testing.assert_allclose(*outputs, atol=1e-5)
    for name, mask in masks.items():
        assert differs(*(logits(model, source, **{name: mask}) for source in (SOURCE, changed(SOURCE, 3)))).all()


def test_memory_attention_mask_acts_on_each_target_position(model):
    mask = np.ones((2, 5, 7), bool)
    mask[:, :2] = False
    outputs = [logits(model, source, memory_attention_mask=mask) for source in (SOURCE, SOURCE[:, ::-1])]
    np.testing.assert_array_equal(differs(*outputs), [False, False, True, True, True])


def test_target_attention_mask_adds_to_the_causal_mask(model):
    outputs = [logits(model, target=target) for target in (TARGET, changed(TARGET, 2))]
    np.testing.assert_array_equal(differs(*outputs), [False, False, True, True, True])
    mask = np.ones((1, 5, 5), bool)
    mask[:, 3:, 2] = False
    outputs = [logits(model, target=target, target_attention_mask=mask) for target in (TARGET, changed(TARGET, 2))]
    np.testing.assert_array_equal(differs(*outputs), [False, False, True, False, False])


def test_target_mask_hides_target_tokens(model):
    mask = np.broadcast_to(np.arange(5) != 2, (2, 5))
    outputs = [logits(model, target=target, target_mask=mask) for target in (TARGET, changed(TARGET, 2))]
    np.testing.assert_array_equal(differs(*outputs)[[0, 1, 3, 4]], False)


def test_decode_in_pieces_is_call(model):
    cache, memory = model.prefill(SOURCE, length=5)
    pieces = []
    for start, stop in ((0, 3), (3, 4), (4, 5)):
        positions = np.arange(start, stop, dtype="int32")[None]
        piece, cache = model.decode(TARGET[:, start:stop], positions, cache, memory)
        pieces.append(piece)
    np.testing.assert_allclose(np.concatenate(pieces, axis=1), logits(model), atol=1e-5)


VARIANTS = {
    "post": {"num_layers": 2},
    "pre": {"norm": "pre", "activation": "gelu", "use_attention_bias": False, "scale_embeddings": False},
    "source vocabulary": {"source_vocabulary_size": 29, "norm": "sandwich", "norm_epsilon": 1e-3, "pad_id": 1},
    "untied": {"tie_output": False, "dropout": 0.0, "attention_dropout": 0.2, "activation_dropout": 0.3},
    "rotary": {"position": RotaryPositionEncoding(base=100.0, rotary_dim=4)},
    "learned": {"position": LearnedPositionEmbedding(11), "mechanism": "dense"},
    "bart": {"embedding_norm": True, "output_bias": True, "norm_epsilon": 1e-5, "num_decoder_layers": 2},
    "text": {
        "vocabulary_size": 8,
        "tokenizer": CharacterTokenizer("abc "),
        "generation_config": GenerationConfig(max_length=3),
    },
    "mixed": {"dtype": "mixed_bfloat16", "name": "translator"},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_config_and_file_round_trips(variant, tmp_path):
    model = make(**VARIANTS[variant])
    inputs = (SOURCE % 8, TARGET % 8) if variant == "text" else (SOURCE, TARGET)
    expected = logits(model, *inputs)
    config = json.loads(json.dumps(model.get_config()))
    assert VARIANTS[variant].keys() <= config.keys()

    rebuilt = Transformer.from_config(config)
    rebuilt.set_weights(model.get_weights())
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for copy in (rebuilt, loaded):
        assert type(copy) is Transformer
        assert json.loads(json.dumps(copy.get_config())) == config
        assert (copy.tokenizer, copy.generation_config) == (model.tokenizer, model.generation_config)
        np.testing.assert_array_equal(logits(copy, *inputs), expected)


def test_the_config_holds_every_argument_as_given():
    given = {"hidden_dim": 15, "num_heads": 3, "source_vocabulary_size": 29, "tie_output": False, "norm": "pre"}
    given |= {"num_layers": 1, "intermediate_dim": 19, "dropout": 0.2, "attention_dropout": 0.3, "pad_id": 5}
    given |= {"activation_dropout": 0.4, "activation": "gelu", "norm_epsilon": 1e-4, "use_attention_bias": False}
    given |= {"scale_embeddings": False, "mechanism": "dense", "name": "translator", "trainable": False}
    config = Transformer(VOCABULARY, **given).get_config()
    assert {name: config[name] for name in given} == given


@pytest.mark.filterwarnings("ignore:.*does not have a `quantize` method")
def test_a_quantised_model_round_trips(tmp_path):
    model = make()
    before = logits(model)
    model.quantize("int8")
    expected = logits(model)
    assert 0 < np.abs(expected - before).max() < 0.1 * np.abs(before).max()
    # The second file is that of a model that was quantised from the start.
    for _ in range(2):
        model.save(tmp_path / "model.keras")
        model = keras.saving.load_model(tmp_path / "model.keras")
        np.testing.assert_array_equal(logits(model), expected)
    assert model.decoder.blocks[0].cross_attention.layer.query_dense.kernel.dtype == "int8"


def test_one_table_serves_source_target_and_output(tmp_path):
    make(norm="pre").save(tmp_path / "model.keras")
    model = keras.saving.load_model(tmp_path / "model.keras")
    assert [w.shape for w in model.weights].count((VOCABULARY, 15)) == 1
    memory, before = model.encode(SOURCE), logits(model)
    table = model.target_embedding.embeddings
    # Token 22 is in neither source nor target: only its logit may move.
    table.assign(ops.convert_to_numpy(table) + np.eye(VOCABULARY)[22][:, None])
    np.testing.assert_array_equal(model.encode(SOURCE), memory)
    after = logits(model)
    np.testing.assert_array_equal(after[..., :22], before[..., :22])
    assert (after[..., 22] != before[..., 22]).all()
    table.assign(ops.convert_to_numpy(table) + np.eye(VOCABULARY)[5][:, None] * np.arange(15))
    assert not np.allclose(model.encode(SOURCE)[0], memory[0])
    np.testing.assert_array_equal(model.encode(SOURCE)[1], memory[1])


def test_separate_tables_are_separate():
    model = make(source_vocabulary_size=29, tie_output=False)
    shapes = [tuple(w.shape) for w in model.weights]
    assert shapes.count((29, 15)) == shapes.count((VOCABULARY, 15)) == shapes.count((15, VOCABULARY)) == 1
    assert logits(model, SOURCE + 10).shape == (2, 5, VOCABULARY)


@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("norm", ["pre", "post"])
def test_mixed_precision_has_no_nan(dtype, norm):
    model = make(dtype=dtype, norm=norm)
    source = SOURCE.copy()
    source[0, 4:] = 0
    source[1] = 0
    inputs = {"source_ids": source, "target_ids": TARGET, "target_mask": np.array([[True] * 5, [False] * 5])}
    with tf.GradientTape() as tape:
        outputs = model(inputs)
        loss = MaskedCrossEntropy()(TARGET, outputs)
    assert keras.backend.standardize_dtype(outputs.dtype) == dtype.removeprefix("mixed_")
    assert {keras.backend.standardize_dtype(v.dtype) for v in model.trainable_variables} == {"float32"}
    gradients = tape.gradient(loss, [v.value for v in model.trainable_variables])
    assert np.isfinite(ops.convert_to_numpy(ops.cast(outputs, "float32"))).all()
    assert all(np.isfinite(tf.convert_to_tensor(g)).all() for g in gradients)
    single = make(norm=norm)
    np.testing.assert_allclose(logits(model), logits(single), atol=0.05 * np.abs(logits(single)).max())


@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16", None])
def test_loss_is_scaled_for_float16_only(dtype):
    model = make(dtype=dtype)
    model.compile("adam", MaskedCrossEntropy())
    scaled = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert scaled == (dtype == "mixed_float16")


def test_fit_under_xla_is_fit():
    inputs = {"source_ids": SOURCE, "target_ids": TARGET[:, :-1]}
    losses = []
    for jit_compile in (False, True):
        model = make(dropout=0.0)
        model.compile(keras.optimizers.SGD(0.1), MaskedCrossEntropy(0.1), jit_compile=jit_compile)
        losses.append(model.fit(inputs, TARGET[:, 1:], epochs=4, batch_size=2, verbose=0).history["loss"])
    np.testing.assert_allclose(*losses, rtol=1e-4)
    assert losses[0][-1] < losses[0][0]


def test_fit_under_a_strategy_learns_to_copy():
    keras.utils.set_random_seed(3)
    rng = np.random.default_rng(3)
    words = rng.integers(4, 11, (320, 3))
    inputs = {"source_ids": words, "target_ids": np.pad(words[:, :-1], ((0, 0), (1, 0)), constant_values=2)}
    with get_strategy().scope():
        model = Transformer(11, 1, 16, 2, 32, norm="pre", dropout=0.0)
        model.compile(keras.optimizers.Adam(1e-2), MaskedCrossEntropy(), jit_compile=False)
    losses = model.fit(inputs, words, epochs=12, batch_size=32, verbose=0).history["loss"]
    assert losses[0] > 1.5
    assert losses[-1] < 0.5


def test_attention_maps_are_all_there_and_sum_to_one(model):
    source = SOURCE.copy()
    source[1, 3:] = 0
    maps = attention_maps(model, {"source_ids": source, "target_ids": TARGET})
    assert [path.split("/")[-3:] for path in maps] == [
        [block, attention, "attention"]
        for block, attention in [
            *(("encoder_0", "self_attention"), ("encoder_1", "self_attention")),
            *(("decoder_0", "self_attention"), ("decoder_0", "cross_attention")),
            *(("decoder_1", "self_attention"), ("decoder_1", "cross_attention")),
        ]
    ]
    for path, scores in maps.items():
        if "encoder" in path:
            allowed = (source != 0)[:, :, None] & (source != 0)[:, None]
        elif "self_attention" in path:
            allowed = np.broadcast_to(np.tri(5, dtype=bool), (2, 5, 5))
        else:
            allowed = np.broadcast_to((source != 0)[:, None], (2, 5, 7))
        allowed = np.repeat(allowed[:, None], 3, axis=1)
        assert scores.shape == allowed.shape
        assert (scores[~allowed] == 0).all()
        assert (scores[allowed] > 0).all()
        np.testing.assert_allclose(scores.sum(-1), allowed.any(-1), atol=1e-5)


def test_attention_maps_change_nothing(model):
    before, config, weights = logits(model), model.get_config(), model.get_weights()
    attention_maps(model, {"source_ids": SOURCE, "target_ids": TARGET})
    assert recorder() is None
    with pytest.raises(ValueError, match="source_ids"):
        attention_maps(model, {"source_ids": SOURCE[0], "target_ids": TARGET})
    assert recorder() is None
    np.testing.assert_array_equal(logits(model), before)
    assert model.get_config() == config
    for a, b in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"source_ids": SOURCE[0], "target_ids": TARGET}, r"`source_ids` must .*rank 2.*Received: shape \(7,\)"),
        ({"source_ids": SOURCE, "target_ids": TARGET.tolist()}, r"`target_ids` must .*rank 2.*Received: list"),
        ({"source_ids": SOURCE, "target_ids": TARGET, "source_mask": SOURCE[0] > 0}, "`source_mask` must .*rank 2"),
        ({"source_ids": SOURCE, "target_ids": TARGET, "mask": SOURCE > 0}, r"`inputs` may hold .*unknown: \['mask'\]"),
        ({"source_ids": SOURCE}, "'target_ids' is not optional"),
    ],
)
def test_bad_inputs(model, inputs, message):
    with pytest.raises(ValueError, match=message):
        model(inputs)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_layers": 0}, "`num_layers` must .*Received: num_layers=0"),
        ({"vocabulary_size": 0}, "`vocabulary_size` must .*Received: vocabulary_size=0"),
        ({"hidden_dim": 7.5}, "`hidden_dim` must .*Received: hidden_dim=7.5"),
        ({"num_heads": 0}, "`num_heads` must .*Received: num_heads=0"),
        ({"num_heads": 4}, "`num_heads` must divide the 15 .*Received: num_heads=4"),
        ({"intermediate_dim": -1}, "`intermediate_dim` must .*Received: intermediate_dim=-1"),
        ({"norm": "last"}, "`norm` must .*Received: norm='last'"),
        ({"mechanism": "magic"}, "`mechanism` must .*Received: mechanism='magic'"),
        ({"position": "rotary"}, "`position` must .*Received: position='rotary'"),
        (
            {"tokenizer": CharacterTokenizer("abcdefghijklmnopqrst")},
            "`vocabulary_size` must be at least that of the tokenizer, 24. Received: vocabulary_size=23",
        ),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        make(**arguments)


def test_a_fresh_process_gives_the_same_logits(tmp_path):
    model = make(
        norm="pre", position=RotaryPositionEncoding(rotary_dim=4), tokenizer=CharacterTokenizer(map(chr, range(65, 84)))
    )
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "source.npy", SOURCE)
    np.save(tmp_path / "target.npy", TARGET)
    script = """
import keras, keras_attn
from numpy import load, save
model = keras.saving.load_model("model.keras")
save("logits.npy", model({"source_ids": load("source.npy"), "target_ids": load("target.npy")}))
"""
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, check=True)
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), logits(model), atol=1e-6)


def test_layers_of_the_shorter_stack_take_the_first_options():
    options = [{"activation": "tanh"}, {"activation": "relu"}]
    for encoder, decoder in ((2, 1), (1, 2)):
        model = make(num_layers=encoder, num_decoder_layers=decoder, layer_options=options)
        for stack, count in ((model.encoder, encoder), (model.decoder, decoder)):
            kinds = [block.get_config()["activation"] for block in stack.blocks]
            assert kinds == ["tanh", "relu"][:count]
        assert logits(Transformer.from_config(model.get_config())).shape == (2, 5, VOCABULARY)
    with pytest.raises(ValueError, match="`layer_options` must have at most an entry for each of 1 layers"):
        make(layer_options=options)
