"""Transformer encoder block."""

from __future__ import annotations

from typing import Any

import keras

from keras_attn.layers.base.implicit_mask import implicit_mask
from keras_attn.layers.transformer.block import Block
from keras_attn.typing import Shape, Tensor


@keras.saving.register_keras_serializable(package="keras_attn")
class EncoderBlock(Block):
    """Self-attention, then a feed-forward network, each inside a `Residual`; or both in parallel inside one.

    Args:
        num_heads: Number of attention heads; None with `attention`.
        intermediate_dim: Inner width of the feed-forward network; None with `feed_forward`.
        key_dim: Width of the heads. Defaults to the number of input channels divided by `num_heads`.
        num_kv_heads: Number of key/value heads. Defaults to `num_heads`.
        position: Optional `PositionEncoding` for queries, keys and logits.
        window: Optional int. See `MultiHeadAttention`.
        mechanism: Attention kernel. See `MultiHeadAttention`.
        use_attention_bias: Whether the projections of attention have biases, or a list of those that do; `use_bias` of
            `MultiHeadAttention`.
        attention_dropout: Dropout rate of the attention weights.
        attention_options: Optional dict of further arguments of `MultiHeadAttention`, for self-attention.
        attention: Optional Keras layer, a template of the self-attention layer: the block creates its own from the
            template's config. Replaces `num_heads`, `key_dim`, `num_kv_heads`, `window`, `mechanism`,
            `use_attention_bias`, `attention_dropout` and `attention_options`. May be of a custom class; see below for
            its requirements.
        activation: Activation of the feed-forward network.
        activation_dropout: Dropout rate inside the feed-forward network.
        feed_forward: Optional Keras layer, a template of the feed-forward network: the block creates its own from the
            template's config. Replaces `intermediate_dim`, `activation` and `activation_dropout`. May be of a custom
            class or use custom functions, which need to be registered with Keras only for saving. With `init_gain`, its
            layers must have a `kernel_initializer`.
        norm: "pre", "post", "sandwich", "res_post", "deepnorm", "rezero", "layerscale" or None. See `Residual`. Or a
            dict with one of these except "deepnorm" for "self_attention" and for "feed_forward"; not with `parallel`.
        norm_layer: "layer", "layer_no_bias" or "rms". See `Residual`.
        norm_epsilon: Added to the variance, or to the mean square.
        dropout: Dropout rate of the output of each sub-layer.
        stochastic_depth: Rate at which samples skip a sub-layer in training.
        residual_options: Optional dict of further arguments of `Residual`: `shortcut_scale`, `gain`.
        parallel: True computes attention and feed-forward network in parallel on one norm, as GPT-J and PaLM do:
            `x + dropout(attention(norm(x)) + network(norm(x)))`; "two_norms" uses one norm each, as GPT-NeoX does.
        init_gain: Factor of the initial values of the value, attention output and feed-forward kernels: the beta of
            DeepNorm.
        remat: Whether to use gradient checkpointing in training.
        seed: Seed of all dropout layers.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Float `(B, T, D)`.
        inputs_mask: Optional bool `(B, T)`, False at padding. Defaults to the Keras mask of the inputs.
        mask: Same as `inputs_mask`, under the name that wrappers such as `keras.layers.TimeDistributed` use.
        attention_mask: Optional bool that broadcasts to `(B, N, T, T)`, True = may attend.
        bias: Optional float that broadcasts to `(B, N, T, T)`, added to the logits.
        positions: Optional int32 `(B, T)` or `(1, T)`.
        segments: Optional int32 `(B, T)`, the segment of each token in a row of several packed sequences.
        training: Whether to apply dropout.

    Returns:
        Float `(B, T, D)`.

    Raises:
        ValueError: If an argument or a shape is invalid; the message names it.

    Any Keras layer that maps `(B, T, D)` to `(B, T, D)` can be `attention`:

    * The block calls `attention(inputs, ...)` with those of `query_mask`, `attention_mask`, `bias`, `positions`,
      `segments`, `cache`, `slots`, `use_causal_mask` and `training` that `call` takes; if it takes `**kwargs`, with all
      of them that are not None. They have the same meaning as for `MultiHeadAttention`, but `query_mask` also hides
      keys. An argument that is not None and that `call` does not take raises an error.
    * If `call` requires `value`, it gets the inputs as `value`, and `query_mask` as `value_mask` or `key_mask`, as for
      `keras.layers.MultiHeadAttention` and `keras.layers.GroupQueryAttention`.
    * If its config has a `position` that is None, this is set to the block's position layer, which all blocks of a
      stack share, including its weights. Without `position`, the block's position may only add to embeddings.
    * In a causal block, `causal` in its config is set to True. Without `causal`, each call gets `use_causal_mask=True`,
      which must be a named argument of `call`.
    * `init_gain` scales the `value_initializer` in its config, if any, else all kernels, as for `feed_forward`.
    * To decode with a cache, `call` must take `positions`, `cache` and `slots`, for beam search also `attention_mask`,
      and return `(output, cache)` if `cache` is not None: a tuple of tensors `(B, K, M, H)`. `empty_cache(batch,
      length)` must return a cache of zeros. The functions of `keras_attn.ops.cache` store, write and load caches. If
      the layer has attributes `window` and `sink_tokens`, only the slots within them are kept.

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
