"""What a data set was made of."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class DataSummary:
    """Counts of a data set; prints as a few lines.

    Each record is an example, or malformed, or dropped: `records == examples + malformed + dropped`.

    Attributes:
        records: records read.
        malformed: those left out because something is wrong with them.
        problems: what is wrong with the first 100, with file and line.
        truncated: examples that were too long and lost their end.
        dropped: records that were too long and were left out.
        examples: rows of an epoch.
        tokens: ids of an epoch, special ones included.
        batches: batches of an epoch.
        shapes: `(rows, widths of the sides)` of the batches.
        padding_share: the share of padding in what the batches hold.
    """

    records: int
    malformed: int
    problems: tuple[str, ...]
    truncated: int
    dropped: int
    examples: int
    tokens: int
    batches: int
    shapes: tuple[tuple[int, tuple[int, ...]], ...]
    padding_share: float

    def __str__(self) -> str:
        shapes = ", ".join(" x ".join(map(str, (rows, "+".join(map(str, widths))))) for rows, widths in self.shapes)
        return "\n".join(
            [
                f"{self.records:,} records: {self.examples:,} examples, of which {self.truncated:,} truncated; "
                f"{self.dropped:,} too long, {self.malformed:,} malformed",
                *(f"  {problem}" for problem in self.problems[:5]),
                f"{self.tokens:,} tokens an epoch in {self.batches:,} batches, {self.padding_share:.1%} padding",
                f"{len(self.shapes)} shapes, rows x length: {shapes}",
            ]
        )
