"""The exact-match metric."""

from collections.abc import Sequence

from keras_attn.training.text_metrics.text_metric import TextMetric


class ExactMatch(TextMetric):
    """Fraction of outputs that equal one of their references.

    Args:
        name: Name of the metric, as in logs.

    Raises:
        ValueError: See `TextMetric`.

    Example:

    >>> from keras_attn.training import ExactMatch
    >>> ExactMatch()(["2019-03-05", "2020-01-01"], ["2019-03-05", ["2020-01-02", "2020-02-01"]])
    0.5
    """

    def __init__(self, name: str = "exact_match") -> None:
        super().__init__(name)

    def score(self, outputs: Sequence[str], references: Sequence[Sequence[str]]) -> float:
        return sum(output in texts for output, texts in zip(outputs, references, strict=True)) / len(outputs)
