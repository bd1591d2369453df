"""Fine-tunes any pretrained encoder, in the files of Hugging Face, to classify news into four classes.

python examples/finetune.py --model FOLDER --data DIR --out build/finetuned            all weights
python examples/finetune.py --model FOLDER --data DIR --freeze 4                       without the first four blocks
python examples/finetune.py --model FOLDER --data DIR --lora 8 --learning-rate 1e-3    LoRA of rank 8
"""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import rich
from corpora import AG_NEWS_CLASSES, add_data_argument, ag_news
from example import Example, argument_parser, count, positive

import keras_attn
from keras_attn import pretrained
from keras_attn.training import (
    FusedAdamW,
    LabelledTextDataset,
    LinearSchedule,
    MaskedAccuracy,
    MaskedCrossEntropy,
    ProgressBar,
    Trainer,
)

BATCH_SIZE = 32
MAX_LENGTH = 96  # longer texts are truncated
EXPORTED = 200  # held-out texts whose classes by the artefact are compared


def freeze_first(model, count):
    """Freezes the embeddings and the first blocks."""
    for name in ("embedding", "position", "token_types", "embedding_norm", "embedding_projection"):
        if getattr(model, name) is not None:
            getattr(model, name).trainable = False
    for block in model.encoder.blocks[:count]:
        block.trainable = False


def main(argv=None):
    parser = argument_parser(__doc__, "finetuned")
    parser.set_defaults(formats=("tflite",))
    parser.add_argument("--model", required=True, help="folder with config.json, model.safetensors and tokenizer files")
    parser.add_argument("--lora", type=positive, metavar="RANK", help="train only LoRA matrices of RANK and the head")
    parser.add_argument("--freeze", type=count, default=0, metavar="N", help="freeze the embeddings and first N blocks")
    parser.add_argument("--learning-rate", type=float, default=5e-5)
    add_data_argument(parser)
    args = parser.parse_args(argv)
    if args.data is None:
        parser.error("--data must be a folder with ag_news_test.csv.gz")
    if args.lora and args.freeze:
        parser.error("--lora already freezes all blocks; --freeze must be 0 with it")
    train, test = ag_news(args.data, args.seed)
    steps = args.steps or 200
    example = Example(args)
    keras.utils.set_random_seed(args.seed)
    model = keras_attn.from_pretrained(args.model, "sequence_classification", labels=AG_NEWS_CLASSES)
    length = min(MAX_LENGTH, model.tokenizer.max_length or MAX_LENGTH)
    if args.lora:
        pretrained.enable_lora(model, args.lora, alpha=2 * args.lora)
    if args.freeze:
        freeze_first(model, args.freeze)
    trained = sum(int(np.prod(x.shape)) for x in model.trainable_variables)
    rich.print(f"{trained:,} of {model.count_params():,} parameters are trained, {steps:,} steps")
    settings = {"labels": AG_NEWS_CLASSES, "batch_size": BATCH_SIZE, "max_length": length, "num_shapes": 4}
    data = LabelledTextDataset(train, model.tokenizer, **settings, seed=args.seed)
    held_out = LabelledTextDataset(test, model.tokenizer, **settings, shuffle=False, epochs=1)
    optimizer = FusedAdamW(LinearSchedule(args.learning_rate, steps, steps // 10), weight_decay=0.01)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    trainer = Trainer(
        model,
        optimizer,
        MaskedCrossEntropy(),
        # Rows of padding have weight 0, which only weighted metrics use.
        weighted_metrics=[MaskedAccuracy(name="accuracy")],
        jit_compile=args.jit_compile,
    )
    example.lap("data and model")
    before = trainer.evaluate(held_out)["accuracy"]
    trainer.fit(data, steps, [ProgressBar()])
    example.lap("training")
    accuracy = trainer.evaluate(held_out)["accuracy"]
    example.report |= {"steps": steps, "trained": trained, "accuracy_before": before, "accuracy": accuracy}
    rich.print(f"accuracy {before:.1%} before, {accuracy:.1%} after, on {len(test):,} texts")
    if args.lora:
        pretrained.save_adapter(model, args.out / "adapter")
        pretrained.merge_lora(model)
    model.save_pretrained(args.out / "checkpoint")
    samples, references = zip(*((" ".join(texts), label) for *texts, label in test[:EXPORTED]), strict=True)
    return example.finish(model, ["classify"], samples, precision="int8", references=references)


if __name__ == "__main__":
    sys.exit(main())
