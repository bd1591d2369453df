"""Log of malformed records."""

import warnings

KEPT = 100
CHOICES = ("raise", "skip")


class RecordError(ValueError):
    """Describes what is wrong with a record.

    Attributes:
        lines: Number of lines of the record in its file.
    """

    lines = 1


class ProblemLog:
    """Counts records, and raises or collects errors about malformed ones.

    Args:
        on_error: "raise" an error, or "skip" and count the record.

    Attributes:
        read: Number of records read, malformed ones included.
        malformed: Number of records that were skipped.
        lines: Number of lines that were skipped.
        problems: Descriptions of the first skipped records, with file and line.

    Raises:
        ValueError: If `on_error` is neither.
    """

    def __init__(self, on_error="raise"):
        if on_error not in CHOICES:
            raise ValueError(f"`on_error` must be one of {CHOICES}. Received: on_error={on_error!r}")
        self.on_error = on_error
        self.read = self.malformed = self.lines = 0
        self.problems = []

    def reject(self, place, reason):
        """Raises a ValueError about the record at `place`, or logs it."""
        problem = f"{place}: {reason}"
        if self.on_error == "raise":
            raise ValueError(f"Records must be well-formed, or skipped with on_error='skip'. Received: {problem}")
        self.malformed += 1
        self.lines += getattr(reason, "lines", 1)
        if len(self.problems) < KEPT:
            self.problems.append(problem)

    def warn(self):
        """Issues a single warning about all skipped records."""
        if self.malformed:
            lines = "" if self.lines == self.malformed else f" ({self.lines:,} lines)"
            warnings.warn(
                f"{self.malformed:,} of {self.read:,} records{lines} are malformed and were skipped, the first at "
                f"{'; '.join(self.problems[:5])}",
                stacklevel=2,
            )
