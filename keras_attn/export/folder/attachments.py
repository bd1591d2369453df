"""What an artefact carries for those who call it: the vocabulary of its ids, and the names of its classes."""

from keras_attn.labels import Labels, labels_of

VOCABULARY, LABELS = "vocabulary.json", "labels.txt"


def files(model, tokenizer, labels):
    """The texts that go with a model's artefacts, by file name.

    Args:
        model: `keras.Model`.
        tokenizer: the argument of `export`. Where ids go in and out, the vocabulary says what they mean.
        labels: names of classes, from `class_names`, or `None`.
    """
    found = {}
    if vocabulary := tokenizer or getattr(model, "tokenizer", None):
        found[VOCABULARY] = vocabulary.to_json()
    if labels is not None:
        found[LABELS] = "".join(f"{label}\n" for label in labels)
    return found


def class_names(model, labels=None):
    """The names of the classes that a model tells apart, in order: `labels`, else the model's own, else `None`.

    Raises:
        ValueError: `labels` are no names of these, or the model has others.
    """
    own = labels_of(model)
    if labels is None:
        return None if own is None else own.names
    names = labels if isinstance(labels, str) else list(labels)
    count = model.outputs[0].shape[-1]
    is_names = not isinstance(names, str) and all(isinstance(x, str) and x and not {*"\n\r"} & {*x} for x in names)
    if not is_names or len(set(names)) != len(names) or len(names) != count:
        raise ValueError(
            f"`labels` must be different names of a line each, one for each of the model's {count} classes. "
            f"Received: labels={labels!r}"
        )
    if own is not None and own.names != names:
        raise ValueError(f"`labels` must be None for a model with labels of its own, {own}. Received: {Labels(names)}")
    return names
