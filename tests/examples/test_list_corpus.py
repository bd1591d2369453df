"""Lists have the length that was asked for, and the value that their text says."""

import random
import statistics
import sys
from pathlib import Path

import numpy as np
import pytest

from keras_attn.text import CharacterTokenizer


@pytest.fixture
def corpus(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parents[2] / "examples"), *sys.path])
    import list_corpus

    return list_corpus


MEANINGS = {
    "<": lambda values: sorted(values)[0],
    ">": lambda values: sorted(values)[-1],
    # The mean of the middle two, rounded down.
    "~": lambda values: int(statistics.median(values)),
    "+": lambda values: int(str(sum(values))[-1]),
}


def value_of(text):
    """The value of a text, read from the right with a stack."""
    stack = []
    for character in reversed(text):
        if character in MEANINGS:
            values = []
            while stack[-1] != "]":
                values.append(int(stack.pop()))
            stack[-1] = MEANINGS[character](values)
        else:
            stack.append(character)
    [value] = stack
    return value


def test_known_values():
    assert [value_of(x) for x in (">43<23]10]", "<9>12]]", "~145]", "~14]", "+995]")] == [4, 2, 4, 2, 3]


@pytest.mark.parametrize(("shortest", "longest"), [(4, 16), (30, 40), (500, 2000)])
def test_lengths_and_values(corpus, shortest, longest):
    drawn = [corpus.draw(random.Random(seed), shortest, longest) for seed in range(50)]
    assert all(shortest <= len(text) <= longest for text, _ in drawn)
    assert [value_of(text) for text, _ in drawn] == [value for _, value in drawn]
    assert len({text for text, _ in drawn}) > 40


def test_batches(corpus):
    tokenizer = CharacterTokenizer(corpus.ALPHABET, max_length=100)
    data = corpus.Lists(tokenizer, 25, 100, batch_size=4, num_batches=7)
    widths = set()
    for inputs, labels in (data.batch(0, i) for i in range(20)):
        texts = tokenizer.decode(inputs["token_ids"])
        assert [value_of(text) for text in texts] == labels.tolist()
        widths.add(inputs["token_ids"].shape[1])
    assert widths <= {25, 50, 75, 100}
    again = corpus.Lists(tokenizer, 25, 100, batch_size=4, num_batches=7).batch(0, 19)
    np.testing.assert_array_equal(again[0]["token_ids"], inputs["token_ids"])
    others = [data.batch(1, 19), corpus.Lists(tokenizer, 25, 100, 4, 7, seed=1).batch(0, 19)]
    assert all(tokenizer.decode(other["token_ids"]) != texts for other, _ in others)
