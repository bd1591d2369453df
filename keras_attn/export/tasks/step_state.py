"""The nests of tensors that one step hands to the next, as tensors by name."""

import keras
from keras import ops


def named(prefix, state):
    """`prefix_<i>_<j>...` -> leaf of a nest; a scalar is of shape `(1,)`, since converters change the rank of one."""
    leaves = zip(_names(prefix, state), keras.tree.flatten(state), strict=True)
    return {name: ops.reshape(leaf, (1,)) if len(leaf.shape) == 0 else leaf for name, leaf in leaves}


def nested(prefix, structure, tensors):
    """The nest with the structure of `structure` whose leaves `named` called so in the dict `tensors`."""
    leaves = [
        ops.reshape(tensors[name], ()) if len(leaf.shape) == 0 else tensors[name]
        for name, leaf in zip(_names(prefix, structure), keras.tree.flatten(structure), strict=True)
    ]
    return keras.tree.pack_sequence_as(structure, leaves)


def _names(prefix, state):
    return ["_".join(map(str, (prefix, *path))) for path, _ in keras.tree.flatten_with_path(state)]
