"""Exports models with all formats, precisions and tasks, and writes a table of the results.

`python -m benchmarks.export_matrix docs/export.md`

Each cell is an artefact that was written, run in its own runtime and compared with the model, or the error that
`export` raises for it. The exit status is 1 if an artefact differs or an export fails in another way.
"""

import argparse
import itertools
import os
import sys
import tempfile
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

import keras
from rich.progress import Progress

import keras_attn
from keras_attn.export import ExportError, export, registry
from keras_attn.generation import BeamSearch, GenerationConfig
from keras_attn.text import CharacterTokenizer

MARK = "<!-- benchmarks.export_matrix writes what follows -->"
FAULT = "Fault: "


def models():
    """Yields `(name, model)` for each kind of model, untrained and with a tokenizer."""
    tokenizer = CharacterTokenizer("0123456789 abcdefghijklmnopqrstuvwxyz")
    config = GenerationConfig(8, strategy=BeamSearch(2))
    common = {"tokenizer": tokenizer}
    sizes = {"num_layers": 2, "hidden_dim": 64, "num_heads": 4, "intermediate_dim": 128}
    count = tokenizer.vocabulary_size
    makers = {
        "encoder": lambda: keras_attn.EncoderModel(
            count, **sizes, head="sequence_classification", num_classes=3, **common
        ),
        "decoder-only": lambda: keras_attn.LanguageModel(count, **sizes, generation_config=config, **common),
        "encoder-decoder": lambda: keras_attn.Transformer(count, **sizes, generation_config=config, **common),
        "recurrent attention": lambda: keras_attn.Seq2SeqRNN.bahdanau(
            count, hidden_dim=64, generation_config=config, **common
        ),
    }
    for name, make in makers.items():
        keras.utils.set_random_seed(3)
        yield name, make()


def exported(model, folder, format, task, wanted):
    """Exports with each precision in `wanted`. Returns a dict from precision to None or an error message."""
    if not wanted:
        return {}
    try:
        # `int8_full` needs numeric inputs, so it is exported with ids.
        tokenizer = False if "int8_full" in wanted else None
        export(model, folder, format, tasks=task, tokenizer=tokenizer, precision=wanted)
    except (ExportError, ValueError) as error:
        if len(wanted) == 1:
            # Unsupported combinations raise a ValueError before anything is converted.
            fault = "" if isinstance(error, ValueError) else FAULT
            return {wanted[0]: fault + " ".join(str(error).split())}
        return {precision: exported(model, folder, format, task, [precision])[precision] for precision in wanted}
    return dict.fromkeys(wanted)


def table(name, cells, notes):
    """The Markdown lines of a model's cells, `(format, precision) -> {task: message}`, numbered in `notes`."""
    tasks = registry.names("tasks")
    lines = [f"### {name}", "", "| format | precision | " + " | ".join(tasks) + " |", "| --- " * (2 + len(tasks)) + "|"]
    for place, messages in cells.items():
        answers = [notes.setdefault(messages[task], len(notes) + 1) if messages[task] else "yes" for task in tasks]
        lines.append("| " + " | ".join(map(str, (*place, *answers))) + " |")
    return [*lines, ""]


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("document", type=Path, help="Markdown file, whose content after the mark is replaced")
    args = parser.parse_args(argv)
    text = args.document.read_text(encoding="utf-8") if args.document.is_file() else ""
    if MARK not in text:
        parser.error(f"the document must exist and contain the line {MARK}")
    formats, tasks, lines, notes = registry.names("formats"), registry.names("tasks"), [], {}
    with tempfile.TemporaryDirectory() as folder, Progress() as progress:
        for name, model in models():
            cells, bar = {}, progress.add_task(name, total=len(formats) * len(tasks))
            for format, task in itertools.product(formats, tasks):
                able = registry.load("formats", format).precisions
                for wanted in ([p for p in able if p != "int8_full"], [p for p in able if p == "int8_full"]):
                    for precision, message in exported(model, Path(folder) / name, format, task, wanted).items():
                        cells.setdefault((format, precision), {})[task] = message
                progress.advance(bar)
            lines += table(name, cells, notes)
    lines += [f"{number}. {message}" for message, number in notes.items()]
    args.document.write_text(text.partition(MARK)[0] + "\n".join([MARK, "", *lines, ""]), encoding="utf-8")
    wrong = [message for message in notes if message.startswith(FAULT)]
    print("\n".join(wrong) or f"{args.document} is written, with {len(notes)} kinds of errors")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
