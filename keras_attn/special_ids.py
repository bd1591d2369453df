"""Special ids where no tokenizer says them, and the label that marks padding: one rule for all."""

# Of generation without a tokenizer.
START_ID, END_ID = 2, 3

# A label that no tokenizer has as an id, so that it can be told from every token.
NO_TOKEN = -100


def padding_label(pad_id, end_ids, ignore_id=None):
    """The label of padding.

    Args:
        pad_id: the id of padding in the inputs.
        end_ids: the ids that end a text.
        ignore_id: the label that was asked for, or None.

    Returns:
        `ignore_id`; where None, `pad_id`, or -100 if `pad_id` ends a text: what a loss ignores, a model does not learn.

    Raises:
        ValueError: `ignore_id` is a token that the model has to learn.
    """
    if ignore_id is None:
        return NO_TOKEN if pad_id in end_ids else pad_id
    if ignore_id in end_ids:
        raise ValueError(
            "`ignore_id` must differ from the end id, which the model would not learn; left out, it does. "
            f"Received: ignore_id={ignore_id}, which is an end id"
        )
    if ignore_id >= 0 and ignore_id != pad_id:
        raise ValueError(
            f"`ignore_id` must be the id of padding, {pad_id}, or negative, as the model learns all other ids. "
            f"Received: ignore_id={ignore_id}"
        )
    return ignore_id
