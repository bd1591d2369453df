"""Counts invalid outputs of the date model on held-out inputs and on random texts. There can be none.

python examples/count_invalid_dates.py --model build/dates/model.keras
"""

import argparse
import datetime
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import rich
from date_corpus import DateCorpus
from example import count, positive

import keras_attn  # noqa: F401  registers the model's classes with Keras

CHUNK = 500  # texts per batch


def garbage(count, characters, seed):
    """Random texts, half of them from the given characters, half from all of Unicode."""
    rng = np.random.default_rng(seed)
    known = np.array([ord(character) for character in characters])
    anything = np.r_[1:0xD800, 0xE000:0x110000]  # surrogates are not characters
    return [
        "".join(map(chr, rng.choice(anything if row % 2 else known, size=rng.integers(1, 45)))) for row in range(count)
    ]


def invalid(outputs):
    """The outputs that are not ISO 8601 dates of ten characters."""

    def is_date(text):
        try:
            return datetime.date.fromisoformat(text).isoformat() == text
        except ValueError:
            return False

    return [text for text in outputs if not is_date(text)]


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", type=Path, default=Path("build/dates/model.keras"))
    parser.add_argument("--count", type=positive, default=10_000, help="number of inputs of each kind")
    parser.add_argument("--seed", type=count, default=11)
    args = parser.parse_args(argv)
    if not args.model.is_file():
        parser.error(f"--model must be a file written by normalize_dates.py. Received: {args.model}")
    model, corpus = keras.models.load_model(args.model, compile=False), DateCorpus()
    held_out = corpus.held_out(-(-args.count // len(corpus.locales)), args.seed)
    held_out = [held_out[i] for i in np.random.default_rng(args.seed).permutation(len(held_out))[: args.count]]
    kinds = {
        "held-out": [text for _, text, _ in held_out],
        "garbage": garbage(args.count, model.tokenizer.characters, args.seed),
    }
    total = 0
    for kind, texts in kinds.items():
        start, wrong = time.perf_counter(), []
        for first in range(0, len(texts), CHUNK):
            wrong += invalid(model.generate(texts[first : first + CHUNK]))
        seconds = time.perf_counter() - start
        rich.print(f"{kind}: {len(wrong):,} invalid of {len(texts):,} outputs, {seconds:.1f} s", wrong[:5] or "")
        total += len(wrong)
    return 1 if total else 0


if __name__ == "__main__":
    sys.exit(main())
