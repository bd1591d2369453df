"""Whether a model, its losses and metrics, and the data know the same special ids."""

import warnings

from keras_attn import compat
from keras_attn.argument_checks import check_padding
from keras_attn.special_ids import NO_TOKEN, START_ID
from keras_attn.training.losses.ignored_labels import AUTO


def check_ignored(model, losses):
    """Raises a ValueError where one of `losses`, losses and metrics, ignores a token that the model has to learn."""
    model = _reader(model)
    for loss in losses:
        if hasattr(model, "check_ignored"):
            model.check_ignored(getattr(loss, "given_ignore_id", getattr(loss, "ignore_class", None)))


def agree(name, dataset, model, losses):
    """Makes losses and metrics ignore the label of padding of a data set, and compares its ids with the model's.

    Args:
        name: what the data set is called where it is refused.
        dataset: what a `Trainer` takes; what it does not say of its ids is not compared.
        model: the model.
        losses: losses and metrics.

    Raises:
        ValueError: two of them differ.
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
    """The model of this package inside a model, or itself."""
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
                    f"`{name}` must have the tokenizer that the model carries, whose {id_name} is {expected}. "
                    f"Received: {id_name}={found}"
                )
        # A function as a tokenizer has no settings to compare.
        if hasattr(given, "get_config") and given != own:
            raise ValueError(
                f"`{name}` must have the tokenizer that the model carries, {own!r}. Received: {given!r}, which differs "
                f"in {_differences(own, given)}"
            )


def _differences(own, given):
    one, two = own.get_config(), given.get_config()
    return sorted(key for key in one.keys() | two.keys() if one.get(key) != two.get(key)) or "its class"


def _check_settings(name, tokenizer, model):
    """Compares the data with what generation of a model without a tokenizer starts and ends with."""
    settings = getattr(model, "generation_config", None)
    if settings is not None:
        try:
            settings.resolved(tokenizer)
        except ValueError as error:
            raise ValueError(f"`{name}` and the model must know the same ids. {error}") from None
    starts = getattr(model, "continues_prompts", True) or tokenizer.start_id is None
    if starts or (settings is not None and settings.start_id is not None) or tokenizer.start_id == START_ID:
        return
    if hasattr(model, "generate"):
        warnings.warn(
            f"Targets of `{name}` start with id {tokenizer.start_id}, and those that the model generates with "
            f"{START_ID}: give the model the `tokenizer`, or a `generation_config` with this `start_id`",
            stacklevel=4,
        )


def _check_label(name, dataset, tokenizers, loss):
    given = getattr(loss, "given_ignore_id", AUTO)
    if dataset.ignore_id == NO_TOKEN and getattr(loss, "ignore_class", NO_TOKEN) != NO_TOKEN:
        raise ValueError(
            f"`loss` must ignore the label of padding in `{name}`, {NO_TOKEN}, as MaskedCrossEntropy does. "
            f"Received: ignore_class={loss.ignore_class}"
        )
    if given in (AUTO, dataset.ignore_id):
        return
    if dataset.ignore_id is not None:
        raise ValueError(
            f'`ignore_id` of {loss.name!r} must be the label of padding in `{name}`, {dataset.ignore_id}, or "auto", '
            f"which takes it from there. Received: ignore_id={given}"
        )
    if given >= 0 and (getattr(dataset, "labels", None) or any(given == x.end_id for x in tokenizers)):
        raise ValueError(
            f'`ignore_id` of {loss.name!r} must be None or "auto", as every label in `{name}` is to be learned. '
            f"Received: ignore_id={given}"
        )
