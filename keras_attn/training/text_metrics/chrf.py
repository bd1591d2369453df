"""The F-score of characters."""

from collections.abc import Sequence

from keras_attn.extras import require
from keras_attn.training.text_metrics.text_metric import TextMetric, streams


class Chrf(TextMetric):
    """chrF of the whole corpus, 0 to 100, by sacrebleu: the F-score of character n-grams.

    Args:
        word_order: the longest n-grams of words that count too; 2 for chrF++.
        lowercase: whether case does not count.
        name: name of the figure.

    Raises:
        ImportError: sacrebleu is missing.
        ValueError: see `TextMetric`.

    Reference:
        [Popović, 2015](https://aclanthology.org/W15-3049)

    Example:

    >>> from keras_attn.training import Chrf
    >>> Chrf()(["the cat sat on the mat"], ["the cat sat on the mat"])
    100.0
    """

    def __init__(self, word_order: int = 0, lowercase: bool = False, name: str = "chrf") -> None:
        super().__init__(name)
        self._chrf = require("sacrebleu", "metrics").CHRF(word_order=word_order, lowercase=lowercase)

    def score(self, outputs: Sequence[str], references: Sequence[Sequence[str]]) -> float:
        return self._chrf.corpus_score(outputs, streams(references)).score
