"""Words of elements as rows, and their ids in one row per text again."""

from keras import ops

from keras_attn.ops.arrays import axis_size
from keras_attn.text.graph.byte_symbols import shifted
from keras_attn.text.graph.elements import BARRIER, TOKEN, is_character
from keras_attn.text.graph.ragged_rows import packed, words


class WordsOfElements:
    """Converts each word of rows of elements to ids. Added tokens have their ids.

    Args:
        word_ids: Converts letters, int32 `(W, L)`, to ids `(W, M)`, both with -1 for padding.
        letters: Converts elements `(B, S)` to letters `(B, S)`, or `(B, S, E)` with -1 for none.
    """

    def __init__(self, word_ids, letters):
        self.word_ids, self.letters = word_ids, letters

    def __call__(self, elements):
        real = is_character(elements)
        letters = ops.where(_like(real, found := self.letters(elements)), found, -1)
        starts = real & ~is_character(shifted(elements, 1))
        is_token = elements >= TOKEN
        # The letter of an added token is its negative element, which is a word by itself.
        first = ops.where(is_token, elements, letters if len(letters.shape) == 2 else letters[..., 0])
        starts = starts | is_token
        if len(letters.shape) == 3:
            size, width = axis_size(elements, 0), axis_size(elements, 1) * letters.shape[2]
            letters = ops.concatenate([ops.expand_dims(first, -1), letters[..., 1:]], axis=-1)
            marks = ops.stack([ops.cast(starts, "int32")] + [ops.zeros_like(first)] * (letters.shape[2] - 1), axis=-1)
            first, starts = ops.reshape(letters, (size, width)), ops.reshape(marks, (size, width)) == 1
        # A word whose first letter is dropped begins all the same.
        found = words(ops.maximum(first, 0), first >= 0, starts)
        size, count, length = ops.shape(found)
        found = ops.reshape(found, (size * count, length))
        tokens = ops.where(found[:, :1] >= BARRIER, found[:, :1] - TOKEN, -1)
        ids = self.word_ids(ops.where(found >= BARRIER, -1, found))
        ids = ops.concatenate([tokens, ids], axis=1)
        ids = ops.reshape(ids, (size, -1))
        return packed(ids, ids >= 0)


def _like(flags, values):
    return ops.expand_dims(flags, -1) if len(values.shape) == 3 else flags
