"""Argument checks of `Seq2SeqRNN`."""

import keras

from keras_attn.argument_checks import check_layers, check_positive
from keras_attn.layers.recurrent.alignment import Alignment

CELLS = {"lstm": keras.layers.LSTMCell, "gru": keras.layers.GRUCell, "simple": keras.layers.SimpleRNNCell}
READOUTS = ("tanh", "linear", "maxout", None)


def check_layer(name, layer, kind):
    """Raises a ValueError unless `layer` is None or an instance of `kind`."""
    if layer is not None and not isinstance(layer, kind):
        raise ValueError(f"`{name}` must be a {kind.__name__} layer. Received: {name}={layer!r}")


def check_arguments(attention, cell, readout, num_layers, num_bidirectional, residual_from):
    """Raises a ValueError if an argument or a combination of them is invalid."""
    check_layers(num_layers)
    attentions = attention if isinstance(attention, list) else [attention]
    if not attentions or (attention is not None and not all(isinstance(x, Alignment) for x in attentions)):
        raise ValueError(
            f"`attention` must be an Alignment layer, or a list of them. Received: attention={attention!r}"
        )
    if cell not in CELLS:
        raise ValueError(f"`cell` must be one of {list(CELLS)}. Received: cell={cell!r}")
    if not isinstance(readout, keras.layers.Layer) and readout not in READOUTS:
        raise ValueError(f"`readout` must be one of {list(READOUTS)}, or a Keras layer. Received: readout={readout!r}")
    if num_bidirectional not in range(num_layers + 1):
        raise ValueError(f"`num_bidirectional_layers` must be in 0 to {num_layers}. Received: {num_bidirectional!r}")
    if residual_from is not None:
        check_positive(residual_from=residual_from)
        widths = [1] + [2 if i < num_bidirectional else 1 for i in range(num_layers)]
        uneven = [i for i in range(1, num_layers + 1) if widths[i - 1] != widths[i]]
        if uneven and residual_from <= uneven[-1]:
            raise ValueError(
                f"`residual_from` must be above {uneven[-1]}, the last encoder layer whose outputs and inputs differ "
                f"in width. Received: residual_from={residual_from}"
            )
