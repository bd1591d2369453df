"""Models whose inputs are features, and heads that are layers, of public names alone."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_attn import EncoderModel, GenerationConfig, LanguageModel, Transformer
from keras_attn.generation import (
    BeamSearch,
    ClassifierFreeGuidance,
    ContrastiveSearch,
    EncoderRepetitionPenalty,
    Greedy,
    Sampling,
    SpeculativeDecoding,
    score,
    stream,
)
from keras_attn.layers import (
    AudioFrontEnd,
    ClassificationHead,
    LearnedPositionEmbedding,
    MeanPooling,
    PatchEmbedding,
)
from keras_attn.text import CharacterTokenizer

SIZES = {"num_layers": 1, "hidden_dim": 16, "num_heads": 2, "intermediate_dim": 24}
FRAMES = {"source_features": keras.Input((None, 5))}
IDS = np.array([[5, 6, 7, 8, 0, 0], [9, 10, 11, 12, 13, 14]])


def scattered(model):
    """Weights of some size, so that outputs differ."""
    rng = np.random.default_rng(3)
    model.set_weights([rng.normal(size=w.shape) * 0.4 for w in model.get_weights()])
    return model


@pytest.fixture(scope="module")
def speech():
    return scattered(Transformer(30, **SIZES, embeddings=AudioFrontEnd(16), inputs=FRAMES))


@pytest.fixture
def frames():
    features = np.random.default_rng(0).normal(size=(2, 9, 5)).astype("float32")
    mask = np.arange(9) < np.array([[9], [5]])
    return {"source_features": features, "source_mask": mask}


def call(model, frames, targets):
    return ops.convert_to_numpy(model({**frames, "target_ids": targets}))


def test_padded_frames_have_no_say(speech, frames):
    targets = np.array([[2, 5, 6], [2, 7, 8]])
    whole = call(speech, frames, targets)
    other = {**frames, "source_features": np.where(frames["source_mask"][..., None], frames["source_features"], 9)}
    np.testing.assert_array_equal(call(speech, other, targets), whole)
    alone = call(speech, {"source_features": frames["source_features"][1:, :5]}, targets[1:])
    np.testing.assert_allclose(alone, whole[1:], atol=3e-6)
    unmasked = call(speech, {"source_features": other["source_features"]}, targets)
    assert np.abs(unmasked - whole)[1].max() > 0.01


@pytest.mark.parametrize(
    "strategy",
    [Greedy(), BeamSearch(3), BeamSearch(3, num_sequences=2), ContrastiveSearch(), Sampling(4, num_sequences=2)],
    ids=str,
)
def test_a_row_is_generated_independently_of_the_batch(speech, frames, strategy):
    config = GenerationConfig(5, strategy=strategy)
    rows = speech.generate(frames, config=config)
    alone = speech.generate(frames["source_features"][1:, :5], config=config)
    np.testing.assert_array_equal(rows[1:], alone)


def test_greedy_tokens_are_those_of_the_whole_model(speech, frames):
    tokens = np.array([[2], [2]])
    for _ in range(5):
        logits = call(speech, frames, tokens)
        tokens = np.concatenate([tokens, logits[:, -1:].argmax(axis=-1)], axis=1)
    # Nothing ends a row before its length.
    config = GenerationConfig(5, end_id=29)
    np.testing.assert_array_equal(speech.generate(frames, config=config), tokens[:, 1:])
    np.testing.assert_array_equal(speech.generate(frames, config=config, jit_compile=True), tokens[:, 1:])
    pieces = list(stream(speech, frames, config=config, every=2))
    np.testing.assert_array_equal(np.concatenate(pieces, axis=1), tokens[:, 1:])
    made = speech.generate(frames, config=config, return_dict=True, return_alignments=True)
    np.testing.assert_allclose(score(speech, frames, tokens[:, 1:], config)["scores"], made["scores"], atol=1e-5)
    # One frame in two, and nothing at padding.
    assert made["alignments"].shape == (2, 5, 5)
    assert np.all(made["alignments"][1, :, 3:] == 0)


def test_different_features_draw_differently(speech, frames):
    config = GenerationConfig(8, strategy=Sampling(1), end_id=29)
    features = np.repeat(frames["source_features"][:1], 2, axis=0)
    features[1, 0, 0] += 0.1
    first, second = speech.generate(features, config=config)
    assert np.any(first != second)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (np.zeros((2, 9, 4), "float32"), r"'source_features', float32 of shape \(None, None, 5\)"),
        ({"frames": np.zeros((2, 9, 5))}, r"a dict of \['source_features', 'source_mask'\].*'frames'"),
        (["a text"], "'source_features', float32"),
        ({"source_features": np.zeros((2, 9, 5)), "source_mask": np.ones((2, 9), int)}, "a bool 'source_mask'"),
        ({"source_features": np.zeros((2, 9, 5)), "source_mask": np.ones((2, 4), bool)}, r"of shape \(2, 9\)"),
    ],
)
def test_prompts_that_do_not_fit(speech, inputs, message):
    with pytest.raises(ValueError, match=message):
        speech.generate(inputs, max_length=3)


@pytest.mark.parametrize(
    "settings",
    [
        {"processors": (EncoderRepetitionPenalty(2.0),)},
        {"strategy": SpeculativeDecoding()},
        {"strategy": ClassifierFreeGuidance(2.0, unconditional_ids=(3,))},
        {"strategy": BeamSearch(2, coverage_penalty=0.5)},
    ],
    ids=lambda settings: type(next(iter(settings.values()))).__name__,
)
def test_settings_that_read_the_ids_of_a_prompt_are_refused(speech, frames, settings):
    with pytest.raises(ValueError, match=r"`config` must do without .* for a model whose prompts are not token ids"):
        speech.generate(frames, config=GenerationConfig(4, **settings))


def test_a_dict_of_the_only_input_is_taken():
    model = LanguageModel(30, **SIZES)
    by_name = model.generate({"source_ids": IDS[1:]}, max_length=3)
    np.testing.assert_array_equal(by_name, model.generate(IDS[1:], max_length=3))
    with pytest.raises(ValueError, match="`inputs` must be a dict of 'source_ids' alone"):
        model.generate({"input_ids": IDS}, max_length=3)


def test_positions_of_the_encoder_count_vectors_and_not_frames(frames):
    position = LearnedPositionEmbedding(4)
    model = Transformer(30, **SIZES, embeddings=AudioFrontEnd(16), inputs=FRAMES, position=position)
    model.generate(frames["source_features"][:, :8], max_length=3)
    with pytest.raises(ValueError, match="at most the 4 positions of the encoder"):
        model.generate(frames, max_length=3)


def test_encoder_and_decoder_of_unequal_depth_and_norm(tmp_path):
    model = Transformer(30, **{**SIZES, "num_layers": 3}, num_decoder_layers=1, decoder_options={"norm": "pre"})
    assert len(model.encoder.blocks) == 3
    assert len(model.decoder.blocks) == 1
    assert (model.encoder.final_norm is None, model.decoder.final_norm is None) == (True, False)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    inputs = {"source_ids": IDS, "target_ids": IDS[:, :3]}
    np.testing.assert_array_equal(loaded(inputs), model(inputs))
    norms = {"self_attention": "pre", "cross_attention": "sandwich", "feed_forward": "post"}
    mixed = Transformer(30, **SIZES, norm=norms)
    assert mixed.decoder.blocks[0].cross_attention.norm == "sandwich"
    assert mixed.encoder.blocks[0].feed_forward.norm == "post"
    deep = Transformer(30, **{**SIZES, "num_layers": 2}, num_decoder_layers=4, norm="deepnorm")
    np.testing.assert_allclose(deep.encoder.blocks[0].init_gain, 0.87 * (2**4 * 4) ** -0.0625)
    np.testing.assert_allclose(deep.decoder.blocks[0].init_gain, (12 * 4) ** -0.25)


@pytest.mark.parametrize(
    "settings",
    [
        {"embeddings": AudioFrontEnd(16), "inputs": FRAMES},
        {
            "embeddings": keras.Sequential([keras.Input((None, 5)), keras.layers.Dense(16)]),
            "inputs": {"source_features": {"shape": [None, 5], "dtype": "float32"}},
        },
    ],
    ids=["front_end", "sequential"],
)
def test_saved_models_are_the_same(settings, frames, tmp_path):
    model = Transformer(30, **SIZES, **settings)
    targets = np.array([[2, 5, 6], [2, 7, 8]])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(call(loaded, frames, targets), call(model, frames, targets))


def test_several_features_of_a_functional_model():
    audio, video = keras.Input((None, 5)), keras.Input((None, 3))
    vectors = keras.layers.Dense(16)(keras.layers.Concatenate()([audio, video]))
    embeddings = keras.Model({"audio": audio, "video": video}, vectors)
    model = EncoderModel(None, **SIZES, embeddings=embeddings)
    x = {"audio": np.ones((2, 4, 5), "float32"), "video": np.ones((2, 4, 3), "float32")}
    assert tuple(model(x).shape) == (2, 4, 16)


@pytest.mark.parametrize("factor", [None, 4])
def test_a_language_model_embeds_ids_with_a_layer(factor):
    embeddings = keras.layers.Embedding(30, 16, name="embedding")
    if factor is not None:
        embeddings = keras.Sequential([keras.layers.Embedding(30, factor), keras.layers.Dense(16)])
    model = LanguageModel(30, **SIZES, embeddings=embeddings)
    tokens = IDS[1:, :3]
    for _ in range(4):
        tokens = np.concatenate([tokens, ops.convert_to_numpy(model(tokens))[:, -1:].argmax(axis=-1)], axis=1)
    config = GenerationConfig(4, end_id=29)
    np.testing.assert_array_equal(model.generate(IDS[1:, :3], config=config), tokens[:, 3:])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EncoderModel(None, **SIZES), "`vocabulary_size` must be .* unless `embeddings` is given"),
        (lambda: EncoderModel(9, **SIZES, embeddings=AudioFrontEnd(16), inputs=FRAMES), "without `vocabulary_size`"),
        (lambda: EncoderModel(None, **SIZES, embeddings=AudioFrontEnd(16)), "`embeddings` must come with `inputs`"),
        (lambda: EncoderModel(9, **SIZES, inputs=FRAMES), "`embeddings` must come with `inputs`"),
        (lambda: EncoderModel(None, **SIZES, embeddings=len, inputs=FRAMES), "`embeddings` must be a Keras layer"),
        (
            lambda: EncoderModel(None, **SIZES, embeddings=AudioFrontEnd(16), inputs={"x": (None, 5)}),
            "`inputs` must hold a `keras.Input`",
        ),
        (
            lambda: EncoderModel(None, **SIZES, embeddings=AudioFrontEnd(16), inputs={"positions": FRAMES}),
            "`inputs` must hold a `keras.Input`",
        ),
        (
            lambda: EncoderModel(
                None, **SIZES, embeddings=AudioFrontEnd(16), inputs={"positions": keras.Input((None, 5))}
            ),
            "`inputs` must have names that are identifiers",
        ),
        (
            lambda: EncoderModel(None, **SIZES, embeddings=AudioFrontEnd(12), inputs=FRAMES),
            r"`embeddings` must return vectors of hidden_dim=16.*12\)",
        ),
        (
            lambda: Transformer(9, **SIZES, embeddings=AudioFrontEnd(12), inputs=FRAMES),
            "`embeddings` must return vectors of hidden_dim=16",
        ),
        (
            lambda: LanguageModel(9, **SIZES, embeddings=keras.layers.Embedding(9, 12)),
            "`embeddings` must return vectors of hidden_dim=16",
        ),
        (lambda: Transformer(9, **SIZES, num_decoder_layers=0), "`num_decoder_layers`"),
        (lambda: Transformer(9, **SIZES, decoder_options=3), "`decoder_options` must be a dict"),
        (lambda: Transformer(9, **SIZES, decoder_options={"nom": "pre"}), "`decoder_options` must be a dict.*'nom'"),
        (lambda: Transformer(9, **SIZES, decoder_options={"num_layers": 3}), "use the argument `num_decoder_layers`"),
        (lambda: Transformer(9, **SIZES, decoder_options={"causal": False}), "must not contain 'causal'"),
        (
            lambda: LanguageModel(40, **SIZES, embeddings=keras.layers.Embedding(10, 16)),
            "a row for each of vocabulary_size=40 ids.*input_dim=10",
        ),
        (lambda: EncoderModel(9, **SIZES, head=keras.layers.Dense(3, name="encoder")), "another `name=`"),
        (lambda: EncoderModel(9, **SIZES, head=[MeanPooling()]), "`head` must be None, 'sequence_classification'"),
        (lambda: EncoderModel(9, **SIZES, head=len), "`head` must be None, 'sequence_classification'"),
        (lambda: EncoderModel(9, **SIZES, head={"a": "masked_lm"}), "`head` must be"),
        (
            lambda: EncoderModel(9, **SIZES, head=MeanPooling(), num_classes=3),
            "`num_classes` must be None without a classifier",
        ),
        (
            lambda: EncoderModel(9, **SIZES, head=ClassificationHead(3), labels=["a"]),
            "`labels` must name each of the logits",
        ),
    ],
)
def test_arguments_that_do_not_fit(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_tokenizers_go_with_models_that_read_or_write_tokens():
    tokenizer = CharacterTokenizer("abc")
    with pytest.raises(ValueError, match="`embeddings` must be given without"):
        EncoderModel(None, **SIZES, embeddings=AudioFrontEnd(16), inputs=FRAMES, tokenizer=tokenizer)
    model = Transformer(tokenizer.vocabulary_size, **SIZES, embeddings=AudioFrontEnd(16), inputs=FRAMES)
    model.tokenizer = tokenizer
    texts = model.generate(np.ones((2, 4, 5), "float32"), max_length=3)
    assert len(texts) == 2
    assert all(isinstance(text, str) for text in texts)


def test_heads_are_layers():
    heads = {
        "vector": keras.Sequential([MeanPooling(), keras.layers.UnitNormalization()]),
        "span": ClassificationHead(2),
        "class": ClassificationHead(3, pooling=MeanPooling(), hidden_dim=8, activation="gelu"),
    }
    model = EncoderModel(30, **SIZES, head=heads)
    outputs = {name: ops.convert_to_numpy(x) for name, x in model(IDS).items()}
    assert {name: x.shape for name, x in outputs.items()} == {"vector": (2, 16), "span": (2, 6, 2), "class": (2, 3)}
    np.testing.assert_allclose(np.linalg.norm(outputs["vector"], axis=-1), 1, atol=1e-6)
    # Padding has no part in the pooled vectors.
    alone = model(IDS[:1, :4])
    for name in ("vector", "class"):
        np.testing.assert_allclose(alone[name], outputs[name][:1], atol=1e-5)


def test_a_model_with_heads_is_saved(tmp_path):
    model = EncoderModel(30, **SIZES, head={"a": ClassificationHead(2), "b": MeanPooling()})
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for name, x in model(IDS).items():
        np.testing.assert_array_equal(loaded(IDS)[name], x)
    assert model.output_projection() is None
    assert model.padding_label is None


def test_models_need_no_heads_with_an_attention_of_their_own():
    sizes = {**SIZES, "num_heads": None}
    attention, position = keras.layers.MultiHeadAttention(2, 8), LearnedPositionEmbedding(8)
    model = EncoderModel(30, **sizes, attention=attention)
    assert tuple(model(IDS).shape) == (2, 6, 16)
    model = LanguageModel(30, **sizes, attention=attention, position=position)
    assert tuple(LanguageModel.from_config(model.get_config())(IDS).shape) == (2, 6, 30)


def test_patches_of_an_image_have_no_padding_mask():
    inputs = {"images": keras.Input((8, 8, 3))}
    settings = {"embeddings": PatchEmbedding(4, 16, class_token=True), "position": LearnedPositionEmbedding(5)}
    model = EncoderModel(None, **SIZES, inputs=inputs, **settings, head="sequence_classification", num_classes=3)
    assert "padding_mask" not in model.input
    assert tuple(model(np.ones((2, 8, 8, 3), "float32")).shape) == (2, 3)
