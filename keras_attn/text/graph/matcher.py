"""The matches of a regular expression in rows of elements, as graph operations."""

import numpy as np
from keras import ops

from keras_attn.ops.arrays import axis_size, take_columns
from keras_attn.text.graph.byte_symbols import shifted
from keras_attn.text.graph.elements import (
    BARRIER,
    columns_of,
    in_table,
    is_character,
    last_where,
    next_where,
    reached,
    with_end,
)
from keras_attn.text.graph.regular_expressions import (
    Characters,
    Edge,
    Either,
    Look,
    UnsupportedExpressionError,
    members,
    sets,
)
from keras_attn.text.graph.tables import CodePointTable

NONE, MOST_SETS = -1, 62


class Matcher:
    """Finds the leftmost matches of an expression, each after the one before. Barriers begin and end a text.

    For each column, the end of a match that begins there is computed backwards through the expression: a part gives
    the ends of a match of itself and all that follows, from those of what follows. So a part that matches as many
    characters as possible takes the last column from which the rest matches, as an engine does that goes back.

    Args:
        expression: An `Either` of `regular_expressions`.
    """

    def __init__(self, expression: Either):
        self.expression = expression
        self.sets = {text: i for i, text in enumerate(dict.fromkeys(sets(expression)))}
        if len(self.sets) > MOST_SETS:
            raise UnsupportedExpressionError(f"An expression of more than {MOST_SETS} sets has no form in graphs.")
        flags = np.stack([members(text) for text in self.sets], axis=1)
        # Characters of the same sets are of one class. The last class is that of no character.
        weights = flags.astype(np.int64) @ (1 << np.arange(flags.shape[1], dtype=np.int64))
        _, first, classes = np.unique(weights, return_index=True, return_inverse=True)
        self.flags = np.concatenate([flags[first], np.zeros((1, flags.shape[1]), bool)])
        self.classes = CodePointTable(classes.reshape(-1, 1))

    def __call__(self, elements):
        """The matches in int32 `(B, S)`, rows of elements that end with a column of padding.

        Returns:
            `(starts, others)`, bool `(B, S)`: at which characters a match begins, and which are in no match.
        """
        real = is_character(elements)
        classes = ops.squeeze(self.classes(ops.minimum(elements, BARRIER - 1)), -1)
        columns = columns_of(elements)
        rows = _Rows(ops.where(real, classes, len(self.flags) - 1), real, columns, self)
        ends = rows.ends(self.expression, columns)
        is_match = ends > columns
        last = axis_size(elements, 1) - 1
        reach = reached(ops.where(is_match, ends, ops.minimum(columns + 1, last))) == 1
        return reach & is_match, reach & ~is_match & real


class _Rows:
    """What the parts of an expression need to know about rows."""

    def __init__(self, classes, real, columns, matcher):
        self.classes, self.real, self.columns, self.matcher = classes, real, columns, matcher
        self.found, self.runs = {}, {}

    def ends(self, part, after):
        """The ends of matches of a part and of what follows it, given the ends `after` of what follows."""
        if isinstance(part, Either):
            return self._first([self._sequence(option, after) for option in part.options])
        if isinstance(part, Look):
            follows = self.is_in(part.text)
            return ops.where(~follows if part.is_negative else follows, after, NONE)
        if isinstance(part, Edge):
            return ops.where(self._edge(part.is_start), after, NONE)
        if (part.least, part.most) == (1, 1):
            return ops.where(self.is_in(part.text), shifted(after, -1, NONE), NONE)
        return self._repeated(part, after)

    def is_in(self, text):
        if text not in self.found:
            flags = self.matcher.flags[:, self.matcher.sets[text]]
            self.found[text] = in_table(flags, self.classes)
        return self.found[text]

    def _sequence(self, parts, after):
        for part in reversed(parts):
            after = self.ends(part, after)
        return after

    def _first(self, options):
        found = options[-1]
        for option in reversed(options[:-1]):
            found = ops.where(option >= 0, option, found)
        return found

    def _edge(self, is_start):
        real = ops.cast(self.real, "int32")
        # In an empty text, both edges meet; it has no matches.
        return (shifted(real, 1, 0) if is_start else real) == 0

    def _repeated(self, part: Characters, after):
        columns = self.columns
        if part.text not in self.runs:
            self.runs[part.text] = next_where(~self.is_in(part.text))
        furthest = ops.minimum(self.runs[part.text], columns + part.most)
        if part.is_possessive:
            place = furthest
        else:
            place = take_columns(last_where(after >= 0), furthest)
        fits = place >= columns + part.least
        return ops.where(fits, take_columns(after, ops.maximum(place, 0)), NONE)


def padded_matches(matcher, elements):
    """`with_end(elements)`, and its matches."""
    elements = with_end(elements)
    return elements, *matcher(elements)
