"""One layer of a Transformer encoder."""

from __future__ import annotations

from typing import Any

import keras

from keras_attn.layers.base.implicit_mask import implicit_mask
from keras_attn.layers.transformer.block import Block
from keras_attn.typing import Shape, Tensor


@keras.saving.register_keras_serializable(package="keras_attn")
class EncoderBlock(Block):
    """Self-attention, then a feed-forward network, each inside a `Residual`; or both side by side inside one.

    Args:
        num_heads: Number of attention heads; None where `attention` is given.
        intermediate_dim: Inner width of the feed-forward network; None where `feed_forward` is given.
        key_dim: Width of a head. Defaults to the inputs' channels over `num_heads`.
        num_kv_heads: Number of key/value heads. Defaults to `num_heads`.
        position: Optional `PositionEncoding` that acts on queries, keys and logits.
        window: Optional int, see `MultiHeadAttention`.
        mechanism: Attention kernel, see `MultiHeadAttention`.
        use_attention_bias: Whether the projections of attention have biases.
        attention_dropout: Rate of the dropout on attention weights.
        attention_options: Optional dict of any further arguments of `MultiHeadAttention`, for self-attention.
        attention: Optional Keras layer, a template of the self-attention layer: the block makes its own from the
            template's config. It stands in for `num_heads`, `key_dim`, `num_kv_heads`, `window`, `mechanism`,
            `use_attention_bias`, `attention_dropout` and `attention_options`. It may be of a class of one's own; see
            below for what a block asks of it.
        activation: Activation of the feed-forward network.
        activation_dropout: Rate of the dropout inside the feed-forward network.
        feed_forward: Optional Keras layer, a template of the feed-forward network: the block builds its own from the
            template's config. It stands in for `intermediate_dim`, `activation` and `activation_dropout`. It may be
            of a class of one's own, or hold such functions; only files need them registered with Keras. With
            `init_gain`, its layers must have a `kernel_initializer`.
        norm: "pre", "post", "sandwich", "deepnorm", "rezero", "layerscale" or None, see `Residual`. Or a dict from
            each sub-layer, "self_attention" and "feed_forward", to one of these but "deepnorm"; without `parallel`.
        norm_layer: "layer" or "rms", see `Residual`.
        norm_epsilon: Added to the variance, or to the mean square.
        dropout: Rate of the dropout on each sub-layer's output.
        stochastic_depth: Rate at which a sample skips a sub-layer in training.
        residual_options: Optional dict of further arguments of `Residual`: `shortcut_scale`, `gain`.
        parallel: True puts attention and feed-forward network side by side on one norm, as GPT-J and PaLM do:
            `x + dropout(attention(norm(x)) + network(norm(x)))`; "two_norms" gives each its own, as GPT-NeoX does.
        init_gain: Factor on the initial values of the kernels of value, attention output and feed-forward network:
            the beta of DeepNorm.
        remat: Whether, in training, activations inside the block are not kept but computed again for the gradient.
        seed: Seed of all dropouts.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Float `(B, T, D)`.
        inputs_mask: Optional bool `(B, T)`, False at padding. Filled from the Keras mask of the inputs.
        mask: Same as `inputs_mask`, under the name that wrappers such as `keras.layers.TimeDistributed` use.
        attention_mask: Optional bool that broadcasts to `(B, N, T, T)`, True = may attend.
        bias: Optional float that broadcasts to `(B, N, T, T)`, added to the logits.
        positions: Optional int32 `(B, T)` or `(1, T)`.
        segments: Optional int32 `(B, T)`: which of several sequences packed into one row each token belongs to.
        training: Whether to apply dropout.

    Returns:
        Float `(B, T, D)`.

    Raises:
        ValueError: If an argument or a shape is invalid; the message names it.

    Any Keras layer that maps `(B, T, D)` to `(B, T, D)` can be `attention`:

    * The block calls `attention(inputs, ...)` with those of `query_mask`, `attention_mask`, `bias`, `positions`,
      `segments`, `cache`, `slots`, `use_causal_mask` and `training` that its `call` has; with `**kwargs`, with all
      tensors among them that are given. They mean what they do to `MultiHeadAttention`; `query_mask` hides keys too.
      An argument that is not None and that `call` does not have is refused.
    * A layer whose `call` requires `value` is given its inputs as that, and `query_mask` as `value_mask` or `key_mask`.
      `keras.layers.MultiHeadAttention` and `keras.layers.GroupQueryAttention` are such layers.
    * A layer whose config has a `position` that is None is made with the block's: the `PositionEncoding` itself, which
      all blocks of a stack share, its weights included. Without one, the block's position may only add to embeddings.
    * In a causal block, a `causal` in the config is True; without one, each call is given `use_causal_mask=True`, and
      must name it.
    * `init_gain` scales the `value_initializer` in the config if there is one, else all kernels, as for `feed_forward`.
    * To decode with a cache, `call` has `positions`, `cache` and `slots`, and for beam search `attention_mask`. It
      returns `(output, cache)` where `cache` is not None, a tuple of tensors `(B, K, M, H)`;
      `empty_cache(batch, length)` returns one of zeros. The functions of `keras_attn.ops.cache` store, write and load
      it. Of a layer with attributes `window` and `sink_tokens`, only the slots within them are kept.

    Reference:
        [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762), section 3.1

    Example:

    >>> import numpy as np
    >>> from keras_attn.layers import EncoderBlock
    >>> block = EncoderBlock(num_heads=4, intermediate_dim=64, norm="post", dropout=0.1)
    >>> mask = np.array([[True, True, False], [True, True, True]])
    >>> tuple(block(np.ones((2, 3, 16), "float32"), inputs_mask=mask).shape)
    (2, 3, 16)

    With Keras' attention layer, and a norm of its own for each sub-layer:

    >>> import keras
    >>> attention = keras.layers.MultiHeadAttention(num_heads=4, key_dim=4)
    >>> norm = {"self_attention": "sandwich", "feed_forward": "pre"}
    >>> block = EncoderBlock(attention=attention, intermediate_dim=64, norm=norm)
    >>> tuple(block(np.ones((2, 3, 16), "float32"), inputs_mask=mask).shape)
    (2, 3, 16)
    """

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
        own = {"attention_mask": attention_mask, "bias": bias, "positions": positions, "segments": segments}
        return self._run(inputs, {"query_mask": implicit_mask(inputs, inputs_mask, mask), **own}, training=training)

    def compute_output_spec(self, inputs: Tensor, **kwargs: Any) -> keras.KerasTensor:
        return keras.KerasTensor(inputs.shape, dtype=self.compute_dtype)
