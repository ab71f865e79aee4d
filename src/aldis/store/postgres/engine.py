"""The PostgreSQL engine: lanes for writes, folded look-ups for reads."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import structlog

from aldis.lifecycle import Standing
from aldis.model.errors import LedgerUnavailable
from aldis.model.status import STATUS
from aldis.model.types import Account, BatchReport, Dca, MessageKey, Push, PushResult, Report
from aldis.store.base import (
    Admission,
    Assemble,
    Due,
    EventRow,
    Gathered,
    InboundMessage,
    Judge,
    Lease,
    Match,
    NewBatch,
    News,
    Parked,
    QueueState,
    Rematched,
    Span,
    Submission,
    Unfinished,
    Wanted,
    WantedInbound,
)
from aldis.store.group import CommitStats
from aldis.store.inbound import inbound_of
from aldis.store.postgres import inbound, partitions, verbs
from aldis.store.postgres.connection import (
    Connection,
    cant_be_used,
    columns,
    connect,
    connect_first,
    is_lost,
    unavailable,
    words_of,
)
from aldis.store.postgres.folded import FoldedRead
from aldis.store.postgres.lane import CLOSE_S, SQL, Lane, Seat, Shortcut
from aldis.store.postgres.migrate import migrate, refuse_incomplete
from aldis.store.rows import FINAL, NOT_TO_ASK_ABOUT, account_of, parked_of, quote, standings_of

log = structlog.get_logger()

ACCOUNT_TTL_S = 1.0
"""How old an account from memory may be: a change made on another node counts here at the latest then."""
MAX_ACCOUNTS = 10_000
REPORT_CONNECTIONS = 2
LATE_COMMIT_MS = 500
"""How far behind the newest claimed message claims still look: a transaction may commit later than its neighbours."""
MARK_SWEEP_S = 1.0
MARK_SWEEP_SHARE = 20
"""The sweep for what lies further behind takes at most one part in so many of a connection's time."""
TABLES_EVERY_MS = 3_600_000
TABLES_AGAIN_MS = 60_000
FORGET_COMMITS_MS = 86_400_000
"""Longer than any doubt about a commit lasts."""
SWEPT_AT_ONCE = 100
"""Old batches looked at in one go."""
QUESTIONS = 3


class PostgresStore:
    """A `Store` that any number of nodes share."""

    def __init__(
        self, url: str, on_pushes: Callable[[list[Push]], None], now_ms: Callable[[], int], *,
        seat: Seat | None = None, on_ring: Callable[[str], None] = lambda kind: None, writers: int = 1,
        retention_ms: int = 0, max_waiting: int = 200_000,
    ) -> None:  # fmt: skip
        """Prepare; `open` comes next.

        Args:
            url: The database.
            on_pushes: Gets this node's pushes on the loop right after the commit that made them durable.
            now_ms: The clock, epoch ms.
            seat: Which node this is; none for a tool.
            on_ring: Hears what other nodes are to be told of: `pushes`, `accounts`.
            writers: Connections that write submissions; an account always uses the same.
            retention_ms: How old messages get; 0 keeps all.
            max_waiting: Items that may wait for a commit before calls are refused.
        """
        self.seat = seat or Seat()
        self.stats = CommitStats(on_pushes)
        self._url = url
        self._now_ms = now_ms
        self._on_ring = on_ring
        self._retention_ms = retention_ms

        def lane(name: str, shortcut: Shortcut | None = None) -> Lane:
            return Lane(name, url, self.seat, self.stats, self._ring, max_waiting, shortcut)

        self._intake = [lane(f"intake {n}", verbs.ADMIT_AT_ONCE) for n in range(writers)]
        self._news = lane("news")
        self._claims = lane("claims")
        self._pushes = lane("pushes")
        self._lanes = [*self._intake, self._news, self._claims, self._pushes]
        self._batches: FoldedRead[tuple[int, int], Any] = FoldedRead("reports", url, _read_batches, REPORT_CONNECTIONS)
        self._by_name: FoldedRead[str, Any] = FoldedRead("accounts", url, _read_accounts)
        self._accounts: dict[str, tuple[Account, float]] = {}
        self._idle: list[Connection] = []
        self._questions = asyncio.Semaphore(QUESTIONS)
        self._marks: dict[str, int] = {}
        self._sweeper: asyncio.Task[None] | None = None
        self._tables_at = 0

    @classmethod
    async def open(
        cls, url: str, on_pushes: Callable[[list[Push]], None], now_ms: Callable[[], int], *,
        must_be_durable: bool = True, **options: Any,
    ) -> "PostgresStore":  # fmt: skip
        """Bring the tables up to date and connect.

        Raises:
            SettingsError: the database can't be reached or used, and what to do.
        """
        store = cls(url, on_pushes, now_ms, **options)
        await store.start(must_be_durable=must_be_durable)
        return store

    async def start(self, *, must_be_durable: bool = True) -> None:
        """Bring the tables up to date and connect; raises what `open` raises."""
        first = await connect_first(self._url, must_be_durable=must_be_durable)
        try:
            async with partitions.turn(first):
                await migrate(first)
                await refuse_incomplete(first)
                await partitions.make_ahead(first, self._now_ms())
            opened = [*(lane.open() for lane in self._lanes), self._batches.open(), self._by_name.open()]
            for failure in await asyncio.gather(*opened, return_exceptions=True):
                if failure is not None:
                    raise failure
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
            await self.close()
            raise cant_be_used(words_of(error)) from error
        finally:
            first.terminate()
        self._sweeper = asyncio.get_running_loop().create_task(self._sweep_marks())

    def _ring(self, kind: str) -> None:
        if kind == "accounts":
            self.forget_accounts()
        self._on_ring(kind)

    # T1 to T5

    def admit(self, batches: Sequence[NewBatch]) -> Awaitable[Sequence[Admission]]:
        """Write batches in one transaction (T1)."""
        lane = self._intake[batches[0].account_id % len(self._intake)]
        return lane.call(verbs.admit, batches, sum([len(batch.messages) for batch in batches]))

    async def claim(self, connector: str, parts: int, now: int, leased_until: int) -> Sequence[Due]:
        """Lease due messages (T2), to this node while it is known to be alive."""
        mark = self._marks.get(connector, 0)
        [claimed] = await self._claims.call(verbs.claim, (verbs.Claim(connector, parts, mark, now, leased_until),))
        if claimed.dues and self._marks.get(connector, 0) == mark:  # else the sweep has found something before it
            self._marks[connector] = max(mark, claimed.due_at - LATE_COMMIT_MS)
        return claimed.dues  # type: ignore[no-any-return]

    async def record(self, news: Sequence[News], judge: Judge, match: Match) -> None:
        """Judge news (T3)."""
        if news:
            items = [verbs.NewsItem(one, judge, match) for one in news]
            await self._news.call(verbs.record, items, len(items))

    async def receive(self, parked: Sequence[Parked], judge: Judge, match: Match) -> None:
        """Match and judge receipts (T4)."""
        if parked:
            items = [verbs.Arrival(one, judge, match) for one in parked]
            await self._news.call(verbs.receive, items, len(items))

    async def rematch(self, span: Span, judge: Judge, match: Match) -> Rematched:
        """Judge parked receipts whose part can be told by now."""
        [answer] = await self._news.call(verbs.rematch, (verbs.Rematch(span, judge, match),))
        return answer  # type: ignore[no-any-return]

    async def record_push_results(self, results: Sequence[PushResult], event_ids: Sequence[int]) -> None:
        """Write how pushes ended (T5)."""
        if results:
            items = list(zip(results, event_ids, strict=True))
            await self._pushes.call(verbs.push_results, items, len(items))

    async def due_pushes(self, now: int, limit: int) -> Sequence[Push]:
        """Take due pushes that are nobody's, and return those that are this node's, oldest first."""
        [pushes] = await self._pushes.call(verbs.due_pushes, (verbs.DuePushes(now, limit),))
        return pushes  # type: ignore[no-any-return]

    # What machines ask

    async def lapsed(self, now: int, limit: int) -> Sequence[Lease]:
        """Return claims whose lease ended before now, or whose node is gone."""
        return [Lease(*row) for row in await self._ask("lapsed", now, limit)]

    async def expired(self, connector: str, now: int, limit: int) -> Sequence[MessageKey]:
        """Return queued messages whose validity is over."""
        return [MessageKey(*row) for row in await self._ask("expired", connector, now, limit)]

    async def unfinished(self, queue: str, after: int, until: int) -> Unfinished:
        """Return old messages of a queue that are not over, some at a time."""
        [row] = await self._ask("unfinished_until", after, until, SWEPT_AT_ONCE)
        if row[0] is None:
            return Unfinished([], until)
        found = await self._ask("unfinished", after, row[0], queue, FINAL)
        return Unfinished([MessageKey(*row) for row in found], row[0])

    async def submissions(self, messages: Sequence[MessageKey]) -> Sequence[Submission]:
        """Return what came of handing messages to upstreams that may still have them."""
        if not messages:
            return []
        return [Submission(*row) for row in await self._ask("submissions", *columns(list(messages)), NOT_TO_ASK_ABOUT)]

    async def standings(self, messages: Sequence[MessageKey]) -> Mapping[int, Mapping[int, Standing]]:
        """Return by message where each of its parts stands."""
        if not messages:
            return {}
        limits = verbs.bounds([one[1] for one in messages])
        return standings_of(await self._ask("load_parts", *columns(list(messages)), *limits))

    async def facts(self, prefix: str) -> Mapping[str, int]:
        """Return the numbers that were noted under names that begin so."""
        return {row[0]: row[1] for row in await self._ask("facts", quote(prefix))}

    async def add_facts(self, numbers: Mapping[str, int]) -> None:
        """Add to numbers that were noted, or note them."""
        await self._ask("add_facts", [quote(name) for name in numbers], list(numbers.values()))

    async def forget_facts(self, prefix: str) -> None:
        """Forget the numbers under names that begin so."""
        await self._ask("forget_facts", quote(prefix))

    async def fact(self, name: str) -> int:
        """Return a number that was noted."""
        found = await self._ask("fact", name)
        return int(found[0][0]) if found else 0

    async def note_fact(self, name: str, value: int) -> None:
        """Note a number under a name."""
        await self._ask("note_fact", name, value)

    async def queued_connectors(self) -> Sequence[str]:
        """Return the names of connectors that messages wait for."""
        return [row[0] for row in await self._ask("queued_connectors")]

    async def find_report(self, account_id: int, batch_id: int, msisdn: int | None) -> BatchReport | None:
        """Return a batch of an account, its messages in order; with a number, only those to it."""
        row = await self._batches.find((account_id, batch_id))
        if row is None:
            return None
        _, _, created_at, originator, source_id, dca, body, *columns = row
        messages = zip(*columns, strict=True) if columns[0] else ()
        reports = [Report(i, number, STATUS[code], at, price, seq) for i, number, code, at, price, seq in messages]
        if msisdn is not None:
            reports = [report for report in reports if report.msisdn == msisdn]
        return BatchReport(batch_id, account_id, created_at, originator, source_id, Dca(dca), body, reports)

    async def history(self, account_id: int, batch_id: int, last_message_id: int | None = None) -> Sequence[EventRow]:
        """Return the events of a batch's messages, up to one of them."""
        return [EventRow(*row) for row in await self._ask("history", account_id, batch_id, last_message_id)]

    async def owner_of(self, batch_id: int) -> Account | None:
        """Return the account that submitted a batch."""
        found = await self._ask("owner_of", batch_id)
        return await self.find_account(found[0][0]) if found else None

    async def queue_state(self, now: int) -> QueueState:
        """Return how much waits."""
        [due] = await self._ask("count_due", now)
        [leased] = await self._ask("count_leased")
        [pushes] = await self._ask("count_pushes", now)
        [parked] = await self._ask("count_parked")
        return QueueState(due[0], due[1], leased[0], pushes[0], pushes[1], parked[0])

    # Accounts

    def recall_account(self, username: str) -> Account | None:
        """Return an account from memory, if it was read within the last second."""
        known = self._accounts.get(username)
        return known[0] if known is not None and known[1] > time.monotonic() else None

    async def find_account(self, username: str) -> Account | None:
        """Return an account by its name."""
        read_at = time.monotonic()
        row = await self._by_name.find(quote(username))
        if row is None:
            self._accounts.pop(username, None)
            return None
        if len(self._accounts) >= MAX_ACCOUNTS:
            self._accounts.clear()
        account = account_of(tuple(row))
        self._accounts[username] = account, read_at + ACCOUNT_TTL_S
        return account

    def forget_accounts(self) -> None:
        """Read accounts again when they are asked for next: one was changed."""
        self._accounts.clear()

    async def put_account(self, account: Account, opening_milli: int = 0, at: int = 0) -> Account:
        """Create or change an account; a new one may begin with credits."""
        [stored] = await self._intake[0].call(verbs.put_account, (verbs.PutAccount(account, opening_milli, at),))
        self.forget_accounts()
        return stored  # type: ignore[no-any-return]

    async def top_up(self, account_id: int, amount_milli: int, at: int, note: str) -> int:
        """Add credits and return the new credits."""
        [milli] = await self._intake[0].call(verbs.top_up, (verbs.TopUp(account_id, amount_milli, at, note),))
        return milli  # type: ignore[no-any-return]

    async def list_accounts(self) -> Sequence[Account]:
        """Return all accounts by name."""
        return [account_of(tuple(row)) for row in await self._ask("list_accounts")]

    async def credits_of(self, account_id: int) -> int:
        """Return the credits of an account."""
        found = await self._ask("credits_of", account_id)
        return int(found[0][0]) if found else 0

    # Ids, tables, health

    async def largest_id(self) -> int:
        """Return the largest id near at hand."""
        [found] = await self._ask("largest_id")
        return int(found[0])

    async def remember_last_id(self, last_id: int) -> None:
        """Note how far a node's ids have come, for a start with a clock set back."""
        await self._claims.call(verbs.remember_last_id, (verbs.NotedId(self.seat.number, last_id),))

    async def parked_receipts(self, wanted: Wanted) -> Sequence[Parked]:
        """Return receipts that belong to no message so far, the newest first."""
        bindings = (wanted.connector, wanted.number, quote(wanted.upstream_id), wanted.limit)
        return [parked_of(row) for row in await self._ask("list_parked", *bindings)]

    async def gather(self, span: Span, assemble: Assemble) -> Gathered:
        """Put messages of subscribers together."""
        [answer] = await self._news.call(inbound.gather, (inbound.Gather(span, assemble),))
        return answer  # type: ignore[no-any-return]

    async def inbound_messages(self, wanted: WantedInbound) -> Sequence[InboundMessage]:
        """Return messages of subscribers, the newest first."""
        bindings = (wanted.connector, wanted.number, wanted.destination, wanted.keyword, wanted.limit)
        return [inbound_of(row) for row in await self._ask("list_inbound", *bindings)]

    async def tidy(self, now: int, parked_before: int = 0, inbound_before: int = 0) -> int:
        """Make nobody's what gone nodes owned, drop what is past its time; once an hour see to partitions."""
        await self._ask("orphan_pushes", 5_000)
        gone = len(await self._ask("forget_parked", parked_before))
        if gone := gone + len(await self._ask("forget_inbound", inbound_before)):
            return gone
        if now < self._tables_at:
            return 0
        async with self._question() as connection:
            if await connection.fetchval("SELECT pg_try_advisory_lock($1)", partitions.LOCK):
                try:
                    is_done = await partitions.tidy(connection, now, self._retention_ms)
                    await connection.execute(SQL["forget_commits"], FORGET_COMMITS_MS)
                finally:
                    await connection.execute("SELECT pg_advisory_unlock($1)", partitions.LOCK)
                self._tables_at = now + (TABLES_EVERY_MS if is_done else TABLES_AGAIN_MS)
        return 0

    def problems(self) -> Sequence[str]:
        """Return why durability can't be given now."""
        return sorted({problem for lane in self._lanes for problem in lane.problems()})

    def gauges(self) -> Sequence[tuple[str, str, float]]:
        """Return nothing of its own: the database has its own watchers."""
        return []

    async def close(self) -> None:
        """Finish the commits under way and disconnect."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        await asyncio.gather(*(lane.close() for lane in self._lanes))
        await self._batches.close()
        await self._by_name.close()
        idle, self._idle = self._idle, []
        await asyncio.gather(*(connection.close(timeout=CLOSE_S) for connection in idle), return_exceptions=True)

    async def _ask(self, name: str, *arguments: Any) -> list[Any]:
        """Put a question of the machines' or an operator's."""
        async with self._question() as connection:
            return list(await connection.fetch(SQL[name], *arguments))

    @asynccontextmanager
    async def _question(self) -> AsyncIterator[Connection]:
        """Lend a connection for questions that are not asked in numbers."""
        async with self._questions:
            connection = self._idle.pop() if self._idle else None
            try:
                if connection is None or connection.is_closed():
                    connection = await connect(self._url, "questions", keep_plans=False)
                yield connection
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
                if connection is not None and is_lost(error):
                    connection.terminate()
                    connection = None
                log.warning("a question to the database failed", error=words_of(error))
                raise unavailable(error) from error
            finally:
                if connection is not None:
                    self._idle.append(connection)

    async def _sweep_marks(self) -> None:
        """Let the low-water marks go back to what became due, or was committed, behind them."""
        pause = MARK_SWEEP_S
        while True:
            await asyncio.sleep(pause)
            started = time.monotonic()
            try:
                for connector in list(self._marks):
                    found = await self._ask("oldest_due", connector)
                    if found:
                        self._marks[connector] = min(self._marks[connector], found[0][0])
            except LedgerUnavailable:
                pass
            pause = max(MARK_SWEEP_S, (time.monotonic() - started) * MARK_SWEEP_SHARE)


async def _read_batches(connection: Connection, keys: list[tuple[int, int]]) -> Mapping[tuple[int, int], Any]:
    account_ids, batch_ids = map(list, zip(*keys, strict=True))
    found = await connection.fetch(SQL["find_batches"], account_ids, batch_ids, min(batch_ids), max(batch_ids))
    return {(row[0], row[1]): tuple(row) for row in found}


async def _read_accounts(connection: Connection, names: list[str]) -> Mapping[str, Any]:
    return {row[1]: row for row in await connection.fetch(SQL["find_accounts"], names)}
