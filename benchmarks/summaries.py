"""A model of T5's or BART's shape from `transformers`, trained from scratch for as long as one of ours.

`python -m benchmarks.summaries --data DIR --ours build/summaries [--shape bart] [--seconds N] [--json FILE]`

Ours is a run of `examples/summarize.py --data DIR`. The peer has its tokenizer, batches, sizes, schedule of the
learning rate, label smoothing, dropout, average of five checkpoints and beam search, but an optimizer for its
shape; training ends after the seconds that ours took, or `--seconds`. Both must have the same cores, with as many
threads.
"""

import argparse
import json
import math
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

import keras
import summarize
import torch
import transformers
from corpora import debian_descriptions
from torch.nn.functional import cross_entropy

from keras_attn.training import Rouge

# When in the run the averaged checkpoints are taken, and the end of the warmup, as shares of its length.
SNAPSHOTS = 0.8, 0.85, 0.9, 0.95, 1.0
WARMUP = 0.05
# T5's weights have initial sizes that differ by a factor of 16 and more, so its steps are shares of them.
OPTIMIZERS = {
    "t5": lambda parameters: torch.optim.Adafactor(parameters, lr=3e-2),
    "bart": lambda parameters: torch.optim.Adam(parameters, lr=1e-3, betas=(0.9, 0.98)),
}
SIZES = "hidden_dim", "num_layers", "num_heads", "intermediate_dim"


def build(shape, tokenizer):
    sizes = summarize.SIZES[0]
    width, layers, heads, inner = (sizes[name] for name in SIZES)
    common = {
        "vocab_size": tokenizer.vocabulary_size,
        "d_model": width,
        "pad_token_id": tokenizer.pad_id,
        "bos_token_id": tokenizer.start_id,
        "eos_token_id": tokenizer.end_id,
        "decoder_start_token_id": tokenizer.start_id,
    }
    if shape == "t5":
        sizes = {"num_layers": layers, "num_heads": heads, "d_kv": width // heads, "d_ff": inner}
        config = transformers.T5Config(**common, **sizes, dropout_rate=summarize.DROPOUT)
        return transformers.T5ForConditionalGeneration(config)
    sizes = {"layers": layers, "attention_heads": heads, "ffn_dim": inner}
    config = transformers.BartConfig(
        **common,
        **{f"{side}_{name}": size for side in ("encoder", "decoder") for name, size in sizes.items()},
        max_position_embeddings=2 * summarize.MAX_LENGTH,
        dropout=summarize.DROPOUT,
        forced_eos_token_id=None,
    )
    return transformers.BartForConditionalGeneration(config)


def schedule(share):
    """The learning rate after a share of the training, of its peak: a warmup, then a cosine to 2 %."""
    decayed = 0.51 + 0.49 * math.cos(math.pi * (share - WARMUP) / (1 - WARMUP))
    return min(max(share, 1e-3) / WARMUP, decayed)


def train(model, optimizer, batches, pad_id, seconds):
    """Trains for some seconds. Returns the number of steps and the average of the snapshots' weights."""
    peak = optimizer.param_groups[0]["lr"]
    due, snapshots, steps = list(SNAPSHOTS), [], 0
    start, share = time.perf_counter(), 0.0
    model.train()
    while due:
        inputs, labels = next(batches)
        optimizer.param_groups[0]["lr"] = peak * schedule(share)
        source, target, labels = (
            torch.as_tensor(x, dtype=torch.long) for x in (inputs["source_ids"], inputs["target_ids"], labels)
        )
        logits = model(input_ids=source, attention_mask=(source != pad_id).long(), decoder_input_ids=target).logits
        loss = cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=pad_id, label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        steps += 1
        share = min(1.0, (time.perf_counter() - start) / seconds)
        if steps % 100 == 0:
            print(f"{share:4.0%}  step {steps:,}  loss {loss.item():.3f}", flush=True)
        if share >= due[0]:
            due.pop(0)
            snapshots.append({name: value.clone() for name, value in model.state_dict().items()})
    return steps, {name: sum(one[name] for one in snapshots) / len(snapshots) for name in snapshots[0]}


@torch.no_grad()
def summaries(model, tokenizer, documents, batch_size=32):
    model.eval()
    order = sorted(range(len(documents)), key=lambda i: len(documents[i]))
    found = {}
    for first in range(0, len(order), batch_size):
        chosen = order[first : first + batch_size]
        source = torch.as_tensor(tokenizer.encode([documents[i] for i in chosen]), dtype=torch.long)
        ids = model.generate(
            input_ids=source,
            attention_mask=(source != tokenizer.pad_id).long(),
            num_beams=4,
            length_penalty=1.0,
            no_repeat_ngram_size=2,
            max_new_tokens=summarize.SUMMARY_LENGTH,
        )
        found.update(zip(chosen, tokenizer.decode(ids[:, 1:].numpy()), strict=True))
    return [found[i] for i in range(len(documents))]


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with debian_descriptions/")
    parser.add_argument("--ours", type=Path, required=True, help="folder of a run of examples/summarize.py")
    parser.add_argument("--shape", choices=["t5", "bart"], default="t5")
    parser.add_argument("--seconds", type=float, help="of training (default: as long as ours)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the result to this file")
    args = parser.parse_args(argv)
    seconds = args.seconds or json.loads((args.ours / "report.json").read_text())["seconds"]["training"]
    tokenizer = keras.saving.load_model(args.ours / "model.keras", compile=False).tokenizer
    pairs, test = (debian_descriptions(args.data, split) for split in ("train", "test"))
    torch.manual_seed(args.seed)
    model = build(args.shape, tokenizer)
    batches = summarize.dataset(pairs, tokenizer, args.seed, is_real=True).batches()
    optimizer = OPTIMIZERS[args.shape](model.parameters())
    steps, averaged = train(model, optimizer, batches, tokenizer.pad_id, seconds)
    model.load_state_dict(averaged)
    documents, references = (list(side) for side in zip(*test, strict=True))
    outputs = summaries(model, tokenizer, documents)
    result = {"shape": args.shape, "parameters": model.num_parameters(), "seconds": seconds, "steps": steps}
    for kind in ("rouge1", "rouge2", "rougeL"):
        result[kind] = Rouge(kind, use_stemmer=True)(outputs, references)
    print(result)
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
