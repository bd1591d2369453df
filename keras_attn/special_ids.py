"""Default special ids without a tokenizer, and the padding label."""

# Defaults for generation without a tokenizer.
START_ID, END_ID = 2, 3

# A label that is not an id of any tokenizer.
NO_TOKEN = -100


def padding_label(pad_id, end_ids, ignore_id=None):
    """Returns the padding label.

    Args:
        pad_id: The padding id of the inputs.
        end_ids: The ids that end a text.
        ignore_id: The label that the user chose, or None.

    Returns:
        `ignore_id`, or if None, `pad_id`, or -100 if `pad_id` is also an end id, which the model must learn.

    Raises:
        ValueError: If `ignore_id` is a token that the model has to learn.
    """
    if ignore_id is None:
        return NO_TOKEN if pad_id in end_ids else pad_id
    if ignore_id in end_ids:
        raise ValueError(
            "`ignore_id` must differ from the end id, which the model must learn; omit it for the default. "
            f"Received: ignore_id={ignore_id}, which is an end id"
        )
    if ignore_id >= 0 and ignore_id != pad_id:
        raise ValueError(
            f"`ignore_id` must be the padding id, {pad_id}, or negative, because the model must learn all other ids. "
            f"Received: ignore_id={ignore_id}"
        )
    return ignore_id
