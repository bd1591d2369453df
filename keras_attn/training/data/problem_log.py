"""What was wrong with the records of a data set."""

import warnings

KEPT = 100
CHOICES = ("raise", "skip")


class RecordError(ValueError):
    """Says in words what is wrong with a record.

    Attributes:
        lines: how many lines of its file the record takes.
    """

    lines = 1


class ProblemLog:
    """Counts records, and raises or keeps what is wrong with them.

    Args:
        on_error: "raise", or "skip": the record is left out, reported and counted.

    Attributes:
        read: how many records were read, malformed ones included.
        malformed: how many of them were left out.
        lines: how many lines of files that were.
        problems: what was wrong with the first of these, each with its place.

    Raises:
        ValueError: `on_error` is another one.
    """

    def __init__(self, on_error="raise"):
        if on_error not in CHOICES:
            raise ValueError(f"`on_error` must be one of {CHOICES}. Received: on_error={on_error!r}")
        self.on_error = on_error
        self.read = self.malformed = self.lines = 0
        self.problems = []

    def refuse(self, place, reason):
        """Raises a ValueError, or takes note, of a record at `place`, which prints as file and line."""
        problem = f"{place}: {reason}"
        if self.on_error == "raise":
            raise ValueError(f"Records must be well-formed, or be left out by on_error='skip'. Received: {problem}")
        self.malformed += 1
        self.lines += getattr(reason, "lines", 1)
        if len(self.problems) < KEPT:
            self.problems.append(problem)

    def warn(self):
        """Warns once of all that was left out."""
        if self.malformed:
            lines = "" if self.lines == self.malformed else f" ({self.lines:,} lines)"
            warnings.warn(
                f"{self.malformed:,} of {self.read:,} records{lines} are malformed and were left out, the first at "
                f"{'; '.join(self.problems[:5])}",
                stacklevel=2,
            )
