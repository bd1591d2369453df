"""Data sets of pairs of texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from keras_attn.training.data.bucketed_dataset import BucketedDataset, label_padding
from keras_attn.training.data.encoding import as_tokenizer, read_side, target_side
from keras_attn.typing import Array, Nest

if TYPE_CHECKING:
    from keras_attn.text.tokenizer import Tokenizer
    from keras_attn.training.data.callable_tokenizer import CallableTokenizer


class ParallelTextDataset(BucketedDataset):
    """Batches of pairs for encoder-decoder models such as `Transformer` and `Seq2SeqRNN`.

    A batch is `({"source_ids": (B, S), "target_ids": (B, T)}, labels (B, T))`, int32. Sources are encoded as by the
    tokenizer's `encode`, `target_ids` are the start id and the target, `labels` the target and the end id.

    Args:
        records: `Records` of two texts, an iterable of pairs, or a table with two columns or with columns `source` and
            `target`.
        tokenizer: A tokenizer of `keras_attn.text`, or a `CallableTokenizer`.
        target_tokenizer: The tokenizer of the targets. Defaults to `tokenizer`.
        ignore_id: The padding label, as in the loss. Defaults to `pad_id` of the target tokenizer, or -100 if that is
            also its end id.
        too_long: "drop" or "truncate". Truncated texts are not translations of each other.
        **options: More arguments of `BucketedDataset`: `columns`, `batch_size` or `tokens_per_batch`, `max_length`,
            `num_shapes`, `shuffle`, `seed`, `epochs`, ...

    Raises:
        ValueError: If an argument or a record is invalid. The message names it.

    Example:

    >>> from keras_attn.text import CharacterTokenizer
    >>> from keras_attn.training import ParallelTextDataset
    >>> pairs = [("5 May", "05-05"), ("6 June", "06-06"), ("7 July", "07-07")]
    >>> data = ParallelTextDataset(pairs, CharacterTokenizer("0123456789- JMaelnuy"), batch_size=3)
    >>> inputs, labels = next(data.batches())
    >>> inputs["source_ids"].shape, inputs["target_ids"].shape, labels.shape
    ((3, 6), (3, 6), (3, 6))
    """

    usual_columns = ("source", "target")

    def __init__(
        self,
        records: Any,
        tokenizer: Tokenizer | CallableTokenizer | Callable[[Sequence[str]], Any],
        target_tokenizer: Tokenizer | CallableTokenizer | Callable[[Sequence[str]], Any] | None = None,
        *,
        ignore_id: int | None = None,
        too_long: str = "drop",
        **options: Any,
    ) -> None:
        tokenizer = as_tokenizer(tokenizer)
        target_tokenizer = tokenizer if target_tokenizer is None else as_tokenizer(target_tokenizer)
        sides = (read_side(tokenizer), target_side(target_tokenizer))
        self.ignore_id = label_padding(ignore_id, target_tokenizer)
        super().__init__(records, sides, too_long=too_long, **options)

    def arrays(self, rows: Array, widths: Sequence[int]) -> Nest:
        source, target = widths
        inputs = {"source_ids": self._inputs(0, rows, source), "target_ids": self._inputs(1, rows, target)}
        return inputs, self._labels(1, rows, target, self.ignore_id)
