"""Servers that are wrong on purpose, to show that the checker bites.

python -m tests.fault.mutants NAME serve --config aldis.toml
"""

import asyncio
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from tests.fault import kill, outage, takeover
from tests.fault.plain import use_plain_loop
from tests.fault.server import PYTHON
from tests.fault.tables import Result, Table, say

from aldis import ledger, lifecycle
from aldis.cli import main as aldis
from aldis.inbound import Inbound
from aldis.push.endpoint import End
from aldis.push.engine import PushEngine
from aldis.store import rows

ROUNDS = 6
_GAP_S = 0.02
_LONG_GAP_S = 0.1
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


# ----------------------------------------------------------------------------------- wrong on PostgreSQL only


def lane_tells_early() -> None:
    """Who waits for a commit is told before it."""
    from aldis.store.postgres.lane import Lane

    attempt = Lane._try

    async def hasty(self: Any, connection: Any, group: Any, body: Any) -> Any:
        async def told(tx: Any, jobs: Any) -> None:
            await body(tx, jobs)
            for job in jobs:
                job.answer()
            await asyncio.sleep(_LONG_GAP_S)

        return await attempt(self, connection, group, told)

    Lane._try = hasty  # type: ignore[method-assign]


def fence_ignored() -> None:
    """A worker whose claim was called off is believed."""
    use_plain_loop()
    judge = ledger.Ledger.judge

    def gullible(self: ledger.Ledger, live: Any, news: Any, changes: Any) -> None:
        fenced, live.fenced = live.fenced, -1
        judge(self, live, news, changes)
        live.fenced = max(live.fenced, fenced)

    ledger.Ledger.judge = gullible  # type: ignore[method-assign]


def dead_node_claims() -> None:
    """A node claims and sends for a while though others have found it dead."""
    from aldis.service.membership import Membership
    from aldis.store.postgres.nodes import NodeTable

    use_plain_loop()
    _rewrite("claim", "OR EXISTS (SELECT FROM nodes n WHERE n.epoch = $6 AND n.epoch <> 0)", "OR true")
    Membership.may_work = lambda self: True  # type: ignore[method-assign]
    beat = NodeTable.beat

    async def slow_to_learn(self: NodeTable, epoch: int, *, may_bury: bool) -> Any:
        found = await beat(self, epoch, may_bury=may_bury)
        if found is None:
            await asyncio.sleep(1.0)
        return found

    NodeTable.beat = slow_to_learn  # type: ignore[method-assign]


def pushes_of_others() -> None:
    """A push is settled by whoever says so, though it is another node's now."""
    use_plain_loop()
    for query, owner in (("end_pushes", "$4"), ("reschedule_pushes", "$7")):
        _rewrite(query, f"owner = {owner}", f"owner = owner + 0 * {owner}")


def refund_of_one() -> None:
    """Of several refunds of an account in a group only one is paid."""
    judge_all = rows.judge_all

    def forgetful(*news: Any) -> Any:
        judged = judge_all(*news)
        judged.changes.refunds = list(dict(judged.changes.refunds).items())
        return judged

    rows.judge_all = forgetful


def doubt_is_yes() -> None:
    """A commit whose answer was lost counts as made."""
    _decide(lambda line, last: last)


def doubt_is_no() -> None:
    """A commit whose answer was lost counts as not made."""
    _decide(lambda line, last: -1)


def _decide(verdict: Callable[[int, int], int]) -> None:
    from aldis.store.postgres.lane import Lane

    async def guess(self: Any, doubt: Any) -> bool:
        return verdict(doubt.line, self._number) == doubt.number

    Lane._is_committed = guess  # type: ignore[method-assign]


def _rewrite(query: str, old: str, new: str) -> None:
    from aldis.store.postgres.lane import SQL

    text = SQL[query]
    if old not in text:
        raise ValueError(f"{query} does not say {old!r} any more")
    SQL[query] = text.replace(old, new)  # type: ignore[index]


Show = Callable[[int, int, Sequence[str]], Sequence[Any]]
"""Takes rounds, seed and command; returns the promises as they were seen."""

SHARED: Mapping[str, tuple[Callable[[], None], str, Show]] = {
    "lane-tells-early": (lane_tells_early, "I1", takeover.kill_evidence),
    "receipt-before-commit": (receipt_before_commit, "I7", takeover.kill_evidence),
    "lease-forgotten": (lease_forgotten, "I13", takeover.kill_evidence),
    "double-refund": (double_refund, "I5", takeover.kill_evidence),
    "refund-of-one": (refund_of_one, "I5", takeover.kill_evidence),
    "last-word-wins": (last_word_wins, "I6", takeover.kill_evidence),
    "fence-ignored": (fence_ignored, "I17", takeover.zombie_evidence),
    "dead-node-claims": (dead_node_claims, "I17", takeover.zombie_evidence),
    "pushes-of-others": (pushes_of_others, "I17", takeover.zombie_evidence),
    "doubt-is-yes": (doubt_is_yes, "I3", outage.restart_evidence),
    "doubt-is-no": (doubt_is_no, "I2", outage.restart_evidence),
}
"""Name -> what it does, the promise that it breaks, and the scenario that shows it."""
SHARED_ROUNDS: Mapping[Show, int] = {
    takeover.kill_evidence: 5,
    takeover.zombie_evidence: 6,
    outage.restart_evidence: 12,
}

ALL = {name: mutation[0] for name, mutation in (*MUTANTS.items(), *SHARED.items())}


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
    """Break each mutant of the nodes some times, and see whether the promise that it breaks is seen broken."""
    began = time.monotonic()
    table = Table("mutants on PostgreSQL", ("mutation", "breaks", "seen broken", ""))
    caught = 0
    for name, (_, promise, show) in SHARED.items():
        seen = [row.name for row in show(SHARED_ROUNDS[show], seed, command_of(name)) if row.broken]
        caught += promise in seen
        table.add(name, promise, " ".join(seen), "caught" if promise in seen else "MISSED")
        say(f"  {name}: {' '.join(seen) or 'nothing seen'}")
    text = f"{table}\ncaught {caught} of {len(SHARED)}"
    return Result("mutants", caught == len(SHARED), text, time.monotonic() - began)


if __name__ == "__main__":
    ALL[sys.argv.pop(1)]()
    aldis()
