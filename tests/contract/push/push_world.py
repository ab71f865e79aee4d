"""A push engine's surroundings in a test's hands: its table and its wall clock. The receivers are real."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
from push_receiver import OK, Behaviour, Call, Receiver, until

from aldis.model.errors import LedgerUnavailable
from aldis.model.types import Push, PushResult
from aldis.push.client import Limits, PushClient
from aldis.push.endpoint import PushSettings
from aldis.push.engine import PushEngine
from aldis.push.guard import EgressGuard

MINUTE, HOUR = 60_000, 3_600_000
NO = b"HTTP/1.1 500 Oops\r\nContent-Length: 1\r\n\r\n1"


class Table:
    """The ledger's side: one row a message, the newest push; rows leave by results only."""

    def __init__(self) -> None:
        self.rows: dict[int, Push] = {}
        self.given_up: list[int] = []
        self.results: list[PushResult] = []
        self.groups: list[int] = []
        self.reads = 0
        self.refusals = 0
        self.before_return: Callable[[], Any] | None = None

    async def due_pushes(self, now: int, limit: int) -> Sequence[Push]:
        await asyncio.sleep(0)
        due = sorted((p for p in self.rows.values() if p.due_at <= now), key=lambda p: p.due_at)[:limit]
        if self.before_return is not None:
            await self.before_return()
        self.reads += 1
        return due

    async def record_push_results(self, results: Sequence[PushResult]) -> None:
        await asyncio.sleep(0)
        if self.refusals:
            self.refusals -= 1
            raise LedgerUnavailable
        self.groups.append(len(results))
        for result in results:
            self.results.append(result)
            row = self.rows.get(result.message_id)
            if row is None or row.push_id != result.push_id:
                continue
            if result.delivered or result.next_at is None:
                del self.rows[result.message_id]
                if not result.delivered:
                    self.given_up.append(result.message_id)
            else:
                self.rows[result.message_id] = msgspec.structs.replace(
                    row, attempts=result.attempts, due_at=result.next_at
                )

    def of(self, message_id: int) -> list[PushResult]:
        return [result for result in self.results if result.message_id == message_id]


class World:
    """An engine, its table, its clock."""

    def __init__(self) -> None:
        self.now = 1_700_000_000_000
        self.table = Table()
        self.client = PushClient(EgressGuard(allow_private=True), Limits(total_s=10))
        self.pause: Callable[[], Awaitable[object]] = lambda: asyncio.sleep(0)
        self.engine = self.make()
        self.running: list[asyncio.Task[None]] = []
        self.made = 0

    def make(self, **settings: Any) -> PushEngine:
        bounds = PushSettings(**{"probe_pause": 0.001, "probe_pause_max": 0.002, "poll": 3600.0} | settings)
        self.engine = PushEngine(self.table, self.client, lambda: self.now, bounds, lambda _: self.pause())
        return self.engine

    async def limit_time(self, total_s: float) -> None:
        await self.client.aclose()
        self.client = PushClient(EgressGuard(allow_private=True), Limits(total_s=total_s))

    def push(self, there: Receiver, message_id: int, **changes: Any) -> Push:
        """A push that is in the table now."""
        self.made += 1
        values: dict[str, Any] = {
            "push_id": self.made,
            "message_id": message_id,
            "batch_id": 7,
            "account_id": 1,
            "url": f"http://127.0.0.1:{there.port}/?pass=canary",
            "msisdn": 44_000_000_000 + message_id,
            "status": 11,
            "completed_at": None,
            "source_id": "",
            "accept_empty": False,
            "attempts": 0,
            "due_at": self.now,
        }
        made = self.table.rows[message_id] = Push(**values | changes)
        return made

    def start(self) -> None:
        self.running.append(asyncio.ensure_future(self.engine.run()))

    async def stop(self) -> None:
        for task in self.running:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self.running.clear()

    async def recorded(self, n: int) -> None:
        await until(lambda: len(self.table.results) >= n and self.engine.stats.unrecorded == 0)

    async def swept(self) -> None:
        """Let the engine read the table once more."""
        reads = self.table.reads
        self.engine.poke()
        await until(lambda: self.table.reads > reads)
        await until(lambda: self.engine.stats.waiting == self.engine.stats.in_flight == 0)


def fields(there: Receiver) -> list[dict[str, str]]:
    """What each request said."""
    return [{k: v[0] for k, v in parse_qs(urlsplit(t).query).items()} for t in there.targets]


def messages(there: Receiver) -> list[int]:
    """The messages of the requests, in order."""
    return [int(f["msisdn"]) - 44_000_000_000 for f in fields(there)]


def gated(gate: asyncio.Event, answer: bytes = OK) -> Behaviour:
    async def behave(call: Call) -> None:
        await gate.wait()
        await call.send(answer)

    return behave


# PROMISE-9
