"""Prints how many lines differ between tokenizers of this package and those they were read from, as a Markdown table.

    python -m benchmarks.pretrained_tokenizers [--lines N] [KIND ...]

The kinds have the configuration of known families and small vocabularies, trained on the spot. The lines are in
thirteen scripts with emoji, control characters, combining marks and odd spaces. A line in which a special token is
spelled out is compared with `split_special_tokens=False` only: elsewhere it is text, whatever the vocabulary holds.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from benchmarks.tokenizer_kinds import KINDS, corpus, lines, made
from keras_attn.text import PretrainedTokenizer, tokenizer_from_folder

HEADER = "| family | ids, of {0:,} lines | ids, special tokens parsed | the same in a graph | exported to |\n"
HEADER += "| --- | --- | --- | --- | --- |"
FORMATS = {"saved_model": "SavedModel", "tflite": "TFLite", "onnx": "ONNX"}


def table(kinds: Iterable[str], count: int, graph: bool = True) -> str:
    """The table. Each number is that of lines whose ids differ from those of the tokenizers library."""
    texts, tested = corpus(), lines(count)
    rows = [HEADER.format(count)]
    for kind in kinds:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "tokenizer.json").write_text(made(kind, texts), encoding="utf-8")
            rows.append(f"| {kind} | " + " | ".join(map(str, compared(Path(folder), tested, graph))) + " |")
        print(rows[-1], flush=True)
    return "\n".join(rows)


def compared(folder: Path, tested: list[str], graph: bool = True) -> list[int | str]:
    """The cells of a row."""
    import tokenizers

    found, cells = tokenizer_from_folder(folder), []
    special = [token["content"] for token in found.content["added_tokens"] if token["special"]]
    for split in (True, False):
        ours = found if split else PretrainedTokenizer(found.content, split_special_tokens=False)
        theirs = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        theirs.encode_special_tokens = split
        expected = [encoding.ids for encoding in theirs.encode_batch(tested)]
        ids = [[*ours.prefix, *row, *ours.suffix] for row in ours.tokenize(tested)]
        same = [
            a == b or (split and any(token in text for token in special))
            for a, b, text in zip(ids, expected, tested, strict=True)
        ]
        cells.append(same.count(False))
    cells.append(different_in_graph(found, tested) if graph else "-")
    cells.append(
        ", ".join(name for format, name in FORMATS.items() if found.refusal(format) is None) or found.refusal("onnx")
    )
    return cells


def different_in_graph(tokenizer: PretrainedTokenizer, tested: list[str], batch: int = 64) -> int:
    """How many lines have other ids in a graph than in Python."""
    import tensorflow as tf

    graph = tf.function(tokenizer.ids_of_symbols, [tf.TensorSpec((None, None), "int32")], autograph=False)
    count = 0
    for start in range(0, len(tested), batch):
        texts = tested[start : start + batch]
        rows = [list(text.encode()) for text in texts]
        length = max(map(len, rows)) + 1
        symbols = np.array([row + [-1] * (length - len(row)) for row in rows], np.int32)
        expected, found = tokenizer.encode(texts), np.asarray(graph(symbols))
        # Rows are padded to the longest of a batch, which may differ with the ids.
        width, pad = max(expected.shape[1], found.shape[1]), tokenizer.pad_id
        expected, found = (np.pad(x, ((0, 0), (0, width - x.shape[1])), constant_values=pad) for x in (expected, found))
        count += int(np.any(expected != found, axis=1).sum())
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", help=f"families, by default all: {', '.join(KINDS)}")
    parser.add_argument("--lines", type=int, default=2000, help="how many lines")
    parser.add_argument("--no-graph", action="store_true", help="Python only")
    options = parser.parse_args()
    print(table(options.kinds or [*KINDS], options.lines, not options.no_graph))


if __name__ == "__main__":
    main()
