"""Trains a model that converts dates in 48 languages to ISO 8601, and exports it to three formats with verification.

python examples/normalize_dates.py --out build/dates
python examples/normalize_dates.py --teacher build/dates/model.keras --out build/small_dates
"""

import collections
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import rich
import rich.table
import tensorflow as tf
from date_corpus import DateCorpus
from example import Example, argument_parser, positive

import keras_attn.plot
from keras_attn.generation import AutomatonConstraint, GenerationConfig, TokenAutomaton
from keras_attn.text import CharacterTokenizer
from keras_attn.training import FusedAdam, MaskedCrossEntropy, ProgressBar, SampleOutputs, Trainer, get_strategy
from keras_attn.training.distillation import Distillation

BATCH_SIZE = 64
WIDTHS = 128, 56  # of a model, and of one with less than a quarter of the weights that learns from it
COLUMNS = 4  # of the accuracy table
ISO_LENGTH = 11  # ten characters and the end token
# Exactly the dates from 1900 to 2099; 1900 is not a leap year, 2000 is.
ISO_DATE = (
    r"(19|20)\d\d-((0[13578]|1[02])-(0[1-9]|[12]\d|3[01])|(0[469]|11)-(0[1-9]|[12]\d|30)|02-(0[1-9]|1\d|2[0-8]))"
    r"|((19|20)(0[48]|[2468][048]|[13579][26])|2000)-02-29"
)


def build_model(tokenizer, width=WIDTHS[0]):
    # In every artefact, outputs are always valid dates, whatever the input.
    dates = AutomatonConstraint(TokenAutomaton.from_regex(ISO_DATE, tokenizer.id_to_character))
    return keras_attn.Transformer(
        tokenizer.vocabulary_size,
        num_layers=2,
        hidden_dim=width,
        num_heads=4,
        intermediate_dim=4 * width,
        norm="pre",
        dropout=0.0,
        # The neighbours of a digit matter more than its absolute position.
        position=keras_attn.layers.RotaryPositionEncoding(),
        tokenizer=tokenizer,
        generation_config=GenerationConfig(max_length=ISO_LENGTH, processors=(dates,)),
        name="dates",
    )


def build_optimizer(steps):
    warmup = min(200, steps // 2)
    rate = keras.optimizers.schedules.CosineDecay(0.0, steps - warmup, warmup_target=2e-3, warmup_steps=warmup)
    return FusedAdam(rate, beta_2=0.98, global_clipnorm=1.0)


def training_data(corpus, tokenizer, seed):
    def tensor(length):
        return tf.TensorSpec((BATCH_SIZE, length), "int32")

    signature = ({"source_ids": tensor(None), "target_ids": tensor(ISO_LENGTH)}, tensor(ISO_LENGTH))
    batches = tf.data.Dataset.from_generator(
        lambda: corpus.batches(tokenizer, BATCH_SIZE, seed), output_signature=signature
    )
    return batches.prefetch(tf.data.AUTOTUNE)


def evaluate(model, pairs):
    """Exact-match accuracy, overall and per locale, worst first."""
    outputs = model.generate([text for _, text, _ in pairs])
    hits = collections.defaultdict(list)
    for (locale, _, iso), output in zip(pairs, outputs, strict=True):
        hits[locale].append(output == iso)
    locales = sorted(((locale, float(np.mean(values))) for locale, values in hits.items()), key=lambda item: item[1])
    return float(np.mean(np.concatenate(list(hits.values())))), locales


def show_accuracy(overall, locales, count):
    table = rich.table.Table(show_header=False, title=f"Exact match on {count:,} held-out dates: {overall:.2%}")
    for _ in range(COLUMNS):
        table.add_column()
    cells = [f"{locale} {accuracy:.1%}" for locale, accuracy in locales]
    for row in range(0, len(cells), COLUMNS):
        table.add_row(*cells[row : row + COLUMNS])
    rich.print(table)


def read_teacher(path, tokenizer):
    """The model of an earlier run, or a ValueError that says what else the file is."""
    wanted = f"--teacher must be a model.keras that this example wrote. Received: {path}"
    try:
        teacher = keras.saving.load_model(path, compile=False)
    except (ValueError, OSError) as error:
        raise ValueError(f"{wanted}: {str(error).splitlines()[0]}") from None
    given = getattr(teacher, "tokenizer", None)
    if not isinstance(teacher, keras_attn.Transformer) or given != tokenizer:
        raise ValueError(f"{wanted}, a {type(teacher).__name__} with the tokenizer {repr(given)[:60]}")
    return teacher


def draw_attention(model, text, path):
    """Plots the cross-attention of generated dates, averaged over heads and layers."""
    tokenizer, output = model.tokenizer, model.generate([text])[0]
    target_ids = np.insert(tokenizer.encode([output]), 0, tokenizer.start_id, axis=1)
    inputs = {"source_ids": tokenizer.encode([text]), "target_ids": target_ids}
    maps = keras_attn.attention_maps(model, inputs)
    cross = np.concatenate([scores[0] for name, scores in maps.items() if "cross_attention" in name])
    keras_attn.plot.attention(cross, path, queries=[*output, "end"], keys=text, title=f"{text}  →  {output}")


def main(argv=None):
    parser = argument_parser(__doc__, "dates")
    parser.add_argument("--per-locale", type=positive, default=100, help="held-out dates per locale for evaluation")
    parser.add_argument("--teacher", type=Path, help="model.keras of an earlier run, which a small model learns from")
    parser.set_defaults(seed=7)
    args = parser.parse_args(argv)
    steps = args.steps or (3000 if args.teacher else 1500)
    if steps < 2:
        parser.error("--steps must be 2 or more")
    if args.teacher and args.teacher.resolve() == (args.out / "model.keras").resolve():
        parser.error(f"--out must not be the folder of --teacher, which it would replace. Received: {args.out}")
    corpus = DateCorpus()
    tokenizer = CharacterTokenizer(corpus.characters)
    try:
        teacher = read_teacher(args.teacher, tokenizer) if args.teacher else None
    except ValueError as error:
        parser.error(str(error))
    example = Example(args)
    keras.utils.set_random_seed(args.seed)
    held_out = corpus.held_out(args.per_locale, args.seed)
    samples = [held_out[i] for i in np.random.default_rng(args.seed).permutation(len(held_out))[:64]]
    texts = [text for _, text, _ in samples]
    strategy = get_strategy()
    with strategy.scope():
        model = build_model(tokenizer, WIDTHS[args.teacher is not None])
        distillation = None
        if args.teacher:
            distillation = Distillation(model, teacher, alpha=0.9)
        trained = distillation.model if distillation else model
        optimizer = build_optimizer(steps)
    rich.print(f"{len(corpus.locales)} locales, {corpus.forms} forms, {len(corpus.characters)} characters")
    rich.print(f"{model.count_params():,} parameters, {strategy.__class__.__name__}")
    example.lap("data and model")
    settings = {"strategy": strategy, "jit_compile": args.jit_compile, "compute_loss": distillation}
    trainer = Trainer(trained, optimizer, MaskedCrossEntropy(), **settings)
    shown = SampleOutputs(texts, [iso for _, _, iso in samples], every=max(1, steps // 8))
    trainer.fit(training_data(corpus, tokenizer, args.seed), steps, [ProgressBar(), shown])
    example.lap("training")

    overall, locales = evaluate(model, held_out)
    show_accuracy(overall, locales, len(held_out))
    draw_attention(model, "fr mardi 5 mars 2019", args.out / "attention.png")
    example.report |= {"steps": steps, "accuracy": {"overall": overall, "worst_locale": list(locales[0])}}
    example.lap("evaluation")
    return example.finish(model, ["generate", "forward"], samples=texts)


if __name__ == "__main__":
    sys.exit(main())
