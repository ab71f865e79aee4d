"""The SQLite engine: files, connections, and the verbs as calls to the writer."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import apsw
import structlog

from aldis.lifecycle import Standing
from aldis.model.errors import SettingsError
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
from aldis.store.rows import (
    DAY_MS,
    FINAL,
    KEEP_UPSTREAM_IDS_DAYS,
    NOT_TO_ASK_ABOUT,
    account_of,
    parked_of,
    push_of,
    standings_of,
)
from aldis.store.sqlite import inbound, verbs
from aldis.store.sqlite.context import SQL, Context, carray
from aldis.store.sqlite.files import DirectoryLock, check_filesystem, check_sqlite
from aldis.store.sqlite.migrate import migrate, refuse_incomplete
from aldis.store.sqlite.writer import Writer

log = structlog.get_logger()

LEDGER_FILE = "ledger.sqlite"
CHECKPOINT_EVERY_S = 1.0
STATEMENTS = 1024
SWEPT_AT_ONCE = 5_000
"""Old messages looked at in one go: it takes some milliseconds of the loop."""
WAL_ALARM_BYTES = 4 * 1024 * 1024 * 1024
WAL_LIMIT_BYTES = 128 * 1024 * 1024


def _keep_plans(connection: apsw.Connection) -> None:
    """Keep a statement's plan: by default each new binding of a filter compiles the statement again."""
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)


def prepare(connection: apsw.Connection) -> None:
    """Make a connection one whose commits are on disk."""
    _keep_plans(connection)
    connection.set_busy_timeout(5_000)
    connection.pragma("journal_mode", "wal")
    connection.pragma("synchronous", "full")
    connection.pragma("wal_autocheckpoint", 0)
    connection.pragma("cache_size", -32_768)
    connection.pragma("temp_store", "memory")
    if connection.pragma("synchronous") != 2 or connection.pragma("journal_mode") != "wal":
        raise SettingsError("SQLite did not take journal_mode=WAL with synchronous=FULL here")


class SqliteStore:
    """A `Store` on one file in a directory that no other process may use."""

    def __init__(self, directory: Path, on_pushes: Callable[[list[Push]], None], max_waiting: int = 200_000) -> None:
        """Open or make the ledger; call inside a running loop.

        Args:
            directory: The data directory; made if missing.
            on_pushes: Gets pushes on the loop right after the commit that made them durable.
            max_waiting: Items that may wait for the writer before calls are refused.

        Raises:
            SettingsError: the directory, its filesystem or SQLite can't be used.
        """
        check_sqlite()
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        check_filesystem(directory)
        self._lock = DirectoryLock(directory)
        self._path = directory / LEDGER_FILE
        connection = self._open()
        self._path.chmod(0o600)
        self._reader = apsw.Connection(str(self._path), flags=apsw.SQLITE_OPEN_READONLY)
        _keep_plans(self._reader)
        self._reader.set_busy_timeout(5_000)
        self._reader.pragma("cache_size", -16_384)
        self._read = self._reader.cursor().execute
        self._accounts: dict[str, Account] = {}
        self._context = Context(connection)
        self.stats = CommitStats(on_pushes)
        self.writer = Writer(connection, self._context, self.stats, asyncio.get_running_loop(), max_waiting)
        self.wal_bytes = 0
        """Size of the write-ahead log at the last look."""
        self._stop = threading.Event()
        self._checkpointer = threading.Thread(target=self._checkpoint, name="ledger-checkpoint", daemon=True)
        self._checkpointer.start()

    @property
    def parked(self) -> int:
        """Receipts that match nothing."""
        return self._context.parked

    def _open(self) -> apsw.Connection:
        connection = apsw.Connection(str(self._path), statementcachesize=STATEMENTS)
        try:
            prepare(connection)
            migrate(connection)
            refuse_incomplete(connection)
        except BaseException as error:
            connection.close()
            self._lock.release()
            if isinstance(error, apsw.Error):
                raise SettingsError(f"{self._path} can't be opened as a ledger: {error}") from None
            raise
        return connection

    def _checkpoint(self) -> None:
        """Move the WAL into the file beside the writer, so that no commit pays for it."""
        connection: apsw.Connection | None = None
        wal = self._path.with_name(self._path.name + "-wal")
        while not self._stop.wait(CHECKPOINT_EVERY_S):
            try:
                if connection is None:
                    connection = apsw.Connection(str(self._path))
                    prepare(connection)
                self.wal_bytes = wal.stat().st_size if wal.exists() else 0
                big = self.wal_bytes > WAL_LIMIT_BYTES
                mode = apsw.SQLITE_CHECKPOINT_TRUNCATE if big else apsw.SQLITE_CHECKPOINT_PASSIVE
                connection.wal_checkpoint(mode=mode)
            except (apsw.Error, OSError) as error:
                log.warning("checkpoint waits: the write-ahead log stays longer", error=str(error))
        if connection is not None:
            connection.close()

    def _read_one(self, name: str, bindings: tuple[Any, ...] = ()) -> Any:
        """Return the first row or None, with the cursor run to its end: an open one would hold the WAL."""
        rows = self._read(SQL[name], bindings).fetchall()
        return rows[0] if rows else None

    def admit(self, batches: Sequence[NewBatch]) -> Awaitable[Sequence[Admission]]:
        """Write batches in one transaction (T1)."""
        return self.writer.call(verbs.admit, batches, sum([len(batch.messages) for batch in batches]))

    async def claim(self, connector: str, parts: int, now: int, leased_until: int) -> Sequence[Due]:
        """Lease due messages (T2)."""
        wish = verbs.Claim(connector, parts, now, leased_until)
        [dues] = await self.writer.call(verbs.claim, (wish,))
        return dues  # type: ignore[no-any-return]

    async def record(self, news: Sequence[News], judge: Judge, match: Match) -> None:
        """Judge news (T3)."""
        if news:
            items = [verbs.NewsItem(one, judge, match) for one in news]
            await self.writer.call(verbs.record, items, len(items))

    async def receive(self, parked: Sequence[Parked], judge: Judge, match: Match) -> None:
        """Match and judge receipts (T4)."""
        if parked:
            items = [verbs.Arrival(one, judge, match) for one in parked]
            await self.writer.call(verbs.receive, items, len(items))

    async def record_push_results(self, results: Sequence[PushResult], event_ids: Sequence[int]) -> None:
        """Write how pushes ended (T5)."""
        if results:
            items = list(zip(results, event_ids, strict=True))
            await self.writer.call(verbs.push_results, items, len(items))

    async def due_pushes(self, now: int, limit: int) -> Sequence[Push]:
        """Return pushes that may be tried, oldest first."""
        return [push_of(row) for row in self._read(SQL["due_pushes"], (now, limit))]

    async def lapsed(self, now: int, limit: int) -> Sequence[Lease]:
        """Return claims whose lease ended before now."""
        return [Lease(*row) for row in self._read(SQL["lapsed"], (now, limit))]

    async def expired(self, connector: str, now: int, limit: int) -> Sequence[MessageKey]:
        """Return queued messages whose validity is over."""
        return [MessageKey(*row) for row in self._read(SQL["expired"], (connector, now, limit))]

    async def unfinished(self, queue: str, after: int, until: int) -> Unfinished:
        """Return old messages of a queue that are not over, some at a time."""
        row = self._read_one("unfinished_until", (after, until, SWEPT_AT_ONCE - 1))
        position = int(row[0]) if row else until
        found = self._read(SQL["unfinished"], (after, position, queue, carray(FINAL)))
        return Unfinished([MessageKey(*row) for row in found], position)

    async def submissions(self, messages: Sequence[MessageKey]) -> Sequence[Submission]:
        """Return what came of handing messages to upstreams that may still have them."""
        if not messages:
            return []
        bindings = (carray([one[1] for one in messages]), carray(NOT_TO_ASK_ABOUT))
        return [Submission(*row) for row in self._read(SQL["submissions"], bindings)]

    async def standings(self, messages: Sequence[MessageKey]) -> Mapping[int, Mapping[int, Standing]]:
        """Return by message where each of its parts stands."""
        if not messages:
            return {}
        return standings_of(self._read(SQL["load_parts"], (carray([one[1] for one in messages]),)))

    async def facts(self, prefix: str) -> Mapping[str, int]:
        """Return the numbers that were noted under names that begin so."""
        return {str(row[0]): int(row[1]) for row in self._read(SQL["facts"], verbs.span_of(prefix))}

    async def add_facts(self, numbers: Mapping[str, int]) -> None:
        """Add to numbers that were noted, or note them."""
        await self.writer.call(verbs.add_facts, list(numbers.items()))

    async def forget_facts(self, prefix: str) -> None:
        """Forget the numbers under names that begin so."""
        await self.writer.call(verbs.forget_facts, (prefix,))

    async def fact(self, name: str) -> int:
        """Return a number that was noted."""
        row = self._read_one("fact", (name,))
        return int(row[0]) if row else 0

    async def note_fact(self, name: str, value: int) -> None:
        """Note a number under a name."""
        await self.writer.call(verbs.note_fact, ((name, value),))

    async def queued_connectors(self) -> Sequence[str]:
        """Return the names of connectors that messages wait for."""
        return [row[0] for row in self._read(SQL["queued_connectors"])]

    async def find_report(self, account_id: int, batch_id: int, msisdn: int | None) -> BatchReport | None:
        """Return a batch of an account, its messages in order; with a number, only those to it."""
        found: list[Any] = self._read(SQL["find_batch"], (batch_id, account_id)).fetchall()
        if not found:
            return None
        created_at, originator, source_id, dca, body, last_message_id = found[0][:6]
        rows: list[Any] = [found[0][6:]]
        if len(found) > 1:
            rows = self._read(SQL["report_rows"], (batch_id, last_message_id)).fetchall()
        reports = [Report(i, number, STATUS[code], at, price, seq) for i, number, code, at, price, seq in rows]
        if msisdn is not None:
            reports = [report for report in reports if report.msisdn == msisdn]
        return BatchReport(batch_id, account_id, created_at, originator, source_id, Dca(dca), body, reports)

    async def history(self, account_id: int, batch_id: int, last_message_id: int | None = None) -> Sequence[EventRow]:
        """Return the events of a batch's messages, up to one of them."""
        return [EventRow(*row) for row in self._read(SQL["history"], (batch_id, account_id, last_message_id))]

    async def owner_of(self, batch_id: int) -> Account | None:
        """Return the account that submitted a batch."""
        row = self._read_one("owner_of", (batch_id,))
        return self.recall_account(str(row[0])) if row else None

    async def queue_state(self, now: int) -> QueueState:
        """Return how much waits; counted in a thread, for a long queue takes its time."""
        return await asyncio.to_thread(self._count_queue, now)

    def _count_queue(self, now: int) -> QueueState:
        connection = apsw.Connection(str(self._path), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            due: Any = connection.execute(SQL["count_due"], (now,)).fetchall()[0]
            leased: Any = connection.execute(SQL["count_leased"]).fetchall()[0]
            pushes: Any = connection.execute(SQL["count_pushes"], (now,)).fetchall()[0]
        finally:
            connection.close()
        return QueueState(due[0], due[1], leased[0], pushes[0], pushes[1], self.parked)

    async def find_account(self, username: str) -> Account | None:
        """Return an account by its name."""
        return self.recall_account(username)

    def recall_account(self, username: str) -> Account | None:
        """Return an account by its name; its credits are as of the first look."""
        account = self._accounts.get(username)
        if account is None:
            row = self._read_one("find_account", (username,))
            if row is None:
                return None
            account = self._accounts[username] = account_of(row)
        return account

    async def put_account(self, account: Account, opening_milli: int = 0, at: int = 0) -> Account:
        """Create or change an account; a new one may begin with credits."""
        [stored] = await self.writer.call(verbs.put_account, (verbs.PutAccount(account, opening_milli, at),))
        self._accounts.clear()
        return stored  # type: ignore[no-any-return]

    async def top_up(self, account_id: int, amount_milli: int, at: int, note: str) -> int:
        """Add credits and return the new credits."""
        [milli] = await self.writer.call(verbs.top_up, (verbs.TopUp(account_id, amount_milli, at, note),))
        return milli  # type: ignore[no-any-return]

    async def list_accounts(self) -> Sequence[Account]:
        """Return all accounts by name."""
        return [account_of(row) for row in self._read(SQL["list_accounts"])]

    async def credits_of(self, account_id: int) -> int:
        """Return the credits of an account."""
        row = self._read_one("credits_of", (account_id,))
        return row[0] if row else 0

    async def largest_id(self) -> int:
        """Return the largest id in the tables."""
        return int(self._read_one("largest_id")[0])

    async def remember_last_id(self, last_id: int) -> None:
        """Note how far this node's ids have come, for a start with a clock set back."""
        await self.writer.call(verbs.remember_last_id, (last_id,))

    async def rematch(self, span: Span, judge: Judge, match: Match) -> Rematched:
        """Judge parked receipts whose part can be told by now."""
        [answer] = await self.writer.call(verbs.rematch, (verbs.Rematch(span, judge, match),))
        return answer  # type: ignore[no-any-return]

    async def parked_receipts(self, wanted: Wanted) -> Sequence[Parked]:
        """Return receipts that belong to no message so far; searched in a thread, for there may be many."""
        bindings = (wanted.connector, wanted.number, wanted.upstream_id, wanted.limit)
        return [parked_of(row) for row in await asyncio.to_thread(self._search, "list_parked", bindings)]

    def _search(self, name: str, bindings: tuple[Any, ...]) -> list[Any]:
        connection = apsw.Connection(str(self._path), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            return connection.execute(SQL[name], bindings).fetchall()
        finally:
            connection.close()

    async def gather(self, span: Span, assemble: Assemble) -> Gathered:
        """Put messages of subscribers together."""
        [answer] = await self.writer.call(inbound.gather, (inbound.Gather(span, assemble),))
        return answer  # type: ignore[no-any-return]

    async def inbound_messages(self, wanted: WantedInbound) -> Sequence[InboundMessage]:
        """Return messages of subscribers, the newest first; searched in a thread, for there may be many."""
        bindings = (wanted.connector, wanted.number, wanted.destination, wanted.keyword, wanted.limit)
        return [inbound_of(row) for row in await asyncio.to_thread(self._search, "list_inbound", bindings)]

    async def tidy(self, now: int, parked_before: int = 0, inbound_before: int = 0) -> int:
        """Drop what is past its time; returns how much went, at most some thousand of each."""
        day = now // DAY_MS - KEEP_UPSTREAM_IDS_DAYS
        [gone] = await self.writer.call(verbs.forget_upstream_ids, (day,))
        [parked] = await self.writer.call(verbs.forget_parked, (parked_before,))
        [read] = await self.writer.call(inbound.forget_inbound, (inbound_before,))
        return gone + parked + read  # type: ignore[no-any-return]

    def problems(self) -> Sequence[str]:
        """Return why durability can't be given now, or soon won't be."""
        found = self.writer.problems()
        if self.wal_bytes > WAL_ALARM_BYTES:
            found.append(f"the write-ahead log has {self.wal_bytes >> 20} MiB: checkpoints don't get through")
        return found

    def gauges(self) -> Sequence[tuple[str, str, float]]:
        """Return the size of the write-ahead log."""
        return [("aldis_wal_bytes", "Size of the ledger's write-ahead log.", self.wal_bytes)]

    async def close(self) -> None:
        """Finish the commit under way and close the files."""
        await self.writer.close()
        self._stop.set()
        await asyncio.get_running_loop().run_in_executor(None, self._checkpointer.join)
        self._reader.close()
        self._context.connection.close()
        self._lock.release()
