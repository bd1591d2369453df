"""Trains on long sequences: characters of a text with a context of thousands, or the values of long nested lists.

python examples/long_sequences.py --out build/long                            two sonnets
python examples/long_sequences.py --data DIR --length 4096 --batch-size 1 --mechanism blockwise --out build/long
python examples/long_sequences.py --task lists --length 2000 --batch-size 8 --mechanism blockwise --out build/lists
"""

import math
import os
import resource
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import rich
from corpora import add_data_argument
from example import Example, argument_parser, positive
from language_model import PROMPT, build_optimizer, read
from list_corpus import ALPHABET, Lists

import keras_attn
from keras_attn.generation import GenerationConfig
from keras_attn.text import CharacterTokenizer
from keras_attn.training import MaskedAccuracy, MaskedCrossEntropy, ProgressBar, TokenBlockDataset, Trainer

# Tokens of a row of each task by default.
LENGTHS = {"characters": 128, "lists": 32}
VALIDATED, TESTED = 200, 2000  # lists


def attention(args):
    """The settings of attention of both models."""
    options = {"mechanism": args.mechanism}
    return {"window": args.window, "attention_options": options, "norm": "pre", "dropout": 0.0}


def characters(args):
    """`(model, training data, validation data, task of the export, samples)` of a language model."""
    _, _, tokenizer, ids = read(args.data, share=0.8)
    if min(map(len, ids)) <= args.length:
        raise ValueError(f"--length must be less than {min(map(len, ids))}, the characters of a part of the text")
    data = TokenBlockDataset(ids[0], args.length, args.batch_size, seed=args.seed)
    held_out = TokenBlockDataset(ids[1], args.length, args.batch_size, shuffle=False, epochs=1)
    model = keras_attn.LanguageModel(
        tokenizer.vocabulary_size,
        num_layers=4,
        hidden_dim=128,
        num_heads=4,
        intermediate_dim=512,
        tokenizer=tokenizer,
        generation_config=GenerationConfig(max_length=16),
        **attention(args),
        name="characters",
    )
    return model, data, held_out, "generate", [PROMPT, "The", "I love "]


def lists(args):
    """The same of a classifier that reads the value at the first token, the outermost operator."""
    tokenizer = CharacterTokenizer(ALPHABET, max_length=args.length)
    data = draw_lists(tokenizer, args, 1000 * args.batch_size)
    held_out = draw_lists(tokenizer, args, VALIDATED, "held out ", epochs=1)
    model = keras_attn.EncoderModel(
        tokenizer.vocabulary_size,
        num_layers=4,
        hidden_dim=64,
        num_heads=4,
        intermediate_dim=128,
        head="sequence_classification",
        labels=data.labels,
        position=keras_attn.layers.RotaryPositionEncoding(),
        tokenizer=tokenizer,
        **attention(args),
        name="lists",
    )
    samples = tokenizer.decode(held_out.batch(0, 0)[0]["token_ids"])[:4]
    return model, data, held_out, "classify", samples


def draw_lists(tokenizer, args, num_lists, name="", epochs=None):
    """Batches of lists that those of another name lack, for they have a seed of their own."""
    seed, num_batches = f"{name}{args.seed}", -(-num_lists // args.batch_size)
    return Lists(tokenizer, args.length // 4, args.length, args.batch_size, num_batches, seed, epochs)


def main(argv=None):
    parser = argument_parser(__doc__, "long_sequences")
    add_data_argument(parser)
    parser.add_argument("--task", choices=LENGTHS, default="characters")
    parser.add_argument("--length", type=positive, help="tokens of a block (128), or most tokens of a list (32)")
    parser.add_argument("--batch-size", type=positive, default=16)
    parser.add_argument("--mechanism", choices=("auto", "dense", "blockwise", "local"), default="auto")
    parser.add_argument("--window", type=positive, help="keys at this distance or further are hidden")
    args = parser.parse_args(argv)
    args.length = args.length or LENGTHS[args.task]
    if args.length < 16:
        parser.error("--length must be 16 or more")
    if args.mechanism == "local" and args.window is None:
        parser.error("--mechanism local needs --window")
    steps = args.steps or (60 if args.length == LENGTHS[args.task] else 1500)
    if steps < 2:
        parser.error("--steps must be 2 or more")
    keras.utils.set_random_seed(args.seed)
    try:
        model, data, held_out, task, samples = {"characters": characters, "lists": lists}[args.task](args)
    except ValueError as error:
        parser.error(str(error))
    example = Example(args)
    rich.print(f"{args.batch_size} x {args.length} tokens, {model.count_params():,} parameters, {steps:,} steps")
    metrics = [MaskedAccuracy(name="accuracy")] if args.task == "lists" else []
    trainer = Trainer(
        model, build_optimizer(steps), MaskedCrossEntropy(), weighted_metrics=metrics, jit_compile=args.jit_compile
    )
    every = max(1, steps // 6)
    history = trainer.fit(data, steps, [ProgressBar()], validation_data=held_out, validation_freq=every)
    example.lap("training")
    example.draw(history, every, steps)
    loss = history.history["val_loss"][-1]
    # Linux counts in KiB, macOS in bytes.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    example.report |= {"steps": steps, "validation_loss": loss, "peak_mb": round(peak)}
    if metrics:
        test = draw_lists(model.tokenizer, args, TESTED, "test ", epochs=1)
        example.report["accuracy"] = trainer.evaluate(test)["accuracy"]
        rich.print(f"accuracy {example.report['accuracy']:.1%} on {len(test) * args.batch_size:,} lists")
    else:
        example.report["bits"] = loss / math.log(2)
        rich.print(f"validation loss {loss:.4f}, {example.report['bits']:.3f} bits per character")
    return example.finish(model, [task], samples)


if __name__ == "__main__":
    sys.exit(main())
