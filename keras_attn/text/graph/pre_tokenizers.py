"""The pre-tokenizers of a `tokenizer.json` as functions of rows of elements, which put barriers between words."""

from keras import ops

from keras_attn.text.graph.byte_symbols import shifted
from keras_attn.text.graph.elements import BARRIER, begins, columns_of, inserted, is_character, with_end
from keras_attn.text.graph.matcher import Matcher
from keras_attn.text.graph.normalizers import matcher_of
from keras_attn.text.graph.regular_expressions import UnsupportedExpressionError, literal, parsed
from keras_attn.text.pretrained.components import flat
from keras_attn.text.pretrained.patterns import PATTERNS

SPACE = ord(" ")
# The Unicode punctuation and ASCII symbols that are words by themselves.
PUNCTUATION = r"[\p{P}!-/:-@\[-`{-~]"
ISOLATED, REMOVED = "Isolated", "Removed"


def pre_tokenizers_of(content):
    """The pre-tokenizers of a checked `tokenizer.json`, in order."""
    parts = flat(content, "pre_tokenizer")
    if any(part["type"] == "Metaspace" and part["prepend_scheme"] == "first" for part in parts[1:]):
        raise UnsupportedExpressionError(
            "A Metaspace with prepend_scheme='first' after another one has no form in graphs."
        )
    return [step for part in parts for step in _steps(part)]


def _steps(part):
    kind = part["type"]
    if kind == "ByteLevel":
        prefix = [Prefix(SPACE, "always")] if part["add_prefix_space"] else []
        return [*prefix, *([Split(PATTERNS["gpt2"])] if part.get("use_regex", True) else [])]
    if kind == "Metaspace":
        return _metaspace(part)
    if kind == "Split":
        return [Split(matcher_of(part["pattern"]), part["behavior"], part["invert"])]
    if kind == "Digits":
        return [Split(r"\p{N}" if part.get("individual_digits") else r"\p{N}+")]
    if kind == "Punctuation":
        return [Split(PUNCTUATION, part.get("behavior", ISOLATED))]
    if kind == "BertPreTokenizer":
        return [Split(r"\s", REMOVED), Split(PUNCTUATION)]
    if kind == "WhitespaceSplit":
        return [Split(r"\s", REMOVED)]
    if kind == "Whitespace":
        return [Split(r"\w+|[^\w\s]+", REMOVED, invert=True)]
    if kind == "CharDelimiterSplit":
        return [Split(Matcher(literal(part["delimiter"])), REMOVED)]
    raise UnsupportedExpressionError(f"The pre-tokenizer {kind!r} has no form in graphs.")


def _metaspace(part):
    replacement, scheme = ord(part["replacement"]), part["prepend_scheme"]
    steps = [lambda elements: ops.where(elements == SPACE, replacement, elements)]
    if scheme != "never":
        steps.append(Prefix(replacement, scheme))
    if part["split"]:
        steps.append(Split(Matcher(literal(part["replacement"])), "MergedWithNext"))
    return steps


class Prefix:
    """Puts a character before each text that does not begin with it; with `"first"`, only at the start of a row."""

    def __init__(self, character, scheme):
        self.character, self.scheme = character, scheme

    def __call__(self, elements):
        here = begins(elements) & (elements != self.character)
        if self.scheme == "first":
            here = here & (columns_of(elements) == 0)
        return inserted(elements, here, self.character)


class Split:
    """Splits texts at the matches of an expression.

    Args:
        pattern: A `Matcher`, or a regular expression.
        behavior, invert: As in a `tokenizer.json`.
    """

    def __init__(self, pattern, behavior=ISOLATED, invert=False):
        self.matcher = Matcher(parsed(pattern)) if isinstance(pattern, str) else pattern
        self.behavior, self.invert = behavior, invert

    def __call__(self, elements):
        elements = with_end(elements)
        match_starts, others = self.matcher(elements)
        real = is_character(elements)
        matched = real & ~others
        # Each match is a part of its own; characters between matches are one part.
        gap_starts = others & ~_follows(others)
        parts = (match_starts, matched), (gap_starts, others)
        (starts, inside), (between_starts, _) = reversed(parts) if self.invert else parts
        if self.behavior == REMOVED:
            elements = ops.where(inside, BARRIER, elements)
            return inserted(elements, between_starts, BARRIER)
        if self.behavior == "MergedWithPrevious":
            begin = between_starts | (starts & _follows(inside))
        elif self.behavior == "MergedWithNext":
            begin = starts | (between_starts & ~_follows(real))
        elif self.behavior == "Contiguous":
            begin = (starts & ~_follows(inside)) | between_starts
        else:
            begin = starts | between_starts
        return inserted(elements, begin, BARRIER)


def _follows(flags):
    return shifted(ops.cast(flags, "int32"), 1, 0) == 1
