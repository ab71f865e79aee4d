"""Servers that are wrong on purpose, to show that the checker bites.

python -m tests.fault.mutants NAME serve --config aldis.toml
"""

import asyncio
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from tests.fault import kill
from tests.fault.server import PYTHON
from tests.fault.tables import Result, Table

from aldis import ledger, lifecycle
from aldis.cli import main as aldis
from aldis.inbound import Inbound
from aldis.push.endpoint import End
from aldis.push.engine import PushEngine

ROUNDS = 6
_GAP_S = 0.02
_running: set["asyncio.Task[None]"] = set()


def _later(work: Callable[[], Any]) -> None:
    """Do what should have been done before, a moment too late."""

    async def wait() -> None:
        await asyncio.sleep(_GAP_S)
        await work()

    task = asyncio.ensure_future(wait())
    _running.add(task)
    task.add_done_callback(_running.discard)


def ack_before_commit() -> None:
    """A submission is acknowledged before it is on disk."""
    admit = ledger.Ledger.admit

    async def hasty(self: ledger.Ledger, batch: Any) -> int:
        _later(partial(admit, self, batch))
        return int(batch.batch_id)

    ledger.Ledger.admit = hasty  # type: ignore[method-assign]


def receipt_before_commit() -> None:
    """A deliver_sm is answered before it is on disk."""
    receive = ledger.Ledger.receive

    async def hasty(self: Inbound, group: Any) -> None:
        self._answer(group, taken=True)
        _later(partial(receive, self._ledger, group))

    Inbound._write = hasty  # type: ignore[method-assign]


def resend_after_crash() -> None:
    """What a dead process may have sent is sent again."""

    def queue(context: Any, items: list[int]) -> list[None]:
        context.cursor.execute(
            "UPDATE messages SET due_at = ?, leased_until = NULL WHERE leased_until IS NOT NULL", (items[0],)
        )
        return [None]

    async def resend(self: Any, ended_by: int) -> int:
        await self.store.writer.call(queue, [self.now_ms()])
        return 0

    ledger.Ledger.recover = resend  # type: ignore[method-assign]


def lease_forgotten() -> None:
    """Leases of a dead process are not called off."""

    async def nothing(self: Any, ended_by: int) -> int:
        return 0

    ledger.Ledger.recover = nothing  # type: ignore[method-assign]


def push_settled_before_sent() -> None:
    """A push counts as delivered before the customer has it."""
    attempt = PushEngine._try

    async def hasty(self: PushEngine, push: Any) -> tuple[bool, str, End]:
        _later(partial(attempt, self, push))
        return True, "HTTP 200", End.ANSWERED

    PushEngine._try = hasty  # type: ignore[method-assign]


def double_refund() -> None:
    """A refund is paid twice."""
    close = ledger._close

    def generous(live: Any, at: int, moved: bool, changes: Any) -> None:
        close(live, at, moved, changes)
        changes.refunds.extend(changes.refunds[-1:])

    ledger._close = generous


def last_word_wins() -> None:
    """A status is what was heard last."""
    lifecycle.advance = lambda current, heard: heard


MUTANTS: dict[str, tuple[Callable[[], None], str]] = {
    "ack-before-commit": (ack_before_commit, "I1"),
    "receipt-before-commit": (receipt_before_commit, "I7"),
    "resend-after-crash": (resend_after_crash, "I3"),
    "lease-forgotten": (lease_forgotten, "I13"),
    "push-settled-before-sent": (push_settled_before_sent, "I8"),
    "double-refund": (double_refund, "I5"),
    "last-word-wins": (last_word_wins, "I6"),
}
"""Name -> what it does, and the promise that it breaks."""


ALL = MUTANTS


def command_of(name: str) -> tuple[str, ...]:
    """Return what to run in place of aldis."""
    return (*PYTHON, "-m", "tests.fault.mutants", name)


def run(seed: int = 1) -> Result:
    """Kill each mutant some times, and see whether the promise that it breaks is seen broken."""
    began = time.monotonic()
    table = Table("mutants", ("mutation", "breaks", "seen broken", ""))
    caught = 0
    for name, (_, promise) in MUTANTS.items():
        seen = [row.name for row in kill.broken_rows(ROUNDS, seed, command_of(name))]
        caught += promise in seen
        table.add(name, promise, " ".join(seen), "caught" if promise in seen else "MISSED")
    text = f"{table}\ncaught {caught} of {len(MUTANTS)}"
    return Result("mutants", caught == len(MUTANTS), text, time.monotonic() - began)


def run_shared(seed: int = 1) -> Result:
    raise NotImplementedError


if __name__ == "__main__":
    MUTANTS[sys.argv.pop(1)][0]()
    aldis()
