"""Group commit on a connection: what waits is folded into one transaction, or into one statement that is one.

A lane is one connection with a queue in front of it. While a transaction runs, the next group gathers.
"""

import asyncio
import secrets
import time
from collections import Counter, deque
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
from aldis.store.postgres.connection import (
    CONFLICT,
    TURNED_AWAY,
    Connection,
    columns,
    connect,
    is_lost,
    is_outage,
    unavailable,
    words_of,
)
from aldis.store.sqlfile import queries

log = structlog.get_logger()

SQL = {
    name: sql
    for file in ("postgres", "postgres_nodes", "postgres_inbound", "postgres_tracking")
    for name, sql in queries(file).items()
}
CONFLICT_TRIES = 5
CLOSE_S = 10.0
DOUBT_PAUSE_S = 0.2
NUMBERS_KEPT = 1_000
RECONNECT_S = 0.5
PROBE_S = 2.0
"""How often a lane that could not write tries to, when nobody asks it to."""
_SINGLY = "SET LOCAL lock_timeout = '200ms'"
_HURRIED = "SET LOCAL lock_timeout = '5ms'"
_LOCKS_TO_WAIT_FOR = 10
"""When jobs run singly, so many may wait for a lock in vain; then the others' turn comes first."""


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

    def __init__(self, connection: Connection, seat: Seat, name: tuple[int, int]) -> None:
        """Take the connection, whom it works for, and the transaction's name: its line, and its number there."""
        self._connection = connection
        self.seat = seat
        self.effects = Effects()
        self.rings: set[str] = set()
        """What other nodes are to be told of."""
        self.refunds: Counter[int] = Counter()
        """account_id -> milli-credits to give back."""
        self.name = name
        self.number: int | None = None
        """The transaction's number, once a statement has written it into the table of commits."""
        self.may_lack_number = False
        """Whether statements were run that do not write it, and may have written something else."""

    @property
    def connection(self) -> Connection:
        """The connection, for statements that do not number the transaction."""
        self.may_lack_number = True
        return self._connection

    async def write(self, name: str, *arguments: Any) -> list[asyncpg.Record]:
        """Run a statement that numbers the transaction by the way, which saves a round trip.

        Its last two arguments are the transaction's name; its rows begin with the number; without rows, it has written
        nothing.
        """
        found = await self._connection.fetch(SQL[name], *arguments, *self.name)
        if found:
            self.number = found[0][0]
        return found

    async def fetch(self, name: str, *arguments: Any) -> list[asyncpg.Record]:
        """Run a query and return its rows."""
        return await self.connection.fetch(SQL[name], *arguments)

    async def run(self, name: str, *arguments: Any) -> None:
        """Run a statement."""
        await self.connection.execute(SQL[name], *arguments)

    async def pay_refunds(self) -> None:
        """Give credits back, once after all verbs: transactions that lock accounts in turns fail each other."""
        refunds, self.refunds = self.refunds, Counter()
        if refunds:
            await self.run("refund", *columns(sorted(refunds.items())))


Verb = Callable[[Tx, list[Any]], Awaitable[Sequence[Any]]]
"""Runs inside the transaction over the items of all calls that were folded; answers item by item."""


class Shortcut(NamedTuple):
    """How a verb does with one statement, which commits itself, what it does with several in a transaction.

    Each round trip to the database waits for a turn of the event loop: with one in place of four, twice as many items
    pass. What a group's calls get done this way is done before the rest of them.
    """

    verb: Verb
    fits: Callable[[Sequence[Any]], bool]
    """Whether a call's items may go this way; then all or none of them are answered and written."""
    run: Callable[[Tx, list[Any]], Awaitable[Sequence[Any]]]
    """Answers item by item; None for one that must go the long way, of which nothing was written."""
    recall: Callable[[Connection, list[Any]], Awaitable[Sequence[Any]]]
    """Answers for items whose answers were lost with a connection; None for one of which nothing was written."""


class _InDoubt(Exception):
    """The connection was lost while something may have been committed."""

    def __init__(self, line: int, number: int | None, tx: Tx, to_recall: Sequence[Job] = ()) -> None:
        """Take what is known of the transaction.

        Args:
            line: The connection.
            number: The transaction's on it; None if it has written nothing.
            tx: What it did.
            to_recall: Jobs whose answers were lost, too: those of a shortcut.
        """
        super().__init__(line, number)
        self.line = line
        self.number = number
        self.tx = tx
        self.to_recall = to_recall


class _Done(NamedTuple):
    effects: Effects
    rings: set[str]
    wrote: bool


class Lane:
    """Runs verbs in groups on a connection of its own, each group one transaction, after what a shortcut takes of it.

    A job whose verb fails is run again alone under a savepoint, so that it fails alone. When the connection is lost,
    the group is refused, unless it may have been committed: then the database is asked what became of it.
    """

    def __init__(
        self,
        name: str,
        url: str,
        seat: Seat,
        stats: CommitStats,
        ring: Callable[[str], None],
        max_waiting: int = 200_000,
        shortcut: Shortcut | None = None,
    ) -> None:
        """Take what it is for, the database, the node, who counts, and whom to tell what other nodes should know."""
        self._shortcut = shortcut
        self.name = name
        self._url = url
        self._seat = seat
        self._stats = stats
        self._ring = ring
        self._max_waiting = max_waiting
        self._connection: Connection | None = None
        self._line = 0
        """The connection's name in the table of commits, unlike any other's."""
        self._number = self._forgotten = 0
        """Of the last transaction, and up to which they were dropped from the table of commits."""
        self._queue: deque[Job] = deque()
        self._wake = asyncio.Event()
        self._is_closing = False
        self._problem = ""
        self._must_write = False
        """Whether only a write proves that the problem is over: a full disk can be read."""
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
                await self._wait_for_jobs()
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

    async def _wait_for_jobs(self) -> None:
        """Wait; with a problem only for a while: work may be sent elsewhere until it is known to be over."""
        self._wake.clear()
        try:
            async with asyncio.timeout(PROBE_S if self._problem else None):
                await self._wake.wait()
        except TimeoutError:
            if not self._is_closing:
                self.call(_write_nothing, (None,)).add_done_callback(_is_heard)

    async def _commit(self, group: list[Job], weight: int) -> None:
        """Commit; whatever surprise there is, the lane lives on and every job has its answer."""
        started = time.perf_counter()
        done: _Done | None = None
        try:
            done = await self._transact(group)
            if done.wrote or not self._must_write:
                self._problem, self._must_write = "", False
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
        if is_outage(error):
            self._drop(words_of(error))
            self._must_write = self._must_write or not is_lost(error)
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
        if self._number - self._forgotten >= NUMBERS_KEPT:
            await connection.execute(SQL["forget_numbers"], self._line, self._number)
            self._forgotten = self._number
        for _ in range(CONFLICT_TRIES):
            try:
                if self._shortcut is not None:
                    group = await self._take_shortcut(connection, self._shortcut, group)
                    if not group:
                        return _Done(Effects(), set(), wrote=True)
                return await self._try(connection, group, self._run_folded)
            except CONFLICT:
                continue
            except (_InDoubt, OurError):
                raise
            except Exception as error:
                if is_outage(error):
                    raise
                log.warning("group retried one by one", lane=self.name, error=repr(error), jobs=len(group))
                return await self._try(connection, group, self._run_singly)
        raise LedgerUnavailable

    async def _take_shortcut(self, connection: Connection, shortcut: Shortcut, group: list[Job]) -> list[Job]:
        """Do, and answer, what one statement can; returns the jobs that must go the long way."""
        fitting: list[Job] = []
        others: list[Job] = []
        for job in group:
            is_fit = job.verb is shortcut.verb and shortcut.fits(job.items)
            (fitting if is_fit else others).append(job)
        if not fitting:
            return group
        self._number += 1
        tx = Tx(connection, self._seat, (self._line, self._number))
        try:
            share_out(fitting, await shortcut.run(tx, items_of(fitting)))
        except Exception as error:
            if isinstance(error, asyncpg.PostgresError | ValueError) and not is_lost(error):
                raise  # nothing was written
            _answer_all(others, LedgerUnavailable())
            raise _InDoubt(self._line, self._number, tx, fitting) from error
        _answer_all([job for job in fitting if None not in job.result])
        return others + [job for job in fitting if None in job.result]

    async def _try(
        self, connection: Connection, group: list[Job], body: Callable[[Tx, list[Job]], Awaitable[None]]
    ) -> _Done:
        self._number += 1
        tx = Tx(connection, self._seat, (self._line, self._number))
        await connection.execute("BEGIN")
        try:
            await body(tx, group)
            if tx.number is None and tx.may_lack_number:
                tx.number = await connection.fetchval(SQL["number_commit"], *tx.name)
        except BaseException as error:
            # One that is lost may be so because the server does not answer: it would not answer this either.
            if not is_lost(error) and not connection.is_closed() and connection.is_in_transaction():
                await connection.execute("ROLLBACK")
            raise
        try:
            await connection.execute("COMMIT")
        except Exception as error:
            if is_lost(error):
                raise _InDoubt(self._line, tx.number, tx) from error
            raise
        return _Done(tx.effects, tx.rings, tx.number is not None)

    async def _run_folded(self, tx: Tx, group: list[Job]) -> None:
        for verb, jobs in by_verb(group):
            share_out(jobs, await verb(tx, items_of(jobs)))
        await tx.pay_refunds()

    async def _run_singly(self, tx: Tx, group: list[Job]) -> None:
        await tx.connection.execute(_SINGLY)
        waits = 0
        for job in group:
            error = await self._run_alone(tx, job, job.items)
            if is_known(error) and len(job.items) > 1:
                error = await self._run_item_by_item(tx, job)
            if isinstance(error, asyncpg.LockNotAvailableError):
                waits += 1
                if waits == _LOCKS_TO_WAIT_FOR:
                    await tx.connection.execute(_HURRIED)
            if is_known(error):
                job.result = [None] * len(job.items)
            elif error is not None:
                job.error = unavailable(error) if isinstance(error, TURNED_AWAY) else error

    async def _run_item_by_item(self, tx: Tx, job: Job) -> Exception | None:
        """Run a job of which something is known already; what is not may be new."""
        for item in job.items:
            error = await self._run_alone(tx, job, [item])
            if error is not None and not is_known(error):
                return error
        job.result = [None] * len(job.items)
        return None

    async def _run_alone(self, tx: Tx, job: Job, items: Sequence[Any]) -> Exception | None:
        """Run items of a job under a savepoint; returns with what they failed, if it is their own fault."""
        before = tx.effects.mark()
        await tx.connection.execute("SAVEPOINT job")
        try:
            job.result = await job.verb(tx, list(items))
            await tx.pay_refunds()
        except Exception as error:
            if is_outage(error):
                raise
            await tx.connection.execute("ROLLBACK TO SAVEPOINT job")
            tx.number, tx.may_lack_number = None, True
            tx.effects = before
            tx.refunds.clear()
            return error
        await tx.connection.execute("RELEASE SAVEPOINT job")
        return None

    async def _find_fate(self, doubt: _InDoubt, group: list[Job], weight: int) -> None:
        """Ask the database, once it answers again, whether a transaction was committed."""
        is_there = False
        try:
            is_there = doubt.number is None or await self._is_committed(doubt)
            log.warning("a commit was in doubt", lane=self.name, jobs=len(group), committed=is_there)
        finally:  # also of a lane that is closed before the database has answered
            for job in group if not is_there else [job for job in doubt.to_recall if None in job.result]:
                job.error = LedgerUnavailable()
            done = _Done(doubt.tx.effects, doubt.tx.rings, wrote=True) if is_there else None
            self._resolve(group, done, weight)

    async def _is_committed(self, doubt: _InDoubt) -> bool:
        """Call a transaction off unless it is there, however long it takes to learn which.

        Who waits gets no answer meanwhile: any could be false.
        """
        while True:
            try:
                connection = await connect(self._url, f"{self.name} doubt", keep_plans=False)
                try:
                    return await self._ask(connection, doubt)
                finally:
                    connection.terminate()
            except Exception as error:  # noqa: BLE001 - it is asked again
                log.warning("the database does not say yet what became of a commit", error=words_of(error))
            await asyncio.sleep(DOUBT_PAUSE_S)

    async def _ask(self, connection: Connection, doubt: _InDoubt) -> bool:
        if await connection.fetchval(SQL["call_off"], doubt.line, doubt.number):
            return False
        if doubt.to_recall:
            assert self._shortcut is not None
            share_out(doubt.to_recall, await self._shortcut.recall(connection, items_of(doubt.to_recall)))
        return True


def _answer_all(jobs: Sequence[Job], error: Exception | None = None) -> None:
    for job in jobs:
        job.error = error
        job.answer()


def is_known(error: Exception | None) -> bool:
    """Tell whether news was recorded before, by a transaction of whose end its caller had not heard.

    The history's key refuses the same news twice.
    """
    return isinstance(error, asyncpg.UniqueViolationError) and (error.table_name or "").startswith("events")


async def _write_nothing(tx: Tx, items: list[None]) -> list[None]:
    """Make the transaction one that writes: its own number is all there is to write."""
    await tx.connection.execute("SELECT pg_current_xact_id()")
    return items


def _is_heard(future: "asyncio.Future[Any]") -> None:
    future.exception()
