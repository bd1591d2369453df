"""Nested lists with an operator each, drawn as they are needed: ListOps (Nangia and Bowman, 2018, arXiv:1804.06028).

Of the paper's `[MAX 4 3 [MIN 2 3 ] 1 0 ]`, each token is one character here: `>43<23]10]`.
"""

import random

import numpy as np

from keras_attn.training import Dataset

OPERATORS = {"<": min, ">": max, "~": lambda values: int(np.median(values)), "+": lambda values: sum(values) % 10}
ALPHABET = "0123456789" + "".join(OPERATORS) + "]"
# As in the Long Range Arena (Tay et al., 2020, arXiv:2011.04006).
MOST_DEPTH, MOST_ARGUMENTS, NESTED = 10, 10, 0.25
WIDTHS = 4  # different lengths of batches


class _TooLongError(Exception):
    pass


def draw(generator, shortest, longest):
    """`(text, value)` of a list of `shortest` to `longest` tokens, from a `random.Random`."""
    while True:
        text = []
        try:
            value = _append_list(generator, text, MOST_DEPTH, longest)
        except _TooLongError:
            continue
        if len(text) >= shortest:
            return "".join(text), value


def _append_list(generator, text, depth, longest):
    operator, values = generator.choice(list(OPERATORS)), []
    text.append(operator)
    for _ in range(generator.randint(2, MOST_ARGUMENTS)):
        if depth > 1 and generator.random() < NESTED:
            values.append(_append_list(generator, text, depth - 1, longest))
        else:
            values.append(generator.randrange(10))
            text.append(str(values[-1]))
        if len(text) >= longest:
            raise _TooLongError
    text.append("]")
    return OPERATORS[operator](values)


class Lists(Dataset):
    """Lists and their values: `({"token_ids": (B, T)}, labels (B,))`, where `T` is one of a few widths.

    Args:
        tokenizer: The tokenizer of `ALPHABET`.
        shortest, longest: Number of tokens of a list.
        batch_size: Rows per batch.
        num_batches: Number of batches of an epoch.
        seed: Batch `i` is a function of the seed and `i`.
        epochs: Number of epochs. None for no end.
    """

    ignore_id = None

    def __init__(self, tokenizer, shortest, longest, batch_size, num_batches, seed=0, epochs=None):
        self.tokenizer, self.shortest, self.longest = tokenizer, shortest, longest
        self.row_divisor, self.num_batches, self.seed, self.epochs = batch_size, num_batches, seed, epochs
        self.tokenizers, self.labels = (tokenizer,), list("0123456789")

    def __len__(self):
        return self.num_batches

    def batch(self, plan, index):
        generator = random.Random(f"{self.seed} {plan} {index}")
        rows = [draw(generator, self.shortest, self.longest) for _ in range(self.row_divisor)]
        ids = self.tokenizer.encode([text for text, _ in rows])
        step = -(-self.longest // WIDTHS)
        width = step * -(-ids.shape[1] // step)
        ids = np.pad(ids, ((0, 0), (0, width - ids.shape[1])), constant_values=self.tokenizer.pad_id)
        return {"token_ids": ids}, np.array([value for _, value in rows], "int32")
