"""The heads and channels of a model, which pruning ranks and takes out."""

import dataclasses

import keras

from keras_attn import compat
from keras_attn.layers.attention.multi_head_attention import MultiHeadAttention
from keras_attn.layers.transformer.feed_forward import FeedForward
from keras_attn.layers.transformer.stack import stacks_of


@dataclasses.dataclass(frozen=True)
class Units:
    """The units of one layer: the heads of an attention layer, or the inner channels of a feed-forward network.

    Args:
        layer: The layer.
        kind: "heads" or "channels".
        count: Number of units; of grouped heads, the number of groups, each with its key/value head.
        stack, index: Name of the stack, and number of the block in it.
    """

    layer: keras.Layer
    kind: str
    count: int
    stack: str
    index: int


def units_of(model):
    """The `Units` of all blocks, block by block.

    Raises:
        ValueError: If the model has no stack of blocks.
    """
    found = []
    for name, stack in stacks_of(model).items():
        for index, block in enumerate(stack.blocks):
            found += _units_of_block(block, name, index)
    if not found:
        raise ValueError(
            "`model` must have an encoder or decoder of this package with `MultiHeadAttention` or `FeedForward`. "
            f"Received: {model!r}"
        )
    return found


def _units_of_block(block, stack, index):
    found = []
    for layer in compat.layers_of(block, include_self=False):
        if isinstance(layer, MultiHeadAttention):
            found.append(Units(layer, "heads", layer.num_kv_heads, stack, index))
        elif isinstance(layer, FeedForward):
            found.append(Units(layer, "channels", layer.intermediate_dim, stack, index))
    return found
