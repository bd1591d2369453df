"""The encoder of a Transformer."""

from __future__ import annotations

from typing import Any

import keras

from keras_attn.layers.base.implicit_mask import implicit_mask
from keras_attn.layers.transformer.encoder_block import EncoderBlock
from keras_attn.layers.transformer.stack import Stack
from keras_attn.typing import Shape, Tensor


@keras.saving.register_keras_serializable(package="keras_attn")
class Encoder(Stack):
    """`EncoderBlock`s one behind another, and a last norm where the blocks end without one.

    Args:
        num_layers: Number of blocks.
        num_heads, intermediate_dim: See `EncoderBlock`.
        share_weights: Whether one block is applied `num_layers` times, as in ALBERT.
        final_norm: Whether a norm follows the last block. None leaves it to `norm`: yes for "pre", "sandwich" and
            "layerscale"; where each sub-layer has its own, that of "feed_forward" decides.
        layer_options: Optional list of dicts, arguments that differ between blocks: block `i` takes entry
            `i % len(layer_options)`, so that two entries alternate.
        **options: All other arguments of `EncoderBlock`, the same for all blocks but for two: `stochastic_depth` is
            the last block's and grows linearly up to it; `seed` is the first block's. A `position` is shared by all
            blocks, its weights included. `norm="deepnorm"` finds its constants itself.

    Call arguments:
        inputs: Float `(B, T, D)`.
        **kwargs: All other call arguments of `EncoderBlock`, given to each block.

    Returns:
        Float `(B, T, D)`.

    Raises:
        ValueError: If an argument or a shape is invalid; the message names it.

    Reference:
        [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762); shared weights
        [Lan et al., 2020](https://arxiv.org/abs/1909.11942); linear stochastic depth
        [Huang et al., 2016](https://arxiv.org/abs/1603.09382)

    Example:

    >>> import numpy as np
    >>> from keras_attn.layers import Encoder
    >>> encoder = Encoder(4, num_heads=2, intermediate_dim=64, layer_options=[{"window": 2}, {}])
    >>> tuple(encoder(np.ones((2, 3, 16), "float32")).shape), [block.window for block in encoder.blocks]
    ((2, 3, 16), [2, None, 2, None])
    """

    block_class = EncoderBlock

    def build(self, inputs_shape: Shape) -> None:
        self._build(inputs_shape)

    def call(
        self,
        inputs: Tensor,
        *,
        inputs_mask: Tensor | None = None,
        mask: Tensor | None = None,
        attention_mask: Tensor | None = None,
        bias: Tensor | None = None,
        positions: Tensor | None = None,
        segments: Tensor | None = None,
        training: bool | None = None,
    ) -> Tensor:
        arguments = {"attention_mask": attention_mask, "bias": bias, "positions": positions, "segments": segments}
        arguments["inputs_mask"] = implicit_mask(inputs, inputs_mask, mask)
        x = inputs
        for block in self.layers:
            x = block(x, training=training, **arguments)
        return self._finish(x)

    def compute_output_spec(self, inputs: Tensor, **kwargs: Any) -> keras.KerasTensor:
        return keras.KerasTensor(inputs.shape, dtype=self.compute_dtype)
