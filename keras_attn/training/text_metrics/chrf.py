"""The chrF metric."""

from collections.abc import Sequence

from keras_attn.extras import require
from keras_attn.training.text_metrics.text_metric import TextMetric, streams


class Chrf(TextMetric):
    """Corpus chrF, the F-score of character n-grams, from 0 to 100, computed by sacrebleu.

    Args:
        word_order: Maximum order of additional word n-grams; 2 for chrF++.
        lowercase: Whether to ignore case.
        name: Name of the metric, as in logs.

    Raises:
        ImportError: If sacrebleu is not installed.
        ValueError: See `TextMetric`.

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
