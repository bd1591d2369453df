"""Trains a character-level language model of the size of nanoGPT's CPU example.

python examples/language_model.py --out build/language_model                two sonnets
python examples/language_model.py --data DIR --out build/language_model     tiny Shakespeare
"""

import math
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import rich
from corpora import add_data_argument, tiny_shakespeare
from example import Example, argument_parser

import keras_attn
from keras_attn.generation import GenerationConfig, Sampling, Temperature, stream
from keras_attn.text import BytePairTokenizer
from keras_attn.training import (
    FusedAdamW,
    MaskedCrossEntropy,
    ProgressBar,
    TokenBlockDataset,
    Trainer,
    get_strategy,
)

BLOCK = 64  # context length in characters
BATCH_SIZE = 12
PROMPT = "And so "
SONNETS = """\
Shall I compare thee to a summer's day?
Thou art more lovely and more temperate:
Rough winds do shake the darling buds of May,
And summer's lease hath all too short a date;
Sometime too hot the eye of heaven shines,
And often is his gold complexion dimm'd;
And every fair from fair sometime declines,
By chance or nature's changing course untrimm'd;
But thy eternal summer shall not fade,
Nor lose possession of that fair thou ow'st;
Nor shall death brag thou wander'st in his shade,
When in eternal lines to time thou grow'st:
So long as men can breathe or eyes can see,
So long lives this, and this gives life to thee.

Let me not to the marriage of true minds
Admit impediments. Love is not love
Which alters when it alteration finds,
Or bends with the remover to remove:
O no! it is an ever-fixed mark
That looks on tempests and is never shaken;
It is the star to every wandering bark,
Whose worth's unknown, although his height be taken.
Love's not Time's fool, though rosy lips and cheeks
Within his bending sickle's compass come;
Love alters not with his brief hours and weeks,
But bears it out even to the edge of doom.
If this be error and upon me proved,
I never writ, nor no man ever loved.
"""


def read(folder, share=0.9):
    """`(training text, rest, tokenizer, ids of both)` of tiny Shakespeare, or of the sonnets, split at a share."""
    end = int(len(SONNETS) * share)
    train, rest = tiny_shakespeare(folder) if folder else (SONNETS[:end], SONNETS[end:])
    # Without merges, a token is a byte, which is a character in English text.
    tokenizer = BytePairTokenizer.train([train], vocabulary_size=1)
    return train, rest, tokenizer, [tokenizer.tokenize([text])[0] for text in (train, rest)]


def build_model(tokenizer):
    return keras_attn.LanguageModel(
        tokenizer.vocabulary_size,
        num_layers=4,
        hidden_dim=128,
        num_heads=4,
        intermediate_dim=512,
        position=keras_attn.layers.LearnedPositionEmbedding(BLOCK),
        tokenizer=tokenizer,
        generation_config=GenerationConfig(
            max_length=BLOCK - len(PROMPT),
            strategy=Sampling(),
            processors=(Temperature(0.8),),
        ),
        name="characters",
    )


def build_optimizer(steps):
    warmup = min(100, steps // 2)
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, steps - warmup, alpha=0.1, warmup_target=1e-3, warmup_steps=warmup
    )
    optimizer = FusedAdamW(rate, beta_2=0.99, epsilon=1e-8, weight_decay=0.1, global_clipnorm=1.0)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def main(argv=None):
    parser = argument_parser(__doc__, "language_model")
    add_data_argument(parser)
    # There is only one shape to compile, and steps then take four fifths of the time.
    parser.set_defaults(jit_compile=True)
    args = parser.parse_args(argv)
    steps = args.steps or (2000 if args.data else 100)
    if steps < 2:
        parser.error("--steps must be 2 or more")
    train, rest, tokenizer, ids = read(args.data)
    example = Example(args)
    keras.utils.set_random_seed(args.seed)
    data = TokenBlockDataset(ids[0], BLOCK, BATCH_SIZE, seed=args.seed)
    # Each character of the rest is a label once. nanoGPT estimates this mean with random blocks.
    validation = TokenBlockDataset(ids[1], BLOCK, 16 * BATCH_SIZE, shuffle=False, epochs=1)
    strategy = get_strategy()
    with strategy.scope():
        model = build_model(tokenizer)
        optimizer = build_optimizer(steps)
    rich.print(f"{len(train):,} + {len(rest):,} characters, {model.count_params():,} parameters, {steps:,} steps")
    example.lap("data and model")
    trainer = Trainer(model, optimizer, MaskedCrossEntropy(), strategy=strategy, jit_compile=args.jit_compile)
    every = max(1, steps // 8)
    history = trainer.fit(data, steps, [ProgressBar()], validation_data=validation, validation_freq=every)
    example.lap("training")
    example.draw(history, every, steps)
    loss = history.history["val_loss"][-1]
    example.report |= {"steps": steps, "validation_loss": loss, "validation_characters": len(rest) - 1}
    rich.print(f"validation loss {loss:.4f} over {len(rest) - 1:,} characters, {loss / math.log(2):.3f} bits each")

    print(PROMPT, end="")
    for [piece] in stream(model, [PROMPT]):
        print(piece, end="", flush=True)
    print()
    example.lap("sample")
    return example.finish(model, ["generate"], samples=[PROMPT, "The", "I love "])


if __name__ == "__main__":
    sys.exit(main())
