"""Decoder-only Transformer model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import keras
import numpy as np
from keras import ops

from keras_attn.argument_checks import check_positive
from keras_attn.layers import (
    Decoder,
    GatedFeedForward,
    LearnedPositionEmbedding,
    Projection,
    RotaryPositionEncoding,
    TokenEmbedding,
)
from keras_attn.layers.attention.head_projections import default_positions
from keras_attn.layers.transformer.stack import norm_like
from keras_attn.models.arguments import checked_position, size_of_heads, split_options, stack_arguments, symbolic_inputs
from keras_attn.models.base import AttentionModel
from keras_attn.models.features import check_width, checked_embeddings
from keras_attn.models.prompt_mask import PromptMask
from keras_attn.ops import gelu_tanh
from keras_attn.ops.arrays import axis_size
from keras_attn.typing import Activation, Nest, Tensor

if TYPE_CHECKING:
    from keras_attn.generation.generation_config import GenerationConfig
    from keras_attn.layers.positions.position_encoding import PositionEncoding
    from keras_attn.text.tokenizer import Tokenizer


# Layers, width and heads. The paper prints 24 heads for "xl" and a width of 5140 for "13b", which contradict the
# numbers of parameters in its table D.1; these agree with it.
_GPT3 = {
    "small": (12, 768, 12),
    "medium": (24, 1024, 16),
    "large": (24, 1536, 16),
    "xl": (24, 2048, 16),
    "2.7b": (32, 2560, 32),
    "6.7b": (32, 4096, 32),
    "13b": (40, 5120, 40),
    "175b": (96, 12288, 96),
}
_IDS = keras.KerasTensor((None, None), dtype="int32")


@keras.saving.register_keras_serializable(package="keras_attn")
class LanguageModel(AttentionModel):
    """A causal decoder stack over token embeddings, from ids to logits of the next token at each position.

    Args:
        vocabulary_size: Rows of the embedding table `V`, at least the tokenizer's vocabulary size.
        num_layers: Number of blocks.
        hidden_dim: Model width `D`.
        num_heads: Number of attention heads, a divisor of `hidden_dim` unless `key_dim` is given.
        intermediate_dim: Inner width of the feed-forward networks; ignored if `feed_forward` is given.
        embeddings: Optional Keras layer that turns token ids `(B, T)` into vectors `(B, T, hidden_dim)`, instead of the
            embedding table, which then only makes the logits.
        embedding_dim: Width of the embedding table, if it is not `hidden_dim`: its vectors are projected to
            `hidden_dim`, and the outputs of the decoder back, without biases, as in OPT-350m.
        embedding_norm: Whether to normalise the embeddings, after `position`, with the `norm_layer` of the blocks.
        tie_output: Whether the output projection is the embedding table.
        output_bias: Whether the logits have a bias.
        logit_soft_cap: Optional `c`: the model's logits become `c * tanh(logits / c)`. For attention logits, set it in
            `attention_options`.
        dropout: Dropout rate of the embeddings and of the output of each sub-layer.
        activation: Activation of the feed-forward networks.
        norm: "pre", or another `norm` of `Residual`.
        scale_embeddings: Whether to multiply embeddings by the square root of their width.
        position: A `PositionEncoding`. Defaults to `RotaryPositionEncoding()`.
        pad_id: Id of padding after a prompt; -1 if every id is a token. Defaults to that of the tokenizer, or 0 without
            one.
        tokenizer: Optional tokenizer, saved with the model.
        generation_config: Optional `keras_attn.generation.GenerationConfig`, saved with the model.
        dtype: Dtype or dtype policy of all layers.
        **kwargs: `name`, `trainable`, and all other arguments of `Decoder`: `num_kv_heads`, `norm_layer`,
            `feed_forward`, `layer_options`, `attention_options`, `parallel`, ...

    Call arguments:
        inputs: Int32 `(B, T)`, or a dict of `token_ids` int32 `(B, T)` and optionally
            `padding_mask` bool `(B, T)`, False at padding;
            `attention_mask` bool `(B, T, T)`, combined with the causal mask; `positions` int32 `(B, T)` (default
            `0, 1, ...`); `segments` int32 `(B, T)`, the text of each token in a row of several packed texts.
            Right-padded inputs need no mask, since causality hides the padding.

    Returns:
        Logits, float `(B, T, V)`.

    Raises:
        ValueError: If an argument or an input is invalid; the message names it.

    Reference:
        [Radford et al., 2019](https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf)

    Example:

    >>> import numpy as np
    >>> from keras_attn.models import LanguageModel
    >>> model = LanguageModel(100, num_layers=1, hidden_dim=16, num_heads=2, intermediate_dim=32)
    >>> tuple(model({"token_ids": np.array([[5, 6, 7]])}).shape)
    (1, 3, 100)
    >>> model.generate(np.array([[5, 6, 7]]), max_length=4).shape
    (1, 4)
    """

    def __init__(
        self,
        vocabulary_size: int,
        num_layers: int,
        hidden_dim: int,
        num_heads: int | None,
        intermediate_dim: int | None = None,
        *,
        embeddings: keras.layers.Layer | None = None,
        embedding_dim: int | None = None,
        embedding_norm: bool = False,
        tie_output: bool = True,
        output_bias: bool = False,
        logit_soft_cap: float | None = None,
        dropout: float = 0.0,
        activation: Activation = "gelu",
        norm: str | Mapping[str, str | None] | None = "pre",
        scale_embeddings: bool = False,
        position: PositionEncoding | None = None,
        pad_id: int | None = None,
        tokenizer: Tokenizer | None = None,
        generation_config: GenerationConfig | None = None,
        dtype: str | keras.DTypePolicy | None = None,
        **kwargs: Any,
    ) -> None:
        sizes = {"vocabulary_size": vocabulary_size, "num_layers": num_layers, "hidden_dim": hidden_dim}
        sizes |= size_of_heads(num_heads, kwargs)
        check_positive(embedding_dim=1 if embedding_dim is None else embedding_dim)
        own, options = split_options(kwargs)
        position = checked_position("position", position)
        policy = self._prepare(sizes, pad_id, dropout, dtype, tokenizer=tokenizer, generation_config=generation_config)
        if self.tokenizer is not None and self.pad_id in self.tokenizer.prefix:
            self.padding_mask = PromptMask(self.pad_id, dtype=policy, name="prompt_mask")
            self.padding_mask.build((None, None))
        self.hidden_dim = hidden_dim
        self.position = position or RotaryPositionEncoding(dtype=policy, name="position")
        self.embeddings, _ = checked_embeddings(embeddings, None if embeddings is None else {"token_ids": _IDS}, ())
        self.embedding = TokenEmbedding(
            vocabulary_size,
            hidden_dim if embedding_dim is None else embedding_dim,
            scale=scale_embeddings,
            tie_weights=tie_output,
            logit_soft_cap=logit_soft_cap,
            use_bias=output_bias,
            dtype=policy,
            # The name that Keras gives an embedding of the user's.
            name="embedding" if self.embeddings is None else "output_embedding",
        )
        if getattr(self.embeddings, "input_dim", vocabulary_size) < vocabulary_size:
            raise ValueError(
                f"`embeddings` must have a row for each of vocabulary_size={vocabulary_size} ids. "
                f"Received: input_dim={self.embeddings.input_dim}"
            )
        self.embedding_projection = self.output_dense = None
        if embedding_dim is not None:
            between = {"equation": "abc,cd->abd", "dtype": policy}
            self.embedding_projection = Projection(
                output_shape=(None, hidden_dim), **between, name="embedding_projection"
            )
            self.output_dense = Projection(output_shape=(None, embedding_dim), **between, name="output_dense")
        self.embedding_norm = norm_like(options, policy, "embedding_norm") if embedding_norm else None
        settings = {"num_layers": num_layers, "num_heads": num_heads, "norm": norm, "activation": activation}
        stack = stack_arguments(options, intermediate_dim, **settings, dropout=dropout, position=self.position)
        self.decoder = Decoder(**stack, cross_attention=False, dtype=policy, name="decoder")

        masks = {"padding_mask": 1, "attention_mask": 2}
        inputs = symbolic_inputs("token_ids", masks=masks, optional_ids=("positions", "segments"))
        embedded = self._embed(inputs["token_ids"], inputs["positions"])
        check_width(embedded, hidden_dim)
        x = self.decoder(
            embedded,
            inputs_mask=inputs["padding_mask"],
            attention_mask=inputs["attention_mask"],
            positions=inputs["positions"],
            segments=inputs["segments"],
        )
        config = {
            **options,
            **settings,
            **sizes,
            "intermediate_dim": intermediate_dim,
            "embeddings": self.embeddings,
            "embedding_dim": embedding_dim,
            "embedding_norm": embedding_norm,
            "tie_output": tie_output,
            "output_bias": output_bias,
            "logit_soft_cap": logit_soft_cap,
            "scale_embeddings": scale_embeddings,
            "position": position,
        }
        super().__init__(inputs, self.logits(x), policy=policy, config=config, **own)

    @classmethod
    def gpt2(cls, vocabulary_size: int, max_length: int = 1024, **kwargs: Any) -> Self:
        """GPT-2 small: 12 layers of width 768 with 12 heads. Takes other arguments by keyword."""
        sizes = {"num_layers": 12, "hidden_dim": 768, "num_heads": 12, "intermediate_dim": 3072}
        position = LearnedPositionEmbedding(max_length, dtype=kwargs.get("dtype"), name="position")
        settings = {"activation": gelu_tanh, "norm_epsilon": 1e-5, "position": position}
        settings |= {"dropout": 0.1, "attention_dropout": 0.1}
        return cls(vocabulary_size, **{**sizes, **settings, **kwargs})

    @classmethod
    def gpt3(
        cls, size: str, vocabulary_size: int = 50257, max_length: int = 2048, *, window: int = 256, **kwargs: Any
    ) -> Self:
        """GPT-3: as GPT-2, with every other layer attending to the last tokens only.

        Args:
            size: "small", "medium", "large", "xl", "2.7b", "6.7b", "13b" or "175b".
            vocabulary_size: See `LanguageModel`.
            max_length: Number of positions.
            window: `window` of the second, fourth, ... layer. The paper does not state the width of its bands; that of
                GPT-Neo is the default.
            **kwargs: Other arguments of `LanguageModel`.

        Raises:
            ValueError: If `size` is unknown.

        Reference:
            [Brown et al., 2020](https://arxiv.org/abs/2005.14165), table 2.1
        """
        if size not in _GPT3:
            raise ValueError(f"`size` must be one of {', '.join(map(repr, _GPT3))}. Received: size={size!r}")
        num_layers, hidden_dim, num_heads = _GPT3[size]
        sizes = {"num_layers": num_layers, "hidden_dim": hidden_dim, "num_heads": num_heads}
        settings = {"intermediate_dim": 4 * hidden_dim, "layer_options": [{}, {"window": window}]}
        if kwargs.get("num_layers") == 1:
            settings["layer_options"] = [{}]
        return cls.gpt2(vocabulary_size, max_length, **{**sizes, **settings, **kwargs})

    @classmethod
    def llama(
        cls,
        vocabulary_size: int,
        num_layers: int,
        hidden_dim: int,
        num_heads: int,
        intermediate_dim: int,
        *,
        rope_base: float = 10000.0,
        rope_scaling: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Llama of any size: RMS norm, rotary positions, SwiGLU and no biases.

        Args:
            vocabulary_size, num_layers, hidden_dim, num_heads, intermediate_dim: See `LanguageModel`.
            rope_base, rope_scaling: `base` and `scaling` of `RotaryPositionEncoding`.
            **kwargs: Other arguments of `LanguageModel`, such as `num_kv_heads`.
        """
        dtype = kwargs.get("dtype")
        settings = {
            "position": RotaryPositionEncoding(rope_base, scaling=rope_scaling, dtype=dtype, name="position"),
            "feed_forward": GatedFeedForward(intermediate_dim, activation="silu", use_bias=False, dtype=dtype),
            "norm_layer": "rms",
            "norm_epsilon": 1e-5,
            "use_attention_bias": False,
            "tie_output": False,
        }
        return cls(vocabulary_size, num_layers, hidden_dim, num_heads, **{**settings, **kwargs})

    continues_prompts = True

    def check_prompt(self, ids: Tensor, max_length: int) -> None:
        super().check_prompt(ids, max_length)
        limit, length = self.position.max_length, ids.shape[1] + max_length
        if limit is not None and length > limit:
            raise ValueError(
                f"`max_length` of generation must keep prompt and continuation within the {limit} positions of the "
                f"model. Received: max_length={max_length}, after a prompt of {ids.shape[1]}"
            )
        real = np.asarray(self.padding_mask(ids, None))
        if np.any(real[:, 1:] & ~real[:, :-1]):
            raise ValueError(f"`inputs` must be right-padded. Received: pad_id={self.pad_id} before a token")
        if not real[:, 0].all():
            row = int(np.argmin(real[:, 0]))
            raise ValueError(f"`inputs` must be prompts of one token or more. Received: only padding in row {row}")

    def first_decoder_inputs(self, ids: Tensor, mask: Tensor, start_id: int) -> tuple[Tensor, Tensor]:
        """The last token of each prompt and its position, int32 `(B, 1)` both; see `GenerationDefaults`."""
        last = self._last_positions(ids, mask)
        slots = ops.expand_dims(ops.arange(axis_size(ids, 1), dtype="int32"), 0)
        here = ops.cast(ops.equal(slots, last), "int32")
        return ops.sum(ops.multiply(ops.cast(ids, "int32"), here), axis=1, keepdims=True), last

    def decoder_prompt(self, ids: Tensor, mask: Tensor, start_id: int) -> tuple[Tensor, Tensor]:
        """The prompt itself, and which of its tokens are real; see `GenerationDefaults`."""
        return ids, self.padding_mask(ids, mask)

    def score_logits(self, ids: Tensor, tokens: Tensor, start_id: int, mask: Tensor | None = None) -> Tensor:
        lengths = np.maximum(np.asarray(self.padding_mask(ids, None)).sum(axis=1), 1)
        whole = np.pad(ids, ((0, 0), (0, tokens.shape[1])), constant_values=max(self.pad_id, 0))
        # The logits of a token are those at the previous position.
        places = lengths[:, None] + np.arange(tokens.shape[1])
        np.put_along_axis(whole, places, tokens, axis=1)
        logits = self({"token_ids": whole}, training=False)
        return ops.take_along_axis(logits, ops.expand_dims(places - 1, -1), axis=1)

    def prefill(
        self, token_ids: Tensor, padding_mask: Tensor | None = None, *, length: int, bounded: bool = True
    ) -> tuple[Nest, Nest]:
        """The cache of all tokens of a prompt except the last, with which decoding starts.

        Args:
            token_ids: Int32 `(B, T)`, right-padded.
            padding_mask: Optional bool `(B, T)`. Defaults to the tokens before padding by `pad_id`.
            length: Number of further cache slots: for the last token of the prompt, and those generated.
            bounded: Whether a layer with a window keeps only its window; `decode` then takes one token per call.

        Returns:
            `(cache, memory)` for `decode`: the caches of `Decoder.cache_from_prefill`, and no memory.
        """
        positions = default_positions(token_ids)
        first = ((),) * self.decoder.num_layers
        last = self._last_positions(token_ids, padding_mask)
        # Padding does not count as length; it is later than all tokens that the cache keeps.
        own = ops.minimum(positions, last) if self.decoder.depends_on_length else positions
        _, prefill_kv = self.decoder(self._embed(token_ids, positions), positions=own, caches=first)
        known = ops.less(positions, last)
        return self.decoder.cache_from_prefill(prefill_kv, known, length, bounded), ()

    def decode_hidden(
        self, token_ids: Tensor, positions: Tensor, cache: Nest, memory: Nest = (), attention_mask: Tensor | None = None
    ) -> tuple[Tensor, Nest]:
        """As `decode`, with the outputs of the decoder, float `(B, T, D)`, instead of logits."""
        x = self._embed(token_ids, positions)
        return self.decoder.decode(x, positions, cache, attention_mask=attention_mask)

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits `(B, T, V)` from the outputs of the decoder."""
        if self.output_dense is not None:
            hidden = self.output_dense(hidden)
        return self.embedding(hidden, reverse=True)

    def _last_positions(self, ids, mask):
        real = ops.cast(self.padding_mask(ids, mask), "int32")
        return ops.maximum(ops.sum(real, axis=1, keepdims=True) - 1, 0)

    def _embed(self, ids, positions):
        embed = self.embedding if self.embeddings is None else self.embeddings
        x = embed(ids)
        if self.embedding_projection is not None:
            x = self.embedding_projection(x)
        x = self.position(x, positions)
        return self.dropout(x if self.embedding_norm is None else self.embedding_norm(x))
