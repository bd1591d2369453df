"""Base class of text metrics."""

import abc
from collections.abc import Sequence

from keras_attn.columns import check_no_table


class TextMetric(abc.ABC):
    """Base class of metrics that compare output texts with reference texts.

    A subclass implements `score(outputs, references)`, with a list of reference texts for each output.

    Args:
        name: Name of the metric, as in logs.

    Call arguments:
        outputs: List of strings.
        references: One string per output, or a list of alternative strings per output.

    Returns:
        Float.

    Raises:
        ValueError: If `outputs` is empty, `references` is not as long, or an output has no reference.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, outputs: Sequence[str], references: Sequence[str] | Sequence[Sequence[str]]) -> float:
        check_no_table(outputs=outputs, references=references)
        outputs, references = list(outputs), [[r] if isinstance(r, str) else list(r) for r in references]
        if not outputs or len(outputs) != len(references):
            raise ValueError(
                "`outputs` and `references` must have the same length, and not be empty. "
                f"Received: {len(outputs)} outputs and {len(references)} references"
            )
        if not all(references):
            raise ValueError(
                f"`references` must contain a text for each output. Received: none at {references.index([])}"
            )
        return float(self.score(outputs, references))

    @abc.abstractmethod
    def score(self, outputs: Sequence[str], references: Sequence[Sequence[str]]) -> float:
        """Computes the metric of strings and as many lists of reference strings."""


def streams(references):
    """Transposes lists of references per output to lists of the first, second, ... references, filled with None."""
    return [[texts[i] if i < len(texts) else None for texts in references] for i in range(max(map(len, references)))]
