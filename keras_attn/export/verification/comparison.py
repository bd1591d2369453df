"""How far an artefact's tensor is from the model's."""

import numpy as np


def difference(expected, actual, limits, generated=False):
    """What is wrong with an output, or `None`; the largest finite difference; and the cosine.

    Where the tokens of a quantised model differ, so do the scores that come with them: both are counted elsewhere.

    Args:
        expected: the model's array.
        actual: the artefact's, or `None`.
        limits: the `Precision` of the artefact.
        generated: whether tokens come with it.
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
        pair = f"{actual[wrong][0]!s} where the model has {expected[wrong][0]!s}"
        return f"differs in {np.sum(wrong)} of {wrong.size}, first {pair}", 0.0, 1.0
    if not np.all(np.isfinite(actual)):
        return "holds NaN or infinity", 0.0, 1.0
    largest, alike = float(np.max(np.abs(expected - actual), initial=0.0)), cosine(expected, actual)
    if exact:
        # Outputs in half precision are rounded to neighbours of each other.
        allowed = limits.max_abs_diff + (2**-9 * np.max(np.abs(expected), initial=0) if expected.itemsize < 4 else 0)
        return (f"differs by {largest:.1e}" if largest > allowed else None), largest, alike
    if generated:
        return None, 0.0, 1.0
    problem = f"has cosine {alike:.4f}, less than {limits.cosine}" if alike < limits.cosine else None
    return problem, largest, alike


def cosine(expected, actual):
    """The cosine between two arrays as vectors; 1 where both are zero, -1 where one is not finite."""
    left, right = expected.ravel().astype("float64"), actual.ravel().astype("float64")
    if not (np.all(np.isfinite(left)) and np.all(np.isfinite(right))):
        return -1.0
    lengths = np.linalg.norm(left) * np.linalg.norm(right)
    return float(np.clip(left @ right / lengths, -1, 1)) if lengths else float(np.array_equal(left, right))
