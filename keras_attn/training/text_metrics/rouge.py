"""The ROUGE metric."""

from collections.abc import Sequence

from keras_attn.extras import require
from keras_attn.training.text_metrics.text_metric import TextMetric


class Rouge(TextMetric):
    """Mean ROUGE F-score, from 0 to 1, computed by rouge-score.

    Args:
        kind: "rouge1" or "rouge2" for unigrams or bigrams, "rougeL" for the longest common subsequence, "rougeLsum" for
            the latter per line.
        use_stemmer: Whether to stem English words before comparing them.
        name: Name of the metric, as in logs. Defaults to `kind`.

    Raises:
        ImportError: If rouge-score is not installed.
        ValueError: If `kind` is none of these; see also `TextMetric`.

    Reference:
        [Lin, 2004](https://aclanthology.org/W04-1013)

    Example:

    >>> from keras_attn.training import Rouge
    >>> round(Rouge("rougeL")(["the cat sat"], ["the cat sat on the mat"]), 4)
    0.6667
    """

    def __init__(self, kind: str = "rougeL", use_stemmer: bool = False, name: str | None = None) -> None:
        kinds = ("rouge1", "rouge2", "rougeL", "rougeLsum")
        if kind not in kinds:
            raise ValueError(f"`kind` must be one of {kinds}. Received: kind={kind!r}")
        super().__init__(kind if name is None else name)
        self.kind = kind
        self._scorer = require("rouge_score.rouge_scorer", "metrics").RougeScorer([kind], use_stemmer=use_stemmer)

    def score(self, outputs: Sequence[str], references: Sequence[Sequence[str]]) -> float:
        pairs = zip(outputs, references, strict=True)
        scores = [self._scorer.score_multi(texts, output)[self.kind].fmeasure for output, texts in pairs]
        return sum(scores) / len(scores)
