"""Data sets of texts for language models, one text per row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from keras_attn.training.data.bucketed_dataset import BucketedDataset, label_padding
from keras_attn.training.data.encoding import as_tokenizer, continued_side, read_side
from keras_attn.typing import Array, Nest

if TYPE_CHECKING:
    from keras_attn.text.tokenizer import Tokenizer
    from keras_attn.training.data.callable_tokenizer import CallableTokenizer


class TextDataset(BucketedDataset):
    """Batches of texts, one per row, for language models. For one long text, use `TokenBlockDataset`.

    A batch is `({"token_ids": (B, T)}, labels (B, T))`, int32. Rows begin with the prefix of the tokenizer's `encode`
    and end with its end id, if any. Each label is the next token. Truncated texts have no end id.

    Args:
        records: `Records` of one text, an iterable of texts, or a table with one column or a column `text`.
        tokenizer: A tokenizer of `keras_attn.text`, a `CallableTokenizer` or its function.
        causal: If False, rows are the result of `encode`, and the labels are the same ids, for masked language
            modelling; apply the masking with `map`.
        ignore_id: The padding label, as in the loss. Defaults to the tokenizer's `pad_id`, or -100 if that is also its
            end id.
        **options: More arguments of `BucketedDataset`: `columns`, `batch_size` or `tokens_per_batch`, `max_length`,
            `num_shapes`, `shuffle`, `seed`, `epochs`, ...

    Raises:
        ValueError: If an argument or a record is invalid. The message names it.

    Example:

    >>> from keras_attn.text import CharacterTokenizer
    >>> from keras_attn.training import TextDataset
    >>> data = TextDataset(["abab", "ba"], CharacterTokenizer("ab"), batch_size=2, shuffle=False)
    >>> inputs, labels = next(data.batches())
    >>> inputs["token_ids"]
    array([[4, 5, 4, 5],
           [5, 4, 0, 0]], dtype=int32)
    >>> labels
    array([[5, 4, 5, 3],
           [4, 3, 0, 0]], dtype=int32)
    """

    usual_columns = ("text",)

    def __init__(
        self,
        records: Any,
        tokenizer: Tokenizer | CallableTokenizer | Callable[[Sequence[str]], Any],
        *,
        causal: bool = True,
        ignore_id: int | None = None,
        **options: Any,
    ) -> None:
        tokenizer = as_tokenizer(tokenizer)
        self.ignore_id = label_padding(ignore_id, tokenizer)
        super().__init__(records, (continued_side(tokenizer) if causal else read_side(tokenizer),), **options)

    def arrays(self, rows: Array, widths: Sequence[int]) -> Nest:
        (width,) = widths
        return {"token_ids": self._inputs(0, rows, width)}, self._labels(0, rows, width, self.ignore_id)
