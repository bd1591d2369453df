"""The report of an export: how well each artefact agrees with the model."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from keras_attn.typing import PathLike

# Terminal styles in Keras' error messages.
_STYLE = re.compile(r"\x1b\[\d*m")
COLUMNS = (
    "format",
    "precision",
    "task",
    "size",
    "max diff",
    "cosine",
    "identical",
    "ms",
    "memory",
    "nodes",
    "Flex",
    "ok",
)


class ExportError(RuntimeError):
    """An artefact cannot be written or does not agree with its Keras model.

    Args:
        message: Names the format, the task and the difference.
        report: `Report` of the artefacts checked so far, or `None`.
    """

    def __init__(self, message: str, report: Report | None = None) -> None:
        super().__init__(message)
        self.report = report


class Report:
    """A report with one row per artefact and task.

    Args:
        rows: List of dicts with the keys `format`, `precision`, `task`, `bytes`, `max_abs_diff`, `cosine`, `identical`,
            `total`, `token_agreement`, `accuracy`, `model_accuracy`, `keep_float` (paths of weights in float32), `ms`,
            `peak_bytes`, `nodes`, `flex_ops` and `ok`. A row that is not ok also has a `message` and, if outputs
            differ, the `case` and the `first` tensor that differs. Measurements are `None` if the artefact did not run;
            `token_agreement` is `None` without tokens, accuracies without references. All tasks of an artefact run in
            one process; `peak_bytes` is its peak memory by the end of each task.

    Example:

    >>> from keras_attn.export import Report
    >>> row = {"format": "onnx", "precision": "float32", "task": "forward", "bytes": 2048, "max_abs_diff": 1e-6,
    ...        "cosine": 1.0, "identical": 30, "total": 30, "ms": 0.5, "peak_bytes": 5e7, "nodes": 7,
    ...        "flex_ops": 0, "ok": True}
    >>> print(Report([row]))
    format  precision  task       size  max diff   cosine  identical    ms   memory  nodes  Flex  ok
    onnx    float32    forward  2.0 kB   1.0e-06  1.00000      30/30  0.50  50.0 MB      7     0  yes
    """

    def __init__(self, rows: Iterable[dict[str, Any]] = ()) -> None:
        self.rows = list(rows)

    @property
    def ok(self) -> bool:
        """Whether there are artefacts and all of them agree."""
        return bool(self.rows) and all(row["ok"] for row in self.rows)

    @property
    def failures(self) -> list[str]:
        """The messages of the rows that are not ok."""
        return [row["message"] for row in self.rows if not row["ok"]]

    def to_json(self) -> str:
        """The report as JSON text, `{"artefacts": [...]}`."""
        return json.dumps({"artefacts": self.rows}, indent=2, allow_nan=False)

    def save(self, path: PathLike) -> None:
        """Writes `to_json()` to the file `path`."""
        Path(path).write_text(self.to_json() + "\n", encoding="utf-8")

    def table(self) -> str:
        """The report as aligned text, one line per artefact and task."""
        columns, measured = COLUMNS, [_cells(row) for row in self.rows]
        if any(row.get("accuracy") is not None for row in self.rows):
            columns = (*columns[:-1], "accuracy", columns[-1])
            measured = [
                (*cells[:-1], _accuracy(row), cells[-1]) for row, cells in zip(self.rows, measured, strict=True)
            ]
        return aligned(columns, measured, left=("format", "precision", "task", "ok"))

    def __str__(self) -> str:
        return self.table()


def reason(error):
    """An exception in one line: the first line of its message, or its class name."""
    lines = [line.strip() for line in _STYLE.sub("", str(error)).split("\n") if line.strip()]
    # For an error inside a layer, Keras' first line names the layer.
    if len(lines) > 1 and lines[0].startswith("Exception encountered when calling"):
        del lines[0]
    return lines[0] if lines else type(error).__name__


def aligned(columns, lines, left):
    """Text of aligned columns.

    Args:
        columns: The header of each column.
        lines: Tuples of strings.
        left: The left-aligned columns.
    """
    cells = [columns, *lines]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    rows = (zip(columns, line, widths, strict=True) for line in cells)
    return "\n".join(
        "  ".join(cell.ljust(width) if name in left else cell.rjust(width) for name, cell, width in row).rstrip()
        for row in rows
    )


def _accuracy(row):
    """The accuracies of the artefact and of the model."""
    return "-" if row["accuracy"] is None else f"{row['accuracy']:.1%} of {row['model_accuracy']:.1%}"


def _cells(row):
    difference, cosine, duration, memory = (row.get(key) for key in ("max_abs_diff", "cosine", "ms", "peak_bytes"))
    return (
        row["format"],
        row["precision"],
        row["task"],
        size_text(row["bytes"]),
        "-" if difference is None else f"{difference:.1e}",
        "-" if cosine is None else f"{cosine:.5f}",
        f"{row['identical']}/{row['total']}",
        "-" if duration is None else f"{duration:.2f}",
        "-" if memory is None else size_text(memory),
        str(row.get("nodes", 0)),
        str(row["flex_ops"]),
        "yes" if row["ok"] else "NO",
    )


def size_text(count):
    """A number of bytes as text."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
