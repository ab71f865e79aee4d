"""A read-only look into a ledger's file, as plain rows."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import apsw

from aldis.inbound import AGES_MS

LEDGER = "ledger.sqlite"


class Batch(NamedTuple):
    batch_id: int
    account: str
    parts: int
    body: bytes
    originator: str
    want_report: int
    source_id: str
    charged_milli: int


class Message(NamedTuple):
    message_id: int
    batch_id: int
    msisdn: str
    status: int
    seq: int
    price_milli: int
    refunded_milli: int
    due_at: int | None
    leased_until: int | None


class Event(NamedTuple):
    message_id: int
    event_id: int
    kind: str
    status: int
    upstream_id: str
    detail: str
    at: int = 0
    """Epoch ms."""
    place: int = 0
    """Rises in the order in which a message's events were judged; 0 where only the ids tell."""

    @property
    def upstream_ids(self) -> list[str]:
        """The ids that an upstream gave to the parts of a submit: one, or `1: id; 2: id` in words."""
        return [self.upstream_id, *(word.rpartition(": ")[2] for word in self.detail.split("; "))]


class Push(NamedTuple):
    message_id: int
    push_id: int
    status: int
    due_at: int | None


class Settled(NamedTuple):
    """A push that was forgotten or put off: by whom, and which life of a node owned it. Triggers write it down."""

    by: str
    push_id: int
    owner: int


@dataclass
class Dump:
    """All that the checker wants to know of a ledger."""

    credits: dict[str, int] = field(default_factory=dict)
    top_ups: dict[str, list[int]] = field(default_factory=dict)
    batches: list[Batch] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    inbox: list[str] = field(default_factory=list)
    """Upstream ids of parked receipts."""
    pushes: list[Push] = field(default_factory=list)
    settled: list[Settled] = field(default_factory=list)
    dead_claims: list[tuple[str, int]] = field(default_factory=list)
    """Server, message: claimed under a life that was over."""
    lives: dict[int, str] = field(default_factory=dict)
    """Epoch -> the server that lived under it, where there are several."""
    integrity: str = "ok"


class Snapshot(NamedTuple):
    """What a crash has left behind: status and version of each message."""

    messages: dict[int, tuple[int, int]]
    integrity: str


class Ledger(Protocol):
    """How a scenario looks into a ledger."""

    def url_for(self, server: str) -> str:
        """Return what `ledger.url` is for a server."""

    def take(self) -> Dump:
        """Read it."""

    def unfinished(self) -> int:
        """Count, beside running servers, the messages queued or on their way, pushes that are due, and new receipts."""


LOOKED_AT_MS = AGES_MS[1] + 2_000
"""For so long a parked receipt may still be given a home: it has been looked at twice then."""


class FileLedger:
    """The embedded ledger of one server."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def url_for(self, server: str) -> str:
        return "sqlite"

    def take(self) -> Dump:
        return take(self._folder)

    def unfinished(self) -> int:
        return unfinished(self._folder)


def connect(folder: Path) -> apsw.Connection:
    """Open a data directory's ledger for reading only."""
    connection = apsw.Connection(str(folder / LEDGER), flags=apsw.SQLITE_OPEN_READONLY)
    connection.set_busy_timeout(5_000)
    return connection


def take(folder: Path) -> Dump:
    """Read a ledger whose server has ended."""
    connection = connect(folder)
    try:
        dump = Dump(integrity=str(connection.pragma("integrity_check")))
        query = connection.cursor().execute
        dump.credits = dict(query("SELECT username, credits_milli FROM accounts"))
        for name, milli in query("SELECT username, amount_milli FROM top_ups JOIN accounts USING (account_id)"):
            dump.top_ups.setdefault(name, []).append(milli)
        batches = (
            "SELECT batch_id, username, parts, body, originator, want_report, source_id, charged_milli "
            "FROM batches JOIN accounts USING (account_id) ORDER BY batch_id"
        )
        dump.batches = [Batch(*row) for row in query(batches)]
        messages = (
            "SELECT message_id, batch_id, cast(msisdn AS TEXT), status, seq, price_milli, refunded_milli, "
            "due_at, leased_until FROM messages ORDER BY message_id"
        )
        dump.messages = [Message(*row) for row in query(messages)]
        events = (
            "SELECT message_id, event_id, kind, status, upstream_id, detail, at FROM events "
            "ORDER BY message_id, event_id"
        )
        dump.events = [Event(*row) for row in query(events)]
        dump.inbox = [row[0] for row in query("SELECT upstream_id FROM inbox")]
        dump.pushes = [Push(*row) for row in query("SELECT message_id, push_id, status, due_at FROM pushes")]
    finally:
        connection.close()
    return dump


def snapshot(folder: Path, scratch: Path) -> Snapshot:
    """Read what a killed server has left, from a copy: to open the file itself would already mend it."""
    scratch.mkdir()
    try:
        for suffix in ("", "-wal"):
            source = folder / (LEDGER + suffix)
            if source.exists():
                shutil.copyfile(source, scratch / source.name)
        connection = apsw.Connection(str(scratch / LEDGER))
        try:
            rows: Any = connection.execute("SELECT message_id, status, seq FROM messages")
            messages = {message_id: (status, seq) for message_id, status, seq in rows}
            return Snapshot(messages, str(connection.pragma("quick_check")))
        finally:
            connection.close()
    finally:
        shutil.rmtree(scratch)


def unfinished(folder: Path) -> int:
    """Count, beside a running server, the messages queued or on their way, pushes that are due, and new receipts."""
    connection = connect(folder)
    try:
        sql = (
            "SELECT (SELECT count(*) FROM messages WHERE due_at IS NOT NULL OR leased_until IS NOT NULL) + "
            "(SELECT count(*) FROM pushes WHERE due_at <= unixepoch() * 1000) + "
            f"(SELECT count(*) FROM inbox WHERE is_receipt = 1 AND received_at > unixepoch() * 1000 - {LOOKED_AT_MS})"
        )
        rows: Any = connection.execute(sql).fetchall()
        return int(rows[0][0])
    finally:
        connection.close()
