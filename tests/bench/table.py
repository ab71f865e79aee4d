"""What was measured, each figure beside its floor, as one table."""

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field

import apsw
from rich import box
from rich.console import Console
from rich.table import Table


@dataclass
class Figure:
    """One line of the table."""

    what: str
    value: float
    p50_ms: float | None = None
    p99_ms: float | None = None
    cpu_us: float | None = None
    """Processor time of the process under test for each, microseconds."""
    database_us: float | None = None
    """And that of PostgreSQL, where there is one."""
    floors: Sequence[tuple[str, float]] = ()
    """What nothing built in this way can pass: name and figure."""
    target: float | None = None
    less_is_better: bool = False
    unit: str = ""
    """Of the figure; empty: so many a second."""

    @property
    def reaches_target(self) -> bool:
        if self.target is None:
            return True
        return self.value <= self.target if self.less_is_better else self.value >= self.target


@dataclass
class Section:
    """Lines that belong together, and what has to be said of them."""

    title: str
    figures: list[Figure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def machine() -> str:
    """Return what the figures depend on."""
    python = f"{platform.python_implementation()} {platform.python_version()}"
    load = "/".join(f"{one:.1f}" for one in os.getloadavg())
    return f"{os.cpu_count()} cores, {python}, SQLite {apsw.sqlite_lib_version()}, load average at the start {load}"


def show(console: Console, sections: Sequence[Section], about: Sequence[str]) -> None:
    """Print the table."""
    table = Table(box=box.SIMPLE_HEAD, title="aldis bench", caption_justify="left")
    table.add_column("what (c: connections)", no_wrap=True)
    for name in ("a second", "p50 / p99 ms", "CPU us", "floor", "ratio", "target"):
        table.add_column(name, justify="right", no_wrap=True)
    for section in sections:
        table.add_row(f"[bold]{section.title}[/bold]")
        for figure in section.figures:
            table.add_row(*_row(figure))
        table.add_section()
    console.print(table)
    for note in [*about, *(note for section in sections for note in section.notes)]:
        console.print(f"* {note}", highlight=False, soft_wrap=True)


def _row(figure: Figure) -> list[str]:
    times = "" if figure.p50_ms is None else f"{figure.p50_ms:.2f} / {figure.p99_ms:.2f}"
    floors = "\n".join(f"{name} {_number(value)}" for name, value in figure.floors)
    ratios = "\n".join(f"{figure.value / value:.2f}" for _, value in figure.floors)
    cpu = " + ".join(f"{us:.1f}" for us in (figure.cpu_us, figure.database_us) if us is not None)
    return [figure.what, f"{_number(figure.value)} {figure.unit}".rstrip(), times, cpu, floors, ratios, _target(figure)]


def _target(figure: Figure) -> str:
    if figure.target is None:
        return ""
    verdict = "[green]met[/green]" if figure.reaches_target else "[red]missed[/red]"
    return f"{_number(figure.target)} {verdict}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:,.1f}"
