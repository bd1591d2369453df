"""The BLEU metric."""

from collections.abc import Sequence

from keras_attn.extras import require
from keras_attn.training.text_metrics.text_metric import TextMetric, streams


class Bleu(TextMetric):
    """Corpus BLEU, from 0 to 100, computed by sacrebleu.

    Args:
        tokenize: Tokenizer of sacrebleu: "13a", "none" for tokenised texts, "zh", "char", ...
        lowercase: Whether to ignore case.
        name: Name of the metric, as in logs.

    Raises:
        ImportError: If sacrebleu is not installed.
        ValueError: See `TextMetric`.

    Reference:
        [Papineni et al., 2002](https://aclanthology.org/P02-1040);
        [Post, 2018](https://arxiv.org/abs/1804.08771)

    Example:

    >>> from keras_attn.training import Bleu
    >>> Bleu()(["the cat sat on the mat"], ["the cat sat on the mat"])
    100.0
    """

    def __init__(self, tokenize: str = "13a", lowercase: bool = False, name: str = "bleu") -> None:
        super().__init__(name)
        # `force` silences the warning about tokenised texts.
        self._bleu = require("sacrebleu", "metrics").BLEU(
            tokenize=tokenize, lowercase=lowercase, force=tokenize == "none"
        )

    def score(self, outputs: Sequence[str], references: Sequence[Sequence[str]]) -> float:
        # Rounding may exceed 100.
        return min(self._bleu.corpus_score(outputs, streams(references)).score, 100.0)
