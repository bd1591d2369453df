"""Encoder and decoder stacks that read the same text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import keras

from keras_attn.argument_checks import check_positive, is_count
from keras_attn.layers import Decoder, LastTokenPooling
from keras_attn.layers.transformer.stack import norm_like
from keras_attn.models.arguments import checked_decoder_options, checked_position, encoder_and_decoder
from keras_attn.models.encoder_model import EncoderModel
from keras_attn.models.end_token_mask import EndTokenMask
from keras_attn.models.shift_right import ShiftRight
from keras_attn.typing import Tensor

if TYPE_CHECKING:
    from keras_attn.layers.positions.position_encoding import PositionEncoding

_REFUSED = ("embeddings", "inputs", "num_token_types", "embedding_dim")


@keras.saving.register_keras_serializable(package="keras_attn")
class Seq2SeqEncoderModel(EncoderModel):
    """An `EncoderModel` whose vectors are those of a decoder that reads the text once more, shifted by one token.

    So BART and T5 classify: the last token of the decoder has seen the whole text through both stacks. The weights are
    those of a `Transformer` with one embedding table, without its logits.

    Args:
        vocabulary_size, num_layers, hidden_dim, num_heads, intermediate_dim: See `EncoderModel`.
        start_id: Id of the first input token of the decoder; "last" for the last token of each row that is not padding,
            as in mBART, where it is the language.
        end_id: Optional id of the token that ends a text: pooling ignores what follows the last one of a row.
        num_decoder_layers, decoder_options, decoder_position: See `Transformer`.
        **kwargs: All other arguments of `EncoderModel` except `embeddings`, `inputs`, `num_token_types` and
            `embedding_dim`. `pooling` defaults to `LastTokenPooling()`.

    Call arguments:
        inputs: Int32 `(B, T)`, or a dict of `token_ids` int32 `(B, T)` and optionally `padding_mask` bool `(B, T)`,
            False at padding (default `token_ids != pad_id`), which only the attention to the encoder uses: rows are
            right-padded.

    Returns:
        Float, see `EncoderModel`.

    Raises:
        ValueError: If an argument or an input is invalid; the message names it.

    Reference:
        [Lewis et al., 2020](https://arxiv.org/abs/1910.13461), section 3.1

    Example:

    >>> import numpy as np
    >>> from keras_attn.models import Seq2SeqEncoderModel
    >>> model = Seq2SeqEncoderModel(
    ...     100, 1, 16, 2, 32, start_id=2, end_id=1, head="sequence_classification", num_classes=3)
    >>> tuple(model(np.array([[5, 6, 1], [8, 1, 0]])).shape)
    (2, 3)
    """

    _takes_parts_of_texts = False
    _pooling = LastTokenPooling

    def __init__(
        self,
        vocabulary_size: int,
        num_layers: int,
        hidden_dim: int,
        num_heads: int,
        intermediate_dim: int | None = None,
        *,
        start_id: int | str,
        end_id: int | None = None,
        num_decoder_layers: int | None = None,
        decoder_options: Mapping[str, Any] | None = None,
        decoder_position: PositionEncoding | None = None,
        **kwargs: Any,
    ) -> None:
        if given := {name: kwargs[name] for name in _REFUSED if kwargs.get(name)}:
            raise ValueError(f"`Seq2SeqEncoderModel` must be given none of {list(_REFUSED)}. Received: {given}")
        if start_id != "last" and not is_count(start_id):
            raise ValueError(f"`start_id` must be a token id or 'last'. Received: start_id={start_id!r}")
        if end_id is not None and not is_count(end_id):
            raise ValueError(f"`end_id` must be a token id or None. Received: end_id={end_id!r}")
        check_positive(num_decoder_layers=1 if num_decoder_layers is None else num_decoder_layers)
        decoder_options = checked_decoder_options(decoder_options)
        decoder_position = checked_position("decoder_position", decoder_position)
        self.start_id, self.last_end_id, self.decoder_position = start_id, end_id, decoder_position
        # A function, since Keras would track layers in an attribute.
        self._stacks = lambda stack: encoder_and_decoder(stack, num_decoder_layers, decoder_options)
        super().__init__(vocabulary_size, num_layers, hidden_dim, num_heads, intermediate_dim, **kwargs)
        self._config |= {"start_id": start_id, "end_id": end_id, "num_decoder_layers": num_decoder_layers}
        self._config |= {"decoder_options": decoder_options or None, "decoder_position": decoder_position}

    def _encoder_arguments(self, stack, policy):
        encoder, decoder = self._stacks(stack)
        self.decoder_position = decoder["position"] = self.decoder_position or self.position
        self.shift = ShiftRight(self.start_id, dtype=policy, name="shift")
        self.decoder_embedding_norm = None
        if self.embedding_norm is not None:
            self.decoder_embedding_norm = norm_like(decoder, policy, "decoder_embedding_norm")
        self.decoder = Decoder(**decoder, dtype=policy, name="decoder")
        return encoder

    def _mask_of_head(self, ids, mask):
        if self.last_end_id is None:
            return mask
        layer = EndTokenMask(self.pad_id, self.last_end_id, last=True, dtype=self.dropout.dtype_policy, name="end_mask")
        return layer(ids, mask)

    def encode(self, inputs: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        """Returns the vectors of the decoder, float `(B, T, D)`.

        Args:
            inputs: Int32 `(B, T)` token ids.
            padding_mask: See the inputs of the model.
        """
        mask = self.padding_mask(inputs, padding_mask)
        memory = super().encode(inputs, mask)
        x = self.decoder_position(self.embedding(self.shift(inputs, mask)))
        if self.decoder_embedding_norm is not None:
            x = self.decoder_embedding_norm(x)
        return self.decoder(self.dropout(x), memory, memory_mask=mask)
