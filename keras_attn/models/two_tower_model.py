"""Two encoders of which the vectors are compared, such as CLIP."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import keras

from keras_attn import compat
from keras_attn.layers import Similarity, TokenEmbedding
from keras_attn.layers.base.serialization import deserialized
from keras_attn.models.base import AttentionModel
from keras_attn.models.encoder_model import EncoderModel
from keras_attn.ops.pooling import normalized
from keras_attn.typing import Nest, Tensor

if TYPE_CHECKING:
    from keras_attn.text.tokenizer import Tokenizer


@keras.saving.register_keras_serializable(package="keras_attn")
class TwoTowerModel(AttentionModel):
    """Similarities of images and texts: `exp(s) cos(f(image_i), g(text_j)) + b`, as in CLIP and SigLIP.

    `f` and `g` are encoders with a head that returns one vector, such as an `EmbeddingHead`.

    Args:
        image_encoder: An `EncoderModel` with `embeddings`, of images or other features.
        text_encoder: An `EncoderModel` of token ids.
        use_bias: Whether to add a trained number `b`, as SigLIP does.
        initial_scale: Initial value of `s`. Defaults to that of CLIP, `log(1 / 0.07)`.
        tokenizer: Optional tokenizer, saved with the model. Defaults to that of `text_encoder`.
        dtype: Dtype or dtype policy of the similarities.
        **kwargs: `name`, `trainable`.

    Call arguments:
        inputs: Dict of all inputs of both encoders by name, such as `images` float `(B, H, W, C)` and `token_ids` int32
            `(S, T)`. Optional ones may be left out.

    Returns:
        Float `(B, S)`, an entry for each image and text.

    Raises:
        ValueError: If an argument or an input is invalid; the message names it.

    Reference:
        [Radford et al., 2021](https://arxiv.org/abs/2103.00020)

    Example:

    >>> import keras
    >>> import numpy as np
    >>> from keras_attn.layers import EmbeddingHead, PatchEmbedding
    >>> from keras_attn.models import EncoderModel, TwoTowerModel
    >>> patches, images = PatchEmbedding(4, 16), {"images": keras.Input((8, 8, 3))}
    >>> image_encoder = EncoderModel(None, 1, 16, 2, 32, embeddings=patches, inputs=images, head=EmbeddingHead())
    >>> text_encoder = EncoderModel(100, 1, 16, 2, 32, head=EmbeddingHead())
    >>> model = TwoTowerModel(image_encoder, text_encoder)
    >>> ids = np.array([[5, 6, 7], [8, 9, 0], [3, 4, 0]])
    >>> tuple(model({"images": np.ones((2, 8, 8, 3), "float32"), "token_ids": ids}).shape)
    (2, 3)
    """

    has_one_batch = False

    def __init__(
        self,
        image_encoder: EncoderModel,
        text_encoder: EncoderModel,
        use_bias: bool = False,
        initial_scale: float = math.log(1 / 0.07),
        *,
        tokenizer: Tokenizer | None = None,
        dtype: str | keras.DTypePolicy | None = None,
        **kwargs: Any,
    ) -> None:
        image_encoder, text_encoder = deserialized(image_encoder), deserialized(text_encoder)
        for name, encoder, needs in (
            ("image_encoder", image_encoder, "with `embeddings`"),
            ("text_encoder", text_encoder, "of token ids"),
        ):
            fits = isinstance(encoder, EncoderModel) and bool(encoder.features) == (name == "image_encoder")
            if not fits or len(getattr(encoder.output, "shape", ())) != 2:
                raise ValueError(
                    f"`{name}` must be an EncoderModel {needs}, whose head returns one vector. "
                    f"Received: {name}={encoder!r}"
                )
        if shared := sorted(set(image_encoder.features) & set(text_encoder.input)):
            raise ValueError(f"`image_encoder` must have inputs of other names than the texts. Received: {shared}")
        sizes = {"vocabulary_size": text_encoder.embedding.input_dim}
        tokenizer = text_encoder.tokenizer if tokenizer is None else tokenizer
        policy = self._prepare(sizes, text_encoder.pad_id, 0.0, dtype, tokenizer=tokenizer)
        self.image_encoder, self.text_encoder = image_encoder, text_encoder
        self.similarity = Similarity(use_bias, initial_scale, dtype=policy, name="similarity")
        images = {name: _input(image_encoder, name) for name in image_encoder.features}
        texts = {name: _input(text_encoder, name) for name in text_encoder.input}
        logits = self.similarity(image_encoder(images), text_encoder(texts))
        config = {
            "image_encoder": image_encoder,
            "text_encoder": text_encoder,
            "use_bias": use_bias,
            "initial_scale": initial_scale,
        }
        super().__init__({**images, **texts}, logits, policy=policy, config=config, **kwargs)

    @property
    def embedding(self) -> TokenEmbedding:
        """The embedding table of the texts."""
        return self.text_encoder.embedding

    def encode_images(self, inputs: Nest) -> Tensor:
        """The vectors of images, of length 1: float `(B, D)`."""
        return normalized(self.image_encoder(inputs))

    def encode_texts(self, inputs: Nest) -> Tensor:
        """The vectors of texts, of length 1: float `(S, D)`."""
        return normalized(self.text_encoder(inputs))

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        return {name: value for name, value in config.items() if name not in ("pad_id", "dropout")}


def _input(model, name):
    """An input like that of a model."""
    symbol = model.input[name]
    optional = compat.operation_of(symbol).optional
    return keras.Input(symbol.shape[1:], dtype=symbol.dtype, name=name, optional=optional)
