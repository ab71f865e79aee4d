"""Whole ledgers as rows, whatever engine holds them: the tables with one set of columns, and the two ends of a copy.

A row of an engine is brought into the columns below by the engine's own query (`store/sql/transfer_*.sql`), so that the
same ledger has the same rows on every engine.
"""

from collections.abc import AsyncIterator, Sequence
from operator import itemgetter
from typing import Any, NamedTuple, Protocol

from aldis.model.errors import SettingsError
from aldis.store.books import Books
from aldis.store.rows import Row, quote

Key = tuple[Any, ...]
"""Where a row stands in the order in which an engine reads its table."""


class Table(NamedTuple):
    """A table of every ledger."""

    name: str
    columns: tuple[str, ...]

    @property
    def owner(self) -> int | None:
        """The column with the account, which no row lacks; None: the table has none."""
        return self.columns.index("account_id") if "account_id" in self.columns else None

    def key_of(self, row: Row, key: Sequence[str]) -> Key:
        """Return where a row stands in the order of some columns."""
        return tuple(row[self.columns.index(name)] for name in key)


def _table(name: str, columns: str) -> Table:
    return Table(name, tuple(columns.split()))


TABLES = (
    _table(
        "accounts",
        "account_id carried_charges carried_refunds username password_hash credits_milli daily_quota quota_day "
        "quota_used push_url report_header show_transient strict_latin1 accept_empty_push disabled",
    ),
    _table("top_ups", "account_id top_up_id at amount_milli note"),
    _table(
        "batches",
        "account_id batch_id created_at last_message_id parts dca body originator msg_class want_report source_id "
        "valid_until charged_milli",
    ),
    _table("deduplications", "account_id stop_dup_id batch_id"),
    _table(
        "messages",
        "account_id message_id batch_id msisdn status price_milli connector completed_at assumed seq attempts fenced "
        "sent refunded_milli",
    ),
    _table("queue", "account_id message_id batch_id msisdn parts connector due_at leased_until attempts"),
    _table("parts", "account_id message_id part_no status assumed"),
    _table("events", "account_id message_id event_id at kind status part_no connector upstream_id detail"),
    _table("upstream_ids", "account_id day connector upstream_id message_id part_no attempt"),
    _table(
        "inbox",
        "inbox_id connector received_at is_receipt upstream_id state error source destination text pdu",
    ),
    _table(
        "inbound_messages",
        "inbound_id connector received_at source destination data_coding text octets parts parts_got keyword "
        "to_account_id to_message_id",
    ),
    _table(
        "pushes",
        "account_id message_id push_id batch_id url msisdn status completed_at source_id accept_empty attempts due_at "
        "last_error",
    ),
)
"""Every table, in the order in which they are copied. `queue` has the messages that wait to be sent or are being sent:
one engine keeps that in a table, the other in columns of `messages`."""


_TEXTS = {
    *("username", "password_hash", "push_url", "report_header", "note", "originator", "source_id", "connector", "kind"),
    *("upstream_id", "detail", "state", "error", "source", "destination", "text", "keyword", "url", "last_error"),
}
"""Columns that hold text, in whatever table."""


class Progress(NamedTuple):
    """How far the copy of a table has come."""

    total: int
    """Rows of the source when the copy began."""
    copied: int
    after: Key | None
    """The last row's key at the source; None: nothing was copied."""


def without_nul(table: Table, rows: list[Row]) -> list[Row]:
    """Return rows as an engine takes them whose texts hold no NUL."""
    texts = [place for place, name in enumerate(table.columns) if name in _TEXTS]
    if not any("\0" in "".join(map(itemgetter(place), rows)) for place in texts):
        return rows
    return [tuple(quote(one) if isinstance(one, str) else one for one in row) for row in rows]


def refuse_strays(table: Table, rows: list[Row]) -> None:
    """Refuse rows that belong to no account.

    Raises:
        SettingsError: there is one, such as an event of a message that does not exist.
    """
    if table.owner is not None and None in map(itemgetter(table.owner), rows):
        [row, *_] = [row for row in rows if row[table.owner] is None]
        named = zip(table.columns, row, strict=True)
        told = ", ".join(f"{name} {value}" for name, value in named if name.endswith("_id") and value is not None)
        raise SettingsError(f"a row of {table.name} belongs to nobody ({told}): see `aldis ledger check`")


class End(Books, Protocol):
    """One end of a copy: nobody else works on this ledger while it is open."""

    has_nul: bool
    """Whether its texts can hold NUL."""

    async def read(self, table: Table, after: Key | None, limit: int) -> tuple[list[Row], Key | None]:
        """Return the rows behind a key in the order of keys, and the last one's key."""

    def scan(self, table: Table, limit: int) -> AsyncIterator[list[Row]]:
        """Yield all rows in any order, so many at a time."""

    async def count(self, table: Table) -> int:
        """Return how many rows there are."""

    async def largest_id(self) -> int:
        """Return the largest id that the ledger knows of."""

    async def progress(self) -> tuple[str, dict[str, Progress]]:
        """Return what is being copied into this ledger, and how far each table has come; nothing for a complete one."""

    async def begin(self, source: str, totals: dict[str, int]) -> None:
        """Mark the ledger as an unfinished copy."""

    async def clear(self) -> None:
        """Drop all rows, those of the marks too."""

    async def write(self, table: Table, rows: list[Row], after: Key) -> None:
        """Add rows and note how far they go, in one transaction."""

    async def finish(self, largest_id: int) -> None:
        """Note the largest id and take the mark off: the ledger is complete."""

    async def close(self) -> None:
        """Let the ledger go."""
