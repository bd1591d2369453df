"""Checks that a model, its losses and metrics, and the data agree on special ids."""

import warnings

from keras_attn import compat
from keras_attn.argument_checks import check_padding
from keras_attn.special_ids import NO_TOKEN, START_ID
from keras_attn.training.losses.ignored_labels import AUTO


def check_ignored(model, losses):
    """Raises a ValueError if one of `losses`, losses and metrics, ignores a token that the model has to learn."""
    model = _reader(model)
    for loss in losses:
        if hasattr(model, "check_ignored"):
            model.check_ignored(getattr(loss, "given_ignore_id", getattr(loss, "ignore_class", None)))


def agree(name, dataset, model, losses):
    """Makes losses and metrics ignore the padding label of a data set, and checks its ids against the model's.

    Args:
        name: The argument name of the data set, for error messages.
        dataset: A data set as for a `Trainer`. Ids that it does not declare are not checked.
        model: The model.
        losses: The losses and metrics.

    Raises:
        ValueError: If two of them disagree.
    """
    reader, tokenizers = _reader(model), getattr(dataset, "tokenizers", ())
    if tokenizers:
        if dataset.holds_padding:
            check_padding(model, **{name: tokenizers[0].pad_id})
        _check_tokenizers(name, tokenizers, reader)
    known = hasattr(dataset, "ignore_id")
    if not known and not hasattr(reader, "padding_label"):
        return
    label = dataset.ignore_id if known else reader.padding_label
    for loss in losses:
        if known:
            _check_label(name, dataset, tokenizers, loss)
        if hasattr(loss, "bind_ignore_id"):
            loss.bind_ignore_id(label)


def _reader(model):
    """The model of this package inside a model, or the model itself."""
    return next((layer for layer in compat.layers_of(model) if hasattr(layer, "padding_label")), model)


def _check_tokenizers(name, tokenizers, model):
    own = getattr(model, "tokenizer", None)
    if own is None:
        _check_settings(name, tokenizers[-1], model)
        return
    for given in tokenizers:
        for id_name in ("start_id", "end_id", "pad_id"):
            expected, found = getattr(own, id_name), getattr(given, id_name)
            if found is not None and found != expected:
                raise ValueError(
                    f"`{name}` must use the tokenizer of the model, whose {id_name} is {expected}. "
                    f"Received: {id_name}={found}"
                )
        # A `CallableTokenizer` has no config to compare.
        if hasattr(given, "get_config") and given != own:
            raise ValueError(
                f"`{name}` must use the tokenizer of the model, {own!r}. Received: {given!r}, which differs "
                f"in {_differences(own, given)}"
            )


def _differences(own, given):
    one, two = own.get_config(), given.get_config()
    return sorted(key for key in one.keys() | two.keys() if one.get(key) != two.get(key)) or "its class"


def _check_settings(name, tokenizer, model):
    """Compares the data with the start and end ids in the generation config of a model without a tokenizer."""
    settings = getattr(model, "generation_config", None)
    if settings is not None:
        try:
            settings.resolved(tokenizer)
        except ValueError as error:
            raise ValueError(f"`{name}` and the model must use the same ids. {error}") from None
    starts = getattr(model, "continues_prompts", True) or tokenizer.start_id is None
    if starts or (settings is not None and settings.start_id is not None) or tokenizer.start_id == START_ID:
        return
    if hasattr(model, "generate"):
        warnings.warn(
            f"Targets in `{name}` start with id {tokenizer.start_id}, but the model generates with start id "
            f"{START_ID}: give the model the `tokenizer`, or a `generation_config` with this `start_id`",
            stacklevel=4,
        )


def _check_label(name, dataset, tokenizers, loss):
    given = getattr(loss, "given_ignore_id", AUTO)
    if dataset.ignore_id == NO_TOKEN and getattr(loss, "ignore_class", NO_TOKEN) != NO_TOKEN:
        raise ValueError(
            f"`loss` must ignore the padding label of `{name}`, {NO_TOKEN}, as MaskedCrossEntropy does. "
            f"Received: ignore_class={loss.ignore_class}"
        )
    if given in (AUTO, dataset.ignore_id):
        return
    if dataset.ignore_id is not None:
        raise ValueError(
            f'`ignore_id` of {loss.name!r} must be the padding label of `{name}`, {dataset.ignore_id}, or "auto", '
            f"which uses that label. Received: ignore_id={given}"
        )
    if given >= 0 and (getattr(dataset, "labels", None) or any(given == x.end_id for x in tokenizers)):
        raise ValueError(
            f'`ignore_id` of {loss.name!r} must be None or "auto", because every label in `{name}` counts. '
            f"Received: ignore_id={given}"
        )
