"""Recurrent layers on an empty batch."""

from keras import ops, tree


def call_on_empty_batch(call, *arguments):
    """Calls a function on an empty batch: with a row of zeros, which is removed from the result.

    Needed because `keras.layers.LSTMCell` uses `keras.ops.add`, which mistakes an empty state for a bias.

    Args:
        call: Function of nests of tensors with the batch axis first; returns such a nest.
        *arguments: Nests of tensors and None; empty tensors get a row of zeros.
    """
    padded = tree.map_structure(_with_a_row, arguments)
    return tree.map_structure(lambda x: x[:0], call(*padded))


def _with_a_row(x):
    return x if x is None or x.shape[0] != 0 else ops.pad(x, ((0, 1), *[(0, 0)] * (len(x.shape) - 1)))
