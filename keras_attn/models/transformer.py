"""Encoder-decoder Transformer model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import keras
from keras import ops

from keras_attn.argument_checks import check_positive
from keras_attn.layers import Decoder, Encoder, MultiHeadAttention, SinusoidalPositionEncoding, TokenEmbedding
from keras_attn.layers.transformer.stack import norm_like
from keras_attn.models.arguments import (
    checked_decoder_options,
    checked_pointer_generator,
    checked_position,
    encoder_and_decoder,
    split_options,
    stack_arguments,
)
from keras_attn.models.base import AttentionModel
from keras_attn.models.features import check_width, checked_embeddings, config_of_specs
from keras_attn.ops.arrays import axis_size
from keras_attn.typing import Nest, Tensor

if TYPE_CHECKING:
    from keras_attn.generation.generation_config import GenerationConfig
    from keras_attn.layers import PointerGenerator
    from keras_attn.layers.positions.position_encoding import PositionEncoding
    from keras_attn.text.tokenizer import Tokenizer

_ATTENTION_MASKS = tuple(f"{side}_attention_mask" for side in ("source", "target", "memory"))


@keras.saving.register_keras_serializable(package="keras_attn")
class Transformer(AttentionModel):
    """Encoder and decoder stacks over token embeddings, from source and target ids to logits.

    With `embeddings`, the source is features instead of ids: audio frames, image patches or vectors.

    Args:
        vocabulary_size: Rows of the embedding table `V`, at least the tokenizer's vocabulary size.
        num_layers: Number of blocks in the encoder, and in the decoder unless `num_decoder_layers` is given.
        hidden_dim: Model width `D`.
        num_heads: Number of attention heads, a divisor of `hidden_dim` unless `key_dim` is given.
        intermediate_dim: Inner width of the feed-forward networks; ignored if `feed_forward` is given.
        num_decoder_layers: Number of blocks in the decoder. Defaults to `num_layers`.
        decoder_options: Optional dict of arguments of `Decoder` that differ from those of the encoder: `norm`,
            `window`, `dropout`, ...
        source_vocabulary_size: Rows of a separate embedding table for the source. By default, one table is shared.
        embeddings: Optional Keras layer that turns a feature tensor into vectors `(B, S, hidden_dim)`, instead of the
            source's embedding table; for example an `AudioFrontEnd`. If it supports masking, the Keras mask of its
            output marks padding. `position` and `dropout` apply to its output.
        inputs: With `embeddings`, dict of the `keras.Input` of the feature tensor by name. Defaults to the input of
            `embeddings` if it is a functional model with a dict of one input.
        embedding_norm: Whether to normalise the embeddings, after the positions, as in BART: source and target each
            with a norm of their own, of the `norm_layer` of the blocks.
        pointer_generator: Optional `PointerGenerator` layer, with which the model copies tokens of the source. Its
            scores are those of one more attention head, from the outputs of the decoder to those of the encoder.
        tie_output: Whether the output projection is the target table.
        output_bias: Whether the logits have a bias.
        dropout: Dropout rate of the embeddings and of the output of each sub-layer.
        norm: "post" as in the paper, or another `norm` of `Residual`.
        scale_embeddings: Whether to multiply embeddings by `sqrt(hidden_dim)`.
        position: A `PositionEncoding`. Defaults to `SinusoidalPositionEncoding()`.
        decoder_position: A `PositionEncoding` for the decoder. Defaults to `position`.
        pad_id: Padding id. Defaults to that of the tokenizer, or 0 without one.
        tokenizer: Optional tokenizer, saved with the model.
        generation_config: Optional `keras_attn.generation.GenerationConfig`, saved with the model.
        dtype: Dtype or dtype policy of all layers.
        **kwargs: `name`, `trainable`, and all other arguments of `Encoder`, which the decoder gets too:
            `activation`, `mechanism`, `norm_layer`, `feed_forward`, `key_dim`, ...

    Call arguments:
        inputs: Dict of `source_ids` int32 `(B, S)` and `target_ids` int32 `(B, T)`, and optionally of boolean masks,
            True = may attend: `source_mask` `(B, S)` (default `source_ids != pad_id`), `target_mask` `(B, T)`,
            `source_attention_mask` `(B, S, S)`, `target_attention_mask` `(B, T, T)`, combined with the causal mask,
            and `memory_attention_mask` `(B, T, S)`; for these three, `B` may be 1. With `embeddings`, the feature
            tensor replaces `source_ids`, and `source_mask` is over its second axis if `embeddings` supports masking.

    Returns:
        Logits, float `(B, T, V)`; with `pointer_generator`, `(B, T, V + E)`.

    Raises:
        ValueError: If an argument or an input is invalid; the message names it.

    Reference:
        [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762)

    Example:

    >>> import numpy as np
    >>> from keras_attn.models import Transformer
    >>> model = Transformer(100, num_layers=1, hidden_dim=16, num_heads=2, intermediate_dim=32)
    >>> tuple(model({"source_ids": np.array([[5, 6, 7]]), "target_ids": np.array([[2, 8]])}).shape)
    (1, 2, 100)
    """

    _feature_mask = "source_mask"

    def __init__(
        self,
        vocabulary_size: int,
        num_layers: int = 6,
        hidden_dim: int = 512,
        num_heads: int = 8,
        intermediate_dim: int = 2048,
        *,
        num_decoder_layers: int | None = None,
        decoder_options: Mapping[str, Any] | None = None,
        source_vocabulary_size: int | None = None,
        embeddings: keras.layers.Layer | None = None,
        inputs: Mapping[str, Any] | None = None,
        embedding_norm: bool = False,
        pointer_generator: PointerGenerator | None = None,
        tie_output: bool = True,
        output_bias: bool = False,
        dropout: float = 0.1,
        norm: str | Mapping[str, str | None] | None = "post",
        scale_embeddings: bool = True,
        position: PositionEncoding | None = None,
        decoder_position: PositionEncoding | None = None,
        pad_id: int | None = None,
        tokenizer: Tokenizer | None = None,
        generation_config: GenerationConfig | None = None,
        dtype: str | keras.DTypePolicy | None = None,
        **kwargs: Any,
    ) -> None:
        sizes = {"vocabulary_size": vocabulary_size, "num_layers": num_layers, "hidden_dim": hidden_dim}
        sizes["num_heads"] = num_heads
        check_positive(num_decoder_layers=1 if num_decoder_layers is None else num_decoder_layers)
        own, options = split_options(kwargs)
        position = checked_position("position", position)
        decoder_position = checked_position("decoder_position", decoder_position)
        reserved = ("target_ids", "source_mask", "target_mask", *_ATTENTION_MASKS)
        self.embeddings, self.features = checked_embeddings(embeddings, inputs, reserved)
        if len(self.features) > 1 or (self.features and source_vocabulary_size is not None):
            raise ValueError(
                "`embeddings` must read one tensor, and be given without `source_vocabulary_size`. Received: "
                f"inputs={list(self.features)}, source_vocabulary_size={source_vocabulary_size}"
            )
        copying = checked_pointer_generator(pointer_generator, vocabulary_size, source_vocabulary_size, self.features)
        self.pointer_generator = copying
        policy = self._prepare(sizes, pad_id, dropout, dtype, tokenizer=tokenizer, generation_config=generation_config)
        self.num_layers = num_layers
        self.hidden_dim = hidden_dim
        self.num_heads = num_heads
        self.position = position or SinusoidalPositionEncoding(dtype=policy, name="position")
        self.decoder_position = decoder_position or self.position
        self.target_embedding = TokenEmbedding(
            vocabulary_size,
            hidden_dim,
            scale=scale_embeddings,
            tie_weights=tie_output,
            use_bias=output_bias,
            dtype=policy,
            name="embedding",
        )
        self.source_embedding = self.target_embedding
        if source_vocabulary_size is not None:
            self.source_embedding = TokenEmbedding(
                source_vocabulary_size,
                hidden_dim,
                scale=scale_embeddings,
                dtype=policy,
                name="source_embedding",
            )
        stack = stack_arguments(
            options, intermediate_dim, num_layers=num_layers, num_heads=num_heads, norm=norm, dropout=dropout
        )
        decoder_options = checked_decoder_options(decoder_options)
        encoder, decoder = encoder_and_decoder(stack, num_decoder_layers, decoder_options)
        encoder["position"], decoder["position"] = self.position, self.decoder_position
        self.embedding_norm = self.decoder_embedding_norm = None
        if embedding_norm:
            self.embedding_norm = norm_like(encoder, policy, "embedding_norm")
            self.decoder_embedding_norm = norm_like(decoder, policy, "decoder_embedding_norm")
        self.encoder = Encoder(**encoder, dtype=policy, name="encoder")
        self.decoder = Decoder(**decoder, dtype=policy, name="decoder")
        self.copy_attention = None
        if copying is not None:
            self.copy_attention = MultiHeadAttention(1, hidden_dim, dtype=policy, name="copy_attention")

        masks = {"source_mask": 1, "target_mask": 1} | dict.fromkeys(_ATTENTION_MASKS, 2)
        tensors, source, source_mask = self._symbolic_inputs("source_ids", "target_ids", masks=masks)
        memory = self.encode(source, source_mask, tensors["source_attention_mask"])
        x = self._embed_target(tensors["target_ids"], None)
        x = self.decoder(
            x,
            memory,
            inputs_mask=tensors["target_mask"],
            # The mask of features is attached to the memory.
            memory_mask=None if self.features else source_mask,
            attention_mask=tensors["target_attention_mask"],
            memory_attention_mask=tensors["memory_attention_mask"],
        )
        if copying is None:
            outputs = self.target_embedding(x, reverse=True)
        else:
            attended = {"query_mask": tensors["target_mask"], "attention_mask": tensors["memory_attention_mask"]}
            outputs = self._copied(x, source, value=memory, value_mask=source_mask, **attended)
        config = {
            **options,
            **sizes,
            "intermediate_dim": intermediate_dim,
            "num_decoder_layers": num_decoder_layers,
            "decoder_options": decoder_options or None,
            "source_vocabulary_size": source_vocabulary_size,
            "embeddings": self.embeddings,
            "inputs": config_of_specs(self.features),
            "embedding_norm": embedding_norm,
            "pointer_generator": copying,
            "tie_output": tie_output,
            "output_bias": output_bias,
            "norm": norm,
            "scale_embeddings": scale_embeddings,
            "position": position,
            "decoder_position": decoder_position,
        }
        super().__init__(tensors, outputs, policy=policy, config=config, **own)

    @classmethod
    def base(cls, vocabulary_size: int, **kwargs: Any) -> Self:
        """The paper's base model: 6 layers of width 512, 8 heads, dropout 0.1. Takes other arguments by keyword."""
        return cls(vocabulary_size, **{"use_attention_bias": False, **kwargs})

    @classmethod
    def big(cls, vocabulary_size: int, **kwargs: Any) -> Self:
        """The paper's big model: 6 layers of width 1024, 16 heads, dropout 0.3. Takes other arguments by keyword."""
        settings = {"hidden_dim": 1024, "num_heads": 16, "intermediate_dim": 4096, "dropout": 0.3}
        return cls(vocabulary_size, **{**settings, "use_attention_bias": False, **kwargs})

    def encode(
        self, inputs: Tensor, source_mask: Tensor | None = None, source_attention_mask: Tensor | None = None
    ) -> Tensor:
        """Runs the encoder.

        Args:
            inputs: Int32 `(B, S)` source ids, or the features.
            source_mask: Optional bool `(B, S)`.
            source_attention_mask: Optional bool, `(B, S, S)`.

        Returns:
            Float `(B, S, D)`.
        """
        x, source_mask = self._embed_inputs(inputs, source_mask, self.source_embedding)
        check_width(x, self.hidden_dim)
        x = self.position(x)
        x = self.dropout(x if self.embedding_norm is None else self.embedding_norm(x))
        return self.encoder(x, inputs_mask=source_mask, attention_mask=source_attention_mask)

    def check_prompt(self, inputs: Tensor, max_length: int) -> None:
        super().check_prompt(inputs, max_length)
        limit = self.position.max_length
        shape = self.embeddings.compute_output_shape(inputs.shape) if self.features else inputs.shape
        if limit is not None and shape[1] > limit:
            raise ValueError(
                f"`inputs` must be at most the {limit} positions of the encoder long. Received: shape {inputs.shape}"
            )
        limit = self.decoder_position.max_length
        if limit is not None and max_length > limit:
            raise ValueError(
                f"`max_length` of generation must be at most the {limit} positions of the model. "
                f"Received: max_length={max_length}"
            )

    def prefill(
        self, inputs: Tensor, source_mask: Tensor | None = None, *, length: int, bounded: bool = True
    ) -> tuple[Nest, Nest]:
        """Prepares decoding from a source: an empty cache, and the memory that each step reads.

        Args:
            inputs: Int32 `(B, S)` source ids, or the features.
            source_mask: Optional bool `(B, S)`.
            length: Number of target tokens that the cache can hold.
            bounded: Whether a layer with a window keeps only its window; `decode` then takes one token per call.

        Returns:
            `(cache, memory)` for `decode`: the caches of `Decoder.init_cache`, and the projected memory with its mask;
            with `pointer_generator`, also the keys and values of its attention, and the source.
        """
        encoded, source_mask = self.encode_with_mask(inputs, source_mask)
        cache = self.decoder.init_cache(axis_size(inputs, 0), length, bounded)
        memory = self.decoder.project_memory(encoded), source_mask
        if self.pointer_generator is not None:
            memory = *memory, self.copy_attention.project_memory(encoded), ops.cast(inputs, "int32")
        return cache, memory

    def decode_hidden(
        self, target_ids: Tensor, positions: Tensor, cache: Nest, memory: Nest, attention_mask: Tensor | None = None
    ) -> tuple[Tensor, Nest]:
        """As `decode`, with the outputs of the decoder, float `(B, T, D)`, instead of logits.

        With `pointer_generator`, whose probabilities depend on the memory too, these are the logits.
        """
        projected, source_mask, *copied = memory
        hidden, cache = self.decoder.decode(
            self._embed_target(target_ids, positions),
            positions,
            cache,
            memory_mask=source_mask,
            attention_mask=attention_mask,
            memory_caches=projected,
        )
        if copied:
            projected, source_ids = copied
            hidden = self._copied(hidden, source_ids, memory_cache=projected, value_mask=source_mask)
        return hidden, cache

    def _copied(self, hidden, source_ids, **attended):
        """Logits of tokens that are generated or copied; `attended` are arguments of the attention to the memory."""
        context, scores = self.copy_attention(hidden, return_attention_scores=True, **attended)
        features = ops.concatenate([context, hidden], axis=-1)
        logits, mask = self.target_embedding(hidden, reverse=True), attended.get("query_mask")
        return self.pointer_generator(features, logits, ops.squeeze(scores, 1), source_ids, inputs_mask=mask)

    def alignment_layers(self) -> list[str]:
        if self.pointer_generator is not None:
            return [self.copy_attention.path]
        return [block.cross_attention.layer.path for block in self.decoder.blocks]

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits `(B, T, V)` of what `decode_hidden` returned."""
        return hidden if self.pointer_generator is not None else self.target_embedding(hidden, reverse=True)

    def _embed_target(self, ids, positions):
        x = self.decoder_position(self.target_embedding(self._embedded_ids(ids)), positions)
        norm = self.decoder_embedding_norm
        return self.dropout(x if norm is None else norm(x))
