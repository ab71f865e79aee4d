"""What is asked of a whole ledger when it is checked."""

from collections.abc import Sequence
from typing import Protocol

from aldis.lifecycle import TABLE
from aldis.model.status import Status
from aldis.store.rows import Row
from aldis.store.sqlfile import queries

PENDING = frozenset(status for status, row in TABLE.items() if row.rank <= TABLE[Status.RETRY_QUEUED].rank)
"""A message waits to be sent, or is being sent, only while it stands here."""


class Books(Protocol):
    """Answers the named questions of `store/sql/books*.sql`, over one state of a ledger."""

    async def ask(self, question: str) -> Sequence[Row]:
        """Return the rows of an answer."""


class Snapshot(Books, Protocol):
    """One state of a ledger, whatever is written meanwhile."""

    async def damage(self, *, quick: bool) -> list[str]:
        """Return what is wrong with the files, in the engine's words; `quick` leaves the indexes out."""

    async def close(self) -> None:
        """Let the snapshot go."""


def questions(*names: str) -> dict[str, str]:
    """Return the queries of several files, with the codes of statuses that are pending and final filled in."""
    final = [status for status, row in TABLE.items() if row.final]
    found = {key: sql for name in names for key, sql in queries(name).items()}
    for word, statuses in (("{pending}", PENDING), ("{final}", final)):
        listed = ", ".join(str(int(status)) for status in sorted(statuses))
        found = {key: sql.replace(word, listed) for key, sql in found.items()}
    return found
