"""The encoder-decoder Transformer."""

import keras
from keras import ops

from keras_attn.layers import (
    DecoderBlock,
    EncoderBlock,
    PaddingMask,
    PositionEncoding,
    SinusoidalPositionEncoding,
    TokenEmbedding,
)
from keras_attn.layers.argument_checks import check_positive
from keras_attn.layers.serialization import deserialized, serialized
from keras_attn.models.base import AttentionModel
from keras_attn.ops import cache as kv_cache


@keras.saving.register_keras_serializable(package="keras_attn")
class Transformer(AttentionModel):
    """Encoder and decoder stacks over token embeddings: source ids and target ids in, logits out.

    Args:
        vocabulary_size: number of tokens `V`.
        num_layers: blocks in the encoder, and in the decoder.
        hidden_dim: model width `D`.
        num_heads: attention heads, a divisor of `hidden_dim`.
        intermediate_dim: inner width of the feed-forward networks.
        source_vocabulary_size: gives the source an embedding table of its own; one table serves both where None.
        tie_output: whether the output projection is the target table.
        dropout: rate of the dropout on embeddings and on each sub-layer's output.
        attention_dropout, activation_dropout: see `EncoderBlock`.
        activation: activation of the feed-forward networks.
        norm: "post" as in the paper, or "pre" (which ends each stack with one more norm), "sandwich" or None.
        norm_epsilon: added to the variance in layer normalisation.
        use_attention_bias: whether the projections of attention have biases.
        scale_embeddings: whether embeddings are multiplied by `sqrt(hidden_dim)`.
        position: a `PositionEncoding`; sinusoidal where None.
        mechanism: attention kernel, see `MultiHeadAttention`.
        pad_id: the id of padding.
        tokenizer: optional tokenizer, saved with the model.
        generation_config: optional `keras_attn.generation.GenerationConfig`, saved with the model.
        dtype: dtype or dtype policy of all layers.
        **kwargs: `name` and `trainable`.

    Call arguments:
        inputs: dict of `source_ids` int32 `(B, S)` and `target_ids` int32 `(B, T)`, and optionally of boolean masks,
            True = may attend: `source_mask` `(B, S)` (`source_ids != pad_id` where absent), `target_mask` `(B, T)`,
            `source_attention_mask` `(B, S, S)`, `target_attention_mask` `(B, T, T)`, which adds to the causal mask,
            and `memory_attention_mask` `(B, T, S)`; for these three, `B` may be 1.

    Returns:
        Logits, float `(B, T, V)`.

    Raises:
        ValueError: an argument or an input does not fit; the message names it.

    Reference:
        [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762)

    Example:

    >>> import numpy as np
    >>> from keras_attn.models import Transformer
    >>> model = Transformer(100, num_layers=1, hidden_dim=16, num_heads=2, intermediate_dim=32)
    >>> tuple(model({"source_ids": np.array([[5, 6, 7]]), "target_ids": np.array([[2, 8]])}).shape)
    (1, 2, 100)
    """

    def __init__(
        self,
        vocabulary_size,
        num_layers=6,
        hidden_dim=512,
        num_heads=8,
        intermediate_dim=2048,
        *,
        source_vocabulary_size=None,
        tie_output=True,
        dropout=0.1,
        attention_dropout=0.0,
        activation_dropout=0.0,
        activation="relu",
        norm="post",
        norm_epsilon=1e-6,
        use_attention_bias=True,
        scale_embeddings=True,
        position=None,
        mechanism="auto",
        pad_id=0,
        tokenizer=None,
        generation_config=None,
        dtype=None,
        **kwargs,
    ):
        check_positive(
            vocabulary_size=vocabulary_size,
            num_layers=num_layers,
            hidden_dim=hidden_dim,
            num_heads=num_heads,
            intermediate_dim=intermediate_dim,
        )
        position = deserialized(position)
        if position is not None and not isinstance(position, PositionEncoding):
            raise ValueError(f"`position` must be a PositionEncoding layer. Received: position={position!r}")
        tokenizer = deserialized(tokenizer)
        if tokenizer is not None and tokenizer.vocabulary_size != vocabulary_size:
            raise ValueError(
                f"`vocabulary_size` must be that of the tokenizer, {tokenizer.vocabulary_size}. "
                f"Received: vocabulary_size={vocabulary_size}"
            )
        policy = keras.dtype_policies.get(dtype) if dtype is not None else keras.config.dtype_policy()
        self.num_layers = num_layers
        self.hidden_dim = hidden_dim
        self.num_heads = num_heads
        self.pad_id = pad_id
        self.tokenizer = tokenizer
        self.generation_config = deserialized(generation_config)
        self.position = position or SinusoidalPositionEncoding(dtype=policy, name="position")
        self.target_embedding = TokenEmbedding(
            vocabulary_size,
            hidden_dim,
            scale=scale_embeddings,
            tie_weights=tie_output,
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
        self.padding_mask = PaddingMask(pad_id, dtype=policy, name="padding_mask")
        self.dropout = keras.layers.Dropout(dropout, dtype=policy, name="dropout")
        settings = {
            "num_heads": num_heads,
            "intermediate_dim": intermediate_dim,
            "activation": activation,
            "norm": norm,
            "norm_epsilon": norm_epsilon,
            "dropout": dropout,
            "attention_dropout": attention_dropout,
            "activation_dropout": activation_dropout,
            "use_attention_bias": use_attention_bias,
            "position": self.position,
            "mechanism": mechanism,
            "dtype": policy,
        }
        self.encoder_blocks = [EncoderBlock(**settings, name=f"encoder_{i}") for i in range(num_layers)]
        self.decoder_blocks = [DecoderBlock(**settings, name=f"decoder_{i}") for i in range(num_layers)]
        # Post-norm blocks end with a norm of their own.
        self.encoder_norm = self.decoder_norm = None
        if norm in ("pre", "sandwich"):
            self.encoder_norm, self.decoder_norm = (
                keras.layers.LayerNormalization(epsilon=norm_epsilon, dtype=policy, name=f"{side}_norm")
                for side in ("encoder", "decoder")
            )

        inputs = {
            "source_ids": keras.Input((None,), dtype="int32", name="source_ids"),
            "target_ids": keras.Input((None,), dtype="int32", name="target_ids"),
        }
        masks = {"source_mask": 1, "target_mask": 1}
        masks |= {f"{side}_attention_mask": 2 for side in ("source", "target", "memory")}
        for mask, rank in masks.items():
            inputs[mask] = keras.Input((None,) * rank, dtype="bool", name=mask, optional=True)
        source_mask = self.padding_mask(inputs["source_ids"], inputs["source_mask"])
        memory = self.encode(inputs["source_ids"], source_mask, inputs["source_attention_mask"])
        x = self._embed(self.target_embedding, inputs["target_ids"], None)
        for block in self.decoder_blocks:
            x = block(
                x,
                memory,
                inputs_mask=inputs["target_mask"],
                memory_mask=source_mask,
                attention_mask=inputs["target_attention_mask"],
                memory_attention_mask=inputs["memory_attention_mask"],
            )
        super().__init__(inputs=inputs, outputs=self._logits(x), **kwargs)
        self._distribute_policy(policy)
        self._config = {
            "vocabulary_size": vocabulary_size,
            "num_layers": num_layers,
            "hidden_dim": hidden_dim,
            "num_heads": num_heads,
            "intermediate_dim": intermediate_dim,
            "source_vocabulary_size": source_vocabulary_size,
            "tie_output": tie_output,
            "dropout": dropout,
            "attention_dropout": attention_dropout,
            "activation_dropout": activation_dropout,
            "activation": keras.activations.serialize(keras.activations.get(activation)),
            "norm": norm,
            "norm_epsilon": norm_epsilon,
            "use_attention_bias": use_attention_bias,
            "scale_embeddings": scale_embeddings,
            "position": None if position is None else serialized(self.position),
            "mechanism": mechanism,
            "pad_id": pad_id,
        }

    @classmethod
    def base(cls, vocabulary_size, **kwargs):
        """The paper's base model: 6 layers of width 512 with 8 heads, dropout 0.1; other arguments by keyword."""
        return cls(vocabulary_size, **{"use_attention_bias": False, **kwargs})

    @classmethod
    def big(cls, vocabulary_size, **kwargs):
        """The paper's big model: 6 layers of width 1024 with 16 heads, dropout 0.3; other arguments by keyword."""
        settings = {"hidden_dim": 1024, "num_heads": 16, "intermediate_dim": 4096, "dropout": 0.3}
        return cls(vocabulary_size, **{**settings, "use_attention_bias": False, **kwargs})

    def encode(self, source_ids, source_mask=None, source_attention_mask=None):
        """Runs the encoder: int32 `(B, S)`, optional bool masks `(B, S)` and `(B, S, S)`, to float `(B, S, D)`."""
        source_mask = self.padding_mask(source_ids, source_mask)
        x = self._embed(self.source_embedding, source_ids, None)
        for block in self.encoder_blocks:
            x = block(x, inputs_mask=source_mask, attention_mask=source_attention_mask)
        return x if self.encoder_norm is None else self.encoder_norm(x)

    def prefill(self, source_ids, source_mask=None, *, length):
        """Everything that decoding needs of a source: an empty cache, and the memory that each step reads.

        Args:
            source_ids: int32 `(B, S)`.
            source_mask: optional bool `(B, S)`.
            length: number of target positions that the cache can hold.

        Returns:
            `(cache, memory)` for `decode`: a `(key, value)` pair a block, and the projected memory with its mask.

        Raises:
            ValueError: `length` is more than the positions that the model can tell apart.
        """
        limit = self.position.max_length
        if limit is not None and length > limit:
            raise ValueError(
                f"`length`, which is `max_length` of generation, must be at most the {limit} positions of the model. "
                f"Received: length={length}"
            )
        source_mask = self.padding_mask(source_ids, source_mask)
        encoded = self.encode(source_ids, source_mask)
        batch, width = ops.shape(source_ids)[0], self.hidden_dim // self.num_heads
        cache = tuple(
            kv_cache.empty(batch, length, self.num_heads, width, self.target_embedding.compute_dtype)
            for _ in self.decoder_blocks
        )
        return cache, (tuple(block.project_memory(encoded) for block in self.decoder_blocks), source_mask)

    def decode(self, target_ids, positions, cache, memory):
        """Logits of the next tokens.

        Args:
            target_ids: int32 `(B, T)`, the tokens at `positions`; one a row in a generation loop.
            positions: int32 `(B, T)` or `(1, T)`.
            cache, memory: from `prefill`, or from the last call.

        Returns:
            `(logits, cache)`: float `(B, T, V)`, and the cache with these tokens in it.
        """
        projected, source_mask = memory
        x = self._embed(self.target_embedding, target_ids, positions)
        caches = []
        for block, block_cache, block_memory in zip(self.decoder_blocks, cache, projected, strict=True):
            x, block_cache = block(
                x, memory_mask=source_mask, positions=positions, cache=block_cache, memory_cache=block_memory
            )
            caches.append(block_cache)
        return self._logits(x), tuple(caches)

    def _embed(self, embedding, ids, positions):
        return self.dropout(self.position(embedding(ids), positions))

    def _logits(self, x):
        x = x if self.decoder_norm is None else self.decoder_norm(x)
        return self.target_embedding(x, reverse=True)

    def get_config(self):
        return {
            "name": self.name,
            "trainable": self.trainable,
            **self._config,
            "dtype": keras.dtype_policies.serialize(self._collect_policy()),
            "tokenizer": serialized(self.tokenizer),
            "generation_config": serialized(self.generation_config),
        }
