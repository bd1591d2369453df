"""Encoder-only Transformer model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import keras

from keras_attn.argument_checks import check_count, check_positive, is_count
from keras_attn.labels import Labels
from keras_attn.layers import (
    Encoder,
    FirstTokenPooling,
    LearnedPositionEmbedding,
    Projection,
    TokenEmbedding,
    TokenTypeEmbedding,
)
from keras_attn.layers.base.normalization import normalization
from keras_attn.layers.base.serialization import deserialized
from keras_attn.layers.pooling.base_pooling import BasePooling
from keras_attn.models.arguments import checked_position, size_of_heads, split_options, stack_arguments
from keras_attn.models.base import AttentionModel
from keras_attn.models.choices import MergeChoices, SplitChoices
from keras_attn.models.encoder_heads import HEADS, PREDICT_TOKENS, check_head, dense_options
from keras_attn.models.end_token_mask import EndTokenMask
from keras_attn.models.features import AttachMask, FeatureMask, checked_embeddings, config_of_specs
from keras_attn.typing import Activation, Nest, Tensor

if TYPE_CHECKING:
    from keras_attn.layers.positions.position_encoding import PositionEncoding
    from keras_attn.text.tokenizer import Tokenizer


@keras.saving.register_keras_serializable(package="keras_attn")
class EncoderModel(AttentionModel):
    """A bidirectional encoder stack over token embeddings with a head, from ids to vectors or logits.

    | `head` | output |
    | --- | --- |
    | `None` | the vectors of the encoder, `(B, T, D)` |
    | `"sequence_classification"` | `W_c tanh(W_p pooling(x))`, `(B, num_classes)`; see `head_options` |
    | `"multiple_choice"` | the same with one class for each of `C` texts, `(B, C)` |
    | `"token_classification"` | `W_c x`, `(B, T, num_classes)` |
    | `"replaced_token_detection"` | `W_2 activation(W_1 x)`, `(B, T)`, the logit that a token was replaced; ELECTRA's |
    | `"masked_lm"` | `E norm(activation(W_t x)) + b` with the embedding table `E`, `(B, T, V)` |
    | `"pretraining"` | a dict: `prediction_logits` as "masked_lm", `seq_relationship_logits` of two classes; BERT's |
    | a Keras layer | `head(x)`, where `x` has its Keras mask |
    | a dict of Keras layers | a dict of their outputs by name |

    With `embeddings`, the inputs are features instead of ids: an image classifier or an audio encoder.

    Args:
        vocabulary_size: Rows of the embedding table `V`, at least the tokenizer's vocabulary size. None with
            `embeddings`.
        num_layers: Number of blocks.
        hidden_dim: Model width `D`.
        num_heads: Number of attention heads, a divisor of `hidden_dim` unless `key_dim` is given.
        intermediate_dim: Inner width of the feed-forward networks; ignored if `feed_forward` is given.
        head: See the table. A layer may be a `ClassificationHead`, a pooling layer, a `keras.Sequential`, or your own.
        head_options: Optional dict for the dense layer before the last of a head: `activation` (defaults to "tanh" for
            sequences and choices, else to that of the model), `use_bias` (True), and `norm`, whether a norm follows
            (True for "masked_lm" and "pretraining", where they are of the logits of tokens).
        num_classes: Number of classes of a classifier. Defaults to the number of `labels`.
        labels: Optional names of the classes, in the order of `LabelledTextDataset.labels`; saved with the model.
            `Trainer` compares them with those of the data, and exports contain them.
        pooling: Pooling layer of "sequence_classification" and "multiple_choice". Defaults to `FirstTokenPooling()`.
        embeddings: Optional Keras layer that turns features into vectors `(B, T, embedding_dim or hidden_dim)`, instead
            of the embedding table: a `PatchEmbedding`, an `AudioFrontEnd`, a dense layer. If it supports masking, the
            Keras mask of its output marks padding. Position, norm and dropout apply to its output.
        inputs: With `embeddings`, dict of a `keras.Input` per tensor that it reads, by name; a layer with several is
            called with the dict. Defaults to the inputs of `embeddings` if it is a functional model with such a dict.
        num_token_types: Number of token types with an embedding; 0 for none.
        embedding_dim: Width of the embeddings, which are projected to `hidden_dim`. Defaults to `hidden_dim`.
        embedding_norm: Whether to normalise the embeddings.
        dropout: Dropout rate of the embeddings, of the output of each sub-layer, and before a classifier.
        activation: Activation of the feed-forward networks and of the masked-LM head.
        norm: "post" as in BERT, or another `norm` of `Residual`.
        norm_layer, norm_epsilon: See `Residual`.
        scale_embeddings: Whether to multiply embeddings by the square root of their width.
        position: A `PositionEncoding`. Defaults to `LearnedPositionEmbedding(512)`.
        end_id: Optional id of the token that ends a text: tokens after the first one count as padding, as in CLIP.
            "largest" ends each row at the first of its largest ids.
        mask_padding: Whether padding is hidden; False as in SigLIP, which attends to it.
        pad_id: Padding id. Defaults to that of the tokenizer, or 0 without one.
        tokenizer: Optional tokenizer, saved with the model.
        dtype: Dtype or dtype policy of all layers.
        **kwargs: `name`, `trainable`, and all other arguments of `Encoder`: `share_weights`, `attention_dropout`,
            `feed_forward`, `layer_options`, ...

    Call arguments:
        inputs: Int32 `(B, T)`, or a dict of `token_ids` int32 `(B, T)` and optionally
            `padding_mask` bool `(B, T)`, False at padding (default `token_ids != pad_id`; see also `end_id` and
            `mask_padding`);
            `attention_mask` bool `(B, T, T)`, True = may attend; `positions` int32 `(B, T)` (default `0, 1, ...`);
            `segments` int32 `(B, T)`, the text of each token in a row of several packed texts; with `num_token_types`,
            `token_type_ids` int32 `(B, T)` (default 0); with `head="masked_lm"` or "pretraining", `mask_positions`
            int32 `(B, P)`, as from `mask_tokens`: only the logits of these tokens are computed, `(B, P, V)`. With
            `head="multiple_choice"`, only `token_ids`, `padding_mask` and `token_type_ids`, each `(B, C, T)`. With
            `embeddings`, the features replace `token_ids`, and `padding_mask` is over their second axis if
            `embeddings` supports masking.

    Returns:
        Float, see the table.

    Raises:
        ValueError: If an argument or an input is invalid; the message names it.

    Reference:
        [Devlin et al., 2019](https://arxiv.org/abs/1810.04805); `embedding_dim` and `share_weights`
        [Lan et al., 2020](https://arxiv.org/abs/1909.11942)

    Example:

    >>> import numpy as np
    >>> from keras_attn.models import EncoderModel
    >>> model = EncoderModel(100, 1, 16, 2, 32, head="sequence_classification", num_classes=3)
    >>> tuple(model({"token_ids": np.array([[5, 6, 7], [8, 9, 0]])}).shape)
    (2, 3)
    """

    # Whether there are inputs that select what a token may attend to.
    _takes_parts_of_texts = True
    _pooling = FirstTokenPooling

    def __init__(
        self,
        vocabulary_size: int | None,
        num_layers: int,
        hidden_dim: int,
        num_heads: int | None,
        intermediate_dim: int | None = None,
        *,
        embeddings: keras.layers.Layer | None = None,
        inputs: Mapping[str, Any] | None = None,
        head: str | keras.layers.Layer | Mapping[str, keras.layers.Layer] | None = None,
        head_options: Mapping[str, Any] | None = None,
        num_classes: int | None = None,
        labels: Sequence[str] | None = None,
        pooling: BasePooling | None = None,
        num_token_types: int = 0,
        embedding_dim: int | None = None,
        embedding_norm: bool = True,
        dropout: float = 0.1,
        activation: Activation = "gelu",
        norm: str | Mapping[str, str | None] | None = "post",
        norm_layer: str = "layer",
        norm_epsilon: float = 1e-12,
        scale_embeddings: bool = False,
        position: PositionEncoding | None = None,
        end_id: int | str | None = None,
        mask_padding: bool = True,
        pad_id: int | None = None,
        tokenizer: Tokenizer | None = None,
        dtype: str | keras.DTypePolicy | None = None,
        **kwargs: Any,
    ) -> None:
        reserved = ("padding_mask", "attention_mask", "positions", "segments", "token_type_ids", "mask_positions")
        self.embeddings, self.features = checked_embeddings(embeddings, inputs, reserved)
        sizes = {"num_layers": num_layers, "hidden_dim": hidden_dim, **size_of_heads(num_heads, kwargs)}
        if not self.features:
            if vocabulary_size is None:
                raise ValueError(
                    "`vocabulary_size` must be a positive integer unless `embeddings` is given. Received: None"
                )
            sizes = {"vocabulary_size": vocabulary_size, **sizes}
        elif vocabulary_size is not None or tokenizer is not None or head in (*PREDICT_TOKENS, "multiple_choice"):
            raise ValueError(
                "`embeddings` must be given without `vocabulary_size`, `tokenizer` and the heads "
                f"{[*PREDICT_TOKENS, 'multiple_choice']}. Received: vocabulary_size={vocabulary_size}, "
                f"tokenizer={tokenizer!r}, head={head!r}"
            )
        if end_id not in (None, "largest") and not is_count(end_id):
            raise ValueError(f"`end_id` must be None, a token id or 'largest'. Received: end_id={end_id!r}")
        if self.features and (end_id is not None or not mask_padding):
            raise ValueError(
                "`embeddings` must be given without `end_id` and `mask_padding`. "
                f"Received: end_id={end_id!r}, mask_padding={mask_padding}"
            )
        self.end_id, self.mask_padding = end_id, mask_padding
        check_positive(embedding_dim=1 if embedding_dim is None else embedding_dim)
        check_count(num_token_types=num_token_types)
        pooling, head = deserialized(pooling), deserialized(head)
        self.labels = labels = None if labels is None else Labels(labels).names
        if labels and num_classes is None and (head is None or isinstance(head, str)):
            num_classes = len(labels)
        check_head(head, num_classes, labels, pooling)
        predicts_tokens = isinstance(head, str) and head in PREDICT_TOKENS
        options_of_dense = dense_options(head, head_options, activation)
        own, options = split_options(kwargs)
        position = checked_position("position", position)
        policy = self._prepare(sizes, pad_id, dropout, dtype, tokenizer=tokenizer)

        def new_norm(name):
            return normalization(norm_layer, norm_epsilon, policy, name)

        def dense(name, equation, width, activation=None, use_bias=True):
            bias_axes = equation[-1] if use_bias else None
            return Projection(equation, width, bias_axes=bias_axes, activation=activation, dtype=policy, name=name)

        self.embedding, width = None, hidden_dim if embedding_dim is None else embedding_dim
        if not self.features:
            self.embedding = TokenEmbedding(
                vocabulary_size,
                width,
                scale=scale_embeddings,
                use_bias=predicts_tokens,
                dtype=policy,
                name="embedding",
            )
        self.hidden_dim = hidden_dim
        self.position = position or LearnedPositionEmbedding(512, dtype=policy, name="position")
        self.token_types = self.embedding_norm = self.embedding_projection = None
        if num_token_types:
            self.token_types = TokenTypeEmbedding(num_token_types, dtype=policy, name="token_types")
        if embedding_norm:
            self.embedding_norm = new_norm("embedding_norm")
        if embedding_dim is not None:
            self.embedding_projection = dense("embedding_projection", "abc,cd->abd", (None, hidden_dim))
        settings = {"num_layers": num_layers, "num_heads": num_heads, "norm": norm, "activation": activation}
        settings |= {"norm_layer": norm_layer, "norm_epsilon": norm_epsilon}
        stack = stack_arguments(options, intermediate_dim, **settings, dropout=dropout, position=self.position)
        self.encoder = Encoder(**self._encoder_arguments(stack, policy), dtype=policy, name="encoder")

        choices = head == "multiple_choice"
        whole = choices or not self._takes_parts_of_texts
        masks = {"padding_mask": 1} if whole else {"padding_mask": 1, "attention_mask": 2}
        ids = [] if whole else ["positions", "segments"]
        ids += ["token_type_ids"] if num_token_types else []
        chosen = ["mask_positions"] if predicts_tokens else []
        tensors, first, mask = self._symbolic_inputs(
            "token_ids", masks=masks, optional_ids=ids + chosen, choices=choices
        )
        optional = {name: tensors[name] for name in ("attention_mask", *ids) if name in tensors}
        if choices:
            merge = MergeChoices(dtype=policy, name="merge_choices")
            mask = merge(first, mask)
            optional = {name: merge(first, x) for name, x in optional.items()}
            first = merge(first, first)
        vectors = self.encode(first, mask, **optional)
        if self.features:
            # It is attached to the vectors.
            mask = None
        mask = self._mask_of_head(first, mask)
        if head is None or isinstance(head, str):
            outputs = HEADS[head](
                vectors,
                mask,
                mask_positions=tensors.get("mask_positions"),
                dense=dense,
                new_norm=new_norm,
                dropout=self.dropout,
                embedding=self.embedding,
                options=options_of_dense,
                num_classes=1 if choices else num_classes,
                pooling=pooling or self._pooling(dtype=policy, name="pooling"),
            )
            if choices:
                outputs = SplitChoices(dtype=policy, name="split_choices")(outputs, tensors["token_ids"])
        else:
            if mask is not None:
                vectors = AttachMask(dtype=policy, name="attach_head_mask")(vectors, mask)
            several = isinstance(head, Mapping)
            outputs = {name: layer(vectors) for name, layer in head.items()} if several else head(vectors)
            if labels is not None and (several or outputs.shape[-1] != len(labels)):
                raise ValueError(
                    f"`labels` must name each of the logits of a single `head`, shape {outputs.shape}. "
                    f"Received: labels={labels}"
                    if not several
                    else f"`labels` must be None with several heads. Received: labels={labels}"
                )
        config = {
            **options,
            **settings,
            "vocabulary_size": vocabulary_size,
            **sizes,
            "intermediate_dim": intermediate_dim,
            "embeddings": self.embeddings,
            "inputs": config_of_specs(self.features),
            "head": head,
            "head_options": head_options,
            "num_classes": num_classes,
            "labels": labels,
            "pooling": pooling,
            "num_token_types": num_token_types,
            "embedding_dim": embedding_dim,
            "embedding_norm": embedding_norm,
            "scale_embeddings": scale_embeddings,
            "end_id": end_id,
            "mask_padding": mask_padding,
            "position": position,
        }
        super().__init__(tensors, outputs, policy=policy, config=config, **own)

    def _encoder_arguments(self, stack, policy):
        """The arguments of the encoder, from those of all stacks."""
        return stack

    def _mask_of_head(self, ids, mask):
        """The mask that the head gets, from the padding mask."""
        return mask

    def _mask_layer(self, pad_id, **kwargs):
        if self.end_id is not None:
            return EndTokenMask(pad_id, end_id=self.end_id, **kwargs)
        return super()._mask_layer(pad_id, **kwargs) if self.mask_padding else FeatureMask(pad_id, **kwargs)

    @property
    def padding_label(self) -> int | None:
        """None if labels are classes. See `AttentionModel.padding_label`."""
        return super().padding_label if self._config["head"] == "masked_lm" else None

    @classmethod
    def bert_base(cls, vocabulary_size: int, **kwargs: Any) -> Self:
        """BERT base: 12 layers of width 768 with 12 heads. Takes other arguments by keyword."""
        return cls(vocabulary_size, **{**_bert(num_layers=12, hidden_dim=768, num_heads=12), **kwargs})

    @classmethod
    def bert_large(cls, vocabulary_size: int, **kwargs: Any) -> Self:
        """BERT large: 24 layers of width 1024 with 16 heads. Takes other arguments by keyword."""
        return cls(vocabulary_size, **{**_bert(num_layers=24, hidden_dim=1024, num_heads=16), **kwargs})

    def encode(
        self,
        inputs: Nest,
        padding_mask: Tensor | None = None,
        attention_mask: Tensor | None = None,
        positions: Tensor | None = None,
        segments: Tensor | None = None,
        token_type_ids: Tensor | None = None,
    ) -> Tensor:
        """Returns the vectors of the encoder, float `(B, T, D)`.

        Args:
            inputs: Int32 `(B, T)` token ids; with `embeddings`, a feature tensor, or a dict of several.
            padding_mask, attention_mask, positions, segments, token_type_ids: See the inputs of the model.
        """
        x, padding_mask = self._embed_inputs(inputs, padding_mask, self.embedding)
        if self.token_types is not None:
            x = self.token_types(x, token_type_ids)
        elif token_type_ids is not None:
            raise ValueError(f"`token_type_ids` must be None without `num_token_types`. Received: {token_type_ids}")
        x = self.position(x, positions)
        if self.embedding_norm is not None:
            x = self.embedding_norm(x)
        x = self.dropout(x)
        if self.embedding_projection is None and x.shape[-1] != self.hidden_dim:
            raise ValueError(
                f"`embeddings` must return vectors of hidden_dim={self.hidden_dim}, or `embedding_dim` be their width. "
                f"Received: shape {x.shape}"
            )
        if self.embedding_projection is not None:
            x = self.embedding_projection(x)
        return self.encoder(
            x,
            inputs_mask=padding_mask,
            attention_mask=attention_mask,
            positions=positions,
            segments=segments,
        )


def _bert(hidden_dim, **sizes):
    settings = {"intermediate_dim": 4 * hidden_dim, "num_token_types": 2, "attention_dropout": 0.1}
    return {"hidden_dim": hidden_dim, **sizes, **settings}
