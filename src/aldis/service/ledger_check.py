"""Is a whole ledger sound? Its file, its books to the milli-credit, and what must never be in it."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import NamedTuple

from aldis.lifecycle import TABLE
from aldis.model.money import MILLI
from aldis.model.status import STATUS, Phase
from aldis.service.ledger_place import LedgerPlace, postgres_engine
from aldis.store.books import Books, Snapshot
from aldis.store.rows import Row
from aldis.store.sqlite.books import SqliteBooks
from aldis.store.sqlite.engine import LEDGER_FILE

_SHOWN = 20
"""Findings of a kind that are told; queries look for one more."""
_DAMAGE: Mapping[str, str] = {
    "waits_in_vain": "message {0} waits to be sent although it stands at {1}",
    "queued_otherwise": "message {0} is queued in other terms than its own",
    "forgotten": "message {0} was paid for and stands at {1}, and is neither due nor being sent",
    "completion": "message {0} stands at {1}, and its time of completion says otherwise",
    "message_of_no_batch": "message {0} is not in its batch {1}",
    "batch_of_nobody": "batch {0} is of account {1}, which does not exist",
    "top_up_of_nobody": "top-up {0} is of account {1}, which does not exist",
    "part_of_no_message": "there is a part of message {0}, which does not exist",
    "event_of_no_message": "there is history of message {0}, which does not exist",
    "push_of_no_message": "there is a push of message {0}, which does not exist",
    "upstream_id_of_no_message": "connector {1} has an id for message {0}, which does not exist",
    "number_of_no_batch": "the submission number {0} stands for batch {1}, which does not exist",
}
"""Question of the books -> what each row of the answer means."""
_ONLY_POSTGRES = ("queued_otherwise",)


class Account(NamedTuple):
    """An account's books, in milli-credits."""

    username: str
    credits_milli: int
    top_ups: int
    charges: int
    refunds: int

    @property
    def owed(self) -> int:
        """What the account must have."""
        return self.top_ups - self.charges + self.refunds


class Report(NamedTuple):
    """What a check has found."""

    counts: list[tuple[str, int]]
    findings: list[str]
    """What is wrong, in words; none: the ledger is sound."""


@asynccontextmanager
async def snapshot_of(place: LedgerPlace) -> AsyncIterator[Snapshot]:
    """Hold one state of a ledger, which may be in use.

    Raises:
        SettingsError: there is no ledger there, or it can't be read.
    """
    books: Snapshot
    if place.directory is not None:
        books = SqliteBooks(place.directory / LEDGER_FILE)
    else:
        books = await postgres_engine().books.PostgresBooks.open(place.url)
    try:
        yield books
    finally:
        await books.close()


async def check(place: LedgerPlace, *, quick: bool, on_step: Callable[[str], None] = lambda step: None) -> Report:
    """Check a ledger, which may be in use.

    Args:
        place: Where it is.
        quick: Leave out what takes longest on SQLite: whether the indexes have what the tables have.
        on_step: Hears what is looked at.

    Raises:
        SettingsError: there is no ledger there, or it can't be read.
    """
    async with snapshot_of(place) as books:
        on_step("the file")
        damage = await books.damage(quick=quick)
        if damage:  # answers of a broken file mean nothing
            return Report([], [f"the file is damaged: {words}" for words in damage])
        on_step("the books")
        findings = await _unbalanced(books)
        for question, words in _DAMAGE.items():
            if place.directory is None or question not in _ONLY_POSTGRES:
                on_step(question.replace("_", " "))
                findings += _told(words, list(await books.ask(question)))
        findings += [_say_charge(row) for row in (await books.ask("charge"))[:_SHOWN]]
        findings += [f"it is an unfinished copy of {row[0]}" for row in await books.ask("unfinished")]
        on_step("the counts")
        return Report(await _count(books, findings), findings)


async def accounts_of(books: Books) -> dict[int, Account]:
    """Return every account's books by its id; what retention has dropped is in the sums."""
    top_ups, charges, refunds = [
        {row[0]: row[2] for row in await books.ask(question)} for question in ("top_ups", "charges", "refunds")
    ]
    return {
        number: Account(
            username,
            credits_milli,
            top_ups.get(number, 0),
            charges.get(number, 0) + carried_charges,
            refunds.get(number, 0) + carried_refunds,
        )
        for number, username, credits_milli, carried_charges, carried_refunds in await books.ask("accounts")
    }


async def _unbalanced(books: Books) -> list[str]:
    return [
        f"account {one.username} has {show(one.credits_milli)} credits, and its books say {show(one.owed)}: "
        f"top-ups {show(one.top_ups)}, charges {show(one.charges)}, refunds {show(one.refunds)}"
        for one in (await accounts_of(books)).values()
        if one.credits_milli != one.owed
    ]


def show(milli: int) -> str:
    """Return credits to the milli-credit."""
    sign = "-" if milli < 0 else ""
    return f"{sign}{abs(milli) // MILLI}.{abs(milli) % MILLI:03d}"


def _say_charge(row: Row) -> str:
    return f"batch {row[0]} was charged {show(row[1])} credits, and its messages cost {show(row[2])}"


def _told(words: str, rows: list[Row]) -> list[str]:
    more = [f"… and more of the same: {words.format('…', '…')}"] if len(rows) > _SHOWN else []
    return [words.format(*row) for row in rows[:_SHOWN]] + more


async def _count(books: Books, findings: list[str]) -> list[tuple[str, int]]:
    """Count everything; statuses that no version knows are findings."""
    statuses: dict[int, int] = {row[0]: row[1] for row in await books.ask("statuses")}
    findings += [f"{count} messages stand at {code}, which is no status" for code, count in statuses.items()
                 if code not in STATUS]  # fmt: skip
    [queued] = await books.ask("count_queue")
    [inbox] = await books.ask("count_inbox")
    [inbound] = await books.ask("count_inbound")
    [pushes] = await books.ask("count_pushes")
    counts = [
        ("accounts", len(await books.ask("accounts"))),
        ("top-ups", sum(row[1] for row in await books.ask("top_ups"))),
        ("batches", sum(row[1] for row in await books.ask("charges"))),
        ("messages", sum(statuses.values())),
        *((f"  {phase.value}", _in_phase(statuses, phase)) for phase in Phase),
        ("  waiting to be sent", queued[0]),
        ("  being sent", queued[1]),
    ]
    for name, question in (
        ("parts of long messages", "count_parts"),
        ("events", "count_events"),
        ("ids of upstreams", "count_upstream_ids"),
        ("submission numbers", "count_deduplications"),
    ):
        counts.append((name, (await books.ask(question))[0][0]))
    return [
        *counts,
        ("receipts parked", inbox[0]),
        ("inbound messages", inbound[0]),
        ("  that lack parts", inbound[1]),
        ("  waiting for parts", inbox[1]),
        ("pushes to do", pushes[0]),
        ("pushes given up", pushes[1]),
    ]


def _in_phase(statuses: Mapping[int, int], phase: Phase) -> int:
    return sum(count for code, count in statuses.items() if code in STATUS and TABLE[STATUS[code]].phase is phase)
