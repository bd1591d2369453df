import dataclasses

import keras
import numpy as np
import pytest
from keras import ops
from model_checks import as_float32, check_mixed_precision, check_round_trips, generated, rounding, scattered

from keras_attn import GenerationConfig, LanguageModel, attention_maps
from keras_attn.export import export
from keras_attn.layers import (
    ALiBiPositionBias,
    GatedFeedForward,
    LearnedPositionEmbedding,
    MixtureOfExperts,
    RelativePositionBias,
    RotaryPositionEncoding,
    SinusoidalPositionEncoding,
)
from keras_attn.ops import gelu_tanh
from keras_attn.ops.target import EAGER, tracing_for
from keras_attn.text import CharacterTokenizer
from keras_attn.training import MaskedCrossEntropy

VOCABULARY = 23
IDS = np.array([[5, 6, 7, 8, 9, 10, 11], [12, 13, 14, 15, 16, 17, 18]])
# Right-padded to lengths 7, 5, 3 and 1.
PROMPTS = np.array([[5, 6, 7, 8, 9, 10, 11], [12, 13, 14, 15, 16, 0, 0], [17, 18, 19, 0, 0, 0, 0], [4] + [0] * 6])
CONFIG = GenerationConfig(max_length=5, end_id=22).resolved()


def make(cls=LanguageModel, **kwargs):
    settings = {"num_layers": 1, "hidden_dim": 18, "num_heads": 3, "intermediate_dim": 19}
    keras.utils.set_random_seed(7)
    return scattered(cls(**{"vocabulary_size": VOCABULARY, **settings, **kwargs}))


def logits(model, ids=IDS, **inputs):
    return as_float32(model({"token_ids": ids, **inputs}))


@pytest.fixture(scope="module")
def model():
    return make(num_layers=2)


VARIANTS = {
    "default": {"num_layers": 2},
    "gpt2": {"cls": LanguageModel.gpt2, "max_length": 13},
    "llama": {"cls": LanguageModel.llama, "num_heads": 6, "hidden_dim": 24, "num_kv_heads": 2, "rope_base": 100.0},
    "gemma": {
        "num_layers": 2,
        "norm": "sandwich",
        "norm_layer": "rms",
        "scale_embeddings": True,
        "logit_soft_cap": 5.0,
        "attention_options": {"logit_soft_cap": 3.0},
        "layer_options": [{"window": 3}, {}],
        "activation": gelu_tanh,
    },
    "experts": {
        "num_layers": 2,
        "feed_forward": MixtureOfExperts(5, 17),
        "intermediate_dim": None,
        "layer_options": [{}, {"feed_forward": GatedFeedForward(19)}],
    },
    "parallel": {"parallel": True, "tie_output": False, "output_bias": True, "use_attention_bias": False},
    "two norms": {"parallel": "two_norms", "position": RotaryPositionEncoding(rotary_dim=4, interleaved=True)},
    "alibi": {"position": ALiBiPositionBias(num_heads=3), "norm": "post", "pad_id": 1, "embedding_norm": True},
    "buckets": {"position": RelativePositionBias(num_heads=3, bidirectional=False, num_buckets=4, max_distance=8)},
    "sinusoidal": {"position": SinusoidalPositionEncoding(), "norm": None, "share_weights": True, "num_layers": 2},
    "olmo2": {
        "norm": "res_post",
        "norm_layer": "rms",
        "attention_options": {"qk_norm": "all_heads"},
        "embedding_dim": 11,
    },
    "text": {
        "vocabulary_size": 8,
        "tokenizer": CharacterTokenizer("abc "),
        "generation_config": GenerationConfig(max_length=3),
    },
    "mixed": {"dtype": "mixed_bfloat16", "name": "writer", "trainable": False},
}


def test_parameters_of_the_paper():
    assert LanguageModel.gpt2(50257).count_params() == 124439808


# In millions, from table D.1 of the paper.
GPT3 = {"small": 125, "medium": 356, "large": 760, "xl": 1320, "2.7b": 2650, "6.7b": 6660, "13b": 12850, "175b": 174600}


@pytest.mark.parametrize("size", GPT3)
def test_parameters_of_gpt3(size):
    # Variables have shapes, but their values are never created.
    with keras.StatelessScope(initialize_variables=False):
        count = LanguageModel.gpt3(size).count_params()
    # Else they are created at the end of the next scope.
    keras.utils.clear_session()
    assert abs(count / 1e6 - GPT3[size]) < 0.004 * GPT3[size]


def test_gpt3_alternates_dense_and_banded_layers():
    model = LanguageModel.gpt3("small", 23, 13, window=3, num_layers=4, hidden_dim=18, num_heads=3, intermediate_dim=19)
    assert [block.window for block in model.decoder.blocks] == [None, 3, None, 3]
    assert model.position.max_length == 13
    with pytest.raises(ValueError, match=r"`size` must be one of 'small', .*'175b'. Received: size='ada'"):
        LanguageModel.gpt3("ada")


@pytest.mark.parametrize("kind", ["longrope", "dynamic"])
def test_rotations_by_length_follow_each_prompt_alone(kind):
    divisors = {"short_factor": [1.0, 1.5, 2.0], "long_factor": [3.0, 7.0, 9.0]} if kind == "longrope" else {}
    scaling = {"rope_type": kind, "factor": 5.0, "original_max_position_embeddings": 4, **divisors}
    model = make(position=RotaryPositionEncoding(scaling=scaling), num_layers=2)

    def first_logits(prompts):
        token, position = model.first_decoder_inputs(prompts, None, 0)
        cache, _ = model.prefill(prompts, length=1)
        return as_float32(model.decode(token, position, cache)[0])

    for prompt, expected in zip(PROMPTS, first_logits(PROMPTS), strict=True):
        np.testing.assert_allclose(first_logits(prompt[None, prompt > 0])[0], expected, atol=1e-5)


@pytest.mark.parametrize("variant", ["default", "gpt2", "gemma", "experts", "alibi"])
def test_padding_changes_no_real_position(variant):
    model = make(**VARIANTS[variant])
    expected = logits(model)
    padded = np.pad(IDS, ((0, 0), (0, 4)), constant_values=21)
    mask = np.broadcast_to(np.arange(11) < 7, (2, 11))
    np.testing.assert_allclose(logits(model, padded)[:, :7], expected, atol=1e-5)
    np.testing.assert_allclose(logits(model, padded, padding_mask=mask)[:, :7], expected, atol=1e-5)


def test_padding_before_a_text_needs_its_mask_and_positions():
    model = make(position=LearnedPositionEmbedding(13))
    padded = np.pad(IDS, ((0, 0), (4, 0)), constant_values=21)
    mask, positions = np.broadcast_to(np.arange(11) >= 4, (2, 11)), np.maximum(np.arange(11) - 4, 0)[None].repeat(2, 0)
    given = {"padding_mask": mask, "positions": positions}
    np.testing.assert_allclose(logits(model, padded, **given)[:, 4:], logits(model), atol=1e-5)
    assert np.abs(logits(model, padded, positions=positions)[:, 4:] - logits(model)).max() > 1e-2


@pytest.mark.parametrize("variant", ["default", "gpt2", "experts"])
def test_packed_texts_are_as_each_alone(variant):
    model = make(**VARIANTS[variant])
    segments, positions = np.array([[1, 1, 1, 2, 2, 2, 2]] * 2), np.array([[0, 1, 2, 0, 1, 2, 3]] * 2)
    packed = logits(model, segments=segments, positions=positions)
    np.testing.assert_allclose(packed[:, :3], logits(model, IDS[:, :3]), atol=1e-5)
    np.testing.assert_allclose(packed[:, 3:], logits(model, IDS[:, 3:]), atol=1e-5)


def test_an_attention_mask_adds_to_the_causal_mask(model):
    changed = IDS.copy()
    changed[:, 2] = 4

    def differs(**inputs):
        return np.abs(logits(model, **inputs) - logits(model, changed, **inputs)).max(axis=(0, 2)) > 1e-4

    np.testing.assert_array_equal(differs(), np.arange(7) >= 2)
    mask = np.ones((1, 7, 7), bool)
    mask[:, 4:, 2] = mask[:, 4:, 3] = False
    np.testing.assert_array_equal(differs(attention_mask=mask), [False, False, True, True, False, False, False])


def test_predict_takes_the_same_inputs_as_call(model):
    inputs = {"padding_mask": IDS != 7, "positions": np.arange(7)[None].repeat(2, 0)}
    predicted = model.predict({"token_ids": IDS, **inputs}, verbose=0)
    np.testing.assert_allclose(predicted, logits(model, **inputs), atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_cache_changes_no_token(variant):
    model = make(**VARIANTS[variant])
    config = GenerationConfig(CONFIG.max_length).resolved(model.tokenizer)
    if model.tokenizer is None:
        config = dataclasses.replace(CONFIG, end_id=min(CONFIG.end_id, model.embedding.input_dim - 1))
    prompts = np.where(PROMPTS == 0, model.pad_id, np.maximum(PROMPTS % model.embedding.input_dim, 2))
    tokens = model.generate(prompts, config=config)
    with tracing_for(EAGER):
        outputs = generated(model, ops.convert_to_tensor(prompts, "int32"), config)
    for row, prompt, chosen, scores in zip(tokens, prompts, outputs["tokens"], outputs["scores"], strict=True):
        ids = prompt[prompt != model.pad_id]
        np.testing.assert_array_equal(chosen, row)
        np.testing.assert_array_equal(model.generate(ids[None], config=config)[0], row)
        whole = np.concatenate([ids, row])[None]
        values = logits(model, whole)[0, len(ids) - 1 : -1]
        tolerance = 0.1 if variant == "mixed" else rounding(values)
        log_probabilities = ops.convert_to_numpy(ops.log_softmax(values))
        for step, token in enumerate(row):
            expected = log_probabilities[step]
            np.testing.assert_allclose(scores[step], expected.max(), atol=tolerance)
            assert expected[token] >= expected.max() - tolerance
            if token == config.end_id:
                assert (row[step + 1 :] == config.pad_id).all()
                break


def test_decode_in_pieces_is_call(model):
    filled, memory = model.prefill(IDS[:, :3], length=5)
    pieces = []
    for start, stop in ((2, 5), (5, 7)):
        positions = np.arange(start, stop, dtype="int32")[None]
        piece, filled = model.decode(IDS[:, start:stop], positions, filled, memory)
        pieces.append(piece)
    np.testing.assert_allclose(np.concatenate(pieces, axis=1), logits(model)[:, 2:], atol=1e-5)


def test_a_mask_says_where_a_prompt_ends(model):
    garbage = np.where(PROMPTS == 0, 21, PROMPTS)
    outputs = generated(model, ops.convert_to_tensor(garbage, "int32"), CONFIG, mask=PROMPTS != 0)
    np.testing.assert_array_equal(outputs["tokens"], model.generate(PROMPTS, config=CONFIG))


def test_strings_are_continued():
    model = make(**VARIANTS["text"])
    texts = ["abc", "c"]
    tokens = model.generate(model.tokenizer.encode(texts))
    assert tokens.shape == (2, 3)
    assert model.generate(texts) == model.tokenizer.decode(tokens)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (np.array([[0, 5, 6]]), "`inputs` must be right-padded"),
        (np.array([[5, 0, 6]]), "`inputs` must be right-padded"),
        (np.ones((1, 9), int), "`max_length` .* within the 13 positions .*max_length=5, after a prompt of 9"),
    ],
)
def test_bad_prompts(ids, message):
    with pytest.raises(ValueError, match=message):
        make(position=LearnedPositionEmbedding(13)).generate(ids, config=CONFIG)


@pytest.mark.parametrize("variant", VARIANTS)
def test_config_and_file_round_trips(variant, tmp_path):
    model = make(**VARIANTS[variant])
    assert type(model) is LanguageModel
    given = VARIANTS[variant].keys() - {"cls", "max_length", "rope_base"}
    check_round_trips(model, {"token_ids": IDS % model.embedding.input_dim}, given, tmp_path)


@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("variant", ["gpt2", "llama"])
def test_mixed_precision_has_no_nan(variant, dtype):
    models = make(**VARIANTS[variant], dtype=dtype), make(**VARIANTS[variant])
    check_mixed_precision(*models, {"token_ids": IDS, "padding_mask": np.array([[True] * 7, [False] * 7])})


def test_fit_learns_to_count():
    keras.utils.set_random_seed(3)
    start = np.random.default_rng(3).integers(0, 9, (320, 1))
    ids = (start + np.arange(7)) % 9 + 2
    model = LanguageModel(11, 1, 16, 2, 32)
    model.compile(keras.optimizers.Adam(1e-2), MaskedCrossEntropy(), jit_compile=False)
    model.fit({"token_ids": ids[:, :-1]}, ids[:, 1:], epochs=5, batch_size=32, verbose=0)
    np.testing.assert_array_equal(
        model.generate(np.array([[5, 6, 0], [9, 10, 2]]), config=GenerationConfig(max_length=4, end_id=0)),
        [[7, 8, 9, 10], [3, 4, 5, 6]],
    )


def test_attention_maps_are_causal_and_sum_to_one(model):
    maps = attention_maps(model, {"token_ids": IDS})
    assert [path.split("/")[-3] for path in maps] == ["decoder_0", "decoder_1"]
    for scores in maps.values():
        assert scores.shape == (2, 3, 7, 7)
        assert (scores[:, :, ~np.tri(7, dtype=bool)] == 0).all()
        np.testing.assert_allclose(scores.sum(-1), 1, atol=1e-5)


def test_every_format_and_task_agrees(tmp_path):
    settings = {"generation_config": GenerationConfig(max_length=3), **VARIANTS["llama"]}
    report = export(make(**settings), tmp_path, ["saved_model", "tflite", "onnx"], tasks=["generate", "forward"])
    assert len(report.rows) == 6
    for row in report.rows:
        assert row["max_abs_diff"] <= 1e-4
        assert row["identical"] == row["total"] > 5


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"token_ids": IDS[0]}, r"`token_ids` must .*rank 2.*Received: shape \(7,\)"),
        ({"token_ids": IDS, "padding_mask": IDS[0] > 0}, "`padding_mask` must .*rank 2"),
        ({"token_ids": IDS, "mask": IDS > 0}, r"`inputs` may hold .*unknown: \['mask'\]"),
        ({"padding_mask": IDS > 0}, "'token_ids' is not optional"),
    ],
)
def test_bad_inputs(model, inputs, message):
    with pytest.raises(ValueError, match=message):
        model(inputs)


def test_ids_alone(model):
    np.testing.assert_array_equal(model(IDS), logits(model))
    np.testing.assert_allclose(model.predict(IDS, verbose=0), logits(model), atol=1e-5)
    with pytest.raises(ValueError, match=r"`token_ids` must .*rank 2.*Received: shape \(7,\)"):
        model(IDS[0])


def test_in_another_model(model, tmp_path):
    ids, mask = keras.Input((None,), dtype="int32", name="ids"), keras.Input((None,), dtype="bool", name="mask")
    outputs = [model(ids), model({"token_ids": ids}), model({"token_ids": ids, "padding_mask": mask})]
    assert [output.shape for output in outputs] == [(None, None, VOCABULARY)] * 3
    whole = keras.Model([ids, mask], outputs)
    whole.save(tmp_path / "whole.keras")
    loaded = keras.saving.load_model(tmp_path / "whole.keras")
    expected = [logits(model), logits(model), logits(model, PROMPTS[:2], padding_mask=PROMPTS[:2] > 0)]
    for found in (whole, loaded):
        np.testing.assert_allclose(found([IDS, IDS > 0])[0], expected[0], atol=1e-6)
        np.testing.assert_allclose(found([IDS, IDS > 0])[1], expected[1], atol=1e-6)
        np.testing.assert_allclose(found([PROMPTS[:2], PROMPTS[:2] > 0])[2], expected[2], atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_layers": 0}, "`num_layers` must .*Received: num_layers=0"),
        ({"vocabulary_size": 0}, "`vocabulary_size` must .*Received: vocabulary_size=0"),
        ({"num_heads": 4}, "`num_heads` must divide the 18 .*Received: num_heads=4"),
        ({"intermediate_dim": None}, "`intermediate_dim` must .*Received: intermediate_dim=None"),
        ({"position": "rotary"}, "`position` must .*Received: position='rotary'"),
        ({"output_bias": True, "logit_soft_cap": 3.0}, "`use_bias` must be False"),
        (
            {"tokenizer": CharacterTokenizer("abcdefghijklmnopqrst")},
            "`vocabulary_size` must be at least that of the tokenizer, 24. Received: vocabulary_size=23",
        ),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        make(**arguments)
