"""Accuracy of a text classifier after weights of it became zero: by score, pattern and share.

`python -m benchmarks.pruning --data DIR [--steps N] [--json FILE]`

The model, data and optimizer of `examples/classify_text.py`. Each row goes on from the same trained weights for half as
many steps, in whose first two thirds weights become zero; the first row does without.
"""

import argparse
import io
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

import classify_text
import keras
import numpy as np
import rich
from rich.table import Table

from keras_attn.training.pruning import MagnitudePruning

# Not the embeddings and not the head.
LAYERS = ("encoder/*",)
ROWS = [
    *({"sparsity": share, "scores": scores} for share in (0.5, 0.8, 0.9, 0.95) for scores in ("magnitude", "movement")),
    {"sparsity": 0.5, "pattern": "2:4"},
    {"sparsity": 0.5, "pattern": (4, 4)},
    {"sparsity": 0.8, "pattern": (4, 4)},
]


def trained(model, data, steps, rate, callbacks=()):
    """A trainer whose model has been trained."""
    trainer = classify_text.build_trainer(model, steps, rate)
    trainer.fit(data, steps, callbacks)
    return trainer


def kilobytes(arrays):
    """Size of the arrays in a compressed file."""
    file = io.BytesIO()
    np.savez_compressed(file, *arrays)
    return file.tell() / 1000


def measured(pruning, model, data, held_out, steps):
    """Trains a model further, with pruning unless it is None, and returns its row."""
    trainer = trained(model, data, steps, 5e-4, [pruning] if pruning else [])
    kernels = [keras.ops.convert_to_numpy(w) for w in model.encoder.trainable_weights if w.path.endswith("kernel")]
    return {
        "scores": pruning.scores if pruning else "",
        "pattern": str(pruning.pattern) if pruning else "",
        "zeros": float(np.mean(np.concatenate([np.ravel(kernel) for kernel in kernels]) == 0)),
        "kilobytes": kilobytes(kernels),
        "accuracy": trainer.evaluate(held_out)["accuracy"],
    }


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with ag_news_test.csv.gz")
    parser.add_argument("--steps", type=int, default=600, help="of the first training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows to this file")
    args = parser.parse_args(argv)
    keras.utils.set_random_seed(args.seed)
    tokenizer, data, held_out = classify_text.datasets(*classify_text.read(args), args.seed)
    model = classify_text.build_model(tokenizer)
    accuracy = trained(model, data, args.steps, 1e-3).evaluate(held_out)["accuracy"]
    print(f"{accuracy:.1%} after {args.steps} steps")
    weights, rows, steps = model.get_weights(), [], args.steps // 2
    schedule = {"end": 2 * steps // 3, "every": max(1, steps // 30), "layers": LAYERS}
    for pruning in (None, *(MagnitudePruning(**settings, **schedule) for settings in ROWS)):
        model.set_weights(weights)
        rows.append(measured(pruning, model, data, held_out, steps))
        print(rows[-1], flush=True)
    table = Table("scores", "pattern", "zeros", "KB, compressed", "accuracy")
    for row in rows:
        numbers = f"{row['zeros']:.0%}", f"{row['kilobytes']:.0f}", f"{row['accuracy']:.1%}"
        table.add_row(row["scores"], row["pattern"], *numbers)
    rich.print(table)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
