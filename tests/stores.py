"""How tests open each engine's store, and what they do to it behind its back."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import apsw
from tests.postgres import Administration

from aldis.model.types import Push
from aldis.store.postgres import PostgresStore
from aldis.store.sqlite import SqliteStore
from aldis.store.testing import OpenStore
from aldis.store.testing.bench import NOON

ENGINES = ("sqlite", "postgres")
Books = dict[int, int]
"""account_id -> milli-credits"""

_BOOKS = """SELECT account_id, CAST(sum(amount) AS BIGINT) FROM (
    SELECT account_id, amount_milli AS amount FROM top_ups
    UNION ALL SELECT account_id, -charged_milli FROM batches
    UNION ALL SELECT account_id, refunded_milli FROM messages{carried}) AS entries GROUP BY account_id"""
_CARRIED = " UNION ALL SELECT account_id, carried_refunds - carried_charges FROM accounts"
TABLES = (
    "accounts", "top_ups", "batches", "deduplications", "messages", "queue", "parts", "upstream_ids", "events", "inbox",
    "inbound_messages", "pushes", "nodes", "last_ids", "binds", "commits",
)  # fmt: skip


def sqlite_opener(directory: Path, **options: Any) -> OpenStore:
    """Open the embedded store on a directory."""

    async def open_store(on_pushes: Callable[[list[Push]], None]) -> SqliteStore:
        return SqliteStore(directory, on_pushes, **options)

    return open_store


def postgres_opener(url: str, **options: Any) -> OpenStore:
    """Open the shared store on a throwaway database; its tables are made for the time at which benches begin."""

    async def open_store(on_pushes: Callable[[list[Push]], None]) -> PostgresStore:
        return await PostgresStore.open(url, on_pushes, lambda: NOON, must_be_durable=False, **options)

    return open_store


async def until_lost(store: PostgresStore) -> None:
    """Wait until a store knows that its connections were cut: else it is in doubt of what it sends on them."""
    async with asyncio.timeout(30):
        while not all(lane._connection is None or lane._connection.is_closed() for lane in store._lanes):
            await asyncio.sleep(0.01)


class Engine(Protocol):
    """An engine with a place for its rows, and how to get at them past the store."""

    async def open(self, on_pushes: Callable[[list[Push]], None]) -> Any:
        """Open the store; an `OpenStore`."""

    def opener(self, **options: Any) -> OpenStore:
        """Return how to open the store with options that both engines have."""

    def look(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Ask for what is on disk, over a connection of its own; values are $1, $2 in the query."""

    def refuse_writes(self, store: Any) -> AbstractAsyncContextManager[None]:
        """Let an open store be unable to write for a while."""

    def crash(self) -> None:
        """Let what is on disk at this moment be all that the next store finds, whatever an open one still writes."""

    def clear(self) -> None:
        """Forget all rows, while no store is open."""

    def books(self) -> Books:
        """Return top-ups less charges plus refunds of each account, by the rows alone."""

    def close(self) -> None:
        """Let go of it."""


class Sqlite:
    """The embedded engine in a directory."""

    def __init__(self, directory: Path) -> None:
        self.root = directory
        self.lives = 0

    @property
    def directory(self) -> Path:
        return self.root / str(self.lives)

    async def open(self, on_pushes: Callable[[list[Push]], None]) -> SqliteStore:
        return SqliteStore(self.directory, on_pushes)

    def opener(self, **options: Any) -> OpenStore:
        return sqlite_opener(self.directory, **options)

    def look(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        look = apsw.Connection(str(self.directory / "ledger.sqlite"), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            return look.execute(query, values).fetchall()
        finally:
            look.close()

    @asynccontextmanager
    async def refuse_writes(self, store: SqliteStore) -> AsyncIterator[None]:
        """Let another program hold the ledger, for longer than a write waits."""
        await store.writer.call(lambda context, items: [context.connection.set_busy_timeout(1)], (None,))
        other = apsw.Connection(str(self.directory / "ledger.sqlite"))
        other.set_busy_timeout(5_000)
        other.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            other.execute("ROLLBACK")
            other.close()

    def crash(self) -> None:
        before, self.lives = self.directory, self.lives + 1
        self.directory.mkdir()
        for name in ("ledger.sqlite", "ledger.sqlite-wal"):
            shutil.copy(before / name, self.directory / name)

    def clear(self) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)

    def books(self) -> Books:
        return dict(self.look(_BOOKS.format(carried="")))

    def close(self) -> None:
        pass


class Postgres:
    """The shared engine on a database of the test's own."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.open = postgres_opener(url)
        self._administration = Administration(url)

    def opener(self, **options: Any) -> OpenStore:
        return postgres_opener(self.url, **options)

    def look(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in self._administration.fetch(query, *values)]

    @asynccontextmanager
    async def refuse_writes(self, store: PostgresStore) -> AsyncIterator[None]:
        """Let the database be one that can only be read, as a standby is."""
        name = self.url.rpartition("/")[2]
        self.look(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        self.cut("aldis %")
        await until_lost(store)
        try:
            yield
        finally:
            self.look(f"ALTER DATABASE {name} RESET default_transaction_read_only")

    def cut(self, names: str) -> int:
        """End the store's connections that have such names, and wait until they are gone; returns how many."""
        like = "datname = current_database() AND application_name LIKE $1"
        cut = self.look(f"SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE {like}", names)
        return len(cut)

    def crash(self) -> None:
        """Do nothing: the database lives on, and the dead process's connections write no more."""

    def clear(self) -> None:
        """Delete, which is much faster than to make a database, or than TRUNCATE with so many partitions."""
        deletions = ", ".join(f"{table}_gone AS (DELETE FROM {table})" for table in TABLES)
        self.look(f"WITH {deletions} SELECT")

    def books(self) -> Books:
        return dict(self.look(_BOOKS.format(carried=_CARRIED)))

    def close(self) -> None:
        self._administration.close()
