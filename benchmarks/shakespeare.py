"""A character model of tiny Shakespeare from start to end, compared with nanoGPT in its CPU settings.

`python -m benchmarks.shakespeare --data DIR --nanogpt DIR [--rounds N] [--json FILE]`

Ours is `examples/language_model.py --data DIR`, nanoGPT's is its `train.py`, unchanged, from a checkout of
<https://github.com/karpathy/nanoGPT>. Both train 4 layers of width 128 with 4 heads on 12 x 64 characters for 2,000
steps, without dropout, and validate every 250. Each run is a separate process, timed from start to end, including
imports, compilation, validation and saving. The runs alternate. nanoGPT's loss is over 20 random batches, ours over all
characters of the same part of the text.
"""

import argparse
import gzip
import json
import pickle
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

EXAMPLE = Path(__file__).parents[1] / "examples" / "language_model.py"
STEPS = 2000
SETTING = {
    "device": "cpu",
    "compile": False,
    "eval_iters": 20,
    "log_interval": 1,
    "block_size": 64,
    "batch_size": 12,
    "n_layer": 4,
    "n_head": 4,
    "n_embd": 128,
    "max_iters": STEPS,
    "lr_decay_iters": STEPS,
    "dropout": 0.0,
}


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with tinyshakespeare.txt.gz")
    parser.add_argument("--nanogpt", type=Path, required=True, help="checkout of nanoGPT")
    parser.add_argument("--rounds", type=int, default=3, help="number of runs of each")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the runs to this file")
    parser.add_argument("ours", nargs="*", help="more arguments for our example, after --")
    args = parser.parse_args(argv)
    runs = {"keras_attn": [], "nanoGPT": []}
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        _prepare(args.data, args.nanogpt / "data" / "shakespeare_char")
        for number in range(args.rounds):
            for name, run in (("keras_attn", _ours), ("nanoGPT", _nanogpt)):
                start = time.perf_counter()
                loss = run(args, folder / f"{name}{number}")
                runs[name].append({"seconds": time.perf_counter() - start, "validation_loss": loss})
                print(f"{name:<10}  {runs[name][-1]['seconds']:6.1f} s  validation loss {loss:.4f}", flush=True)
    ours, theirs = (statistics.median(run["seconds"] for run in of_one) for of_one in runs.values())
    print(f"medians {ours:.1f} s and {theirs:.1f} s, ratio {ours / theirs:.2f}")
    if args.json:
        args.json.write_text(json.dumps(runs, indent=1) + "\n")
    return 0


def _ours(args, out):
    command = [sys.executable, EXAMPLE, "--data", args.data, "--out", out, "--steps", str(STEPS), *args.ours]
    subprocess.run([*command, "--formats"], check=True, stdout=subprocess.DEVNULL)
    return json.loads((out / "report.json").read_text())["validation_loss"]


def _nanogpt(args, out):
    settings = [f"--{name}={value}" for name, value in (SETTING | {"out_dir": out}).items()]
    command = [sys.executable, "train.py", "config/train_shakespeare_char.py", *settings]
    output = subprocess.run(command, cwd=args.nanogpt, check=True, capture_output=True, text=True).stdout
    return float(re.findall(rf"step {STEPS}: .* val loss ([\d.]+)", output)[0])


def _prepare(data, folder):
    """Writes the files of nanoGPT's `prepare.py`, which downloads the same text."""
    with gzip.open(data / "tinyshakespeare.txt.gz", "rt", encoding="utf-8") as file:
        text = file.read()
    characters = sorted(set(text))
    ids = np.searchsorted(characters, list(text)).astype("uint16")
    folder.mkdir(parents=True, exist_ok=True)
    end = int(len(text) * 0.9)
    ids[:end].tofile(folder / "train.bin")
    ids[end:].tofile(folder / "val.bin")
    tables = ({character: i for i, character in enumerate(characters)}, dict(enumerate(characters)))
    meta = {"vocab_size": len(characters), "stoi": tables[0], "itos": tables[1]}
    (folder / "meta.pkl").write_bytes(pickle.dumps(meta))


if __name__ == "__main__":
    sys.exit(main())
