"""`aldis ledger`."""

import asyncio
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table
from rich.text import Text

from aldis.cli.shared import config_option, read_settings, set_up_logging
from aldis.model.errors import SettingsError
from aldis.service import ledger_check, ledger_copy
from aldis.service.ledger_place import LedgerPlace, parse_place, place_of, postgres_commands, postgres_engine
from aldis.service.node import wall_clock_ms
from aldis.store.sqlite.backup import OnBytes, back_up
from aldis.store.sqlite.backup import restore as put_back
from aldis.store.sqlite.transfer import SqliteEnd

at_option = click.option(
    "--at",
    metavar="LEDGER",
    help="Another ledger than the configured one: sqlite:DIRECTORY or postgresql://user@host/database.",
)


@click.group()
def ledger() -> None:
    """Check, back up, restore and move the ledger."""


@ledger.command()
@at_option
@config_option
def migrate(at: str | None, config: Path | None) -> None:
    """Bring the ledger's tables up to date, or make them; the server does it by itself when it starts."""
    set_up_logging("error")
    place = _place(at, config)
    count = asyncio.run(_migrate(place))
    click.echo(f"{place.shown}: {count} migrations ran" if count else f"{place.shown} is up to date")


async def _migrate(place: LedgerPlace) -> int:
    if place.directory is not None:
        return SqliteEnd.bring_up_to_date(place.directory)
    count: int = await postgres_engine().transfer.PostgresEnd.bring_up_to_date(place.url, wall_clock_ms())
    return count


@ledger.command()
@click.option("--quick", is_flag=True, help="Do not compare indexes with their tables (SQLite).")
@at_option
@config_option
def check(quick: bool, at: str | None, config: Path | None) -> None:
    """Check the whole ledger: its file, every account's books, and what must never be in it.

    It reads one state of the ledger, and may run beside the server. It exits with 1 if anything is wrong.
    """
    set_up_logging("error")
    place = _place(at, config)
    console = Console()
    with console.status("Looking") as status:
        report = asyncio.run(
            ledger_check.check(place, quick=quick, on_step=lambda step: status.update(f"Looking at {step}"))
        )
    click.echo(place.shown)
    table = Table("in the ledger", "")
    table.columns[1].justify = "right"
    for name, count in report.counts:
        table.add_row(name, f"{count:,}")
    if report.counts:
        console.print(table)
    for finding in report.findings:
        console.print("[red]FAIL[/] ", end="")
        console.print(finding, markup=False, highlight=False, soft_wrap=True)
    if not report.findings:
        console.print("[green]ok  [/] the ledger is sound, and every account's books balance to the milli-credit")
    sys.exit(1 if report.findings else 0)


@ledger.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@config_option
def backup(file: Path, force: bool, config: Path | None) -> None:
    """Copy the ledger into FILE, whether or not the server runs, and check the copy.

    FILE holds everything that was acknowledged before. A PostgreSQL ledger has its own tools: it is told which.
    """
    place = _place(None, config)
    if place.directory is None:
        raise SettingsError(postgres_commands(place.url, file)[0])
    started = time.monotonic()
    with _bytes("Copying", "Checking the copy") as on_bytes:
        size = back_up(place.directory, file, force=force, on_bytes=on_bytes)
    spent = time.monotonic() - started
    click.echo(f"{file}: {size / 1e6:,.1f} MB, checked and on disk, in {spent:.1f} s ({size / 1e6 / spent:,.0f} MB/s)")


@ledger.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--force", is_flag=True, help="Replace the ledger that is there; it is kept under another name.")
@config_option
def restore(file: Path, force: bool, config: Path | None) -> None:
    """Make FILE, a backup, the ledger. The server must be stopped."""
    place = _place(None, config)
    if place.directory is None:
        raise SettingsError(postgres_commands(place.url, file)[1])
    with _bytes("Copying", "Checking") as on_bytes:
        kept = put_back(file, place.directory, wall_clock_ms(), force=force, on_bytes=on_bytes)
    click.echo(f"{file} is the ledger of {place.directory} now")
    if kept is not None:
        click.echo(f"the one before is kept: {kept}")


@ledger.command()
@click.option("--from", "source", required=True, metavar="LEDGER", help="sqlite:DIRECTORY or postgresql://…")
@click.option("--to", "target", required=True, metavar="LEDGER", help="The same, and empty.")
@click.option("--restart", is_flag=True, help="Throw an unfinished copy in the target away, and begin anew.")
@click.option(
    "--chunk", type=click.IntRange(1), default=ledger_copy.CHUNK, show_default=True, metavar="ROWS",
    help="Rows of one transaction.",
)  # fmt: skip
def copy(source: str, target: str, restart: bool, chunk: int) -> None:
    """Copy a whole ledger into another engine, and compare the two row by row.

    Nothing may run on either. Killed or cut off, the same command goes on where it stopped. Until the comparison is
    done the target is marked as unfinished, and no server starts on it.
    """
    set_up_logging("error")
    old, new = parse_place(source), parse_place(target)
    started = time.monotonic()
    with _rows() as on_rows:
        done = asyncio.run(ledger_copy.copy(old, new, wall_clock_ms(), restart=restart, chunk=chunk, on_rows=on_rows))
    spent = time.monotonic() - started
    click.echo(f"{new.shown} holds all {done.rows:,} rows of {old.shown}, compared one by one")
    click.echo(
        f"{done.copied:,} rows copied in {done.copying_s:.1f} s ({done.copied / done.copying_s:,.0f} rows/s), "
        f"compared in {spent - done.copying_s:.1f} s"
    )


def _place(at: str | None, config: Path | None) -> LedgerPlace:
    return parse_place(at) if at is not None else place_of(read_settings(config))


class _RateColumn(ProgressColumn):
    """Rows a second."""

    def render(self, task: Task) -> Text:
        """Return the speed of the last moments."""
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f} rows/s" if speed else "", style="progress.data.speed")


@contextmanager
def _rows() -> Iterator[ledger_copy.OnRows]:
    """Show how far a copy is, and what comes after it."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _RateColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bars: dict[str, TaskID] = {}

        def show(step: str, table: str, done: int, total: int) -> None:
            if step not in bars:
                bars[step] = progress.add_task(step, total=total, completed=done)
            progress.update(bars[step], description=f"{step} {table}", completed=done)

        yield show


@contextmanager
def _bytes(copying: str, checking: str) -> Iterator[OnBytes]:
    """Show how far the copy of a file is, and that it is being checked."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as progress:
        bar = progress.add_task(copying, total=None)

        def show(done: int, total: int) -> None:
            progress.update(bar, total=total, completed=done, description=checking if done == total else copying)

        yield show
