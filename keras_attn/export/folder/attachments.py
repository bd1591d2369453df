"""Texts attached to artefacts: the vocabulary and the class names."""

from keras_attn.labels import Labels, labels_of

VOCABULARY, LABELS = "vocabulary.json", "labels.txt"


def files(model, tokenizer, labels):
    """The texts to attach to a model's artefacts, by file name.

    Args:
        model: `keras.Model`.
        tokenizer: The argument of `export`; None and False stand for the model's own tokenizer.
        labels: Class names from `class_names`, or `None`.
    """
    found = {}
    if vocabulary := tokenizer or getattr(model, "tokenizer", None):
        found[VOCABULARY] = vocabulary.to_json()
    if labels is not None:
        found[LABELS] = "".join(f"{label}\n" for label in labels)
    return found


def class_names(model, labels=None):
    """The class names of a model in order: `labels`, else the model's own, else `None`.

    Raises:
        ValueError: If `labels` do not fit the model or differ from its own.
    """
    own = labels_of(model)
    if labels is None:
        return None if own is None else own.names
    names = labels if isinstance(labels, str) else list(labels)
    count = model.outputs[0].shape[-1]
    is_names = not isinstance(names, str) and all(isinstance(x, str) and x and not {*"\n\r"} & {*x} for x in names)
    if not is_names or len(set(names)) != len(names) or len(names) != count:
        raise ValueError(
            f"`labels` must be distinct single-line names, one for each of the model's {count} classes. "
            f"Received: labels={labels!r}"
        )
    if own is not None and own.names != names:
        raise ValueError(f"`labels` must be None or the labels of the model, {own}. Received: {Labels(names)}")
    return names
