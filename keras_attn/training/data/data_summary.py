"""Statistics of a data set."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class DataSummary:
    """Statistics of a data set. `str` formats them as a few lines.

    Each record is an example, malformed or dropped: `records == examples + malformed + dropped`.

    Attributes:
        records: Number of records.
        malformed: Number of records that were skipped as malformed.
        problems: Descriptions of the first 100 malformed records, with file and line.
        truncated: Number of examples that were truncated.
        dropped: Number of records that were dropped as too long.
        examples: Number of rows per epoch.
        tokens: Number of ids per epoch, special ids included.
        batches: Number of batches per epoch.
        shapes: `(rows, widths of the sides)` of each batch shape.
        padding_share: Fraction of padding in the batches.
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
                f"{self.tokens:,} tokens per epoch in {self.batches:,} batches, {self.padding_share:.1%} padding",
                f"{len(self.shapes)} shapes, rows x length: {shapes}",
            ]
        )
