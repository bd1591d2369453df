"""What Keras does with models, and what people do to Keras."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attn import EncoderModel, GenerationConfig, LanguageModel, Seq2SeqRNN, Transformer
from keras_attn.generation import BeamSearch
from keras_attn.text import CharacterTokenizer

SIZES = {"num_layers": np.int64(1), "hidden_dim": np.int8(100), "dropout": np.float32(0.5)}
HEADS = {"num_heads": np.int8(2), "intermediate_dim": np.int16(16)}
MODELS = {
    "encoder": lambda **kwargs: EncoderModel(np.int32(20), **SIZES, **HEADS, head="masked_lm", **kwargs),
    "language": lambda **kwargs: LanguageModel(20, **SIZES, **HEADS, window=np.int64(4), **kwargs),
    "transformer": lambda **kwargs: Transformer(20, **SIZES, **HEADS, **kwargs),
    "rnn": lambda **kwargs: Seq2SeqRNN(20, **SIZES, **kwargs),
}


@pytest.fixture
def cleared_registry():
    """What Keras' own tests and many notebooks do."""
    registry = keras.saving.get_custom_objects()
    registered = dict(registry)
    registry.clear()
    yield
    registry.update(registered)


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_models(make, cleared_registry):
    model = make()
    ids = {name: np.array([[5, 6, 7]]) for name in model.vocabularies}
    expected = model(ids)
    model.summary(line_length=120, expand_nested=True, print_fn=(lines := []).append)
    assert type(model).__name__ == "Seq2SeqRNN" or "└ " in "".join(lines)

    copy = type(model).from_config(model.get_config())
    copy.set_weights(model.get_weights())
    np.testing.assert_array_equal(copy(ids), expected)
    if not isinstance(model, EncoderModel):
        tokens = copy.generate(ids[next(iter(ids))], max_length=np.int64(3))
        np.testing.assert_array_equal(tokens, model.generate(ids[next(iter(ids))], max_length=3))

    assert model.compute_output_shape(dict.fromkeys(ids, (None, 3))) == (None, *expected.shape[1:])
    if len(ids) == 1:
        assert model.compute_output_shape((4, 3)) == (4, *expected.shape[1:])
        steps = keras.Input((2, 3), dtype="int32")
        several = keras.Model(steps, keras.layers.TimeDistributed(model)(steps))
        np.testing.assert_allclose(several(np.array([[[5, 6, 7]] * 2]))[:, 1], expected, atol=1e-6)

    with pytest.raises(ValueError, match=rf"`keras.models.clone_model` must not be given a {type(model).__name__}"):
        keras.models.clone_model(model)
    inputs = {name: keras.Input((None,), dtype="int32", name=name) for name in ids}
    outer = keras.Model(inputs, model(inputs))
    clone = keras.models.clone_model(outer)
    clone.set_weights(outer.get_weights())
    assert type(clone.layers[-1]) is type(model)
    np.testing.assert_array_equal(clone(ids), expected)


def test_what_a_model_carries(cleared_registry, tmp_path):
    tokenizer = CharacterTokenizer("abc", max_length=np.int64(9))
    settings = GenerationConfig(np.int32(4), strategy=BeamSearch(np.int8(2), length_penalty=np.float32(0.5)))
    assert settings == GenerationConfig(4, strategy=BeamSearch(2, length_penalty=0.5))
    assert type(settings.strategy.num_beams) is int
    model = LanguageModel(tokenizer.vocabulary_size, 1, 8, 2, 16, tokenizer=tokenizer, generation_config=settings)
    copy = LanguageModel.from_config(model.get_config())
    copy.set_weights(model.get_weights())
    assert copy.generate(["ab"]) == model.generate(["ab"])
    model.save(tmp_path / "model.keras")
    small = {"num_layers": 1, "hidden_dim": 8, "num_heads": 2, "intermediate_dim": 8}
    config = LanguageModel.gpt2(20, 16, **small).get_config()
    keras.saving.get_custom_objects().clear()
    assert LanguageModel.from_config(config).decoder.blocks[0].activation.__name__ == "gelu_tanh"


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_texts_are_no_ids(make):
    model = make()
    calls = [model, model.predict, lambda x: model({next(iter(model.vocabularies)): x})]
    calls += [model.encode] if hasattr(model, "encode") else []
    for texts in ("a", ["a", "b"], np.array(["a"]), np.array([["a"]], object), tf.constant([["a"]])):
        for call in calls:
            with pytest.raises(ValueError, match=r"be numbers, not texts; the model has no tokenizer\. Received: "):
                call(texts)


@pytest.mark.parametrize(
    ("make", "settings", "words"),
    [
        (EncoderModel, {}, r"makes them\. Received"),
        (LanguageModel, {"generation_config": GenerationConfig(3)}, r"makes them, and `model\.generate` takes texts"),
    ],
    ids=["encoder", "language"],
)
def test_texts_have_a_tokenizer(make, settings, words):
    tokenizer = CharacterTokenizer("ab")
    model = make(tokenizer.vocabulary_size, **SIZES, **HEADS, tokenizer=tokenizer, **settings)
    with pytest.raises(ValueError, match=rf"`model\.tokenizer\.encode\(texts\)` {words}"):
        model(["ab"])


def test_features_may_be_texts():
    class Lengths(keras.layers.Layer):
        def call(self, texts):
            return tf.cast(tf.strings.length(texts), self.compute_dtype)[..., None] * tf.ones((100,))

        def compute_output_spec(self, texts):
            return keras.KerasTensor((*texts.shape, 100))

    inputs = {"words": keras.Input((None,), dtype="string", name="words")}
    model = EncoderModel(None, **SIZES, **HEADS, embeddings=Lengths(), inputs=inputs)
    assert model({"words": tf.constant([["a", "bcd"]])}).shape == (1, 2, 100)
