"""Comparison of artefact outputs with model outputs, within the tolerances of `export/precisions.py`."""

import numpy as np

from keras_attn.export.precisions import Precision


def difference(expected, actual, limits: Precision, generated=False):
    """Returns the problem with an output, or `None`, its largest finite difference, and its cosine similarity.

    Generated tokens of quantised models, and their scores, may differ; they are counted elsewhere.

    Args:
        expected: The array of the model.
        actual: The array of the artefact, or `None`.
        limits: The `Precision` of the artefact.
        generated: Whether the case has generated tokens.
    """
    if actual is None:
        return "is missing", 0.0, 1.0
    if expected.shape != actual.shape:
        return f"has shape {actual.shape}, not {expected.shape}", 0.0, 1.0
    exact = limits.max_abs_diff is not None
    if expected.dtype.kind != "f":
        wrong = expected != actual
        if not exact or not np.any(wrong):
            return None, 0.0, 1.0
        pair = f"{actual[wrong][0]!s} instead of {expected[wrong][0]!s}"
        return f"differs in {np.sum(wrong)} of {wrong.size}, first {pair}", 0.0, 1.0
    if not np.all(np.isfinite(actual)):
        return "holds NaN or infinity", 0.0, 1.0
    largest, alike = float(np.max(np.abs(expected - actual), initial=0.0)), cosine(expected, actual)
    if exact:
        # Equal outputs may round to adjacent half-precision numbers, and sums in another order differ in the last bits.
        rounding = 2.0**-9 if expected.itemsize < 4 else 2.0**-20
        allowed = limits.max_abs_diff + rounding * np.max(np.abs(expected), initial=0)
        return (f"differs by {largest:.1e}" if largest > allowed else None), largest, alike
    if generated:
        return None, 0.0, 1.0
    problem = f"has cosine {alike:.4f}, less than {limits.cosine}" if alike < limits.cosine else None
    return problem, largest, alike


def cosine(expected, actual):
    """Cosine similarity of two flattened arrays; 1 if both are zero, -1 if one is not finite."""
    left, right = expected.ravel().astype("float64"), actual.ravel().astype("float64")
    if not (np.all(np.isfinite(left)) and np.all(np.isfinite(right))):
        return -1.0
    lengths = np.linalg.norm(left) * np.linalg.norm(right)
    return float(np.clip(left @ right / lengths, -1, 1)) if lengths else float(np.array_equal(left, right))
