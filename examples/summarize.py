"""Summarises descriptions of software in one line, with a model that copies words of the description.

python examples/summarize.py --out build/summaries                    a few made-up descriptions
python examples/summarize.py --data DIR --out build/summaries         descriptions of Debian packages
python examples/summarize.py --data DIR --model rnn ...               See's recurrent pointer-generator
python examples/summarize.py --data DIR --no-copy ...                 the same model without copying
"""

import argparse
import itertools
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import rich
from corpora import add_data_argument, debian_descriptions
from example import Example, argument_parser

import keras_attn
import keras_attn.plot
from keras_attn.generation import BeamSearch, GenerationConfig, NoRepeatNGram
from keras_attn.layers import PointerGenerator, RotaryPositionEncoding
from keras_attn.text import BytePairTokenizer
from keras_attn.training import (
    Checkpoints,
    FusedAdam,
    MaskedCrossEntropy,
    ParallelTextDataset,
    ProgressBar,
    Rouge,
    SampleOutputs,
    TextEvaluation,
    Trainer,
    get_strategy,
)

VOCABULARY_SIZE = 8_000
MAX_LENGTH = 128  # of a description; longer ones are cut
SUMMARY_LENGTH = 32
# With `--data`, and for the made-up pairs.
TOKENS_PER_BATCH = 4096, 512
SIZES = (
    {"num_layers": 3, "hidden_dim": 256, "num_heads": 4, "intermediate_dim": 512},
    {"num_layers": 2, "hidden_dim": 128, "num_heads": 4, "intermediate_dim": 256},
)
DROPOUT = 0.3
AVERAGED = 5  # checkpoints
MADE_UP = {
    "name": ("Quill", "Tessera", "Brine", "Ostinato", "Lantern", "Kestrel", "Moss", "Vellum"),
    "kind": ("editor", "library", "game", "compiler", "viewer", "server", "daemon", "font"),
    "use": ("music", "maps", "letters", "photos", "numbers", "mail", "chess", "sound"),
}
SENTENCES = (
    "{name} is a {kind} that many people like. It was written for {use} and runs everywhere.",
    "This package contains {name}. With this {kind} you can work on {use} at home.",
    "Do you need a {kind}? Then {name} may help, above all if you work with {use}.",
)


def made_up():
    """All descriptions from the words above: `(training pairs, others)`."""
    words = [dict(zip(MADE_UP, chosen, strict=True)) for chosen in itertools.product(*MADE_UP.values())]
    pairs = [(sentence.format(**w), "{kind} for {use}".format(**w)) for w in words for sentence in SENTENCES]
    return [pair for i, pair in enumerate(pairs) if i % 11], pairs[::11]


def dataset(pairs, tokenizer, seed, is_real, **options):
    return ParallelTextDataset(
        pairs,
        tokenizer,
        max_length=MAX_LENGTH,
        tokens_per_batch=TOKENS_PER_BATCH[not is_real],
        num_shapes=6 if is_real else 1,
        seed=seed,
        too_long="truncate",
        **options,
    )


def build_model(name, tokenizer, sizes, copies):
    # A summary does not say the same twice.
    config = GenerationConfig(
        SUMMARY_LENGTH, strategy=BeamSearch(4, length_penalty=1.0), processors=(NoRepeatNGram(2),)
    )
    settings = {"tokenizer": tokenizer, "generation_config": config, "dropout": DROPOUT, "name": name}
    if copies:
        settings["pointer_generator"] = PointerGenerator(coverage_weight=0.1, name="pointer_generator")
    size = tokenizer.vocabulary_size
    if name == "rnn":
        return keras_attn.Seq2SeqRNN(size, num_layers=1, hidden_dim=sizes["hidden_dim"], **settings)
    # A word of several tokens is copied by what follows the last one: that is easier to learn from relative positions.
    return keras_attn.Transformer(size, norm="pre", position=RotaryPositionEncoding(), **sizes, **settings)


def draw_copying(model, document, summary, path):
    """Plots which token of the document each token of the summary was copied from, if it was."""
    tokenizer = model.tokenizer
    source = np.asarray(tokenizer.encode([document]))
    target = np.concatenate([[tokenizer.start_id], np.asarray(tokenizer.encode([summary]))[0]])[None]
    scores = keras_attn.attention_maps(model, {"source_ids": source, "target_ids": target})
    scores = scores[model.alignment_layers()[0]].mean(axis=1)[0, :-1]
    # Of a long document, the part that is looked at.
    end = 1 + np.flatnonzero(scores.max(axis=0) > scores.max() / 5)[-1]
    pieces = [[tokenizer.decode([[i]])[0] for i in ids] for ids in (target[0, 1:], source[0, :end])]
    keras_attn.plot.attention(scores[:, :end], path, queries=pieces[0], keys=pieces[1])


def main(argv=None):
    parser = argument_parser(__doc__, "summaries")
    add_data_argument(parser)
    parser.add_argument("--model", choices=["transformer", "rnn"], default="transformer")
    parser.add_argument("--copy", action=argparse.BooleanOptionalAction, default=True, help="copy words of the source")
    args = parser.parse_args(argv)
    steps = args.steps or (4000 if args.data else 150)
    if steps < 2:
        parser.error("--steps must be 2 or more")
    if args.data:
        train, validation, test = (debian_descriptions(args.data, split) for split in ("train", "val", "test"))
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
        add_prefix_space=True,
        max_length=MAX_LENGTH,
    )
    data = dataset(train, tokenizer, args.seed, bool(args.data))
    held_out = dataset(validation, tokenizer, args.seed, bool(args.data), shuffle=False, epochs=1)
    strategy = get_strategy()
    with strategy.scope():
        model = build_model(args.model, tokenizer, SIZES[not args.data], args.copy)
        warmup = max(1, steps // 20)
        rate = keras.optimizers.schedules.CosineDecay(
            0.0, steps - warmup, 0.02, warmup_target=1e-3, warmup_steps=warmup
        )
        optimizer = FusedAdam(rate, beta_2=0.98, global_clipnorm=1.0)
    rich.print(f"{len(train):,} pairs, {tokenizer.vocabulary_size:,} pieces, {model.count_params():,} parameters")
    print(data.summary)
    example.lap("data and model")
    every = min(steps, max(75, steps // 20))
    checkpoints = Checkpoints(args.out / "checkpoints", every=every, keep=AVERAGED)
    trainer = Trainer(
        model,
        optimizer,
        MaskedCrossEntropy(label_smoothing=0.1),
        strategy=strategy,
        jit_compile=args.jit_compile,
        checkpoints=checkpoints,
    )
    documents, summaries = (list(side) for side in zip(*validation[:: max(1, len(validation) // 200)], strict=True))
    rouge = [Rouge(kind, use_stemmer=True) for kind in ("rouge1", "rouge2", "rougeL")]
    callbacks = [
        ProgressBar(),
        SampleOutputs(documents[:40], summaries[:40], every=max(1, steps // 8), count=2),
        TextEvaluation(documents, summaries, rouge, every=every),
    ]
    history = trainer.fit(data, steps, callbacks, validation_data=held_out, validation_freq=every)
    example.draw(history, every, steps)
    example.lap("training")
    averaged = checkpoints.average(model, last=min(AVERAGED, len(checkpoints.steps())))
    documents, summaries = (list(side) for side in zip(*test, strict=True))
    evaluation = TextEvaluation(documents, summaries, rouge, prefix="test_")
    evaluation.set_model(model)
    figures = evaluation.evaluate()
    example.lap("evaluation")
    (args.out / "summaries.txt").write_text("\n".join(evaluation.outputs) + "\n", encoding="utf-8")
    if args.copy:
        draw_copying(model, documents[0], evaluation.outputs[0], args.out / "copying.png")
    example.report |= {"steps": steps, "averaged": averaged, "validation": trainer.evaluate(held_out), **figures}
    shown = ", ".join(f"{name.removeprefix('test_')} {100 * value:.1f}" for name, value in figures.items())
    rich.print(f"{shown} on {len(test):,} descriptions, average of {len(averaged)} checkpoints")
    return example.finish(model, ["beam"], samples=documents[:8])


if __name__ == "__main__":
    sys.exit(main())
