"""Group commit: one thread owns the write connection and folds what waits into one transaction."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any

import apsw
import structlog

from aldis.model.errors import LedgerUnavailable, OurError, Overloaded
from aldis.store.group import MAX_GROUP_ITEMS, MAX_GROUP_JOBS, CommitStats, Effects, Job, by_verb, items_of, share_out
from aldis.store.sqlite.context import Context

log = structlog.get_logger()

Verb = Callable[[Context, list[Any]], list[Any]]
"""Runs inside the transaction over the items of all calls that were folded; answers item by item."""

CROWD = 8
LINGER_S = 0.0001
"""After a group of more than a crowd, wait so long for others to join the next: they are on their way."""
_DISK_FULL = (apsw.FullError,)
_NOT_NOW = (apsw.BusyError, apsw.LockedError, apsw.NoMemError)
_DISK_BROKEN = (apsw.IOError, apsw.CorruptError, apsw.NotADBError, apsw.ReadOnlyError, apsw.CantOpenError)


class Writer:
    """Runs verbs in groups, each group one transaction, and resolves their futures after the commit.

    A job whose verb fails is run again alone under a savepoint, so that it fails alone. When the disk fails, the
    whole group is refused: a full disk is tried again with each group, any other failure lasts until a restart,
    since after a failed fsync nobody knows what the disk holds.
    """

    def __init__(
        self,
        connection: apsw.Connection,
        context: Context,
        stats: CommitStats,
        loop: asyncio.AbstractEventLoop,
        max_waiting: int = 200_000,
    ) -> None:
        """Start the thread.

        Args:
            connection: The one write connection.
            context: What verbs get as their first argument.
            stats: Counts groups, and hears on the loop what they caused.
            loop: Where futures live.
            max_waiting: Items that may wait; past it calls fail with Overloaded.
        """
        self._connection = connection
        self._context = context
        self._stats = stats
        self._loop = loop
        self._queue: SimpleQueue[list[Job] | None] = SimpleQueue()
        self._fresh: list[Job] = []
        self._max_waiting = max_waiting
        self._broken = ""
        self._full = ""
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="ledger-writer", daemon=True)
        self._thread.start()

    def problems(self) -> list[str]:
        """Return why nothing can be written now."""
        return [text for text in (self._broken, self._full) if text]

    def call(self, verb: Verb, items: Sequence[Any], weight: int = 1) -> "asyncio.Future[Any]":
        """Queue a verb over items; the future resolves to its answers after they are on disk.

        Raises:
            Overloaded: too much waits.
            LedgerUnavailable: the disk has failed, or the store was closed.
        """
        if self._broken or self._is_closed:
            raise LedgerUnavailable
        if self._stats.waiting + weight > self._max_waiting and self._stats.waiting:
            raise Overloaded
        self._stats.waiting += weight
        future: asyncio.Future[Any] = self._loop.create_future()
        if not self._fresh:
            self._loop.call_soon(self._hand_over)
        self._fresh.append(Job(verb, items, weight, future))
        return future

    def _hand_over(self) -> None:
        """Give the thread what one turn of the loop has gathered: one wake-up for all of it."""
        if self._fresh:
            self._queue.put(self._fresh)
            self._fresh = []

    async def close(self) -> None:
        """Finish what waits, then end the thread."""
        self._is_closed = True
        self._hand_over()
        self._queue.put(None)
        await self._loop.run_in_executor(None, self._thread.join)

    def _run(self) -> None:
        closing = False
        backlog: deque[Job] = deque()
        group: list[Job] = []
        while not closing or backlog:
            closing = self._gather(backlog, wait=not backlog and not closing) or closing
            if len(group) > CROWD and not closing:
                time.sleep(LINGER_S)
                closing = self._gather(backlog, wait=False)
            group = []
            weight = 0
            while backlog and weight < MAX_GROUP_ITEMS and len(group) < MAX_GROUP_JOBS:
                weight += backlog[0].weight
                group.append(backlog.popleft())
            if group:
                self._commit_or_break(group, weight)

    def _gather(self, backlog: "deque[Job]", *, wait: bool) -> bool:
        """Take in all that was handed over; True once the end was announced."""
        try:
            while len(backlog) < MAX_GROUP_JOBS:
                jobs = self._queue.get(block=wait)
                if jobs is None:
                    return True
                backlog.extend(jobs)
                wait = False
        except Empty:
            pass
        return False

    def _commit_or_break(self, group: list[Job], weight: int) -> None:
        """Commit; whatever surprise there is, the thread lives on and every job has its answer."""
        try:
            self._commit(group, weight)
        except BaseException as error:  # noqa: BLE001 - a dead thread would leave all callers waiting for ever
            self._broken = self._broken or f"the writer failed: {error!r}; restart aldis"
            for job in group:
                job.error = job.error or OurError()
            self._loop.call_soon_threadsafe(self._resolve, group, None, weight)

    def _commit(self, group: list[Job], weight: int) -> None:
        started = time.perf_counter()
        effects: Effects | None = None
        try:
            if self._broken:
                raise LedgerUnavailable
            changes = self._connection.total_changes()
            effects = self._transact(group)
            if self._connection.total_changes() != changes:
                self._full = ""
        except _NOT_NOW as error:
            log.warning("the ledger is held by another program, or memory is short", error=str(error))
            self._refuse(group, LedgerUnavailable())
        except _DISK_FULL as error:
            self._full = f"the disk is full: {error}"
            self._refuse(group, LedgerUnavailable())
        except _DISK_BROKEN as error:
            self._broken = f"the disk failed: {error}; restart aldis once it is well"
            self._refuse(group, OurError())
        except Exception as error:  # noqa: BLE001 - the thread must answer every job, whatever happened
            self._refuse(group, error)
        spent = time.perf_counter() - started
        self._stats.count(weight, spent)
        self._loop.call_soon_threadsafe(self._resolve, group, effects, weight)

    def _refuse(self, group: list[Job], error: Exception) -> None:
        for job in group:
            job.error = error
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except apsw.Error as rollback_error:
            self._broken = self._broken or f"rollback failed: {rollback_error}"
        log.error("commit failed", problem=self._broken or self._full or str(error), jobs=len(group))

    def _transact(self, group: list[Job]) -> Effects:
        try:
            return self._try(lambda: self._run_folded(group))
        except (*_DISK_FULL, *_DISK_BROKEN, *_NOT_NOW):
            raise
        except Exception as error:  # noqa: BLE001 - one bad item must not fail its group: find it
            log.warning("group retried one by one", error=repr(error), jobs=len(group))
            return self._try(lambda: self._run_singly(group))

    def _try(self, body: Callable[[], None]) -> Effects:
        self._context.begin()
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            body()
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            self._context.rolled_back()
            raise
        return self._context.effects

    def _run_folded(self, group: list[Job]) -> None:
        for verb, jobs in by_verb(group):
            share_out(jobs, verb(self._context, items_of(jobs)))

    def _run_singly(self, group: list[Job]) -> None:
        for job in group:
            self._context.begin_item()
            try:
                with self._connection:
                    job.result = job.verb(self._context, list(job.items))
            except (*_DISK_FULL, *_DISK_BROKEN, *_NOT_NOW):
                raise
            except Exception as error:  # noqa: BLE001 - the job's caller gets it
                self._context.rolled_back_item()
                job.error = error

    def _resolve(self, group: list[Job], effects: Effects | None, weight: int) -> None:
        self._stats.waiting -= weight
        try:
            if effects is not None:
                self._stats.committed(effects)
        finally:
            for job in group:
                job.answer()
