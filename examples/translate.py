"""Translates English to German with a Transformer or an earlier recurrent model.

python examples/translate.py --out build/translation                  a few sentences
python examples/translate.py --data DIR --out build/translation       Multi30k, lower case, tokenised
python examples/translate.py --data DIR --raw ...                     cased, not tokenised
python examples/translate.py --model rnn ...                          Bahdanau's model; `gnmt`: a small GNMT
"""

import itertools
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import rich
from corpora import add_data_argument, multi30k
from example import Example, argument_parser

import keras_attn
from keras_attn.generation import BeamSearch, GenerationConfig
from keras_attn.text import BytePairTokenizer
from keras_attn.training import (
    Bleu,
    Checkpoints,
    FusedAdam,
    InverseSquareRootSchedule,
    MaskedCrossEntropy,
    ParallelTextDataset,
    ProgressBar,
    SampleOutputs,
    TextEvaluation,
    Trainer,
    get_strategy,
)

VOCABULARY_SIZE = 10_000
MAX_LENGTH = 64
TOKENS_PER_BATCH = 4096
# Of the sentences that are made up.
SHORT_LENGTH, FEW_TOKENS = 16, 1024
AVERAGED = 10  # checkpoints
NUMBERS = {"a": "ein", "one": "ein", "the": "der", "this": "dieser"}
COLOURS = {"red": "rote", "blue": "blaue", "green": "grüne", "old": "alte", "young": "junge"}
NOUNS = {"man": "mann", "dog": "hund", "bus": "bus", "ball": "ball", "boy": "junge"}
VERBS = {"sleeps": "schläft", "runs": "rennt", "waits": "wartet", "stands here": "steht hier", "falls": "fällt"}


def made_up():
    """All pairs of simple sentences from the words above: `(training pairs, others)`."""
    phrases = itertools.product(*(table.items() for table in (NUMBERS, COLOURS, NOUNS, VERBS)))
    pairs = [tuple(" ".join(words) + " ." for words in zip(*phrase, strict=True)) for phrase in phrases]
    # 7 is coprime to their number, so every word is in both splits.
    return [pair for i, pair in enumerate(pairs) if i % 7], pairs[::7]


def build_model(name, tokenizer, max_length):
    config = GenerationConfig(max_length=max_length, strategy=BeamSearch(5, length_penalty=1.0))
    carried = {"tokenizer": tokenizer, "generation_config": config, "dropout": 0.3}
    size = tokenizer.vocabulary_size
    if name == "rnn":
        return keras_attn.Seq2SeqRNN.bahdanau(size, hidden_dim=256, tie_output=True, name=name, **carried)
    if name == "gnmt":
        return keras_attn.Seq2SeqRNN.gnmt(size, num_layers=4, hidden_dim=256, tie_output=True, name=name, **carried)
    return keras_attn.Transformer(
        size, num_layers=4, hidden_dim=128, num_heads=4, intermediate_dim=256, norm="pre", name=name, **carried
    )


def build_optimizer(name, steps):
    # The peak rate, at the last step of the warm-up, does not depend on the model's width.
    peak = 5e-3 if name == "transformer" else 1e-3
    warmup = max(1, min(2000, steps // 5))
    rate = InverseSquareRootSchedule(hidden_dim=1, warmup_steps=warmup, scale=peak * warmup**0.5)
    return FusedAdam(rate, beta_2=0.98, epsilon=1e-9, global_clipnorm=1.0)


def main(argv=None):
    parser = argument_parser(__doc__, "translation")
    add_data_argument(parser)
    parser.add_argument("--model", choices=["transformer", "rnn", "gnmt"], default="transformer")
    parser.add_argument("--raw", action="store_true", help="use cased, untokenised text")
    args = parser.parse_args(argv)
    steps = args.steps or (8000 if args.data else 200)
    if args.data:
        splits = ("train", "val", "test_2016_flickr")
        train, validation, test = (list(multi30k(args.data, split, tokenized=not args.raw)) for split in splits)
    else:
        train, test = made_up()
        validation = test
    example = Example(args)
    keras.utils.set_random_seed(args.seed)
    tokenizer = BytePairTokenizer.train(
        (text for pair in train for text in pair),
        VOCABULARY_SIZE,
        start_token="<s>",
        end_token="</s>",
        pad_token="<pad>",
        # A word is the same piece at any position.
        add_prefix_space=True,
    )
    # XLA compiles each shape.
    shapes = 8 if args.data else 1
    tokens, length = (TOKENS_PER_BATCH, MAX_LENGTH) if args.data else (FEW_TOKENS, SHORT_LENGTH)
    settings = {"tokens_per_batch": tokens, "max_length": length, "num_shapes": shapes, "seed": args.seed}
    data = ParallelTextDataset(train, tokenizer, **settings)
    held_out = ParallelTextDataset(validation, tokenizer, **settings, shuffle=False, epochs=1)
    strategy = get_strategy()
    with strategy.scope():
        model = build_model(args.model, tokenizer, length)
        optimizer = build_optimizer(args.model, steps)
    rich.print(f"{len(train):,} pairs, {tokenizer.vocabulary_size:,} pieces, {model.count_params():,} parameters")
    print(data.summary)
    example.lap("data and model")
    sources, references = map(list, zip(*test, strict=True))
    # Forty checkpoints for long runs. In short runs, validation would take longer than the steps.
    every = min(steps, max(200, steps // 40))
    checkpoints = Checkpoints(args.out / "checkpoints", every=every, keep=AVERAGED)
    trainer = Trainer(
        model,
        optimizer,
        MaskedCrossEntropy(label_smoothing=0.1),
        strategy=strategy,
        jit_compile=args.jit_compile,
        checkpoints=checkpoints,
    )
    shown = [list(side) for side in zip(*validation[:: max(1, len(validation) // 40)], strict=True)]
    samples = SampleOutputs(*shown, every=max(1, steps // 8), count=2)
    callbacks = [ProgressBar(), samples]
    history = trainer.fit(data, steps, callbacks, validation_data=held_out, validation_freq=every)
    example.draw(history, every, steps)
    example.lap("training")
    averaged = checkpoints.average(model, last=min(AVERAGED, len(checkpoints.steps())))
    evaluation = TextEvaluation(sources, references, [Bleu(tokenize="13a" if args.raw else "none")], prefix="test_")
    evaluation.set_model(model)
    figures = evaluation.evaluate()
    example.lap("evaluation")
    (args.out / "translations.txt").write_text("\n".join(evaluation.outputs) + "\n", encoding="utf-8")
    example.report |= {"steps": steps, "averaged": averaged, "validation": trainer.evaluate(held_out), **figures}
    rich.print(f"BLEU {figures['test_bleu']:.2f} on {len(test):,} sentences, average of {len(averaged)} checkpoints")
    return example.finish(model, ["beam"], samples=sources[:8])


if __name__ == "__main__":
    sys.exit(main())
