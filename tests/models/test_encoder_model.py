import json

import keras
import numpy as np
import pytest
from keras import ops
from model_checks import as_float32, check_mixed_precision, check_round_trips, scattered

from keras_attn import EncoderModel, attention_maps
from keras_attn.export import export
from keras_attn.layers import (
    AttentionPooling,
    EmbeddingHead,
    GatedFeedForward,
    LastTokenPooling,
    MeanPooling,
    RotaryPositionEncoding,
)
from keras_attn.text import CharacterTokenizer
from keras_attn.training import MaskedCrossEntropy

VOCABULARY = 23
IDS = np.array([[5, 6, 7, 8, 9, 10, 11], [12, 13, 14, 15, 16, 17, 18]])
HEADS = {
    "vectors": {"num_layers": 2},
    "sequence": {"head": "sequence_classification", "num_classes": 11},
    "tokens": {"head": "token_classification", "num_classes": 11},
    "masked_lm": {"head": "masked_lm", "num_token_types": 3},
    "replaced": {"head": "replaced_token_detection"},
}


def make(cls=EncoderModel, **kwargs):
    settings = {"num_layers": 1, "hidden_dim": 18, "num_heads": 3, "intermediate_dim": 19}
    keras.utils.set_random_seed(7)
    return scattered(cls(**{"vocabulary_size": VOCABULARY, **settings, **kwargs}))


def call(model, ids=IDS, **inputs):
    return as_float32(model({"token_ids": ids, **inputs}))


@pytest.fixture(scope="module")
def model():
    return make(num_layers=2)


@pytest.mark.parametrize("head", HEADS)
def test_padding_changes_no_real_position(head):
    model = make(**HEADS[head])
    expected = call(model)
    shapes = {"vectors": (2, 7, 18), "sequence": (2, 11), "tokens": (2, 7, 11), "masked_lm": (2, 7, VOCABULARY)}
    shapes["replaced"] = (2, 7)
    assert expected.shape == shapes[head]
    garbage = np.pad(IDS, ((0, 0), (0, 4)), constant_values=21)
    mask = np.broadcast_to(np.arange(11) < 7, (2, 11))
    for padded in (call(model, np.where(mask, garbage, 0)), call(model, garbage, padding_mask=mask)):
        np.testing.assert_allclose(padded if head == "sequence" else padded[:, :7], expected, atol=1e-5)


def test_a_classifier_looks_at_the_first_real_token():
    model = make(**HEADS["sequence"], position=RotaryPositionEncoding())
    padded = np.pad(IDS, ((0, 0), (3, 0)))
    np.testing.assert_allclose(call(model, padded), call(model), atol=1e-4)


def test_a_row_of_padding_only_is_finite():
    for head in HEADS.values():
        assert np.isfinite(call(make(**head), np.zeros_like(IDS))).all()


def test_an_attention_mask_hides_a_token(model):
    mask = np.ones((1, 7, 7), bool)
    mask[:, :, 3] = np.arange(7) == 3
    changed = IDS.copy()
    changed[:, 3] = 4
    outputs = [call(model, ids, attention_mask=mask) for ids in (IDS, changed)]
    np.testing.assert_array_equal(np.abs(outputs[0] - outputs[1]).max(axis=(0, 2)) > 1e-4, np.arange(7) == 3)
    assert (np.abs(call(model) - call(model, changed)).max(axis=(0, 2)) > 1e-4).all()


def test_packed_texts_are_as_each_alone(model):
    segments, positions = np.array([[1, 1, 1, 2, 2, 2, 2]] * 2), np.array([[0, 1, 2, 0, 1, 2, 3]] * 2)
    packed = call(model, segments=segments, positions=positions)
    np.testing.assert_allclose(packed[:, :3], call(model, IDS[:, :3]), atol=1e-5)
    np.testing.assert_allclose(packed[:, 3:], call(model, IDS[:, 3:]), atol=1e-5)


def test_token_types_count_and_are_0_where_absent():
    model = make(num_token_types=3)
    types = np.zeros_like(IDS)
    np.testing.assert_allclose(call(model, token_type_ids=types), call(model), atol=1e-6)
    types[:, 4:] = 2
    assert np.abs(call(model, token_type_ids=types) - call(model)).max() > 1e-2
    np.testing.assert_allclose(model.encode(IDS, token_type_ids=types), call(model, token_type_ids=types), atol=1e-6)


def test_one_table_serves_input_and_masked_tokens():
    model = make(head="masked_lm")
    before, table = call(model), model.embedding.embeddings
    # Token 22 is not in the ids: only its logit may move.
    table.assign(ops.convert_to_numpy(table) + np.eye(VOCABULARY)[22][:, None])
    after = call(model)
    np.testing.assert_array_equal(after[..., :22], before[..., :22])
    assert (after[..., 22] != before[..., 22]).all()


def test_logits_of_chosen_tokens_alone(tmp_path):
    model = make(head="masked_lm")
    positions = np.array([[1, 4, 6], [5, 0, 0]], "int32")
    chosen = np.take_along_axis(call(model), positions[..., None], axis=1)
    np.testing.assert_allclose(call(model, mask_positions=positions), chosen, atol=1e-6)
    inputs = {"token_ids": IDS, "mask_positions": positions}
    labels, loss = np.array([[3, 4, 5], [6, 0, 0]]), MaskedCrossEntropy()
    total, weight = loss.linear_total(labels, model.hidden_states(inputs), model.output_projection())
    assert float(total / weight) == pytest.approx(float(loss(labels, chosen)), rel=1e-5)
    model.save(tmp_path / "model.keras")
    restored = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(call(restored, mask_positions=positions), chosen, atol=1e-6)
    with pytest.raises(ValueError, match=r"Received unknown: \['mask_positions'\]"):
        call(make(), mask_positions=positions)


def test_shared_weights_are_albert():
    model = make(head="masked_lm", embedding_dim=5, share_weights=True, num_layers=3)
    deeper = make(head="masked_lm", embedding_dim=5, share_weights=True, num_layers=4)
    assert model.count_params() == deeper.count_params()
    assert model.embedding.embeddings.shape == (VOCABULARY, 5)
    assert np.abs(call(model) - call(deeper)).max() > 1e-2


@pytest.mark.parametrize("pooling", [MeanPooling, lambda: AttentionPooling(3)])
def test_pooling_is_a_choice(pooling):
    model = make(**HEADS["sequence"], pooling=pooling())
    assert np.abs(call(model) - call(make(**HEADS["sequence"]))).max() > 1e-2
    clone = EncoderModel.from_config(json.loads(json.dumps(model.get_config())))
    clone.set_weights(model.get_weights())
    np.testing.assert_array_equal(call(clone), call(model))


def test_the_dense_layer_of_a_head_has_options():
    bare = {"activation": None, "use_bias": False}
    model = make(head="sequence_classification", num_classes=3, norm_epsilon=1e-3, head_options={**bare, "norm": True})
    x = np.asarray(model.encode(IDS))[:, 0] @ np.asarray(model.get_layer("pooler").kernel)
    x = model.get_layer("classifier")(model.get_layer("pooler_norm")(x))
    np.testing.assert_allclose(call(model), x, atol=1e-5)
    model = make(head="masked_lm", head_options=bare)
    x = model.get_layer("transform_norm")(
        np.asarray(model.encode(IDS)) @ np.asarray(model.get_layer("transform").kernel)
    )
    np.testing.assert_allclose(call(model), model.embedding(x, reverse=True), atol=1e-5)


@pytest.mark.parametrize("end_id", [20, "largest"])
def test_a_text_stops_at_its_first_end_token(end_id):
    head = EmbeddingHead(LastTokenPooling())
    model = make(head=head, norm="pre", end_id=end_id, attention_options={"causal": True})
    ids = np.array([[5, 6, 20, 7, 20, 20, 8], [5, 9, 8, 7, 20, 0, 0]])
    expected = np.concatenate([call(model, ids[:1, :3]), call(model, ids[1:, :5])])
    np.testing.assert_allclose(call(model, ids), expected, atol=1e-6)
    mask = np.array([[True] * 2 + [False] * 5, [True] * 7])
    np.testing.assert_allclose(call(model, ids, padding_mask=mask)[0], call(model, ids[:1, :2])[0], atol=1e-6)


def test_padding_may_count(model):
    seen = make(num_layers=2, mask_padding=False)
    seen.set_weights(model.get_weights())
    padded = np.pad(IDS, ((0, 0), (0, 2)))
    np.testing.assert_allclose(
        call(seen, padded), call(model, padded, padding_mask=np.ones_like(padded, bool)), atol=1e-6
    )
    assert np.abs(call(seen, padded) - call(model, padded)).max() > 1e-2


@pytest.fixture(scope="module")
def choosing():
    return make(head="multiple_choice", num_token_types=2, pooling=MeanPooling())


def test_choices_are_scored_one_by_one(choosing, tmp_path):
    single = make(head="sequence_classification", num_classes=1, num_token_types=2, pooling=MeanPooling())
    single.set_weights(choosing.get_weights())
    ids = np.stack([IDS, IDS[::-1] + 2, np.where(IDS < 9, IDS, 0)], axis=1)
    kinds, mask = ids % 2, ids != 7
    expected = [call(single, ids[:, i], token_type_ids=kinds[:, i], padding_mask=mask[:, i]) for i in range(3)]
    found = call(choosing, ids, token_type_ids=kinds, padding_mask=mask)
    np.testing.assert_allclose(found, np.concatenate(expected, axis=1), atol=1e-5)
    without = [call(single, ids[:, i]) for i in range(3)]
    np.testing.assert_allclose(call(choosing, ids), np.concatenate(without, axis=1), atol=1e-5)
    check_round_trips(choosing, {"token_ids": ids}, {"head": "multiple_choice"}, tmp_path)


def test_choices_are_exported(choosing, tmp_path):
    for row in export(choosing, tmp_path, ["saved_model", "tflite", "onnx"], tasks="forward").rows:
        assert row["max_abs_diff"] <= 1e-4


def test_replaced_tokens_are_detected():
    model = make(head="replaced_token_detection", activation="relu", head_options={"norm": True})
    x = model.get_layer("transform_norm")(model.get_layer("transform")(model.encode(IDS)))
    expected = as_float32(model.get_layer("classifier")(x))
    assert call(model).shape == IDS.shape
    np.testing.assert_allclose(call(model), expected[..., 0], atol=1e-5)


def test_parameters_of_the_paper():
    # Of the 109,482,240 of Hugging Face's BertModel, and a classifier.
    model = EncoderModel.bert_base(30522, head="sequence_classification", num_classes=2)
    assert model.count_params() == 109482240 + 2 * 768 + 2
    block = EncoderModel.bert_large(VOCABULARY, num_layers=1).encoder.blocks[0]
    assert (block.num_heads, block.intermediate_dim, block.self_attention.layer.key_dim) == (16, 4096, 64)


VARIANTS = {
    **HEADS,
    "pre": {"norm": "pre", "embedding_norm": False, "activation": "relu", "position": RotaryPositionEncoding()},
    "distilled": {**HEADS["sequence"], "head_options": {"activation": "relu"}},
    "clip": {"end_id": 20, "head": EmbeddingHead(LastTokenPooling(), 5), "attention_options": {"causal": True}},
    "siglip": {"mask_padding": False},
    "albert": {"num_layers": 2, "embedding_dim": 5, "share_weights": True, "head": "masked_lm", "norm_epsilon": 1e-6},
    "modern": {
        "num_layers": 2,
        "norm": "pre",
        "norm_layer": "rms",
        "feed_forward": GatedFeedForward(17, activation="gelu", use_bias=False),
        "layer_options": [{"window": 3}, {"position": RotaryPositionEncoding(base=50.0)}],
        "scale_embeddings": True,
        "pad_id": 1,
    },
    "text": {"vocabulary_size": 8, "tokenizer": CharacterTokenizer("abc "), **HEADS["tokens"]},
    "mixed": {"dtype": "mixed_bfloat16", "name": "reader", "trainable": False, **HEADS["sequence"]},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_config_and_file_round_trips(variant, tmp_path):
    model = make(**VARIANTS[variant])
    check_round_trips(model, {"token_ids": IDS % model.embedding.input_dim}, VARIANTS[variant], tmp_path)


@pytest.mark.filterwarnings("ignore:.*does not have a `quantize` method")
def test_a_quantised_model_round_trips(tmp_path):
    model = make(head="masked_lm", num_layers=1)
    before = call(model)
    model.quantize("int8")
    expected = call(model)
    assert 0 < np.abs(expected - before).max() < 0.1 * np.abs(before).max()
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(call(keras.saving.load_model(tmp_path / "model.keras")), expected)


@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("head", HEADS)
def test_mixed_precision_has_no_nan(head, dtype):
    models = make(**HEADS[head], dtype=dtype), make(**HEADS[head])
    check_mixed_precision(*models, {"token_ids": np.where(np.arange(7) < [[4], [0]], IDS, 0)}, tolerance=0.06)


def test_fit_learns_to_tell_which_token_is_there():
    keras.utils.set_random_seed(3)
    rng = np.random.default_rng(3)
    ids = rng.integers(3, 11, (320, 5))
    labels = rng.integers(0, 2, 320)
    ids[np.arange(320), rng.integers(0, 5, 320)] = 1 + labels
    model = EncoderModel(11, 1, 16, 2, 32, head="sequence_classification", num_classes=2, dropout=0.0)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-2), loss, jit_compile=False)
    losses = model.fit({"token_ids": ids}, labels, epochs=8, batch_size=32, verbose=0).history["loss"]
    assert losses[-1] < 0.1 < losses[0]


def test_attention_maps_see_no_padding(model):
    ids = np.where(np.arange(7) < [[7], [3]], IDS, 0)
    maps = attention_maps(model, {"token_ids": ids})
    assert [path.split("/")[-3] for path in maps] == ["encoder_0", "encoder_1"]
    pairs = np.repeat((ids != 0)[:, None, None] & (ids != 0)[:, None, :, None], 3, axis=1)
    for scores in maps.values():
        assert (scores[~pairs] == 0).all()
        np.testing.assert_allclose(scores.sum(-1), pairs.any(-1), atol=1e-5)


@pytest.mark.parametrize("head", HEADS)
def test_every_format_agrees(head, tmp_path):
    formats = ["saved_model", "tflite", "onnx"] if head == "vectors" else ["tflite"]
    report = export(make(**HEADS[head]), tmp_path, formats, tasks="forward")
    assert len(report.rows) == len(formats)
    for row in report.rows:
        assert row["max_abs_diff"] <= 1e-4
        assert row["identical"] == row["total"] > 5


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"token_ids": IDS[0]}, r"`token_ids` must .*rank 2.*Received: shape \(7,\)"),
        ({"token_ids": IDS, "token_type_ids": IDS}, r"`inputs` may hold .*unknown: \['token_type_ids'\]"),
        ({"token_ids": IDS, "attention_mask": IDS > 0}, "`attention_mask` must .*rank 3"),
        ({"padding_mask": IDS > 0}, "'token_ids' is not optional"),
    ],
)
def test_bad_inputs(model, inputs, message):
    with pytest.raises(ValueError, match=message):
        model(inputs)


def test_what_an_encoder_cannot_do(model):
    with pytest.raises(ValueError, match="`token_type_ids` must be None without `num_token_types`"):
        model.encode(IDS, token_type_ids=IDS)
    with pytest.raises(ValueError, match=r"`model` must have `prefill` and `decode`\. Received: EncoderModel"):
        model.generate(IDS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_layers": 0}, "`num_layers` must .*Received: num_layers=0"),
        ({"num_heads": 4}, "`num_heads` must divide the 18 .*Received: num_heads=4"),
        ({"head": "regression"}, "`head` must be None, 'seq.* or a dict of layers. Received: head='regression'"),
        ({"head": "token_classification"}, "`num_classes` must .*Received: num_classes=None"),
        ({"num_classes": 3}, "`num_classes` must be None without a classifier. Received: num_classes=3, head=None"),
        ({"end_id": "last"}, "`end_id` must be None, a token id or 'largest'. Received: end_id='last'"),
        ({"head_options": {"bias": True}, "head": "masked_lm"}, "`head_options` may hold .*'bias': True}, head='mask"),
        ({"head_options": {"norm": True}}, "`head_options` may hold .*head=None"),
        ({"pooling": MeanPooling()}, "`pooling` must .*head=None"),
        ({**HEADS["sequence"], "pooling": "mean"}, "`pooling` must .*pooling='mean'"),
        ({"embedding_dim": 0}, "`embedding_dim` must .*Received: embedding_dim=0"),
        ({"num_token_types": -1}, "`num_token_types` must .*Received: num_token_types=-1"),
        ({"position": "rotary"}, "`position` must .*Received: position='rotary'"),
        ({"norm_layer": "batch"}, "`norm_layer` must be .*Received: norm_layer='batch'"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        make(**arguments)
