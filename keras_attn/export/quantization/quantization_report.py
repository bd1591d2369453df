"""Effect of a precision on each weight of a model."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_attn.export import labelled_data, precisions, registry
from keras_attn.export.folder import attachments
from keras_attn.export.quantization.fake_quantization import matrices
from keras_attn.export.quantization.sensitivity import Sensitivity
from keras_attn.export.report import aligned

if TYPE_CHECKING:
    import keras

    from keras_attn.text.tokenizer import Tokenizer


COLUMNS = ("weight", "shape", "relative error", "SNR", "cosine", "drop")


class QuantizationReport:
    """A report with one row per weight that a precision quantises.

    Args:
        precision: Name of the precision.
        rows: List of dicts: `weight` (its path), `shape`, `relative_error` (RMS of the error divided by RMS of the
            weight), `snr_db` (the same in decibels, `None` without error), and the effect of quantising this weight
            alone: the smallest `cosine` of an output and the `drop` of accuracy.
        drop: Accuracy drop if all weights are quantised.
        cosine: Smallest cosine of an output if all weights are quantised.
    """

    def __init__(self, precision: str, rows: list[dict[str, Any]], drop: float, cosine: float) -> None:
        self.precision, self.rows, self.drop, self.cosine = precision, list(rows), drop, cosine

    def to_dict(self) -> dict[str, Any]:
        """The report as a dict for JSON."""
        return {"precision": self.precision, "drop": self.drop, "cosine": self.cosine, "weights": self.rows}

    def to_json(self) -> str:
        """The report as JSON text."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False)

    def table(self) -> str:
        """The report as aligned text, most sensitive weights first."""
        ranked = sorted(self.rows, key=lambda row: (-row["drop"], row["cosine"]))
        lines = [
            (
                row["weight"],
                "x".join(map(str, row["shape"])),
                f"{row['relative_error']:.2e}",
                "-" if row["snr_db"] is None else f"{row['snr_db']:.1f} dB",
                f"{row['cosine']:.6f}",
                f"{row['drop']:.2%}",
            )
            for row in ranked
        ]
        total = ("all of them", "", "", "", f"{self.cosine:.6f}", f"{self.drop:.2%}")
        return aligned(COLUMNS, [*lines, total], left=("weight",))

    def __str__(self) -> str:
        return self.table()


def quantization_report(
    model: keras.Model,
    precision: str = "int8",
    *,
    format: str = "onnx",
    tasks: str | Sequence[str] = ("forward",),
    tokenizer: Tokenizer | bool | None = None,
    samples: Any = None,
    references: Any = None,
    labels: Sequence[str] | None = None,
) -> QuantizationReport:
    """Measures the effect of a precision on a Keras model, for each weight separately and for all together.

    Nothing is exported: the weights of the model are fake-quantised during the call. Losses from quantised inputs of
    matrix products are not included.

    Args:
        model: A functional `keras.Model`.
        precision: `"int8"`, `"int8_full"`, `"int4"` or `"float16"`.
        format: The export format.
        tasks: See `export`; `drop` is the largest over all tasks.
        tokenizer: See `export`.
        samples: See `export`.
        references: See `export`. If given, `drop` is the drop of accuracy, else of agreement with the original model.
        labels: See `export`.

    Returns:
        A `QuantizationReport`.

    Raises:
        ValueError: If an argument is invalid.

    Example:

    >>> import keras
    >>> from keras_attn.export import quantization_report
    >>> keras.utils.set_random_seed(1)
    >>> inputs = keras.Input((3,), name="features")
    >>> model = keras.Model(inputs, keras.layers.Dense(2)(inputs))
    >>> report = quantization_report(model, "int8")
    >>> [row["shape"] for row in report.rows], report.cosine > 0.999
    ([[3, 2]], True)
    """
    [writer] = [registry.load("formats", name)() for name in registry.chosen("formats", "format", format)][:1]
    [precision] = precisions.chosen(precision, [writer])
    names = registry.chosen("tasks", "tasks", tasks)
    tasks = [registry.load("tasks", name)(model, tokenizer) for name in names]
    labelled_data.check(tasks, samples, references)
    references = labelled_data.class_ids(tasks, references, attachments.class_names(model, labels))
    return measured(Sensitivity(tasks, precision, writer.int8_levels, samples, references), model)


def measured(sensitivity, model):
    """Computes the `QuantizationReport` of a model."""
    found = matrices(model, sensitivity.precision)
    rows = []
    for matrix in found:
        value = np.asarray(matrix.variable)
        size = np.linalg.norm(value)
        error = np.linalg.norm(matrix.rounded(sensitivity.precision, sensitivity.levels) - value)
        drop, cosine = sensitivity.effect([matrix])
        rows.append(
            {
                "weight": matrix.variable.path,
                "shape": list(value.shape),
                "relative_error": float(error / size) if size else 0.0,
                "snr_db": float(20 * math.log10(size / error)) if error else None,
                "cosine": cosine,
                "drop": drop,
            }
        )
    drop, cosine = sensitivity.effect(found)
    return QuantizationReport(sensitivity.precision, rows, drop, cosine)
