"""An SQLite ledger as one end of a copy."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import apsw

from aldis.model.errors import SettingsError
from aldis.store.migrate import refuse_older
from aldis.store.rows import Row
from aldis.store.sqlfile import queries
from aldis.store.sqlite.books import QUESTIONS
from aldis.store.sqlite.engine import LEDGER_FILE, prepare
from aldis.store.sqlite.files import DirectoryLock, check_filesystem, check_sqlite
from aldis.store.sqlite.migrate import applied, migrate
from aldis.store.transfer import TABLES, Key, Progress, Table

_SQL = queries("transfer_sqlite")
_LEDGER_SQL = queries("sqlite")
_CHECKPOINT_PAGES = 8_192
_KEYS = {
    "accounts": ("account_id",),
    "top_ups": ("account_id", "top_up_id"),
    "batches": ("batch_id",),
    "deduplications": ("account_id", "stop_dup_id"),
    "messages": ("message_id",),
    "queue": ("message_id",),
    "parts": ("message_id", "part_no"),
    "events": ("message_id", "event_id"),
    "upstream_ids": ("day", "connector", "upstream_id", "message_id", "part_no"),
    "inbox": ("inbox_id",),
    "inbound_messages": ("inbound_id",),
    "pushes": ("message_id",),
}
"""In this order each table lies in the file."""
_NAMES = {"top_up_id": "number"}


class SqliteEnd:
    """The ledger of a data directory, which no other process may use meanwhile."""

    has_nul = True

    def __init__(self, connection: apsw.Connection, lock: DirectoryLock) -> None:
        """Take an open ledger; `open_source` and `open_target` open one."""
        self._connection = connection
        self._lock = lock

    @classmethod
    def open_source(cls, directory: Path) -> "SqliteEnd":
        """Open a ledger to be copied.

        Raises:
            SettingsError: there is none, it is in use, or it is of another version.
        """
        check_sqlite()
        path = directory / LEDGER_FILE
        if not path.is_file():
            raise SettingsError(f"there is no ledger in {directory}: it would be {LEDGER_FILE}")
        lock = DirectoryLock(directory)
        try:
            connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
            refuse_older("sqlite", applied(connection), str(path))
        except BaseException:
            lock.release()
            raise
        return cls(connection, lock)

    @classmethod
    def open_target(cls, directory: Path) -> "SqliteEnd":
        """Open or make a ledger to be written.

        Raises:
            SettingsError: it is in use, or of a newer version, or the directory can't be used.
        """
        return cls._open_and_migrate(directory)[0]

    @classmethod
    def bring_up_to_date(cls, directory: Path) -> int:
        """Make or migrate a ledger; returns how many migrations ran. Raises what `open_target` raises."""
        end, count = cls._open_and_migrate(directory)
        end._connection.close()
        end._lock.release()
        return count

    @classmethod
    def _open_and_migrate(cls, directory: Path) -> tuple["SqliteEnd", int]:
        check_sqlite()
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        check_filesystem(directory)
        lock = DirectoryLock(directory)
        try:
            connection = apsw.Connection(str(directory / LEDGER_FILE))
            (directory / LEDGER_FILE).chmod(0o600)
            prepare(connection)
            connection.pragma("wal_autocheckpoint", _CHECKPOINT_PAGES)
            count = migrate(connection)
        except BaseException:
            lock.release()
            raise
        return cls(connection, lock), count

    async def ask(self, question: str) -> Sequence[Row]:
        """Return the rows of an answer of the books."""
        return await asyncio.to_thread(self._all, QUESTIONS[question])

    def _all(self, sql: str, bindings: Sequence[Any] = ()) -> list[Row]:
        return self._connection.execute(sql, bindings).fetchall()

    async def read(self, table: Table, after: Key | None, limit: int) -> tuple[list[Row], Key | None]:
        """Return the rows behind a key in the order of keys, and the last one's key."""
        key = _KEYS[table.name]
        names = ", ".join(f"t.{_NAMES.get(name, name)}" for name in key)
        where = f"({names}) > ({', '.join('?' * len(key))})" if after else "TRUE"
        sql = _SQL[table.name].replace("{after}", f"{where} ORDER BY {names} LIMIT {limit}")
        rows = await asyncio.to_thread(self._all, sql, after or ())
        return rows, table.key_of(rows[-1], key) if rows else None

    async def scan(self, table: Table, limit: int) -> AsyncIterator[list[Row]]:
        """Yield all rows, so many at a time."""
        rows, after = await self.read(table, None, limit)
        while rows:
            yield rows
            rows, after = await self.read(table, after, limit)

    async def count(self, table: Table) -> int:
        """Return how many rows there are."""
        sql = _SQL["count_queue"] if table.name == "queue" else f"SELECT count(*) FROM {table.name}"  # noqa: S608
        [(found,)] = await asyncio.to_thread(self._all, sql)
        return int(found)

    async def largest_id(self) -> int:
        """Return the largest id that the ledger knows of."""
        return int(self._all(_LEDGER_SQL["largest_id"])[0][0])

    async def progress(self) -> tuple[str, dict[str, Progress]]:
        """Return what is being copied into this ledger, and how far each table has come."""
        found = self._all(_SQL["progress"])
        source = str(found[0][1]) if found else ""
        return source, {
            row[0]: Progress(row[2], row[3], tuple(json.loads(row[4])) if row[4] else None) for row in found
        }

    async def begin(self, source: str, totals: dict[str, int]) -> None:
        """Mark the ledger as an unfinished copy."""
        with self._connection:
            self._connection.executemany(_SQL["begin"], [(name, source, total) for name, total in totals.items()])

    async def clear(self) -> None:
        """Drop all rows, those of the marks too."""
        with self._connection:
            for name in _own_tables():
                self._connection.execute(f"DELETE FROM {name}")  # noqa: S608 - a name of our own

    async def write(self, table: Table, rows: list[Row], after: Key) -> None:
        """Add rows and note how far they go, in one transaction."""
        if table.name == "accounts" and any(row[1] or row[2] for row in rows):
            raise SettingsError("accounts have sums of weeks that retention has dropped, which SQLite can't carry over")
        await asyncio.to_thread(self._write, table, rows, after)

    def _write(self, table: Table, rows: list[Row], after: Key) -> None:
        with self._connection:
            self._connection.executemany(_SQL[f"add_{table.name}"], rows)
            self._connection.execute(_SQL["advance"], (json.dumps(after), len(rows), table.name))

    async def finish(self, largest_id: int) -> None:
        """Note the largest id and take the mark off: the ledger is complete."""
        with self._connection:
            self._connection.execute(_LEDGER_SQL["remember_last_id"], (largest_id,))
            self._connection.execute("DELETE FROM unfinished_copy")
        await asyncio.to_thread(self._connection.wal_checkpoint, mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)

    async def close(self) -> None:
        """Let the ledger go."""
        self._connection.close()
        self._lock.release()


def _own_tables() -> Iterator[str]:
    yield from (table.name for table in TABLES if table.name != "queue")
    yield from ("facts", "unfinished_copy")
