"""Logits are hidden states through the output projection, in every model that has one."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from model_checks import scattered

from keras_attn import EncoderModel, LanguageModel, Seq2SeqRNN, Transformer
from keras_attn.training import MaskedCrossEntropy

V, D = 23, 8
SOURCE = np.array([[3, 5, 7, 0], [11, 2, 0, 0], [13, 17, 19, 22]])
TARGET = np.array([[1, 4, 6], [1, 8, 0], [1, 9, 21]])
LABELS = np.array([[4, 6, 2], [8, 2, 0], [9, 21, 2]])
SIZES = {"num_layers": 1, "hidden_dim": D}
STACK = {**SIZES, "num_heads": 2, "intermediate_dim": 12}
MODELS = {
    "transformer": lambda: Transformer(V, **STACK),
    "transformer, untied": lambda: Transformer(V, **STACK, tie_output=False, source_vocabulary_size=V),
    "recurrent": lambda: Seq2SeqRNN(V, **SIZES, cell="gru"),
    "Bahdanau's": lambda: Seq2SeqRNN.bahdanau(V, hidden_dim=D),
    "language model": lambda: LanguageModel(V, **STACK),
    "language model, with bias": lambda: LanguageModel(V, **STACK, output_bias=True, tie_output=False),
    "masked-LM": lambda: EncoderModel(V, **STACK, head="masked_lm", embedding_dim=6),
}


def inputs_of(model):
    names = {"source_ids": SOURCE, "target_ids": TARGET, "token_ids": TARGET}
    return {name: names[name] for name in model.input if name in names}


def close(actual, expected):
    actual, expected = tf.convert_to_tensor(actual), tf.convert_to_tensor(expected)
    np.testing.assert_allclose(actual, expected, atol=1e-5 * max(1, np.abs(expected).max()))


@pytest.mark.parametrize("name", MODELS)
def test_the_loss_of_hidden_states_is_that_of_logits(name):
    model = scattered(MODELS[name]())
    model_size = len(model.layers), len(model.weights)
    loss, inputs = MaskedCrossEntropy(0.1), inputs_of(model)
    weights = [v.value for v in model.trainable_variables]
    with tf.GradientTape(persistent=True) as tape:
        expected, count = loss.total(LABELS, model(inputs))
        total, weight = loss.linear_total(LABELS, model.hidden_states(inputs), model.output_projection())
    close(total, expected)
    assert weight == count == 8
    for gradient, other in zip(tape.gradient(total, weights), tape.gradient(expected, weights), strict=True):
        close(gradient, other)
    assert (len(model.layers), len(model.weights)) == model_size


def test_dropout_and_added_losses_are_those_of_the_model():
    layer = keras.layers.Embedding(V, D)
    model = Transformer(V, **STACK, dropout=0.5)
    inputs = inputs_of(model)
    assert not np.allclose(model.hidden_states(inputs, training=True), model.hidden_states(inputs, training=True))
    np.testing.assert_array_equal(model.hidden_states(inputs, training=False), model.hidden_states(inputs))
    assert layer not in model.layers


@pytest.mark.parametrize(
    "make",
    [
        lambda: LanguageModel(V, **STACK, logit_soft_cap=5.0),
        lambda: EncoderModel(V, **STACK),
        lambda: EncoderModel(V, **STACK, head="sequence_classification", num_classes=3),
    ],
)
def test_other_outputs_have_none(make):
    model = make()
    assert model.output_projection() is None
    with pytest.raises(ValueError, match="`hidden_states` needs a model with an `output_projection`"):
        model.hidden_states(inputs_of(model))


def test_a_quantised_table_has_none():
    model = LanguageModel(V, **STACK)
    model.quantize("int8")
    assert model.output_projection() is None
