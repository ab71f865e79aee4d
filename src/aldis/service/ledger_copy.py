"""Copy a whole ledger into another engine: in pieces that are whole, resumable, and not done before it is verified.

The target is marked as unfinished before the first row and until the last comparison; nothing starts on it meanwhile.
Each piece is one transaction with the note how far it goes, so that a copy that was killed goes on where it stopped.
"""

import asyncio
import time
from collections.abc import Callable
from typing import NamedTuple

from aldis.model.errors import SettingsError
from aldis.service.ledger_check import Account, accounts_of, show
from aldis.service.ledger_place import LedgerPlace, postgres_engine
from aldis.store.sqlite.transfer import SqliteEnd
from aldis.store.transfer import TABLES, End, Key, Progress, Table, refuse_strays, without_nul

CHUNK = 10_000
"""Rows of a piece."""
_WIDE = frozenset(("batches", "inbox"))
_WIDE_CHUNK = 2_000
"""Rows of tables with bodies are long."""
_64_BITS = (1 << 64) - 1

OnRows = Callable[[str, str, int, int], None]
"""Hears of progress: copying or verifying, the table, rows done so far in all tables, rows in all."""


class Copied(NamedTuple):
    """What a copy did."""

    rows: int
    """Rows of the whole ledger."""
    copied: int
    """Of these, what this run copied; an earlier one may have done others."""
    copying_s: float
    """How long that took, the comparison left out."""


class Incomplete(SettingsError):
    """The copy differs from its source."""


async def copy(
    source: LedgerPlace, target: LedgerPlace, now: int, *, restart: bool = False, chunk: int = CHUNK,
    on_rows: OnRows = lambda step, table, done, total: None,
) -> Copied:  # fmt: skip
    """Copy a ledger, or go on with a copy, and verify it.

    Args:
        source: Nobody may work on it.
        target: An empty place, or an unfinished copy of the same source.
        now: The time, epoch ms.
        restart: Throw an unfinished copy on the target away first.
        chunk: Rows of a piece.
        on_rows: Hears of progress.

    Raises:
        Incomplete: the two differ at the end; the target stays marked.
        SettingsError: an end can't be used; the text says what to do.
    """
    if source == target:
        raise SettingsError("source and target are the same")
    old = await _open(source, now, is_source=True)
    try:
        if (await old.progress())[0]:
            raise SettingsError("the source is itself an unfinished copy: finish that first")
        new = await _open(target, now, is_source=False)
        try:
            return await _copy(old, new, source.shown, restart, Pieces(chunk, on_rows))
        except ExceptionGroup as group:  # of reading and writing at once; the first says enough
            raise group.exceptions[0] from group
        finally:
            await new.close()
    finally:
        await old.close()


async def _open(place: LedgerPlace, now: int, *, is_source: bool) -> End:
    if place.directory is not None:
        return (SqliteEnd.open_source if is_source else SqliteEnd.open_target)(place.directory)
    end = postgres_engine().transfer.PostgresEnd
    opened: End = await (end.open_source if is_source else end.open_target)(place.url, now)
    return opened


class Pieces:
    """How large pieces are, and who hears of them."""

    def __init__(self, chunk: int, on_rows: OnRows) -> None:
        """Take the rows of a piece, and who hears how far it is."""
        self._chunk = chunk
        self._on_rows = on_rows
        self._done = self._total = 0
        self._step = ""

    def begin(self, step: str, done: int, total: int) -> None:
        """Start to count anew."""
        self._step, self._done, self._total = step, done, total

    def add(self, table: Table, rows: int) -> None:
        """Count rows, and tell of them."""
        self._done += rows
        self._on_rows(self._step, table.name, self._done, self._total)

    def rows_of(self, table: Table) -> int:
        """Return how many rows of a table are a piece."""
        return min(self._chunk, _WIDE_CHUNK) if table.name in _WIDE else self._chunk


async def _copy(old: End, new: End, name: str, restart: bool, pieces: Pieces) -> Copied:
    totals = {table.name: await old.count(table) for table in TABLES}
    done = await _begin(new, name, totals, restart)
    total = sum(totals.values())
    before = sum(one.copied for one in done.values())
    pieces.begin("copying", before, total)
    started = time.monotonic()
    for table in TABLES:
        await _copy_table(old, new, table, done[table.name].after, pieces)
    copying_s = time.monotonic() - started
    pieces.begin("verifying", 0, total)
    differences = await _differences(old, new, pieces)
    if differences:
        told = "\n  ".join(differences)
        raise Incomplete(
            f"the copy differs from its source:\n  {told}\n"
            "The target stays marked as unfinished. Did something write to either? Copy again with --restart"
        )
    await new.finish(await old.largest_id())
    return Copied(total, total - before, copying_s)


async def _begin(new: End, name: str, totals: dict[str, int], restart: bool) -> dict[str, Progress]:
    """Mark the target, or find the marks of an earlier run.

    Raises:
        SettingsError: it has other data, is a copy of another source, or the source has changed since.
    """
    source, done = await new.progress()
    if source and restart:
        await new.clear()
        source, done = "", {}
    if source and source != name:
        raise SettingsError(f"the target is an unfinished copy of {source}: --restart throws that away")
    if source and {table: one.total for table, one in done.items()} != totals:
        raise SettingsError("the source has changed since the copy began: copy again with --restart")
    if not source:
        for table in TABLES:
            if await new.count(table):
                raise SettingsError(f"the target holds a ledger already (there are {table.name}): it must be empty")
        await new.begin(name, totals)
        _, done = await new.progress()
    return done


async def _copy_table(old: End, new: End, table: Table, after: Key | None, pieces: Pieces) -> None:
    """Copy a table from a key on; while a piece is written the next one is read."""
    limit = pieces.rows_of(table)
    rows, after = await old.read(table, after, limit)
    while rows and after is not None:
        refuse_strays(table, rows)
        async with asyncio.TaskGroup() as tasks:
            ahead = tasks.create_task(old.read(table, after, limit))
            await new.write(table, rows if new.has_nul else without_nul(table, rows), after)
        pieces.add(table, len(rows))
        rows, after = ahead.result()


async def _differences(old: End, new: End, pieces: Pieces) -> list[str]:
    """Compare every account's money, and every row of every table; returns what differs, in words."""
    differences = _compare_accounts(await accounts_of(old), await accounts_of(new))
    for table in TABLES:
        async with asyncio.TaskGroup() as tasks:
            one = tasks.create_task(_digest(old, table, pieces, clean=not new.has_nul, told=True))
            other = tasks.create_task(_digest(new, table, pieces, clean=not old.has_nul, told=False))
        if one.result() != other.result():
            differences.append(_say_difference(table, one.result(), other.result()))
    return differences


class Digest(NamedTuple):
    """What all rows of a table come to, in any order."""

    rows: int
    hashes: int
    """The sum of the rows' hashes, which are good for as long as this process lives."""


async def _digest(end: End, table: Table, pieces: Pieces, *, clean: bool, told: bool) -> Digest:
    """Add all rows of a table up."""
    count = total = 0
    async for rows in end.scan(table, pieces.rows_of(table)):
        seen = without_nul(table, rows) if clean else rows
        total = (total + sum(map(hash, seen))) & _64_BITS
        count += len(rows)
        if told:
            pieces.add(table, len(rows))
    return Digest(count, total)


def _say_difference(table: Table, old: Digest, new: Digest) -> str:
    if old.rows != new.rows:
        return f"{table.name}: {old.rows} rows at the source, {new.rows} at the target"
    return f"{table.name}: as many rows ({old.rows}), and not all of them are the same"


def _compare_accounts(old: dict[int, Account], new: dict[int, Account]) -> list[str]:
    differences = []
    for number in sorted(old.keys() | new.keys()):
        one, other = old.get(number), new.get(number)
        if one is None or other is None:
            differences.append(f"account {(one or other).username} is on one side only")  # type: ignore[union-attr]
            continue
        for what in ("credits_milli", "top_ups", "charges", "refunds"):
            here, there = getattr(one, what), getattr(other, what)
            if here != there:
                word = what.removesuffix("_milli").replace("_", "-")
                differences.append(
                    f"account {one.username}: {word} {show(here)} at the source, {show(there)} at the target"
                )
    return differences
