"""What figures of texts have in common."""

import abc
from collections.abc import Sequence

from keras_attn.columns import check_no_table


class TextMetric(abc.ABC):
    """A figure of output texts against reference texts.

    A subclass implements `score(outputs, references)`, with a list of reference texts for each output.

    Args:
        name: name of the figure, as in logs.

    Call arguments:
        outputs: strings.
        references: as many strings; or lists of strings, any of which an output may be like.

    Returns:
        Float.

    Raises:
        ValueError: there are no outputs, or not as many references, or an output has none.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, outputs: Sequence[str], references: Sequence[str] | Sequence[Sequence[str]]) -> float:
        check_no_table(outputs=outputs, references=references)
        outputs, references = list(outputs), [[r] if isinstance(r, str) else list(r) for r in references]
        if not outputs or len(outputs) != len(references):
            raise ValueError(
                "`outputs` and `references` must be as many, and not empty. "
                f"Received: {len(outputs)} outputs and {len(references)} references"
            )
        if not all(references):
            raise ValueError(f"`references` must hold a text for each output. Received: none at {references.index([])}")
        return float(self.score(outputs, references))

    @abc.abstractmethod
    def score(self, outputs: Sequence[str], references: Sequence[Sequence[str]]) -> float:
        """The figure of strings and as many lists of strings."""


def streams(references):
    """Lists of references an output as lists of the first, of the second, ... references; None where one has fewer."""
    return [[texts[i] if i < len(texts) else None for texts in references] for i in range(max(map(len, references)))]
