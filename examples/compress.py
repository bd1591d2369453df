"""Makes a text classifier smaller: by distillation, by pruning, in int8, and by all three, in one table.

python examples/compress.py --out build/compressed                generated texts
python examples/compress.py --data DIR --out build/compressed     AG News
"""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import rich
from classify_text import LOSS, build_model, build_trainer, datasets, read, text_of
from corpora import add_data_argument
from example import Example, argument_parser
from rich.table import Table

from keras_attn.training import MaskedCrossEntropy, ProgressBar
from keras_attn.training.distillation import Distillation
from keras_attn.training.pruning import importance, prune_structure

# With `--data`, and for the generated texts. A student has half the layers and the width.
TEACHERS = (
    {"num_layers": 4, "hidden_dim": 256, "num_heads": 8, "intermediate_dim": 1024},
    {"num_layers": 2, "hidden_dim": 64, "num_heads": 4, "intermediate_dim": 128},
)
# The heads and channels that are gone after each round of pruning, which training follows.
SHARES = (0.3, 0.5), (0.5,)


class Classifiers:
    """Trains and measures models on the same texts.

    Args:
        args: The arguments of the example.
        example: The `Example`.
        train, test: Records.
    """

    def __init__(self, args, example, train, test):
        self.args, self.example, self.test, self.rows = args, example, test, []
        self.sizes, self.shares = TEACHERS[not args.data], SHARES[not args.data]
        self.tokenizer, self.data, _ = datasets(train, test, args.seed)

    def save(self, name, model):
        """Saves a model as soon as it is trained."""
        folder = self.args.out / name
        folder.mkdir(exist_ok=True)
        model.save(folder / "model.keras")
        self.example.lap(name)
        return model

    def train(self, model, steps, rate=1e-3, compute_loss=None):
        """Trains a model in place."""
        trainer = build_trainer(model, steps, rate, compute_loss=compute_loss, jit_compile=self.args.jit_compile)
        trainer.fit(self.data, steps, [ProgressBar()])

    def distilled(self, teacher, steps):
        """A small model that learns from the logits, hidden vectors and attention of a large one."""
        student = build_model(self.tokenizer, {name: size // 2 for name, size in self.sizes.items()}, "student")
        loss = MaskedCrossEntropy(**LOSS)
        distillation = Distillation(student, teacher, loss, alpha=0.7, hidden_weight=0.1, attention_weight=0.1)
        self.train(distillation.model, steps, compute_loss=distillation)
        return student

    def pruned(self, model, steps):
        """A model without half of the heads and channels, trained again by what the whole model says."""
        small, taken = model, 0.0
        for share in self.shares:
            scores = importance(small, self.data, MaskedCrossEntropy(**LOSS))
            # A share of what earlier rounds left.
            part = 1 - (1 - share) / (1 - taken)
            small, taken = prune_structure(small, scores, heads=part, channels=part), share
            distillation = Distillation(small, model, MaskedCrossEntropy(**LOSS), alpha=0.7)
            self.train(small, steps, rate=5e-4, compute_loss=distillation)
        return small

    def measure(self, name, model, precision):
        """Exports a model and adds its rows. Returns whether all artefacts agree with it."""
        texts, classes = [text_of(record) for record in self.test], [record[-1] for record in self.test]
        options = {"tasks": "classify", "precision": precision, "samples": texts, "references": classes}
        ok = not self.args.formats or self.example.export(model, self.args.formats, self.args.out / name, **options)
        for row in self.example.report.get("artefacts", [])[len(self.rows) :]:
            self.rows.append({**row, "model": name, "weights": model.count_params()})
        return ok


def table(rows):
    """The rows, each with its size and latency as shares of those of the first in its format."""
    shown = Table("model", "format", "weights", "MB", "ms", "size", "latency", "accuracy")
    first = {}
    for row in rows:
        base = first.setdefault(row["format"], row)
        size, latency = (f"{row[key] / base[key]:.2f}" for key in ("bytes", "ms"))
        numbers = f"{row['weights']:,}", f"{row['bytes'] / 1e6:.2f}", f"{row['ms']:.2f}"
        shown.add_row(row["model"], row["format"], *numbers, size, latency, f"{row['accuracy']:.1%}")
    return shown


def main(argv=None):
    parser = argument_parser(__doc__, "compressed")
    add_data_argument(parser)
    parser.set_defaults(formats=["tflite", "onnx"])
    args = parser.parse_args(argv)
    steps = args.steps or (600 if args.data else 60)
    if steps < 2:
        parser.error("--steps must be 2 or more")
    train, test = read(args)
    example = Example(args)
    keras.utils.set_random_seed(args.seed)
    models = Classifiers(args, example, train, test)
    teacher = build_model(models.tokenizer, models.sizes, "teacher")
    models.train(teacher, steps, rate=5e-4)
    models.save("as_trained", teacher)
    student = models.save("distilled", models.distilled(teacher, 2 * steps))
    pruned = models.save("pruned", models.pruned(teacher, steps // 2))
    smallest = models.save("all_three", models.pruned(student, steps // 2))
    variants = {
        "as_trained": (teacher, "float32"),
        "distilled": (student, "float32"),
        "pruned": (pruned, "float32"),
        "int8": (models.save("int8", teacher), "int8"),
        "all_three": (smallest, "int8"),
    }
    measured = [models.measure(name, *variant) for name, variant in variants.items()]
    example.report |= {"steps": steps, "rows": models.rows}
    rich.print(table(models.rows))
    example.write_report()
    return 0 if all(measured) else 1


if __name__ == "__main__":
    sys.exit(main())
