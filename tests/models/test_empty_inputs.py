"""Every model: what it refuses as a mask, and what it makes of batches and sequences in which there is nothing."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attn import EncoderModel, LanguageModel, Seq2SeqEncoderModel, Seq2SeqRNN, Transformer
from keras_attn.layers import ALiBiPositionBias, MeanPooling, RelativePositionBias, ShawRelativePosition

V, WIDTH, HEADS = 11, 8, 2


def stack(**options):
    return {"num_layers": 1, "hidden_dim": WIDTH, "num_heads": HEADS, "intermediate_dim": 6, **options}


def transformer(**options):
    return Transformer(V, **stack(**options))


def encoder(**options):
    return EncoderModel(V, **stack(**options))


MAKERS = {
    "transformer": transformer,
    "transformer_alibi": lambda: transformer(position=ALiBiPositionBias(HEADS)),
    "language_model": lambda: LanguageModel(V, **stack(position=ShawRelativePosition(3, WIDTH // HEADS))),
    "encoder": lambda: encoder(position=RelativePositionBias(HEADS), num_token_types=2),
    "masked_lm": lambda: encoder(head="masked_lm", embedding_dim=5),
    "classifier": lambda: encoder(head="sequence_classification", num_classes=3, pooling=MeanPooling()),
    "seq2seq_encoder": lambda: Seq2SeqEncoderModel(V, **stack(), start_id="last"),
    "seq2seq_rnn": lambda: Seq2SeqRNN(V, hidden_dim=WIDTH, num_layers=2, cell="lstm"),
}
made = functools.cache(lambda name: MAKERS[name]())
models = pytest.mark.parametrize("name", MAKERS)


def ids_of(model, batch, length, other=3):
    """Ids for each input that must be there; `length` is that of the first, `other` of the rest."""
    required = [n for n, x in model.input.items() if not x._keras_history.operation.optional]
    return {n: np.ones((batch, other if i else length), "int32") for i, n in enumerate(required)}


@models
def test_float_masks_are_refused(name):
    model, ids = made(name), ids_of(made(name), 2, 3)
    masks = {n: len(x.shape) for n, x in model.input.items() if x.dtype == "bool"}
    assert masks
    for mask, rank in masks.items():
        floats = np.zeros((2, 3, 3)[:rank], "float32")
        for given in (floats, tf.constant(floats), keras.KerasTensor(floats.shape)):
            inputs = {n: keras.KerasTensor(x.shape, "int32") if given is not floats else x for n, x in ids.items()}
            inputs = ids if isinstance(given, tf.Tensor) else inputs
            with pytest.raises(ValueError, match=f"`{mask}` must be boolean.* `bias=`"):
                model({**inputs, mask: given})
        ones = np.ones(floats.shape, "int32")
        np.testing.assert_array_equal(model({**ids, mask: ones}), model({**ids, mask: ones == 1}))


@models
def test_models_keep_the_shape_of_empty_inputs(name):
    model = made(name)
    signature = {n: tf.TensorSpec((None, None), "int32") for n in ids_of(model, 1, 1)}
    graph = tf.function(lambda ids: model(ids), input_signature=[signature], autograph=False)
    whole = model(ids_of(model, 2, 5)).shape
    for batch, length, other in ((0, 5, 3), (2, 0, 3), (1, 0, 3), (2, 5, 0), (1, 0, 0)):
        ids = ids_of(model, batch, length, other)
        target = other if len(ids) > 1 else length
        expected = (batch, *((target,) if len(whole) == 3 else ()), whole[-1])
        eager, traced = model(ids), graph({n: tf.constant(x) for n, x in ids.items()})
        assert tuple(eager.shape) == tuple(traced.shape) == expected
        assert np.all(np.isfinite(eager))
        np.testing.assert_allclose(eager, traced, atol=1e-5)


@pytest.mark.parametrize("name", ["transformer", "language_model", "seq2seq_rnn"])
def test_generation_refuses_empty_inputs(name):
    model = made(name)
    for shape in ((2, 0), (0, 3)):
        with pytest.raises(ValueError, match="`inputs`"):
            model.generate(np.ones(shape, "int32"), max_length=4)
