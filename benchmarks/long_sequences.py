"""Training steps of a language model on one long row, by the mechanism of its attention.

`python -m benchmarks.long_sequences [--quick] [--json FILE]`

The model of `examples/long_sequences.py`, 4 layers of width 128 with 4 heads. Blockwise attention computes what dense
attention does, and their losses are compared. Local attention hides keys at a distance of 512 or further. `--quick`
uses a single row of 256 tokens.
"""

import os
import sys

import numpy as np

from benchmarks.harness import Benchmark, main

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

LENGTHS = 256, 1024, 2048, 4096
VOCABULARY_SIZE = 260
WINDOW = 512

benchmark = Benchmark({f"1 x {length}": length for length in LENGTHS}, quick=["1 x 256"])


@benchmark.implementation("dense")
def dense(length):
    return _training(length, mechanism="dense"), np.atleast_1d


@benchmark.implementation("blockwise")
def blockwise(length):
    return _training(length, mechanism="blockwise"), np.atleast_1d


@benchmark.implementation("local")
def local(length):
    return _training(length, mechanism="local", window=WINDOW), lambda loss: None


def _training(length, mechanism, window=None):
    import keras
    import tensorflow as tf

    import keras_attn
    from keras_attn.training import FusedAdam, MaskedCrossEntropy, Trainer

    keras.utils.set_random_seed(0)
    sizes = {"num_layers": 4, "hidden_dim": 128, "num_heads": 4, "intermediate_dim": 512}
    options = {"attention_options": {"mechanism": mechanism}, "window": window, "norm": "pre", "dropout": 0.0}
    model = keras_attn.LanguageModel(VOCABULARY_SIZE, **sizes, **options)
    ids = np.random.default_rng(0).integers(1, VOCABULARY_SIZE, (1, length + 1))
    data = tf.data.Dataset.from_tensors(({"token_ids": ids[:, :-1]}, ids[:, 1:])).repeat()
    trainer = Trainer(model, FusedAdam(1e-4), MaskedCrossEntropy())

    def step():
        return trainer.fit(data, trainer.step + 1).history["loss"][-1:]

    return step


if __name__ == "__main__":
    sys.exit(main(benchmark))
