"""Whether a model, its losses and metrics, and the data know the same special ids."""

from keras_attn.argument_checks import check_padding
from keras_attn.text import Tokenizer
from keras_attn.training.ignored_labels import AUTO


def check_ignored(model, losses):
    """Raises a ValueError where one of `losses`, losses and metrics, ignores a token that the model has to learn."""
    for loss in losses:
        if hasattr(model, "check_ignored") and hasattr(loss, "given_ignore_id"):
            model.check_ignored(loss.given_ignore_id)


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
    tokenizers = getattr(dataset, "tokenizers", ())
    if tokenizers:
        if dataset.holds_padding:
            check_padding(model, **{name: tokenizers[0].pad_id})
        _check_tokenizers(name, tokenizers, model)
    known = hasattr(dataset, "ignore_id")
    if not known and not hasattr(model, "padding_label"):
        return
    label = dataset.ignore_id if known else model.padding_label
    for loss in losses:
        if not hasattr(loss, "bind_ignore_id"):
            continue
        if known:
            _check_label(name, dataset, tokenizers, loss)
        loss.bind_ignore_id(label)


def _check_tokenizers(name, tokenizers, model):
    own, given = getattr(model, "tokenizer", None), tokenizers[-1]
    if own is None:
        return
    for id_name in ("start_id", "end_id", "pad_id"):
        expected, found = getattr(own, id_name), getattr(given, id_name)
        if found is not None and found != expected:
            raise ValueError(
                f"`{name}` must have the tokenizer that the model carries, whose {id_name} is {expected}. "
                f"Received: {id_name}={found}"
            )
    if isinstance(given, Tokenizer) and given != own:
        raise ValueError(
            f"`{name}` must have the tokenizer that the model carries, {own!r}. Received: another {given!r}"
        )


def _check_label(name, dataset, tokenizers, loss):
    given = loss.given_ignore_id
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
