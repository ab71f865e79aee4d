"""A PostgreSQL ledger as one end of a copy."""

import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import asyncpg

from aldis.model.errors import SettingsError
from aldis.model.ids import MAX_NODE, SEQUENCE_BITS
from aldis.store.migrate import refuse_older
from aldis.store.postgres import partitions
from aldis.store.postgres.books import QUESTIONS
from aldis.store.postgres.connection import Connection, connect_first, words_of
from aldis.store.postgres.migrate import applied, migrate
from aldis.store.rows import Row
from aldis.store.sqlfile import queries
from aldis.store.transfer import TABLES, Key, Progress, Table

_SQL = queries("transfer_postgres")
_LEDGER_SQL = queries("postgres")
_PATIENCE_S = 86_400.0
CLOSE_S = 10.0
_LOCK = partitions.LOCK + 1
"""Advisory lock of whoever copies into a database."""
_LOCK_WAIT = "SET lock_timeout = '15s'"
_PATIENT = "SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0; " + _LOCK_WAIT
_LAZY = "SET synchronous_commit = off"
"""Rows and the note how far they go are lost together, if at all; the last commit waits for all of them."""
_KEYS = {
    "accounts": ("account_id",),
    "top_ups": ("account_id", "top_up_id"),
    "batches": ("batch_id",),
    "deduplications": ("account_id", "stop_dup_id"),
    "messages": ("account_id", "message_id"),
    "queue": ("account_id", "message_id"),
    "parts": ("account_id", "message_id", "part_no"),
    "events": ("account_id", "message_id", "event_id"),
    "upstream_ids": ("connector", "upstream_id", "day", "message_id", "part_no"),
    "inbox": ("inbox_id",),
    "inbound_messages": ("inbound_id",),
    "pushes": ("account_id", "message_id"),
}
"""By these columns each table has an index."""


class PostgresEnd:
    """The ledger of a database on which no node runs."""

    has_nul = False

    def __init__(self, connection: Connection) -> None:
        """Take a connection; `open_source` and `open_target` make one."""
        self._connection = connection
        self._weeks: set[int] = set()
        """Starts of weeks whose partitions are there."""

    @classmethod
    async def open_source(cls, url: str, now: int) -> "PostgresEnd":
        """Open a ledger to be copied.

        Raises:
            SettingsError: the database can't be used, has no ledger or an older one, or nodes run on it.
        """
        connection = await connect_first(url, must_be_durable=False, what="the database to copy from")
        try:
            await connection.execute(_PATIENT)
            refuse_older("postgres", await applied(connection), "the database to copy from")
            await _refuse_nodes(connection, now)
        except BaseException:
            connection.terminate()
            raise
        return cls(connection)

    @classmethod
    async def open_target(cls, url: str, now: int) -> "PostgresEnd":
        """Open a database to be written, and make the ledger's tables.

        Raises:
            SettingsError: the database can't be used, nodes run on it, or something else copies into it.
        """
        connection = await connect_first(url, must_be_durable=False, what="the database to copy to")
        try:
            await migrate(connection)
            await connection.execute(f"{_PATIENT}; {_LAZY}")
            await connection.execute("SELECT pg_advisory_lock($1)", _LOCK, timeout=_PATIENCE_S)
            await _refuse_nodes(connection, now)
        except asyncpg.LockNotAvailableError:
            connection.terminate()
            raise SettingsError("another copy into this database is under way") from None
        except BaseException:
            connection.terminate()
            raise
        return cls(connection)

    @classmethod
    async def bring_up_to_date(cls, url: str, now: int) -> int:
        """Make or migrate a ledger, also while nodes run; returns how many migrations ran.

        Raises:
            SettingsError: the database can't be used, or is of a newer version.
        """
        connection = await connect_first(url, must_be_durable=False, what="the database")
        try:
            count = await migrate(connection)
            await partitions.make_ahead(connection, now)
        finally:
            await connection.close(timeout=CLOSE_S)
        return count

    async def ask(self, question: str) -> Sequence[Row]:
        """Return the rows of an answer of the books."""
        return await self._all(QUESTIONS[question])

    async def _all(self, sql: str, *bindings: Any) -> list[Row]:
        with _in_words():
            return list(map(tuple, await self._connection.fetch(sql, *bindings, timeout=_PATIENCE_S)))

    async def read(self, table: Table, after: Key | None, limit: int) -> tuple[list[Row], Key | None]:
        """Return the rows behind a key in the order of keys, and the last one's key."""
        key = _KEYS[table.name]
        names = ", ".join(f"t.{name}" for name in key)
        places = ", ".join(f"${n}" for n in range(1, len(key) + 1))
        where = f"({names}) > ({places})" if after else "TRUE"
        sql = _SQL[table.name].replace("{after}", f"{where} ORDER BY {names} LIMIT {limit}")
        rows = await self._all(sql, *(after or ()))
        return rows, table.key_of(rows[-1], key) if rows else None

    async def scan(self, table: Table, limit: int) -> AsyncIterator[list[Row]]:
        """Yield all rows as they lie in the tables, so many at a time."""
        with _in_words():
            async with self._connection.transaction():
                cursor = await self._connection.cursor(_SQL[table.name].replace("{after}", "TRUE"))
                while rows := await cursor.fetch(limit, timeout=_PATIENCE_S):
                    yield list(map(tuple, rows))

    async def count(self, table: Table) -> int:
        """Return how many rows there are."""
        sql = _SQL["count_queue"] if table.name == "queue" else f"SELECT count(*) FROM {table.name}"  # noqa: S608
        [(found,)] = await self._all(sql)
        return int(found)

    async def largest_id(self) -> int:
        """Return the largest id that the ledger knows of."""
        return int((await self._all(_LEDGER_SQL["largest_id"]))[0][0])

    async def progress(self) -> tuple[str, dict[str, Progress]]:
        """Return what is being copied into this ledger, and how far each table has come."""
        found = await self._all(_SQL["progress"])
        source = str(found[0][1]) if found else ""
        return source, {
            row[0]: Progress(row[2], row[3], tuple(json.loads(row[4])) if row[4] else None) for row in found
        }

    async def begin(self, source: str, totals: dict[str, int]) -> None:
        """Mark the ledger as an unfinished copy."""
        rows = [(name, source, total) for name, total in totals.items()]
        with _in_words():
            await self._connection.executemany(_SQL["begin"], rows)

    async def clear(self) -> None:
        """Drop all rows, those of the marks too."""
        names = [table.name for table in TABLES] + ["last_ids", "unfinished_copy"]
        with _in_words():
            await self._connection.execute(f"TRUNCATE {', '.join(names)}", timeout=_PATIENCE_S)

    async def write(self, table: Table, rows: list[Row], after: Key) -> None:
        """Add rows and note how far they go, in one transaction."""
        with _in_words():
            await self._make_room(table, rows)
            async with self._connection.transaction():
                await self._connection.copy_records_to_table(
                    table.name, records=rows, columns=table.columns, timeout=_PATIENCE_S
                )
                await self._connection.execute(_SQL["advance"], json.dumps(after), len(rows), table.name)

    async def _make_room(self, table: Table, rows: list[Row]) -> None:
        """Make the partitions that rows are for: in the rest of a table they would stay for ever."""
        if table.name in partitions.WEEKLY:
            place = table.columns.index("batch_id" if table.name == "batches" else "message_id")
            if weeks := partitions.weeks_of([row[place] for row in rows]) - self._weeks:
                await partitions.make_weeks(self._connection, weeks)
                self._weeks |= weeks
        if table.name == "upstream_ids":
            await partitions.make_days(self._connection, {row[table.columns.index("day")] for row in rows})

    async def finish(self, largest_id: int) -> None:
        """Note the largest id and take the mark off: the ledger is complete."""
        node_number = (largest_id >> SEQUENCE_BITS) & MAX_NODE
        with _in_words():
            await self._connection.execute("ANALYZE", timeout=_PATIENCE_S)
            await self._connection.execute("SET synchronous_commit = on")
            async with self._connection.transaction():
                await self._connection.execute(_LEDGER_SQL["remember_last_id"], node_number, largest_id)
                await self._connection.execute("DELETE FROM unfinished_copy")

    async def close(self) -> None:
        """Let the ledger go."""
        try:
            await self._connection.close(timeout=CLOSE_S)
        except Exception:  # noqa: BLE001 - whatever is wrong with it, it is not needed any more
            self._connection.terminate()


async def _refuse_nodes(connection: Connection, now: int) -> None:
    found = await connection.fetch(_SQL["running_nodes"], now)
    if found:
        told = ", ".join(f"{row[0]} on {row[1]}" for row in found)
        raise SettingsError(f"nodes run on this database ({told}): stop them first")


@contextmanager
def _in_words() -> Iterator[None]:
    """Raise what goes wrong at the database as something to be read.

    Raises:
        SettingsError: it says no, or is gone.
    """
    try:
        yield
    except (asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError, ConnectionError) as error:
        raise SettingsError(f"the database failed: {words_of(error)}; run the same again once it is well") from error
