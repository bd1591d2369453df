"""The heads of `EncoderModel`."""

from collections.abc import Mapping

import keras

from keras_attn.argument_checks import check_positive
from keras_attn.layers.base.serialization import deserialized
from keras_attn.layers.pooling.base_pooling import BasePooling
from keras_attn.models.token_gather import TokenGather


def _vectors(x, mask, **_):
    return x


def _sequence_classification(x, mask, *, dense, new_norm, dropout, num_classes, pooling, options, **_):
    pooler = dense("pooler", "ab,bc->ac", (x.shape[-1],), options["activation"], options["use_bias"])
    x = pooler(pooling(x, inputs_mask=mask))
    if options["norm"]:
        x = new_norm("pooler_norm")(x)
    return dense("classifier", "ab,bc->ac", (num_classes,))(dropout(x))


def _token_classification(x, mask, *, dense, dropout, num_classes, **_):
    return dense("classifier", "abc,cd->abd", (None, num_classes))(dropout(x))


def _masked_lm(x, mask, *, dense, new_norm, embedding, mask_positions, options, **_):
    x = TokenGather(dtype=embedding.dtype_policy, name="token_gather")(x, mask_positions)
    width = (None, embedding.output_dim)
    x = dense("transform", "abc,cd->abd", width, options["activation"], options["use_bias"])(x)
    if options["norm"]:
        x = new_norm("transform_norm")(x)
    return embedding(x, reverse=True)


# A head is a function of the encoder's vectors, the padding mask and parts of the model.
HEADS = {
    None: _vectors,
    "sequence_classification": _sequence_classification,
    "token_classification": _token_classification,
    "masked_lm": _masked_lm,
}


def check_head(head, num_classes, labels, pooling):
    """Raises a ValueError that names the first of these arguments of `EncoderModel` that is invalid."""
    layers = list(head.values()) if isinstance(head, Mapping) else [head]
    is_layer = bool(layers) and all(isinstance(layer, keras.layers.Layer) for layer in layers)
    if not is_layer and (not isinstance(head, str | None) or head not in HEADS):
        raise ValueError(
            f"`head` must be {', '.join(map(repr, HEADS))}, a Keras layer, or a dict of layers. Received: head={head!r}"
        )
    classifies = not is_layer and head in ("sequence_classification", "token_classification")
    if classifies:
        check_positive(num_classes=num_classes)
        if labels is not None and len(labels) != num_classes:
            raise ValueError(f"`labels` must name {num_classes} classes, `num_classes`. Received: labels={labels}")
    elif num_classes is not None:
        raise ValueError(
            f"`num_classes` must be None without a classifier. Received: num_classes={num_classes!r}, head={head!r}"
        )
    if pooling is not None and (head != "sequence_classification" or not isinstance(pooling, BasePooling)):
        raise ValueError(
            "`pooling` must be a pooling layer, with head='sequence_classification', or None. "
            f"Received: pooling={pooling!r}, head={head!r}"
        )


def dense_options(head, options, activation):
    """`head_options` with the defaults of the head; None for heads without such a layer."""
    defaults = {"sequence_classification": {"activation": "tanh", "use_bias": True, "norm": False}}
    defaults["masked_lm"] = {"activation": activation, "use_bias": True, "norm": True}
    defaults = defaults.get(head) if isinstance(head, str) else None
    unknown = set(options or {}) - set(defaults or {})
    if unknown:
        raise ValueError(
            "`head_options` may hold 'activation', 'use_bias' and 'norm', for the heads 'sequence_classification' and "
            f"'masked_lm'. Received: head_options={options}, head={head!r}"
        )
    given = {name: deserialized(value) for name, value in (options or {}).items()}
    return defaults if defaults is None else defaults | given
