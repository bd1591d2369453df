"""Data sets of blocks of one long text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from keras_attn.argument_checks import check_count, check_positive
from keras_attn.training.data.dataset import Dataset, checksum
from keras_attn.training.data.encoding import as_tokenizer, encode, joined_side
from keras_attn.training.data.records import as_records
from keras_attn.typing import Array, Nest

if TYPE_CHECKING:
    from keras_attn.text.tokenizer import Tokenizer
    from keras_attn.training.data.callable_tokenizer import CallableTokenizer


class TokenBlockDataset(Dataset):
    """Batches of fixed-length blocks of one long array of ids, for language models.

    With `shuffle`, a batch is `({"token_ids": (B, T)}, labels (B, T))`: blocks at random offsets, drawn from the seed
    and the number of the batch. An epoch has as many batches as it takes to cover the array. Without `shuffle`, blocks
    are consecutive, and each token except the first is a label once. A batch is then `({"token_ids": (B, T)}, labels
    (B, T), sample_weight (B, T))`, with weight 0 where the last batch is filled up. Ids are int32, weights float32.

    Args:
        ids: Integers `(tokens,)`. A `np.memmap` is not loaded into memory.
        length: Number of tokens per block, T.
        batch_size: Number of blocks per batch, B.
        shuffle: Whether to draw random blocks.
        seed: Integer random seed.
        epochs: Number of epochs. None for no end.

    Raises:
        ValueError: If an argument is invalid. The message names it.

    Reference:
        [Radford et al., 2019](https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf)

    Example:

    >>> import numpy as np
    >>> from keras_attn.training import TokenBlockDataset
    >>> data = TokenBlockDataset(np.arange(6), length=3, batch_size=2, shuffle=False, epochs=1)
    >>> inputs, labels, weights = next(data.batches())
    >>> inputs["token_ids"]
    array([[0, 1, 2],
           [3, 4, 5]], dtype=int32)
    >>> labels
    array([[1, 2, 3],
           [4, 5, 5]], dtype=int32)
    >>> weights
    array([[1., 1., 1.],
           [1., 1., 0.]], dtype=float32)
    """

    holds_padding = False
    ignore_id = None
    tokenizers = ()

    def __init__(
        self,
        ids: Array | Sequence[int],
        length: int,
        batch_size: int,
        *,
        shuffle: bool = True,
        seed: int = 0,
        epochs: int | None = None,
    ) -> None:
        check_positive(length=length, batch_size=batch_size, epochs=1 if epochs is None else epochs)
        check_count(seed=seed)
        ids = ids if isinstance(ids, np.ndarray) else np.asarray(ids)
        if ids.ndim != 1 or not np.issubdtype(ids.dtype, np.integer):
            raise ValueError(f"`ids` must be integers of rank 1. Received: shape {ids.shape}, dtype {ids.dtype}")
        if len(ids) <= length:
            raise ValueError(f"`ids` must be longer than a block of {length}. Received: {len(ids)} ids")
        self.ids, self.length, self.batch_size = ids, length, batch_size
        self.shuffle, self.seed, self.epochs = shuffle, seed, epochs
        self.row_divisor = batch_size

    @classmethod
    def from_records(
        cls,
        records: Any,
        tokenizer: Tokenizer | CallableTokenizer | Callable[[Sequence[str]], Any],
        length: int,
        batch_size: int,
        *,
        columns: Sequence[int | str] | None = None,
        **settings: Any,
    ) -> Self:
        """Builds the data set from many texts, each followed by the end id, if the tokenizer has one.

        Args:
            records: `Records` of one text, an iterable of texts, or a table with one column or a column `text`.
            tokenizer: A tokenizer of `keras_attn.text`, a `CallableTokenizer` or its function.
            columns: The column of the texts in a table, as a list.
            length, batch_size, **settings: The constructor's arguments.
        """
        tokenizer = as_tokenizer(tokenizer)
        encoded = encode(as_records(records, columns, ("text",)), (joined_side(tokenizer),))
        blocks = cls(encoded.columns[0].flat, length, batch_size, **settings)
        blocks.tokenizers = (tokenizer,)
        return blocks

    def __len__(self) -> int:
        return -(-(len(self.ids) - 1) // (self.length * self.batch_size))

    @property
    def fingerprint(self) -> str:
        return checksum(self.shuffle, self.seed, self.length, self.batch_size, self.ids)

    def batch_settings(self) -> dict[str, Any]:
        names = ("length", "batch_size", "shuffle", "seed")
        return {name: getattr(self, name) for name in names} | {"tokens": len(self.ids)}

    def batch(self, plan: Any, index: int) -> Nest:
        number = plan * len(self) + index
        if self.shuffle:
            rng = np.random.default_rng((self.seed, number))
            starts = rng.integers(len(self.ids) - self.length, size=self.batch_size)
        else:
            starts = (index * self.batch_size + np.arange(self.batch_size)) * self.length
        places = starts[:, None] + np.arange(self.length + 1)
        block = self.ids[np.minimum(places, len(self.ids) - 1)].astype(np.int32)
        inputs, labels = {"token_ids": block[:, :-1]}, block[:, 1:]
        if self.shuffle:
            return inputs, labels
        return inputs, labels, (places[:, 1:] < len(self.ids)).astype(np.float32)
