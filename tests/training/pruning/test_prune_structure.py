"""Heads and channels: what they matter, and models without some of them."""

from pathlib import Path

import keras
import numpy as np
import pytest

import keras_attn
from keras_attn.export import export
from keras_attn.layers import GatedFeedForward, MixtureOfExperts, RelativePositionBias
from keras_attn.training import MaskedCrossEntropy
from keras_attn.training.pruning import importance, prune_structure
from keras_attn.training.pruning.units import units_of

FIXTURES = Path(__file__).parents[2] / "fixtures" / "pretrained"
RNG = np.random.default_rng(0)
IDS = RNG.integers(1, 19, (5, 6)).astype("int32")
CLASSES = IDS[:, 0] % 3


def encoder(layers=2, heads=4, **settings):
    settings = {"head": "sequence_classification", "num_classes": 3} | settings
    return keras_attn.EncoderModel(20, layers, 12, heads, None if "feed_forward" in settings else 24, **settings)


def writer(**settings):
    config = keras_attn.GenerationConfig(max_length=4)
    return keras_attn.LanguageModel.llama(20, 2, 12, 6, 24, num_kv_heads=2, generation_config=config, **settings)


def translator(**settings):
    config = keras_attn.GenerationConfig(max_length=4, start_id=1, end_id=2)
    return keras_attn.Transformer(20, 2, 12, 4, 24, num_decoder_layers=1, generation_config=config, **settings)


MODELS = {
    "encoder": (encoder, {"token_ids": IDS}),
    "shared": (lambda: encoder(share_weights=True), {"token_ids": IDS}),
    "options": (
        lambda: encoder(layer_options=[{"window": 2}, {"activation": "tanh"}], attention_options={"sinks": True}),
        {"token_ids": IDS},
    ),
    "grouped": (writer, {"token_ids": IDS}),
    "experts": (lambda: encoder(feed_forward=MixtureOfExperts(3, 24, use_bias=True)), {"token_ids": IDS}),
    "grouped by options": (lambda: encoder(attention_options={"num_kv_heads": 2}), {"token_ids": IDS}),
    "both shared": (lambda: translator(share_weights=True), {"source_ids": IDS, "target_ids": IDS[:, ::-1].copy()}),
    "one shared": (
        lambda: translator(decoder_options={"share_weights": True}),
        {"source_ids": IDS, "target_ids": IDS[:, ::-1].copy()},
    ),
    "other shared": (
        lambda: translator(
            share_weights=True,
            attention_options={"num_kv_heads": 2},
            decoder_options={"share_weights": False, "cross_attention_options": {"num_kv_heads": 2}},
        ),
        {"source_ids": IDS, "target_ids": IDS[:, ::-1].copy()},
    ),
    "both": (translator, {"source_ids": IDS, "target_ids": IDS[:, ::-1].copy()}),
}


def made(name):
    keras.utils.set_random_seed(1)
    model, rng = MODELS[name][0](), np.random.default_rng(1)
    for variable in model.trainable_variables:
        variable.assign(variable + 0.3 * rng.standard_normal(variable.shape))
    return model


def random_scores(model):
    rng = np.random.default_rng(2)
    return {unit.layer.path: rng.random(unit.count).astype("float32") for unit in units_of(model)}


def zeroed(model, kept):
    """Sets the rows of the output projections of units that are not kept to zero."""
    for unit in units_of(model):
        kernel = unit.layer.output_dense.kernel
        value = np.asarray(kernel).copy()
        out = np.setdiff1d(np.arange(unit.count), kept[unit.layer.path])
        # Of experts, the axis before the channels is theirs.
        rows = np.moveaxis(value, -2, 0) if value.ndim == 3 and unit.kind == "channels" else value
        each = rows.shape[0] // unit.count
        for i in out:
            rows[i * each : (i + 1) * each] = 0
        kernel.assign(value)


def largest(scores, small, model):
    """The units of each layer that must be left, from the sizes of the smaller model."""
    pairs = zip(units_of(model), units_of(small), strict=True)
    return {old.layer.path: np.argsort(-scores[old.layer.path], kind="stable")[: new.count] for old, new in pairs}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("heads", "channels"), [(0.5, 0.5), (0.5, 0.0), (0.0, 0.4)])
def test_outputs_are_those_without_the_units(name, heads, channels, tmp_path):
    model, inputs = made(name), MODELS[name][1]
    scores = random_scores(model)
    before = [np.asarray(x) for x in model.weights]
    small = prune_structure(model, scores, heads, channels, channel_multiple=4)
    assert all(map(np.array_equal, before, model.weights))
    assert type(small) is type(model)
    for kind, share in (("heads", heads), ("channels", channels)):
        counts = [[unit.count for unit in units_of(x) if unit.kind == kind] for x in (model, small)]
        off = 8 if kind == "channels" else int("target_ids" in inputs)
        assert sum(counts[1]) == pytest.approx((1 - share) * sum(counts[0]), abs=off)
        assert min(counts[1]) >= 1
    zeroed(model, largest(scores, small, model))
    np.testing.assert_allclose(small(inputs), model(inputs), atol=1e-5)
    small.save(tmp_path / "small.keras")
    np.testing.assert_allclose(keras.saving.load_model(tmp_path / "small.keras")(inputs), small(inputs), atol=1e-6)
    if hasattr(model, "prefill") and heads and channels:
        np.testing.assert_array_equal(small.generate(IDS), model.generate(IDS))


def test_pruning_again_goes_on_from_the_smaller_sizes():
    model = made("encoder")
    small = prune_structure(model, random_scores(model), 0.5, 0.5)
    smaller = prune_structure(small, random_scores(small), 0.25, 0.25)
    counts = [sum(unit.count for unit in units_of(x) if unit.kind == "heads") for x in (model, small, smaller)]
    assert counts == [8, 4, 3]
    assert model.count_params() > small.count_params() > smaller.count_params()


def test_gated_networks_are_copied_with_fewer_channels():
    keras.utils.set_random_seed(0)
    model = encoder(feed_forward=GatedFeedForward(24, activation="silu"))
    scores = random_scores(model)
    small = prune_structure(model, scores, channels=0.5)
    zeroed(model, largest(scores, small, model))
    np.testing.assert_allclose(small(IDS), model(IDS), atol=1e-5)


@pytest.mark.parametrize("name", ["encoder", "experts", "grouped", "both"])
def test_importance_is_the_gradient_of_each_row(name):
    import tensorflow as tf

    model, inputs = made(name), MODELS[name][1]
    labels = CLASSES if name in ("encoder", "experts") else np.roll(IDS, -1, axis=1)
    loss = MaskedCrossEntropy()
    parts = [slice(0, 2), slice(2, 5)]
    batches = [({key: x[rows] for key, x in inputs.items()}, labels[rows]) for rows in parts]
    found = importance(model, batches, loss)
    for unit in units_of(model):
        kernel = unit.layer.output_dense.kernel
        total = np.zeros(unit.count)
        for i in range(len(IDS)):
            with tf.GradientTape() as tape:
                outputs = model({key: x[i : i + 1] for key, x in inputs.items()})
                value = loss.total(labels[i : i + 1], outputs)[0]
            # A factor of a unit's value is one of its rows of the kernel.
            gradient = np.asarray(tape.gradient(value, kernel.value)) * np.asarray(kernel)
            if unit.kind == "channels" and gradient.ndim == 3:
                gradient = gradient.sum(axis=0)
            total += np.abs(gradient.reshape(unit.count, -1).sum(axis=1))
        np.testing.assert_allclose(found[unit.layer.path], total / np.linalg.norm(total), rtol=1e-3, atol=1e-5)


def test_a_smaller_model_is_exported(tmp_path):
    model = made("both")
    small = prune_structure(model, random_scores(model), 0.5, 0.5)
    report = export(small, tmp_path, ["saved_model", "tflite", "onnx"], tasks=["generate"])
    assert all(row["ok"] for row in report.rows)
    assert len(report.rows) == 3


@pytest.mark.parametrize(
    ("make", "settings", "message"),
    [
        (encoder, {"heads": 1.0}, "`heads` must be a share"),
        (encoder, {"channels": -0.1}, "`channels` must be a share"),
        (encoder, {"channel_multiple": 0}, "`channel_multiple`"),
        (lambda: encoder(position=RelativePositionBias(4)), {"heads": 0.5}, "a position with a bias per head"),
        (lambda: encoder(attention_options={"qk_norm": "all_heads"}), {"heads": 0.5}, "qk_norm='all_heads'"),
        (lambda: encoder(feed_forward=keras.layers.Dense(12)), {"channels": 0.5}, "for a model without `FeedForward`"),
        (
            lambda: encoder(attention=keras.layers.MultiHeadAttention(2, 4)),
            {"heads": 0.5},
            "without `MultiHeadAttention`",
        ),
        (
            lambda: translator(decoder_options={"cross_attention_options": {"num_kv_heads": 2}}),
            {"heads": 0.5},
            "other numbers of key/value",
        ),
        (encoder, {"heads": "0.5"}, "`heads` must be a finite number"),
    ],
)
def test_bad_arguments(make, settings, message):
    model = make()
    with pytest.raises(ValueError, match=message):
        prune_structure(model, random_scores(model), **settings)


def test_models_and_scores_that_do_not_fit():
    model = encoder()
    with pytest.raises(ValueError, match=r"`scores` must have 4 numbers for 'encoder/encoder_0/.*Received: none"):
        prune_structure(model, {}, 0.5)
    with pytest.raises(ValueError, match=r"`scores` must have 4 numbers .*Received: shape \(3,\)"):
        prune_structure(model, {unit.layer.path: np.ones(3) for unit in units_of(model)}, 0.5)
    deeper = random_scores(encoder(4))
    with pytest.raises(ValueError, match=r"`scores` must be of this model.*Received: some of 'encoder/encoder_2/"):
        prune_structure(model, deeper, 0.5)
    with pytest.raises(ValueError, match="`model` must have an encoder or decoder"):
        prune_structure(keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]), {}, 0.5)
    with pytest.raises(ValueError, match="`scores` must be a dict"):
        prune_structure(model, None, 0.5)
    with pytest.raises(ValueError, match="`scores` must be finite"):
        prune_structure(model, {path: x * np.nan for path, x in random_scores(model).items()}, 0.5)
    with pytest.raises(ValueError, match="`loss` must have `total`"):
        importance(model, [({"token_ids": IDS}, CLASSES)], "mse")
    groups = encoder(4, share_weights=[0, 0, 1, 1])
    with pytest.raises(ValueError, match=r"`model` must share the weights .*share_weights=\(0, 0, 1, 1\)"):
        prune_structure(groups, random_scores(groups), 0.5)
    with pytest.raises(ValueError, match="`batches` must hold batches"):
        importance(model, [], MaskedCrossEntropy())
    scores = random_scores(model)
    keras_attn.pretrained.enable_lora(model, 2)
    with pytest.raises(ValueError, match="`model` must have merged LoRA"):
        prune_structure(model, scores, 0.5)


def test_no_class_is_taken_for_padding():
    model = keras_attn.EncoderModel(20, 1, 8, 2, 16, head="sequence_classification", num_classes=3)
    batch = {"token_ids": np.array([[4, 5], [6, 7]])}, np.array([0, 0])
    assert all(np.any(scores) for scores in importance(model, [batch], MaskedCrossEntropy()).values())


def test_no_gradient_that_is_not_finite_is_ranked():
    model = encoder()
    model.set_weights([np.full_like(x, np.nan) for x in model.get_weights()])
    with pytest.raises(ValueError, match="`model` must have a finite loss"):
        importance(model, [({"token_ids": IDS}, CLASSES)], MaskedCrossEntropy())


def test_choices_are_rows_of_the_encoder():
    model = encoder(1, head="multiple_choice", num_classes=None)
    ids = RNG.integers(1, 19, (4, 3, 6)).astype("int32")
    labels = np.array([0, 2, 1, 1])
    whole = importance(model, [({"token_ids": ids}, labels)], MaskedCrossEntropy())
    parts = importance(
        model, [({"token_ids": ids[i : i + 1]}, labels[i : i + 1]) for i in range(4)], MaskedCrossEntropy()
    )
    for path, scores in whole.items():
        np.testing.assert_allclose(scores, parts[path], rtol=1e-3, atol=1e-5)


def test_layers_that_lose_nothing_are_not_rounded():
    model = encoder(feed_forward=GatedFeedForward(20))
    scores = random_scores(model)
    small = prune_structure(model, scores, channels=0.01)
    assert [unit.count for unit in units_of(small) if unit.kind == "channels"] == [20, 20]


def test_a_pruned_checkpoint_is_another_model(tmp_path):
    fixture = FIXTURES / "DistilBertForSequenceClassification"
    model = keras_attn.pretrained.from_pretrained(fixture)
    small = prune_structure(model, random_scores(model), 0.5, 0.5, channel_multiple=1)
    with pytest.raises(ValueError, match="`config` must be given"):
        keras_attn.pretrained.save_pretrained(small, tmp_path / "small")
    with pytest.raises(ValueError, match=r"`config` must describe the model.*layer_options"):
        keras_attn.pretrained.save_pretrained(small, tmp_path / "small", model.checkpoint.config)
    assert not (tmp_path / "small").exists()
