"""Group commit on a connection: what waits is folded into one transaction.

A lane is one connection with a queue in front of it. While a transaction runs, the next group gathers.
"""

import asyncio
import secrets
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

import asyncpg
import structlog

from aldis.model.errors import LedgerUnavailable, OurError, Overloaded
from aldis.store.group import (
    MAX_GROUP_ITEMS,
    MAX_GROUP_JOBS,
    CommitStats,
    Effects,
    Job,
    by_verb,
    items_of,
    share_out,
)
from aldis.store.postgres.connection import CONFLICT, NO_ROOM, Connection, connect, is_lost, unavailable, words_of
from aldis.store.sqlfile import queries

log = structlog.get_logger()

SQL = queries("postgres")
CONFLICT_TRIES = 5
CLOSE_S = 10.0
DOUBT_PAUSE_S = 0.2
RECONNECT_S = 0.5
_SINGLY = "SET LOCAL lock_timeout = '200ms'"


class Seat:
    """Which node the store works for."""

    def __init__(self, epoch: int = 0, number: int = 0, *, pushes: bool = True) -> None:
        """Take the node's epoch, 0 for a process that is none, its number, and whether it sends pushes itself."""
        self.epoch = epoch
        self.number = number
        self.pushes = pushes

    @property
    def push_owner(self) -> int:
        """Who owns pushes that come up here."""
        return self.epoch if self.pushes else 0


class Tx:
    """An open transaction, as verbs use it."""

    def __init__(self, connection: Connection, seat: Seat) -> None:
        """Take the connection and whom it works for."""
        self.connection = connection
        self.seat = seat
        self.effects = Effects()
        self.rings: set[str] = set()
        """What other nodes are to be told of."""

    async def fetch(self, name: str, *arguments: Any) -> list[asyncpg.Record]:
        """Run a query and return its rows."""
        return await self.connection.fetch(SQL[name], *arguments)

    async def run(self, name: str, *arguments: Any) -> None:
        """Run a statement."""
        await self.connection.execute(SQL[name], *arguments)


Verb = Callable[[Tx, list[Any]], Awaitable[Sequence[Any]]]
"""Runs inside the transaction over the items of all calls that were folded; answers item by item."""


class _InDoubt(Exception):
    """The connection was lost during the commit."""

    def __init__(self, line: int, number: int | None, tx: Tx) -> None:
        """Take the connection, the transaction's number on it, None if it has written nothing, and what it did."""
        super().__init__(line, number)
        self.line = line
        self.number = number
        self.tx = tx


class _Done(NamedTuple):
    effects: Effects
    rings: set[str]


class Lane:
    """Runs verbs in groups on a connection of its own, each group one transaction.

    A job whose verb fails is run again alone under a savepoint, so that it fails alone. When the connection is lost,
    the group is refused, unless that happened during the commit: then the database is asked what became of it.
    """

    def __init__(
        self,
        name: str,
        url: str,
        seat: Seat,
        stats: CommitStats,
        ring: Callable[[str], None],
        max_waiting: int = 200_000,
    ) -> None:
        """Take what it is for, the database, the node, who counts, and whom to tell what other nodes should know."""
        self.name = name
        self._url = url
        self._seat = seat
        self._stats = stats
        self._ring = ring
        self._max_waiting = max_waiting
        self._connection: Connection | None = None
        self._line = 0
        """The connection's name in the table of commits, unlike any other's."""
        self._number = 0
        """Of the last transaction."""
        self._queue: deque[Job] = deque()
        self._wake = asyncio.Event()
        self._is_closing = False
        self._problem = ""
        self._retry_at = 0.0
        self._doubts: set[asyncio.Task[None]] = set()
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Connect, and begin to work. Raises what connecting raises."""
        await self._connect()
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"ledger-{self.name}")

    def problems(self) -> list[str]:
        """Return why nothing can be written now."""
        return [self._problem] if self._problem else []

    def call(self, verb: Verb, items: Sequence[Any], weight: int = 1) -> "asyncio.Future[Any]":
        """Queue a verb over items; the future resolves to its answers after they are on disk.

        Raises:
            Overloaded: too much waits.
            LedgerUnavailable: the lane was closed.
        """
        if self._is_closing:
            raise LedgerUnavailable
        if self._stats.waiting + weight > self._max_waiting and self._stats.waiting:
            raise Overloaded
        self._stats.waiting += weight
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._queue.append(Job(verb, items, weight, future))
        self._wake.set()
        return future

    async def close(self) -> None:
        """Finish what waits, then close the connection."""
        self._is_closing = True
        self._wake.set()
        if self._task is not None:
            await self._task
        if self._doubts:
            _, undecided = await asyncio.wait(self._doubts, timeout=CLOSE_S)
            for task in undecided:
                task.cancel()
        if self._connection is not None:
            try:
                await self._connection.close(timeout=CLOSE_S)
            except Exception:  # noqa: BLE001 - whatever is wrong with it, it is not needed any more
                self._connection.terminate()

    async def _run(self) -> None:
        while not (self._is_closing and not self._queue):
            if not self._queue:
                await self._idle()
                continue
            group: list[Job] = []
            weight = 0
            while self._queue and weight < MAX_GROUP_ITEMS and len(group) < MAX_GROUP_JOBS:
                job = self._queue.popleft()
                if job.future.done():  # its caller has gone
                    self._stats.waiting -= job.weight
                    continue
                weight += job.weight
                group.append(job)
            if group:
                await self._commit(group, weight)

    async def _idle(self) -> None:
        """Wait for work; a lane that could not write looks meanwhile whether it can again.

        While its node shows red, a balancer may send it no work to find that out with.
        """
        self._wake.clear()
        try:
            async with asyncio.timeout(RECONNECT_S if self._problem else None):
                await self._wake.wait()
        except TimeoutError:
            await self._look_again()

    async def _look_again(self) -> None:
        """Write, and forget the problem if that works."""
        try:
            connection = await self._connected()
            await connection.execute(SQL["last_commit"], self._line)
            self._problem = ""
        except LedgerUnavailable:
            pass  # it was tried a moment ago
        except Exception as error:  # noqa: BLE001 - whatever it is, it is looked at again
            self._drop(words_of(error))

    async def _commit(self, group: list[Job], weight: int) -> None:
        """Commit; whatever surprise there is, the lane lives on and every job has its answer."""
        started = time.perf_counter()
        done: _Done | None = None
        try:
            done = await self._transact(group)
            self._problem = ""
        except _InDoubt as doubt:
            self._drop("the connection was lost during a commit")
            task = asyncio.get_running_loop().create_task(self._find_fate(doubt, group, weight))
            self._doubts.add(task)
            task.add_done_callback(self._doubts.discard)
            return
        except Exception as error:  # noqa: BLE001 - every job must be answered
            self._refuse(group, error)
        self._stats.count(weight, time.perf_counter() - started)
        self._resolve(group, done, weight)

    def _refuse(self, group: list[Job], error: Exception) -> None:
        if is_lost(error) or isinstance(error, NO_ROOM):
            self._drop(words_of(error))
        answer = error if isinstance(error, OurError) else unavailable(error)
        for job in group:
            job.error = answer
        log.error("commit failed", lane=self.name, problem=self._problem or repr(error), jobs=len(group))

    def _drop(self, problem: str) -> None:
        self._problem = f"the database can't be used: {problem}"
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    def _resolve(self, group: list[Job], done: _Done | None, weight: int) -> None:
        self._stats.waiting -= weight
        try:
            if done is not None:
                self._stats.committed(done.effects)
                for kind in done.rings:
                    self._ring(kind)
        except Exception:
            log.exception("what was committed could not be told on", lane=self.name)
        finally:
            for job in group:
                job.answer()

    async def _connected(self) -> Connection:
        """Return a connection, at most one try in a while: who waits meanwhile is refused at once."""
        if self._connection is not None and not self._connection.is_closed():
            return self._connection
        now = time.monotonic()
        if now < self._retry_at:
            raise LedgerUnavailable
        self._retry_at = now + RECONNECT_S
        connection = await self._connect()
        self._retry_at = 0.0
        log.info("connected to the database", lane=self.name)
        return connection

    async def _connect(self) -> Connection:
        self._connection = await connect(self._url, self.name)
        self._line = secrets.randbits(62)
        return self._connection

    async def _transact(self, group: list[Job]) -> _Done:
        connection = await self._connected()
        for _ in range(CONFLICT_TRIES):
            try:
                return await self._try(connection, group, self._run_folded)
            except CONFLICT:
                continue
            except (_InDoubt, OurError):
                raise
            except Exception as error:
                if is_lost(error) or isinstance(error, NO_ROOM):
                    raise
                log.warning("group retried one by one", lane=self.name, error=repr(error), jobs=len(group))
                return await self._try(connection, group, self._run_singly)
        raise LedgerUnavailable

    async def _try(
        self, connection: Connection, group: list[Job], body: Callable[[Tx, list[Job]], Awaitable[None]]
    ) -> _Done:
        tx = Tx(connection, self._seat)
        await connection.execute("BEGIN")
        try:
            await body(tx, group)
            self._number += 1
            number = await connection.fetchval(SQL["number_commit"], self._line, self._number)
        except BaseException:
            if not connection.is_closed() and connection.is_in_transaction():
                await connection.execute("ROLLBACK")
            raise
        try:
            await connection.execute("COMMIT")
        except Exception as error:
            if is_lost(error):
                raise _InDoubt(self._line, number, tx) from error
            raise
        return _Done(tx.effects, tx.rings)

    async def _run_folded(self, tx: Tx, group: list[Job]) -> None:
        for verb, jobs in by_verb(group):
            share_out(jobs, await verb(tx, items_of(jobs)))

    async def _run_singly(self, tx: Tx, group: list[Job]) -> None:
        await tx.connection.execute(_SINGLY)
        for job in group:
            before = tx.effects.mark()
            await tx.connection.execute("SAVEPOINT job")
            try:
                job.result = await job.verb(tx, list(job.items))
            except Exception as error:
                if is_lost(error) or isinstance(error, NO_ROOM):
                    raise
                await tx.connection.execute("ROLLBACK TO SAVEPOINT job")
                tx.effects = before
                job.error = _meaning(error)
                job.result = [None] * len(job.items) if job.error is None else ()
            await tx.connection.execute("RELEASE SAVEPOINT job")

    async def _find_fate(self, doubt: _InDoubt, group: list[Job], weight: int) -> None:
        """Ask the database, once it answers again, whether a transaction was committed."""
        is_there = doubt.number is None or await self._last_commit(doubt.line) == doubt.number
        log.warning("a commit was in doubt", lane=self.name, jobs=len(group), committed=is_there)
        if not is_there:
            for job in group:
                job.error = LedgerUnavailable()
        self._resolve(group, _Done(doubt.tx.effects, doubt.tx.rings) if is_there else None, weight)

    async def _last_commit(self, line: int) -> int:
        """Return the number of a lost connection's last commit, however long it takes to learn it.

        Who waits gets no answer meanwhile: any could be false.
        """
        while True:
            try:
                connection = await connect(self._url, f"{self.name} doubt", keep_plans=False)
                try:
                    return int(await connection.fetchval(SQL["last_commit"], line))
                finally:
                    connection.terminate()
            except Exception as error:  # noqa: BLE001 - it is asked again
                log.warning("the database does not say yet what became of a commit", error=words_of(error))
            await asyncio.sleep(DOUBT_PAUSE_S)


def _meaning(error: Exception) -> Exception | None:
    """Return what a job's caller gets for an error of its own; None where the job was done before.

    The history's key refuses the same news twice: it was recorded by a transaction whose end nobody heard of.
    """
    if isinstance(error, asyncpg.UniqueViolationError) and (error.table_name or "").startswith("events"):
        return None
    if isinstance(error, asyncpg.LockNotAvailableError | asyncpg.QueryCanceledError):
        return unavailable(error)
    return error
