"""Trains on workers of Ray Train, which restarts them when one dies.

python examples/train_on_ray.py --out build/ray              two workers on this machine
python examples/train_on_ray.py --out build/ray --kill 30    the same, with one killed at step 30

Needs `pip install 'keras_attn[ray]'`. On a cluster, `--out` must be a folder that all machines share.
"""

import argparse
import json
import os
import signal
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import ray
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.tensorflow import TensorflowTrainer

PAIRS = [
    (f"{day} {month}", f"{number:02}-{day:02}")
    for number, month in enumerate(("May", "June"), 5)
    for day in range(1, 29)
]


def train(config):
    """Runs on every worker. Ray has set `TF_CONFIG`."""
    import keras

    import keras_attn
    from keras_attn.text import CharacterTokenizer
    from keras_attn.training import (
        Checkpoints,
        FusedAdam,
        MaskedCrossEntropy,
        ParallelTextDataset,
        Trainer,
        get_strategy,
    )

    out, rank = Path(config["out"]), ray.train.get_context().get_world_rank()

    class Death(keras.callbacks.Callback):
        """Kills a worker other than the first when it reaches a step for the first time."""

        def on_train_batch_end(self, batch, logs=None):
            mark = out / "killed"
            if rank and trainer.step == config["kill"] and not mark.exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)

    keras.utils.set_random_seed(config["seed"])
    tokenizer = CharacterTokenizer("".join(sorted(set("".join(map("".join, PAIRS))))))
    data = ParallelTextDataset(PAIRS, tokenizer, tokens_per_batch=512, num_shapes=1, seed=config["seed"])
    strategy = get_strategy()
    with strategy.scope():
        model = keras_attn.Transformer(
            tokenizer.vocabulary_size,
            num_layers=1,
            hidden_dim=64,
            num_heads=4,
            intermediate_dim=128,
            dropout=0.1,
            tokenizer=tokenizer,
        )
        optimizer = FusedAdam(2e-3, global_clipnorm=1.0)
    checkpoints = Checkpoints(out / "checkpoints", every=10)
    trainer = Trainer(model, optimizer, MaskedCrossEntropy(), strategy=strategy, checkpoints=checkpoints)
    history = trainer.fit(data, config["steps"], [Death()])
    if rank == 0:
        model.save(out / "model.keras")
        report = {"loss": float(history.history["loss"][-1]), "replicas": strategy.num_replicas_in_sync}
        (out / "report.json").write_text(json.dumps(report) + "\n")


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("build/ray"), help="folder for checkpoints and the model")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--kill", type=int, default=0, help="step at which to kill a worker (default: never)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    if min(args.workers, args.steps) < 1:
        parser.error("--workers and --steps must be 1 or more")
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "killed").unlink(missing_ok=True)
    config = {"out": str(args.out.resolve()), "steps": args.steps, "kill": args.kill, "seed": args.seed}
    failures = FailureConfig(max_failures=3)
    TensorflowTrainer(
        train,
        train_loop_config=config,
        scaling_config=ScalingConfig(num_workers=args.workers),
        run_config=RunConfig(name="keras_attn", storage_path=config["out"], failure_config=failures),
    ).fit()
    print((args.out / "report.json").read_text(), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
