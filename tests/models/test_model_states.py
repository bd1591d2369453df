"""What was done to a model's layers after it was made comes back from its file."""

import warnings

import keras
import numpy as np
import pytest
from model_checks import as_float32

from keras_attn import EncoderModel, LanguageModel, Seq2SeqRNN
from keras_attn.layers import LearnedPositionEmbedding

IDS = np.array([[1, 2, 3], [4, 5, 6]])
PAIR = {"source_ids": IDS, "target_ids": IDS}


def language_model(**config):
    return LanguageModel(20, 2, 8, 2, 16, **config)


def reloaded(model, tmp_path):
    model.save(tmp_path / "model.keras")
    return keras.saving.load_model(tmp_path / "model.keras")


def one_block(tmp_path):
    model = language_model(position=LearnedPositionEmbedding(9, trainable=False))
    model.decoder.trainable = False
    model.decoder.blocks[1].trainable = True
    # The block and the table of tokens; the positions, which the block has a share in, are trainable with it.
    assert len(model.trainable_weights) == 18
    model.position.trainable = False
    return model, IDS, 17, {"decoder": {"trainable": False}, "decoder/blocks/1": {"trainable": True}}


def one_block_of_a_frozen_model(tmp_path):
    model = language_model(trainable=False)
    model.decoder.blocks[1].trainable = True
    return model, IDS, 0, {"decoder/blocks/1": {"trainable": True}}


def a_head(tmp_path):
    model = EncoderModel(20, 1, 8, 2, 16, head="sequence_classification", num_classes=3)
    model.trainable = False
    model.get_layer("classifier").trainable = True
    return model, IDS, 0, {"classifier": {"trainable": True}}


def one_direction(tmp_path):
    model = Seq2SeqRNN(20, 2, 8)
    number = len(model.trainable_weights)
    model.encoder_layers[0].forward_layer.trainable = False
    model.bridges[1][0].trainable = False
    states = {"bridges/1/0": {"trainable": False}, "encoder_layers/0/forward_layer": {"trainable": False}}
    return model, PAIR, number - 5, states


def nested(tmp_path):
    backbone = EncoderModel(20, 1, 8, 2, 16)
    inputs = keras.Input((None,), dtype="int32")
    model = keras.Model(inputs, keras.layers.Dense(3)(backbone(inputs)))
    backbone.trainable = False
    backbone.encoder.blocks[0].trainable = True
    # Positions are every block's.
    return model, IDS, 19, None


@pytest.mark.parametrize("make", [one_block, one_block_of_a_frozen_model, a_head, one_direction, nested])
def test_frozen_layers(make, tmp_path):
    model, inputs, number, states = make(tmp_path)
    assert len(model.trainable_weights) == number
    if states is not None:
        found = model.get_config()["sublayers"]
        assert states.items() <= found.items()
    loaded = reloaded(model, tmp_path)
    np.testing.assert_array_equal(as_float32(loaded(inputs)), as_float32(model(inputs)))
    assert [w.trainable for w in loaded.weights] == [w.trainable for w in model.weights]
    assert len(loaded.trainable_weights) == number


@pytest.mark.parametrize(
    "config",
    [
        keras.quantizers.Int8QuantizationConfig(activation_quantizer=None),
        keras.quantizers.Int4QuantizationConfig(),
        keras.quantizers.Int4QuantizationConfig(block_size=4),
    ],
)
def test_quantised_models_with_lora(config, tmp_path):
    model = language_model(output_bias=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.quantize(config=config)
    rng = np.random.default_rng(0)
    for layer in model._flatten_layers():
        if hasattr(layer, "enable_lora"):
            layer.enable_lora(2, lora_alpha=5)
            for matrix in layer._lora_matrices():
                matrix.assign(rng.normal(scale=0.3, size=matrix.shape))
    expected = as_float32(model(IDS))
    for _ in range(2):
        loaded = reloaded(model, tmp_path)
        np.testing.assert_array_equal(as_float32(loaded(IDS)), expected)
        assert [(w.path, w.trainable) for w in loaded.weights] == [(w.path, w.trainable) for w in model.weights]
        model = loaded
