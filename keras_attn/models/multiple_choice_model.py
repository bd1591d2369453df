"""A classifier of which of several texts fits best."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras

from keras_attn import compat
from keras_attn.layers import TokenEmbedding
from keras_attn.layers.base.serialization import deserialized
from keras_attn.models.base import AttentionModel
from keras_attn.models.encoder_model import EncoderModel
from keras_attn.ops.arrays import reshape, reshape_rows, shape_of

if TYPE_CHECKING:
    from keras_attn.text.tokenizer import Tokenizer


@keras.saving.register_keras_serializable(package="keras_attn")
class MultipleChoiceModel(AttentionModel):
    """One logit for each of `C` texts per row, from an encoder that reads each text on its own.

    A softmax over the choices gives the probability of each, so that the loss is that of a classifier.

    Args:
        encoder: An `EncoderModel` of token ids that returns one logit per text, such as
            `head="sequence_classification", num_classes=1`.
        tokenizer: Optional tokenizer, saved with the model. Defaults to that of `encoder`.
        dtype: Dtype or dtype policy of the model.
        **kwargs: `name`, `trainable`.

    Call arguments:
        inputs: As of `encoder`, with an axis of choices after the batch: `token_ids` int32 `(B, C, T)`, or a dict of
            `token_ids` and optionally `padding_mask` bool `(B, C, T)`, `token_type_ids` int32 `(B, C, T)`, ...

    Returns:
        Float `(B, C)`.

    Raises:
        ValueError: If an argument or an input is invalid; the message names it.

    Reference:
        [Devlin et al., 2019](https://arxiv.org/abs/1810.04805), section 4.4

    Example:

    >>> import numpy as np
    >>> from keras_attn.models import EncoderModel, MultipleChoiceModel
    >>> encoder = EncoderModel(100, 1, 16, 2, 32, head="sequence_classification", num_classes=1)
    >>> tuple(MultipleChoiceModel(encoder)(np.array([[[5, 6, 7], [5, 8, 0], [5, 9, 0]]])).shape)
    (1, 3)
    """

    def __init__(
        self,
        encoder: EncoderModel,
        *,
        tokenizer: Tokenizer | None = None,
        dtype: str | keras.DTypePolicy | None = None,
        **kwargs: Any,
    ) -> None:
        encoder = deserialized(encoder)
        is_encoder = isinstance(encoder, EncoderModel) and not encoder.features
        if not is_encoder or tuple(getattr(encoder.output, "shape", ()))[1:] != (1,):
            raise ValueError(
                "`encoder` must be an EncoderModel of token ids that returns one logit, such as "
                f"head='sequence_classification', num_classes=1. Received: encoder={encoder!r}"
            )
        sizes = {"vocabulary_size": encoder.embedding.input_dim}
        tokenizer = encoder.tokenizer if tokenizer is None else tokenizer
        policy = self._prepare(sizes, encoder.pad_id, 0.0, dtype, tokenizer=tokenizer)
        self.encoder = encoder
        inputs = {
            name: keras.Input((None, *x.shape[1:]), dtype=x.dtype, name=name, optional=compat.operation_of(x).optional)
            for name, x in encoder.input.items()
        }
        fold, unfold = FoldChoices(name="fold", dtype=policy), UnfoldChoices(name="unfold", dtype=policy)
        logits = encoder({name: fold(x) for name, x in inputs.items()})
        super().__init__(
            inputs, unfold(logits, inputs["token_ids"]), policy=policy, config={"encoder": encoder}, **kwargs
        )

    @property
    def embedding(self) -> TokenEmbedding:
        """The embedding table."""
        return self.encoder.embedding

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        return {name: value for name, value in config.items() if name not in ("pad_id", "dropout")}


class FoldChoices(keras.layers.Layer):
    """`(B, C, ...)` to `(B * C, ...)`, of any dtype; None for an optional input that is absent."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs, autocast=False)

    def call(self, inputs):
        if inputs is None:
            return None
        batch, choices, *rest = shape_of(inputs)
        return reshape_rows(inputs, batch * choices, *rest)

    def compute_output_spec(self, inputs):
        return keras.KerasTensor((None, *inputs.shape[2:]), dtype=inputs.dtype)


class UnfoldChoices(keras.layers.Layer):
    """`(B * C, 1)` to `(B, C)`, with the sizes of a second tensor `(B, C, ...)`."""

    def call(self, inputs, like):
        return reshape(inputs, shape_of(like)[:2])

    def compute_output_spec(self, inputs, like):
        return keras.KerasTensor(like.shape[:2], dtype=inputs.dtype)
