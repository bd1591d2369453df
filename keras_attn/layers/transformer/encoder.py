"""Stack of Transformer encoder blocks."""

from __future__ import annotations

from typing import Any

import keras

from keras_attn.layers.base.implicit_mask import implicit_mask
from keras_attn.layers.base.serialization import serialized
from keras_attn.layers.base.template import Template
from keras_attn.layers.base.without_padding import without_padding
from keras_attn.layers.transformer.encoder_block import EncoderBlock
from keras_attn.layers.transformer.stack import Stack, norm_like
from keras_attn.ops.arrays import add
from keras_attn.typing import Shape, Tensor


@keras.saving.register_keras_serializable(package="keras_attn")
class Encoder(Stack):
    """A stack of `EncoderBlock`s, plus a final norm if the blocks do not end with one.

    Args:
        num_layers: Number of blocks.
        num_heads, intermediate_dim: See `EncoderBlock`.
        share_weights: Whether to apply one block `num_layers` times, as in ALBERT; or a list with the number of the
            block of each layer: `[0, 0, 1, 1]` are two blocks, each applied twice.
        final_norm: Whether to add a norm after the last block. By default, if `norm` is "pre", "sandwich",
            "res_post" or "layerscale"; for a dict as `norm`, its entry "feed_forward" decides.
        layer_options: Optional list of dicts of arguments that differ between blocks: block `i` uses entry
            `i % len(layer_options)`, so that two entries alternate. A list may not have more
            entries than there are blocks.
        convolution: Optional Keras layer, a template, such as `keras.layers.Conv1D(D, 3, padding="same")`: the first
            block returns `norm(block(x) + dropout(convolution(x)))`, as in DeBERTa v2. The convolution sees zeros at
            padding, and beyond the borders of `segments`.
        **options: All other arguments of `EncoderBlock`, the same for all blocks except two: `stochastic_depth` is the
            rate of the last block, up to which it grows linearly; `seed` is that of the first block. All blocks share
            `position`, including its weights. `norm="deepnorm"` computes its constants.

    Call arguments:
        inputs: Float `(B, T, D)`.
        **kwargs: All other call arguments of `EncoderBlock`, passed to each block.

    Returns:
        Float `(B, T, D)`.

    Raises:
        ValueError: If an argument or a shape is invalid; the message names it.

    Reference:
        [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762); shared weights
        [Lan et al., 2020](https://arxiv.org/abs/1909.11942); linear stochastic depth
        [Huang et al., 2016](https://arxiv.org/abs/1603.09382); a convolution
        [He et al., 2021](https://arxiv.org/abs/2006.03654), section 4.1

    Example:

    >>> import numpy as np
    >>> from keras_attn.layers import Encoder
    >>> encoder = Encoder(4, num_heads=2, intermediate_dim=64, layer_options=[{"window": 2}, {}])
    >>> tuple(encoder(np.ones((2, 3, 16), "float32")).shape), [block.window for block in encoder.blocks]
    ((2, 3, 16), [2, None, 2, None])
    """

    block_class = EncoderBlock

    def __init__(
        self,
        num_layers: int,
        num_heads: int | None = None,
        intermediate_dim: int | None = None,
        *,
        convolution: keras.Layer | None = None,
        **options: Any,
    ) -> None:
        super().__init__(num_layers, num_heads, intermediate_dim, **options)
        self._convolution = Template.of(convolution, "convolution")

    def build(self, inputs_shape: Shape) -> None:
        self._build(inputs_shape)
        self.convolution = None
        if self._convolution is not None:
            self.convolution = self._convolution.new(name="convolution", dtype=self.dtype_policy)
            self.convolution.build(inputs_shape)
            self.convolution_norm = norm_like(self.block_options, self.dtype_policy, "convolution_norm")
            self.convolution_norm.build(inputs_shape)
            rate = self.block_options.get("dropout", 0.0)
            self.convolution_dropout = keras.layers.Dropout(rate, dtype=self.dtype_policy, name="convolution_dropout")

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
        for i, block in enumerate(self.layers):
            x = block(x, training=training, **arguments)
            if i == 0 and self.convolution is not None:
                y = self.convolution(without_padding(inputs, arguments["inputs_mask"]))
                x = self.convolution_norm(add(x, self.convolution_dropout(y, training=training)))
        return self._finish(x)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "convolution": serialized(self._convolution)}

    def compute_output_spec(self, inputs: Tensor, **kwargs: Any) -> keras.KerasTensor:
        return keras.KerasTensor(inputs.shape, dtype=self.compute_dtype)
