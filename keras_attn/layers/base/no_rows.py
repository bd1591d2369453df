"""Recurrent layers on a batch of no rows."""

from keras import ops, tree


def on_no_rows(call, *arguments):
    """`call(*arguments)` of a batch of no rows: that of a row of zeros, which is cut off again.

    `keras.layers.LSTMCell` adds by `keras.ops.add`, which takes an empty state for a bias.

    Args:
        call: function of nests of tensors, rows first; returns such a nest.
        *arguments: nests of tensors and None; a row is added to those without one.
    """
    padded = tree.map_structure(_with_a_row, arguments)
    return tree.map_structure(lambda x: x[:0], call(*padded))


def _with_a_row(x):
    return x if x is None or x.shape[0] != 0 else ops.pad(x, ((0, 1), *[(0, 0)] * (len(x.shape) - 1)))
