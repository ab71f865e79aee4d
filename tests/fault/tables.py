"""What a scenario hands back, and how it is printed."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class Result:
    """How a scenario ended."""

    name: str
    ok: bool
    text: str
    seconds: float = 0.0
    skipped: str = ""
    """Why nothing was tried."""
    kept: str = ""
    """Directory with the evidence of a failure."""


@dataclass
class Table:
    """Rows of words under a heading."""

    title: str
    columns: Sequence[str]
    rows: list[Sequence[object]] = field(default_factory=list)

    def add(self, *cells: object) -> None:
        self.rows.append(cells)

    def __str__(self) -> str:
        lines = [[str(cell) for cell in row] for row in (self.columns, *self.rows)]
        widths = [max(len(line[at]) for line in lines) for at in range(len(self.columns))]
        shown = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
        rule = "  ".join("-" * width for width in widths)
        return "\n".join(line.rstrip() for line in (self.title, shown[0], rule, *shown[1:]))


def say(text: str) -> None:
    """Print, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value below which a share of the values lies; 0 where there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
