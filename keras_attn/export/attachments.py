"""What an artefact carries for those who call it: the vocabulary of its ids, and the names of its classes."""

VOCABULARY, LABELS = "vocabulary.json", "labels.txt"


def files(model, tokenizer, labels):
    """The texts that go with a model's artefacts, by file name.

    Args:
        model: `keras.Model`.
        tokenizer: the argument of `export`. Where ids go in and out, the vocabulary says what they mean.
        labels: names of classes, or `None`.

    Raises:
        ValueError: `labels` are no names of the classes that the model tells apart.
    """
    found = {}
    if vocabulary := tokenizer or getattr(model, "tokenizer", None):
        found[VOCABULARY] = vocabulary.to_json()
    if labels is not None:
        found[LABELS] = "".join(f"{label}\n" for label in _checked(labels, model))
    return found


def _checked(labels, model):
    labels = labels if isinstance(labels, str) else list(labels)
    count = model.outputs[0].shape[-1]
    is_names = not isinstance(labels, str) and all(isinstance(x, str) and x.splitlines() == [x] for x in labels)
    if not is_names or len(set(labels)) != len(labels) or len(labels) != count:
        raise ValueError(
            f"`labels` must be different names of a line each, one for each of the model's {count} classes. "
            f"Received: labels={labels!r}"
        )
    return labels
