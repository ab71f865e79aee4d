"""Work on a ledger's files without a server: fill it, and match receipts.

`python -m tests.bench.ledger_load` takes jobs as lines of JSON. `fill` writes `messages` messages in batches of 100,
each sent upstream: accepted, under an id that is random text, with the event that says so. `receipts` hands in
receipts for them, group by group. Both name the ledger in `url`: PostgreSQL's, or `sqlite` and the data directory in
`folder`.
"""

import asyncio
import json
import sys
import time
from array import array
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import uvloop
from tests.bench.children import log_warnings
from tests.bench.traffic import USERNAME, number

from aldis.connectors.base import Delivery
from aldis.ledger import Ledger
from aldis.model.ids import IdMaker
from aldis.model.status import Status
from aldis.store.base import EventRow, NewBatch, UpstreamId
from aldis.store.postgres import PostgresStore
from aldis.store.postgres.connection import columns
from aldis.store.postgres.lane import Lane, Tx
from aldis.store.rows import event_row, upstream_row
from aldis.store.sqlite import SqliteStore
from aldis.store.sqlite.context import Context

Ledgers = SqliteStore | PostgresStore

RECIPIENTS = 100
CONNECTOR = "upstream"
_GROUP = 100
_HOUR_MS = 3_600_000
_RECEIPTS = 500
_DISORDER = 1_000


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def upstream_id(n: int) -> str:
    """Return what the upstream calls the n-th message: each has another, and their order says nothing."""
    return f"{n * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF:016x}"


class Filler:
    """Makes batches."""

    def __init__(self, account_id: int, messages: int) -> None:
        self._account_id = account_id
        self._messages = messages
        self._ids = IdMaker()
        self._started_at = _now_ms() - _HOUR_MS
        self.pairs = array("q")

    def groups(self) -> Iterator[list[NewBatch]]:
        firsts = range(0, self._messages, RECIPIENTS)
        for start in range(0, len(firsts), _GROUP):
            yield [self._batch(first) for first in firsts[start : start + _GROUP]]

    def _batch(self, first: int) -> NewBatch:
        at = self._started_at + first * (_HOUR_MS // 2) // self._messages
        batch_id, *ids = self._ids.take(RECIPIENTS + 1, at)
        self.pairs.extend((batch_id, first))
        status, account_id = int(Status.DELIVERED_UPSTREAM), self._account_id
        return NewBatch(
            batch_id=batch_id,
            account_id=account_id,
            created_at=at,
            last_message_id=ids[-1],
            parts=1,
            dca=7,
            body=b"Your parcel is on its way. Track it at example.com/t/48213",
            originator="",
            msg_class=2,
            want_report=True,
            source_id="",
            stop_dup_id=0,
            valid_until=at + 72 * _HOUR_MS,
            charge_milli=1_000 * RECIPIENTS,
            counted=RECIPIENTS,
            messages=[
                (message_id, batch_id, account_id, number(first + i), status, 1_000, CONNECTOR, None, None)
                for i, message_id in enumerate(ids)
            ],
        )

    def sent(self, batch: NewBatch) -> Iterator[tuple[EventRow, UpstreamId]]:
        """Return what the ledger would have written when the upstream took the messages."""
        for row in batch.messages:
            message_id, msisdn = row[0], row[3]
            name = upstream_id(_index(msisdn))
            event = EventRow(
                batch.account_id,
                message_id,
                message_id,
                batch.created_at,
                "submit",
                row[4],
                1,
                CONNECTOR,
                name,
                "accepted",
            )
            yield event, UpstreamId(CONNECTOR, name, batch.account_id, message_id, 1, 1, batch.created_at)


def _index(msisdn: int) -> int:
    """Return which number it is: the inverse of `number`."""
    thousands, rest = divmod(msisdn - 447_000_000_000, 10_000)
    return thousands * 9_000 + rest - 1_000


Sent = tuple[EventRow, UpstreamId]


def _write_sent(context: Context, rows: list[Sent]) -> list[None]:
    context.write("insert_events", [event_row(event)[1:] for event, _ in rows])
    context.write("insert_upstream_ids", [upstream_row(one)[1:] for _, one in rows])
    return [None] * len(rows)


async def _write_sent_shared(tx: Tx, rows: list[Sent]) -> list[None]:
    events = columns([event_row(event) for event, _ in rows])
    await tx.write(
        "save", *columns([], 11), *columns([], 2), *events, *columns([upstream_row(one) for _, one in rows]),
        *columns([], 12), 0,
    )  # fmt: skip
    return [None] * len(rows)


@asynccontextmanager
async def _opened(job: dict[str, Any]) -> AsyncIterator[tuple[Ledgers, Callable[[list[Sent]], Awaitable[Any]]]]:
    """Open a store, with a way to write what is sent."""
    if job["url"] == "sqlite":
        sqlite = SqliteStore(Path(job["folder"]), lambda pushes: None)
        try:
            yield sqlite, lambda rows: sqlite.writer.call(_write_sent, rows, len(rows))
        finally:
            await sqlite.close()
        return
    store = await PostgresStore.open(job["url"], lambda pushes: None, _now_ms)
    lane = Lane("fill", job["url"], store.seat, store.stats, lambda kind: None)
    await lane.open()
    try:
        yield store, lambda rows: lane.call(_write_sent_shared, rows, len(rows))
    finally:
        await lane.close()
        await store.close()


async def _fill(
    job: dict[str, Any], store: Ledgers, write_sent: Callable[[list[Sent]], Awaitable[Any]]
) -> dict[str, Any]:
    account = await store.find_account(USERNAME)
    if account is None:
        return {"failed": f"no account is named {USERNAME}"}
    filler, started_at = Filler(account.account_id, job["messages"]), time.monotonic()
    for batches in filler.groups():
        rows = [row for batch in batches for row in filler.sent(batch)]
        await asyncio.gather(store.admit(batches), write_sent(rows))
    Path(job["ids"]).write_bytes(filler.pairs.tobytes())
    return {"rate": job["messages"] / (time.monotonic() - started_at)}


class Receipts:
    """Receipts, none twice: for the latest messages in nearly their order, or for older ones picked at random."""

    def __init__(self, messages: int, *, recent: bool) -> None:
        random, older = Random(1), messages * 4 // 10
        if recent:
            numbers = list(range(older, messages))
            numbers.sort(key=lambda n: random.gauss(-n, _DISORDER))
        else:
            numbers = random.sample(range(older), older)
        self._numbers = iter(numbers)

    def group(self) -> Sequence[Delivery]:
        return [self._receipt(n) for n, _ in zip(self._numbers, range(_RECEIPTS), strict=False)]

    def _receipt(self, n: int) -> Delivery:
        name = upstream_id(n)
        return Delivery(
            connector=CONNECTOR,
            received_at=_now_ms(),
            is_receipt=True,
            upstream_id=name,
            state="DELIVRD",
            error="000",
            is_final=True,
            source=str(number(n)),
            destination="",
            text=f"id:{name} sub:001 dlvrd:001 submit date:2611231500 done date:2611231501 stat:DELIVRD err:000 text:",
            pdu=b"",
            answer=lambda taken: None,
        )


async def _match(job: dict[str, Any], store: Ledgers) -> dict[str, Any]:
    ledger = Ledger(store, IdMaker(after=await store.largest_id()), _now_ms)
    receipts = Receipts(job["messages"], recent=job["recent"])
    before, spent, cpu = _count_delivered(store), 0.0, 0.0
    handed = 0
    while spent < job["seconds"] and (group := receipts.group()):
        started_at, cpu_at = time.monotonic(), time.process_time()
        await ledger.receive(group)
        spent += time.monotonic() - started_at
        cpu += time.process_time() - cpu_at
        handed += len(group)
    matched = _count_delivered(store) - before
    if matched != handed:
        return {"failed": f"{handed} receipts handed in, {matched} messages moved"}
    return {"rate": handed / spent, "cpu_us": 1e6 * cpu / handed}


def _count_delivered(store: Ledgers) -> int:
    return store.stats.statuses.get(int(Status.DELIVERED), 0)


async def _run(job: dict[str, Any]) -> dict[str, Any]:
    async with _opened(job) as (store, write_sent):
        return await (_fill(job, store, write_sent) if job["work"] == "fill" else _match(job, store))


def main() -> None:
    log_warnings()
    for line in sys.stdin:
        sys.stdout.write(json.dumps(uvloop.run(_run(json.loads(line)))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
