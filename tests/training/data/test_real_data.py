"""Real corpora: what is read of them, and how full the batches are."""

import os

import numpy as np
import pytest

from examples import corpora
from keras_attn.text import BytePairTokenizer
from keras_attn.training import LabelledTextDataset, ParallelTextDataset, TokenBlockDataset

DATA = os.environ.get("KERAS_ATTN_DATA")
pytestmark = pytest.mark.skipif(not DATA, reason="KERAS_ATTN_DATA names no folder of data")


def test_multi30k():
    records = corpora.multi30k(DATA, "train")
    texts = [text for pair in records for text in pair]
    tokenizer = BytePairTokenizer.train(texts, 4000, start_token="<s>", pad_token="<pad>")
    data = ParallelTextDataset(records, tokenizer, tokens_per_batch=4096, epochs=1)
    assert (data.summary.records, data.summary.examples, data.summary.malformed) == (29_000, 29_000, 0)
    assert len(data.summary.shapes) == 8
    assert data.summary.padding_share < 0.22
    real = sum(int((labels != tokenizer.pad_id).sum()) for _, labels in data.batches())
    assert real == sum(len(ids) + 1 for ids in tokenizer.tokenize(texts[1::2]))


@pytest.mark.parametrize("tokenized", [True, False])
def test_multi30k_splits(tokenized):
    sizes = {"train": 29_000, "val": 1014, "test_2016_flickr": 1000}
    for split, size in sizes.items():
        assert sum(1 for _ in corpora.multi30k(DATA, split, tokenized=tokenized)) == size
    first = next(iter(corpora.multi30k(DATA, "val", "de", "en", tokenized=tokenized)))
    assert first[0].lower().startswith("eine gruppe von männern")


def test_tiny_shakespeare():
    train, rest = corpora.tiny_shakespeare(DATA)
    assert (len(train), len(rest)) == (1_003_854, 111_540)
    # A vocabulary of bytes: that of characters takes no line feed.
    tokenizer = BytePairTokenizer.train([""], 257)
    ids = tokenizer.tokenize([rest])[0]
    data = TokenBlockDataset(ids, 64, 12, shuffle=False, epochs=1)
    assert sum(weights.sum() for *_, weights in data.batches()) == len(rest) - 1
    inputs, labels = next(TokenBlockDataset(ids, 64, 12).batches())
    assert all(text in rest for text in tokenizer.decode(np.c_[inputs["token_ids"], labels[:, -1:]]))


def test_ag_news():
    train, test = corpora.ag_news(DATA, seed=3)
    assert (len(train), len(test)) == (6600, 1000)
    other_train, other_test = corpora.ag_news(DATA, seed=4)
    assert sorted(train + test) == sorted(other_train + other_test)
    assert train[:5] != other_train[:5]
    data = LabelledTextDataset(train, lambda texts: [text.encode() for text in texts], batch_size=32, max_length=512)
    assert data.labels == sorted(corpora.AG_NEWS_CLASSES)
    assert data.summary.examples == 6600
