"""Converts the nests of tensors that are passed from step to step to tensors by name, and back."""

import keras

from keras_attn.ops.arrays import reshape


def named(prefix, state):
    """Leaves of a nest by name, `prefix_<i>_<j>...`; scalars get shape `(1,)`, as converters change their rank."""
    leaves = zip(_names(prefix, state), keras.tree.flatten(state), strict=True)
    return {name: reshape(leaf, (1,)) if len(leaf.shape) == 0 else leaf for name, leaf in leaves}


def nested(prefix, structure, tensors):
    """The nest with the structure of `structure` and the leaves in the dict `tensors`, named as by `named`."""
    leaves = [
        reshape(tensors[name], ()) if len(leaf.shape) == 0 else tensors[name]
        for name, leaf in zip(_names(prefix, structure), keras.tree.flatten(structure), strict=True)
    ]
    return keras.tree.pack_sequence_as(structure, leaves)


def _names(prefix, state):
    return ["_".join(map(str, (prefix, *path))) for path, _ in keras.tree.flatten_with_path(state)]
