"""Classifies news into four classes with a small encoder and a WordPiece vocabulary, both trained from scratch.

python examples/classify_text.py --out build/news                generated texts
python examples/classify_text.py --data DIR --out build/news     AG News, 6,600 training texts and 1,000 others
"""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import rich
from corpora import AG_NEWS_CLASSES, add_data_argument, ag_news
from example import Example, argument_parser

import keras_attn
from keras_attn.text import WordPieceTokenizer
from keras_attn.training import (
    Checkpoints,
    FusedAdamW,
    LabelledTextDataset,
    LinearSchedule,
    MaskedAccuracy,
    MaskedCrossEntropy,
    ProgressBar,
    Trainer,
    get_strategy,
)

BATCH_SIZE = 64
MAX_LENGTH = 96  # longer texts are truncated
VOCABULARY_SIZE = 8000
AVERAGED = 4  # checkpoints of the last part of training
LOSS = {"label_smoothing": 0.1}
SIZES = {"num_layers": 2, "hidden_dim": 128, "num_heads": 4, "intermediate_dim": 256}
WORDS = {
    "World": "minister election treaty border parliament army peace talks president vote",
    "Sports": "match season coach goal champion league player win final score",
    "Business": "shares profit market oil prices bank sales stocks deal quarter",
    "Sci/Tech": "software space internet chip scientists computer launch users virus web",
}


def made_up(count, seed):
    """Generates records of words that are typical of a class."""
    rng = np.random.default_rng(seed)
    labels = [AG_NEWS_CLASSES[number] for number in rng.integers(0, len(WORDS), count)]
    return [(" ".join(rng.choice(WORDS[label].split(), 7)), label) for label in labels]


def build_model(tokenizer, sizes=SIZES, name="news"):
    return keras_attn.EncoderModel(
        tokenizer.vocabulary_size,
        **sizes,
        head="sequence_classification",
        labels=AG_NEWS_CLASSES,
        # The words of a short text matter more than their positions.
        pooling=keras_attn.layers.MeanPooling(),
        norm="pre",
        dropout=0.4,
        position=keras_attn.layers.LearnedPositionEmbedding(MAX_LENGTH),
        tokenizer=tokenizer,
        name=name,
    )


def build_optimizer(steps, rate):
    optimizer = FusedAdamW(LinearSchedule(rate, steps, steps // 10), weight_decay=0.1, global_clipnorm=1.0)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def build_trainer(model, steps, rate=1e-3, **options):
    # Rows of padding have weight 0, which only weighted metrics use.
    metrics = [MaskedAccuracy(name="accuracy")]
    optimizer = build_optimizer(steps, rate)
    return Trainer(model, optimizer, MaskedCrossEntropy(**LOSS), weighted_metrics=metrics, **options)


def text_of(record):
    return " ".join(record[:-1])


def read(args):
    """`(training records, held-out records)`."""
    if args.data:
        return ag_news(args.data, args.seed)
    return made_up(400, args.seed), made_up(100, args.seed + 1)


def datasets(train, test, seed):
    """`(tokenizer, training batches, held-out batches)`."""
    tokenizer = WordPieceTokenizer.train(map(text_of, train), VOCABULARY_SIZE, max_length=MAX_LENGTH)
    settings = {"labels": AG_NEWS_CLASSES, "batch_size": BATCH_SIZE, "max_length": MAX_LENGTH, "num_shapes": 4}
    data = LabelledTextDataset(train, tokenizer, **settings, seed=seed)
    return tokenizer, data, LabelledTextDataset(test, tokenizer, **settings, shuffle=False, epochs=1)


def main(argv=None):
    parser = argument_parser(__doc__, "news")
    add_data_argument(parser)
    args = parser.parse_args(argv)
    steps = args.steps or (600 if args.data else 80)
    if steps < AVERAGED:
        parser.error(f"--steps must be {AVERAGED} or more")
    train, test = read(args)
    example = Example(args)
    keras.utils.set_random_seed(args.seed)
    tokenizer, data, held_out = datasets(train, test, args.seed)
    every = min(steps, max(10, steps // 20))
    checkpoints = Checkpoints(args.out / "checkpoints", every=every, keep=AVERAGED)
    strategy = get_strategy()
    with strategy.scope():
        model = build_model(tokenizer)
        trainer = build_trainer(model, steps, strategy=strategy, jit_compile=args.jit_compile, checkpoints=checkpoints)
    rich.print(f"{len(train):,} + {len(test):,} texts, {tokenizer.vocabulary_size:,} pieces")
    rich.print(f"{model.count_params():,} parameters, {steps:,} steps")
    example.lap("data and model")
    # Only for the curves: no choice is based on the held-out texts.
    history = trainer.fit(data, steps, [ProgressBar()], validation_data=held_out, validation_freq=every)
    example.draw(history, every, steps)
    example.lap("training")
    last = trainer.evaluate(held_out)["accuracy"]
    checkpoints.average(model, last=len(checkpoints.steps()))
    accuracy = trainer.evaluate(held_out)["accuracy"]
    example.report |= {"steps": steps, "accuracy": accuracy, "accuracy_of_last_step": last}
    rich.print(f"accuracy {accuracy:.1%} on {len(test):,} texts; {last:.1%} before checkpoints were averaged")
    example.lap("evaluation")
    return example.finish(model, ["classify"], [text_of(record) for record in test[:16]])


if __name__ == "__main__":
    sys.exit(main())
