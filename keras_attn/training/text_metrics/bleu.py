"""BLEU."""

from collections.abc import Sequence

from keras_attn.extras import require
from keras_attn.training.text_metrics.text_metric import TextMetric, streams


class Bleu(TextMetric):
    """BLEU of the whole corpus, 0 to 100, by sacrebleu.

    Args:
        tokenize: sacrebleu's tokenizer: "13a", or "none" for texts that are tokenised already, "zh", "char", ...
        lowercase: whether case does not count.
        name: name of the figure.

    Raises:
        ImportError: sacrebleu is missing.
        ValueError: see `TextMetric`.

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
        # The texts of a tokenised corpus are tokenised on purpose.
        self._bleu = require("sacrebleu", "metrics").BLEU(
            tokenize=tokenize, lowercase=lowercase, force=tokenize == "none"
        )

    def score(self, outputs: Sequence[str], references: Sequence[Sequence[str]]) -> float:
        # Rounding may lead past it.
        return min(self._bleu.corpus_score(outputs, streams(references)).score, 100.0)
