"""Reads that arrive together are asked together: one query for all of them."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Generic, TypeVar

import structlog

from aldis.model.errors import LedgerUnavailable
from aldis.store.postgres.connection import Connection, connect, is_outage, unavailable

log = structlog.get_logger()

K = TypeVar("K")
V = TypeVar("V")
MAX_KEYS = 500


class FoldedRead(Generic[K, V]):
    """Looks keys up over connections of its own, each busy with one query for all keys that wait."""

    def __init__(
        self, name: str, url: str, read: Callable[[Connection, list[K]], Awaitable[Mapping[K, V]]], connections: int = 1
    ) -> None:
        """Take what it is for, the database, the query over keys without repetition, and how many may run at once."""
        self._name = name
        self._url = url
        self._read = read
        self._count = connections
        self._waiting: dict[K, asyncio.Future[V | None]] = {}
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._problem: Exception | None = None

    async def open(self) -> None:
        """Connect. Raises what connecting raises."""
        loop = asyncio.get_running_loop()
        for _ in range(self._count):
            connection = await connect(self._url, self._name)
            self._tasks.append(loop.create_task(self._run(connection), name=f"ledger-{self._name}"))

    async def close(self) -> None:
        """End; who still waits is refused."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(LedgerUnavailable())
        self._waiting.clear()

    async def find(self, key: K) -> V | None:
        """Look one key up.

        Raises:
            LedgerUnavailable: the database does not answer.
        """
        future = self._waiting.get(key)
        if future is None:
            future = self._waiting[key] = asyncio.get_running_loop().create_future()
            self._wake.set()
        return await asyncio.shield(future)

    async def _run(self, connection: Connection | None) -> None:
        try:
            while True:
                while not self._waiting:  # another connection may have taken what one was woken for
                    self._wake.clear()
                    await self._wake.wait()
                futures = {key: self._waiting.pop(key) for key in list(self._waiting)[:MAX_KEYS]}
                connection = await self._answer(connection, futures)
        finally:
            if connection is not None:
                connection.terminate()

    async def _answer(
        self, connection: Connection | None, futures: "dict[K, asyncio.Future[V | None]]"
    ) -> Connection | None:
        """Ask for keys and tell who waits; returns the connection while it is good."""
        try:
            if connection is None or connection.is_closed():
                connection = await connect(self._url, self._name)
            found = await self._read(connection, list(futures))
        except Exception as error:  # noqa: BLE001 - whoever waits must have an answer
            if not is_outage(error) and len(futures) > 1:  # one of them is no key at all: the others are
                for key, future in futures.items():
                    connection = await self._answer(connection, {key: future})
                return connection
            self._refuse(error, futures)
            if is_outage(error) and connection is not None:
                connection.terminate()
                connection = None
            return connection
        for key, future in futures.items():
            if not future.done():
                future.set_result(found.get(key))
        return connection

    def _refuse(self, error: Exception, futures: "dict[K, asyncio.Future[V | None]]") -> None:
        log.warning("a look-up failed", what=self._name, error=type(error).__name__)
        for future in futures.values():
            if not future.done():
                future.set_exception(unavailable(error))
                future.exception()  # it may be that nobody waits any more
