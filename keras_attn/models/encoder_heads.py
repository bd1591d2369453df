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


def _replaced_token_detection(x, mask, *, dense, new_norm, dropout, options, **_):
    x = dense("transform", "abc,cd->abd", (None, x.shape[-1]), options["activation"], options["use_bias"])(x)
    if options["norm"]:
        x = new_norm("transform_norm")(x)
    logits = dense("classifier", "abc,cd->abd", (None, 1))(dropout(x))
    return keras.layers.Reshape((-1,), dtype=logits.dtype, name="logits")(logits)


def _masked_lm(x, mask, *, dense, new_norm, embedding, mask_positions, options, **_):
    x = TokenGather(dtype=embedding.dtype_policy, name="token_gather")(x, mask_positions)
    width = (None, embedding.output_dim)
    x = dense("transform", "abc,cd->abd", width, options["activation"], options["use_bias"])(x)
    if options["norm"]:
        x = new_norm("transform_norm")(x)
    return embedding(x, reverse=True)


def _pretraining(x, mask, **parts):
    pooled = {**parts, "options": dense_options("sequence_classification", None, None), "num_classes": 2}
    return {
        "prediction_logits": _masked_lm(x, mask, **parts),
        "seq_relationship_logits": _sequence_classification(x, mask, **pooled),
    }


# A head is a function of the encoder's vectors, the padding mask and parts of the model.
HEADS = {
    None: _vectors,
    "sequence_classification": _sequence_classification,
    "multiple_choice": _sequence_classification,
    "token_classification": _token_classification,
    "replaced_token_detection": _replaced_token_detection,
    "masked_lm": _masked_lm,
    "pretraining": _pretraining,
}
# Those that use the embedding table again.
PREDICT_TOKENS = ("masked_lm", "pretraining")


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
    pools = isinstance(head, str) and head in ("sequence_classification", "multiple_choice")
    if pooling is not None and not (pools and isinstance(pooling, BasePooling)):
        raise ValueError(
            "`pooling` must be a pooling layer, with head='sequence_classification' or 'multiple_choice', or None. "
            f"Received: pooling={pooling!r}, head={head!r}"
        )


def dense_options(head, options, activation):
    """`head_options` with the defaults of the head; None for heads without such a layer."""
    pooled = {"activation": "tanh", "use_bias": True, "norm": False}
    per_token = {**pooled, "activation": activation}
    defaults = {"sequence_classification": pooled, "multiple_choice": pooled, "replaced_token_detection": per_token}
    defaults |= {name: {**per_token, "norm": True} for name in PREDICT_TOKENS}
    known = list(defaults)
    defaults = defaults.get(head) if isinstance(head, str) else None
    unknown = set(options or {}) - set(defaults or {})
    if unknown:
        raise ValueError(
            f"`head_options` may hold 'activation', 'use_bias' and 'norm', for the heads {known}. "
            f"Received: head_options={options}, head={head!r}"
        )
    given = {name: deserialized(value) for name, value in (options or {}).items()}
    return defaults if defaults is None else defaults | given
