"""`Recurrence` inside Keras' wrapper; its cases of the harness stand in `test_attention_cell.py`."""

import numpy as np
import pytest
from keras.layers import GRU, LSTM, Bidirectional, GRUCell, LSTMCell
from samples import D, lengths, normal

from keras_attn.layers import Recurrence

U = 5


@pytest.mark.peer("Recurrence", "keras.layers.RNN")
@pytest.mark.parametrize(("cell", "kind"), [(LSTMCell, LSTM), (GRUCell, GRU)])
def test_recurrence_in_bidirectional_is_keras(cell, kind):
    x, mask = normal(np.random.default_rng(0), 3, 7, D), lengths(3, 7)
    ours = Bidirectional(Recurrence(cell(U), return_sequences=True, return_state=True))
    theirs = Bidirectional(kind(U, return_sequences=True, return_state=True))
    ours(x), theirs(x)
    ours.set_weights(theirs.get_weights())
    (output, *states), (expected, *expected_states) = ours(x, mask=mask), theirs(x, mask=mask)
    np.testing.assert_allclose(output[mask], expected[mask], atol=1e-6)
    np.testing.assert_array_equal(output[~mask], 0)
    for actual, state in zip(states, expected_states, strict=True):
        np.testing.assert_allclose(actual, state, atol=1e-6)
