"""Work on a ledger on PostgreSQL without a server, as a node that lives: fill it, claim from it, keep a flow going.

`python -m tests.bench.shared_load` takes jobs as lines of JSON, each with the database's `url`:

- `fill` queues `messages` messages that are due.
- `claims` claims `messages` of them, `parts` at a time.
- `flow` admits `rate` messages a second for the sum of `phases` (name, seconds), claims them and records that the
  network took them. In the phase named `snapshot` an old snapshot is held: nothing that dies then can be cleaned away.
"""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import asyncpg
import uvloop
from tests.bench.children import log_warnings
from tests.bench.ledger_load import CONNECTOR
from tests.bench.traffic import USERNAME, number

from aldis.connectors.base import Accepted
from aldis.ledger import Ledger, Submitted
from aldis.model.ids import IdMaker
from aldis.model.types import Account
from aldis.store.base import Due, NewBatch
from aldis.store.postgres import PostgresStore
from aldis.store.postgres.lane import Seat
from aldis.store.postgres.nodes import NodeTable

LEASE_MS = 900_000
_TTL_MS = 3_600_000
_HOUR_MS = 3_600_000
_RECIPIENTS = 100
_GROUP = 50
_TICK_S = 0.01
_CLAIM = 100
_IDLE_S = 0.002
SLICE_S = 10.0


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class Worker:
    """A node with a store, an account and ids."""

    def __init__(self, store: PostgresStore, account: Account, number: int, largest: int) -> None:
        self.store = store
        self.account = account
        self.ledger = Ledger(store, IdMaker(number, after=largest), _now_ms)
        self._msisdn = 0

    def batch(self, recipients: int) -> NewBatch:
        now = _now_ms()
        batch_id, *ids = self.ledger.ids.take(recipients + 1, now)
        self._msisdn += recipients
        account_id = self.account.account_id
        return NewBatch(
            batch_id=batch_id, account_id=account_id, created_at=now, last_message_id=ids[-1], parts=1, dca=7,
            body=b"Your parcel is on its way. Track it at example.com/t/48213", originator="", msg_class=2,
            want_report=True, source_id="", stop_dup_id=0, valid_until=now + 72 * _HOUR_MS,
            charge_milli=1_000 * recipients, counted=recipients,
            messages=[
                (one, batch_id, account_id, number(self._msisdn + i), 0, 1_000, CONNECTOR, now, None)
                for i, one in enumerate(ids)
            ],
        )  # fmt: skip


@asynccontextmanager
async def _worker(url: str) -> AsyncIterator[Worker]:
    seat, table = Seat(), NodeTable(url, _TTL_MS)
    store = await PostgresStore.open(url, lambda pushes: None, _now_ms, seat=seat)
    try:
        joined = await table.join("dispatch", "bench", "", [(CONNECTOR, 1)])
        seat.epoch, seat.number = joined.epoch, joined.number
        account = await store.find_account(USERNAME)
        if account is None:
            raise RuntimeError(f"no account is named {USERNAME}")
        yield Worker(store, account, joined.number, await store.largest_id())
        await table.leave(joined.epoch)
    finally:
        table.drop()
        await store.close()


async def _fill(job: dict[str, Any], worker: Worker) -> dict[str, Any]:
    started_at = time.monotonic()
    for _ in range(job["messages"] // (_RECIPIENTS * _GROUP)):
        await worker.store.admit([worker.batch(_RECIPIENTS) for _ in range(_GROUP)])
    return {"rate": job["messages"] / (time.monotonic() - started_at)}


async def _claims(job: dict[str, Any], worker: Worker) -> dict[str, Any]:
    claimed, times = 0, []
    cpu, started_at = time.process_time(), time.monotonic()
    while claimed < job["messages"]:
        before = time.monotonic()
        dues = await worker.ledger.claim(CONNECTOR, job["parts"], LEASE_MS)
        times.append(time.monotonic() - before)
        claimed += len(dues)
        if not dues:
            break
    ended_at, cpu = time.monotonic(), time.process_time() - cpu
    about = {"claimed": claimed, "started_at": started_at, "ended_at": ended_at, "cpu_us": 1e6 * cpu / max(1, claimed)}
    return about | _times(times)


def _times(times: Sequence[float]) -> dict[str, float]:
    sample = sorted(times) or [0.0]
    return {"p50_ms": 1000 * sample[len(sample) // 2], "p99_ms": 1000 * sample[len(sample) * 99 // 100]}


class SteadyFlow:
    """Messages in and out at a rate, as long as the phases last."""

    def __init__(self, job: dict[str, Any], worker: Worker) -> None:
        self._url: str = job["url"]
        self._phases: list[tuple[str, float]] = job["phases"]
        self._each = int(job["rate"] * _TICK_S)
        self._worker = worker
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_over = False
        self._admitted = self._claimed = 0
        self._samples: dict[str, list[tuple[float, float, int]]] = {"claim": [], "admit": [], "record": []}

    async def run(self) -> dict[str, Any]:
        self._started_at = time.monotonic()
        claimer = asyncio.create_task(self._claim_all())
        begin = 0.0
        phases = []
        for name, seconds in self._phases:
            if name == "snapshot":
                await self._admit_beside_snapshot(begin + seconds)
            else:
                await self._admit_until(begin + seconds)
            phases.append({"name": name, "slices": self._slices(begin, begin + seconds)})
            begin += seconds
        await asyncio.gather(*self._tasks)
        self._is_over = True
        await claimer
        await asyncio.gather(*self._tasks)
        return {"phases": phases, "admitted": self._admitted, "claimed": self._claimed}

    async def _admit_beside_snapshot(self, until: float) -> None:
        connection = await asyncpg.connect(self._url)
        try:
            async with connection.transaction(isolation="repeatable_read"):
                await connection.fetchval("SELECT count(*) FROM accounts")
                await self._admit_until(until)
        finally:
            await connection.close()

    async def _admit_until(self, until: float) -> None:
        next_at = time.monotonic()
        while next_at < self._started_at + until:
            batches = [self._worker.batch(1) for _ in range(self._each)]
            self._begin(self._admit(batches))
            next_at += _TICK_S
            await asyncio.sleep(max(0.0, next_at - time.monotonic()))

    def _begin(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _admit(self, batches: list[NewBatch]) -> None:
        started_at = time.monotonic()
        await self._worker.store.admit(batches)
        self._admitted += len(batches)
        self._note("admit", started_at, len(batches))

    async def _claim_all(self) -> None:
        while not (self._is_over and self._claimed >= self._admitted):
            started_at = time.monotonic()
            dues = await self._worker.ledger.claim(CONNECTOR, _CLAIM, LEASE_MS)
            self._claimed += len(dues)
            self._note("claim", started_at, len(dues))
            if dues:
                self._begin(self._record(dues))
            if len(dues) < _CLAIM:
                await asyncio.sleep(_IDLE_S)

    async def _record(self, dues: Sequence[Due]) -> None:
        now, started_at = _now_ms(), time.monotonic()
        news_ids = self._worker.ledger.ids.take(len(dues), now)
        await self._worker.ledger.record(
            [
                Submitted(
                    due.account_id, due.message_id, news_id, now, due.attempt, CONNECTOR,
                    ((1, Accepted(f"{news_id:x}")),), None,
                )
                for due, news_id in zip(dues, news_ids, strict=True)
            ]
        )  # fmt: skip
        self._note("record", started_at, len(dues))

    def _note(self, what: str, started_at: float, messages: int) -> None:
        now = time.monotonic()
        self._samples[what].append((now - self._started_at, now - started_at, messages))

    def _slices(self, begin: float, end: float) -> list[dict[str, Any]]:
        edges = [begin + n * SLICE_S for n in range(max(1, int((end - begin) // SLICE_S)))] + [end]
        return [
            {"from_s": low, "to_s": high, **{name: self._slice(name, low, high) for name in self._samples}}
            for low, high in pairwise(edges)
        ]

    def _slice(self, name: str, low: float, high: float) -> dict[str, float]:
        found = [(spent, messages) for at, spent, messages in self._samples[name] if low <= at < high]
        messages = sum(messages for _, messages in found)
        return {"count": len(found), "messages": messages, **_times([spent for spent, _ in found])}


async def _run(job: dict[str, Any]) -> dict[str, Any]:
    async with _worker(job["url"]) as worker:
        match job["work"]:
            case "fill":
                return await _fill(job, worker)
            case "claims":
                return await _claims(job, worker)
            case _:
                return await SteadyFlow(job, worker).run()


def main() -> None:
    log_warnings()
    for line in sys.stdin:
        sys.stdout.write(json.dumps(uvloop.run(_run(json.loads(line)))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
