"""The push engine with a table of its own kind and real receivers; the wall clock is in the test's hands."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
from push_receiver import OK, Behaviour, Call, Receiver, receiver, until
from structlog.testing import capture_logs

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
        self.engine = self.make()
        self.running: list[asyncio.Task[None]] = []
        self.made = 0

    def make(self, **settings: Any) -> PushEngine:
        bounds = PushSettings(**{"probe_pause": 0.001, "probe_pause_max": 0.002, "poll": 3600.0} | settings)
        self.engine = PushEngine(self.table, self.client, lambda: self.now, bounds, lambda _: asyncio.sleep(0))
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


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    await made.stop()
    await made.client.aclose()
    assert made.engine.stats.errors == 0


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


async def test_offered_pushes_go_out_from_memory_once_each(world: World) -> None:
    async with contextlib.AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(receiver(OK)) for _ in range(3)]
        world.start()
        await until(lambda: world.table.reads == 1)
        pushes = [world.push(servers[n % 3], n) for n in range(600)]
        for at in range(0, 600, 100):
            world.engine.offer(pushes[at : at + 100])
            await asyncio.sleep(0)
        await world.recorded(600)
        for n, server in enumerate(servers):
            assert sorted(messages(server)) == list(range(n, 600, 3))
    assert world.table.reads == 1
    assert world.table.rows == {}
    assert all(r.delivered and r.attempts == 1 and r.next_at is None and r.at == world.now for r in world.table.results)
    assert {r.detail for r in world.table.results} == {"HTTP 200 OK"}
    assert (world.engine.stats.sent, world.engine.stats.delivered, world.engine.stats.failed) == (600, 600, 0)
    assert max(world.table.groups) > 1


async def test_a_receiver_sees_the_report_and_its_own_query(world: World) -> None:
    async with receiver(OK) as there:
        world.start()
        world.engine.offer([world.push(there, 5, completed_at=0, source_id="ref é", status=53)])
        await world.recorded(1)
    assert there.targets == [
        "/?pass=canary&msisdn=44000000005&batch_id=7&status=53&completed_time=70-01-01+00%3A00%3A00"
        "&source_id=ref+%E9&unique_id=1&msg_id=1"
    ]


async def test_what_the_table_holds_at_the_start_is_sent_page_by_page(world: World) -> None:
    async with receiver(OK) as one, receiver(OK) as two:
        for n in range(95):
            world.push(one if n % 2 else two, n, due_at=world.now - 95 + n)
        world.push(one, 1000, due_at=world.now + 1)
        world.make(page=10)
        world.start()
        await world.recorded(95)
        assert sorted(messages(one) + messages(two)) == list(range(95))
    assert world.table.reads >= 10
    assert list(world.table.rows) == [1000]


async def test_offers_made_before_the_engine_runs_are_sent(world: World) -> None:
    async with receiver(OK) as there:
        world.engine.offer([world.push(there, n) for n in range(20)])
        world.start()
        await world.recorded(20)
        assert sorted(messages(there)) == list(range(20))


async def test_a_failed_push_is_tried_after_one_hour_then_three_then_twelve_and_then_given_up(world: World) -> None:
    async with receiver(NO) as there:
        world.start()
        began = world.now
        world.engine.offer([world.push(there, 1)])
        for tries, wait in enumerate([60 * MINUTE, 3 * HOUR, 12 * HOUR], 1):
            await world.recorded(tries)
            world.now += wait - 1
            await world.swept()
            assert len(there.requests) == tries
            world.now += 1
            await world.swept()
        await world.recorded(4)
        world.now += 1000 * HOUR
        await world.swept()
        assert len(there.requests) == 4
    assert [r.at - began for r in world.table.results] == [0, HOUR, 4 * HOUR, 16 * HOUR]
    assert [r.attempts for r in world.table.results] == [1, 2, 3, 4]
    assert world.table.results[-1].next_at is None
    assert world.table.given_up == [1]
    assert len(set(there.targets)) == 1
    assert (world.engine.stats.failed, world.engine.stats.exhausted) == (4, 1)


ENDINGS = {
    "200 with a byte": (OK, False, True, "HTTP 200 OK"),
    "empty 200": (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", False, False, "HTTP 200 OK, empty"),
    "empty 200, agreed": (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", True, True, "HTTP 200 OK"),
    "204, empty agreed": (b"HTTP/1.1 204 No Content\r\n\r\n", True, False, "HTTP 204 No Content"),
    "201": (b"HTTP/1.1 201 Created\r\nContent-Length: 1\r\n\r\n1", False, False, "HTTP 201 Created"),
    "redirect": (
        b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 1\r\n\r\n1",
        False,
        False,
        "HTTP 302 Found",
    ),
    "no reason": (b"HTTP/1.1 404\r\nContent-Length: 1\r\n\r\n1", False, False, "HTTP 404"),
    "garbage": (b"garbage\r\n\r\n", False, False, "not an HTTP/1 answer"),
}


@pytest.mark.parametrize(("answer", "accept_empty", "delivered", "detail"), ENDINGS.values(), ids=ENDINGS.keys())
async def test_how_a_try_ends_is_recorded_in_words(
    world: World, answer: bytes, accept_empty: bool, delivered: bool, detail: str
) -> None:
    async with receiver(answer) as there:
        world.start()
        world.engine.offer([world.push(there, 1, accept_empty=accept_empty)])
        await world.recorded(1)
    next_at = None if delivered else world.now + HOUR
    assert world.table.results == [PushResult(1, 1, delivered, 1, next_at, detail, world.now)]


async def test_a_denied_address_is_a_failed_try(world: World) -> None:
    world.client = PushClient(EgressGuard())
    world.make()
    world.start()
    async with receiver(OK) as there:
        world.engine.offer([world.push(there, 1)])
        await world.recorded(1)
        assert there.connections == 0
    assert world.table.results[0].detail == "address not allowed: loopback"


async def test_the_same_push_offered_and_read_again_is_sent_once(world: World) -> None:
    gate = asyncio.Event()
    async with receiver(gated(gate)) as there:
        world.start()
        pushes = [world.push(there, n) for n in range(5)]
        for _ in range(3):
            world.engine.offer(pushes)
            reads = world.table.reads
            world.engine.poke()
            await until(lambda seen=reads: world.table.reads > seen)
        await there.count(1)
        gate.set()
        await world.recorded(5)
        await world.swept()
        assert sorted(messages(there)) == list(range(5))
    assert len(world.table.results) == 5


async def test_a_push_that_ends_while_the_table_is_read_is_not_sent_again(world: World) -> None:
    gate, read = asyncio.Event(), asyncio.Event()
    async with receiver(gated(gate)) as there:
        world.start()
        await until(lambda: world.table.reads == 1)
        world.engine.offer([world.push(there, 1)])
        await there.count(1)

        async def hold() -> None:
            read.set()
            await until(lambda: 1 not in world.table.rows and world.engine.stats.unrecorded == 0)

        world.table.before_return = hold
        world.engine.poke()
        await read.wait()
        gate.set()
        await until(lambda: world.table.reads == 2)
        world.table.before_return = None
        await world.swept()
        assert len(there.requests) == 1


async def test_a_newer_push_takes_the_place_of_an_older_one_that_waits(world: World) -> None:
    gate = asyncio.Event()
    async with receiver(gated(gate)) as there:
        world.make(max_in_flight=1)
        world.start()
        world.engine.offer([world.push(there, 1)])
        await there.count(1)
        world.engine.offer([world.push(there, 2, status=64)])
        world.engine.offer([world.push(there, 2, status=11)])
        gate.set()
        await world.recorded(3)
        assert [(f["msisdn"][-1], f["status"]) for f in fields(there)] == [("1", "11"), ("2", "11")]
    assert [(r.delivered, r.attempts, r.next_at, r.detail) for r in world.table.of(2)] == [
        (False, 0, None, "superseded"),
        (True, 1, None, "HTTP 200 OK"),
    ]
    assert world.table.rows == {}
    assert world.engine.stats.superseded == 1


async def test_a_newer_push_that_goes_elsewhere_leaves_the_old_queue(world: World) -> None:
    gate = asyncio.Event()
    async with receiver(gated(gate)) as old, receiver(OK) as new:
        world.make(max_in_flight=2)
        world.start()
        world.engine.offer([world.push(old, 1), world.push(old, 3)])
        await old.count(1)
        world.engine.offer([world.push(old, 2)])
        world.engine.offer([world.push(new, 2, status=50)])
        gate.set()
        await world.recorded(4)
        assert sorted(messages(old)) == [1, 3]
        assert messages(new) == [2]
    assert world.engine.stats.waiting == 0


@pytest.mark.parametrize("first_answer", [OK, NO], ids=["the older is delivered", "the older fails"])
async def test_two_tries_of_a_message_are_never_under_way_together(world: World, first_answer: bytes) -> None:
    gate = asyncio.Event()
    flying = 0

    async def behave(call: Call) -> None:
        nonlocal flying
        flying += 1
        assert flying == 1
        if call.number == 0:
            await gate.wait()
        flying -= 1
        await call.send(OK if call.number else first_answer)

    async with receiver(behave) as there:
        world.start()
        world.engine.offer([world.push(there, 1, status=64)])
        await there.count(1)
        world.engine.offer([world.push(there, 1, status=70)])
        world.engine.offer([world.push(there, 1, status=11)])
        gate.set()
        await world.recorded(3)
        assert [f["status"] for f in fields(there)] == ["64", "11"]
        world.now += 100 * HOUR
        await world.swept()
        assert len(there.requests) == 2
    ends = [(r.push_id, r.delivered, r.next_at, r.detail) for r in world.table.results]
    older = (1, True, None, "HTTP 200 OK") if first_answer is OK else (1, False, None, "HTTP 500 Oops; superseded")
    assert ends == [(2, False, None, "superseded"), older, (3, True, None, "HTTP 200 OK")]
    assert world.table.rows == {}


async def test_a_newer_push_makes_the_retry_of_a_failed_older_one_pointless(world: World) -> None:
    async def behave(call: Call) -> None:
        await call.send(NO if call.number == 0 else OK)

    async with receiver(behave) as there:
        world.start()
        world.engine.offer([world.push(there, 1, status=64)])
        await world.recorded(1)
        world.engine.offer([world.push(there, 1, status=11)])
        await world.recorded(2)
        world.now += 100 * HOUR
        await world.swept()
        assert [f["status"] for f in fields(there)] == ["64", "11"]


async def test_endpoints_that_hang_do_not_starve_others(world: World) -> None:
    async def hang(call: Call) -> None:
        await call.closed_by_peer()

    async with receiver(hang) as hanging, receiver(OK) as healthy:
        world.make(max_in_flight=16)
        world.start()
        stuck = [world.push(hanging, 10_000 + n, url=f"http://127.0.0.1:{hanging.port}/{n % 30}") for n in range(3000)]
        world.engine.offer(stuck)
        await hanging.count(8)
        world.engine.offer([world.push(healthy, n) for n in range(500)])
        await until(lambda: not any(n in world.table.rows for n in range(500)))
        assert Counter(messages(healthy)) == Counter(range(500))
        assert hanging.most_open <= 8 + 8
        assert world.engine.stats.in_flight == 8
    assert all(r.message_id < 500 for r in world.table.results if r.delivered)


async def test_hanging_tries_end_at_the_deadline_and_are_scheduled_again(world: World) -> None:
    async def hang(call: Call) -> None:
        await call.closed_by_peer()

    await world.limit_time(0.1)
    world.make(probe_pause=3600.0, probe_pause_max=3600.0)
    async with receiver(hang) as there:
        world.start()
        world.engine.offer([world.push(there, n) for n in range(50)])
        await world.recorded(6)
        assert len(there.requests) == 6  # two at a time until five in a row had no answer
        assert world.engine.stats.waiting == 44
    assert {(r.delivered, r.next_at, r.detail) for r in world.table.results} == {
        (False, world.now + HOUR, "no answer within 0.1 s")
    }


async def test_a_broken_endpoint_is_probed_one_at_a_time_and_recovers(world: World) -> None:
    gate = asyncio.Event()

    async def behave(call: Call) -> None:
        if gate.is_set():
            await call.send(OK)
        else:
            call.close()

    async with receiver(behave) as there:
        world.make(breaker_after=3)
        world.start()
        with capture_logs() as logs:
            world.engine.offer([world.push(there, n) for n in range(200)])
            await world.recorded(10)
            assert there.most_open <= 2
            gate.set()
            await world.recorded(200)
        failed = [r for r in world.table.results if not r.delivered]
        assert 10 <= len(failed) < 200
        assert there.most_open > 2
    assert [(line["event"], line["host"]) for line in logs] == [
        ("endpoint does not answer", "127.0.0.1"),
        ("endpoint answers again", "127.0.0.1"),
    ]


async def test_a_fast_endpoint_gets_more_tries_at_once_up_to_its_bound(world: World) -> None:
    async def behave(call: Call) -> None:
        await asyncio.sleep(0.001)
        await call.send(OK)

    async with receiver(behave) as there:
        world.make(start_limit=4, max_limit=12)
        world.start()
        world.engine.offer([world.push(there, n) for n in range(2000)])
        await world.recorded(2000)
        assert there.most_open == 12
        assert Counter(messages(there)) == Counter(range(2000))


async def test_memory_is_bounded_and_what_it_had_no_room_for_is_sent_from_the_table(world: World) -> None:
    gate = asyncio.Event()
    async with receiver(gated(gate)) as there:
        world.make(max_waiting=200, small_queue=10, page=50)
        world.start()
        await until(lambda: world.table.reads == 1)
        world.engine.offer([world.push(there, n) for n in range(1000)])
        await there.count(2)
        stats = world.engine.stats
        assert stats.waiting <= 100
        assert stats.overflowed == 1000 - stats.waiting - stats.in_flight
        gate.set()
        await world.recorded(1000)
        assert Counter(messages(there)) == Counter(range(1000))


async def test_a_full_queue_makes_way_for_what_is_due_elsewhere(world: World) -> None:
    gate = asyncio.Event()
    async with receiver(gated(gate)) as busy, receiver(OK) as other:
        world.make(max_waiting=40, small_queue=10, page=10)
        for n in range(60):
            world.push(busy, n, due_at=world.now - 1000 + n)
        world.push(other, 100)
        world.start()
        for _ in range(10):
            reads = world.table.reads
            world.engine.poke()
            await until(lambda seen=reads: world.table.reads > seen)
            await until(lambda: world.engine.stats.unrecorded == 0)
        assert messages(other) == [100]
        put_off = [r for r in world.table.results if r.detail == "put off: many wait"]
        assert put_off
        assert {(r.attempts, r.next_at) for r in put_off} == {(0, world.now + 5 * MINUTE)}
        gate.set()
        world.now += 5 * MINUTE
        while world.table.rows:
            await world.swept()
        assert Counter(messages(busy)) == Counter(range(60))


async def test_the_backlog_of_a_silent_endpoint_uses_up_its_tries(world: World) -> None:
    async def silent(call: Call) -> None:
        call.close()

    async with receiver(silent) as there:
        world.make(small_queue=2, breaker_after=2, probe_pause=3600.0, probe_pause_max=3600.0)
        world.start()
        await until(lambda: world.table.reads == 1)
        world.engine.offer([world.push(there, n) for n in range(3)])
        await world.recorded(2)
        for n in range(10, 30):
            world.push(there, n)
        for wait in (0, HOUR, 3 * HOUR, 12 * HOUR):
            world.now += wait
            world.engine.poke()
            reads = world.table.reads
            await until(lambda seen=reads: world.table.reads > seen)
            await until(lambda: world.engine.stats.unrecorded == 0)
        assert world.engine.stats.waiting == 2
        assert len(world.table.rows) == 2
        assert len(there.requests) == 2
    skipped = [r for r in world.table.results if r.detail == "not tried: the endpoint does not answer"]
    assert world.engine.stats.skipped == len(skipped) > 40
    assert len(world.table.given_up) == world.engine.stats.exhausted > 15


async def test_results_survive_a_ledger_that_refuses_for_a_while(world: World) -> None:
    async with receiver(OK) as there:
        world.table.refusals = 7
        world.start()
        world.engine.offer([world.push(there, n) for n in range(50)])
        await world.recorded(50)
        assert world.table.refusals == 0
        await world.swept()
        assert Counter(messages(there)) == Counter(range(50))
    assert Counter(r.message_id for r in world.table.results) == Counter(range(50))


async def test_sending_stops_while_too_many_results_wait_for_the_ledger(world: World) -> None:
    async with receiver(OK) as there:
        world.table.refusals = 10**9
        world.make(max_waiting=20, small_queue=100, max_in_flight=4)
        world.start()
        world.engine.offer([world.push(there, n) for n in range(90)])
        await until(lambda: world.engine.stats.unrecorded >= 20)
        await until(lambda: world.engine.stats.in_flight == 0)
        assert 20 <= len(there.requests) <= 24
        world.table.refusals = 0
        await world.recorded(90)
        assert Counter(messages(there)) == Counter(range(90))


async def test_stopping_records_what_has_ended_and_a_restart_sends_the_rest(world: World) -> None:
    gate = asyncio.Event()

    async def behave(call: Call) -> None:
        if call.number in (3, 4):
            await gate.wait()
        await call.send(OK)

    async with receiver(behave) as there:
        world.make(max_in_flight=2)
        world.start()
        world.engine.offer([world.push(there, n) for n in range(20)])
        await there.count(5)
        await until(lambda: world.engine.stats.delivered == 3)
        await world.stop()
        assert len(world.table.results) == 3
        assert len(world.table.rows) == 17
        gate.set()
        world.make()
        world.start()
        await world.recorded(20)
        assert set(messages(there)) == set(range(20))
        assert len(there.requests) == 22


async def test_draining_waits_for_tries_under_way_and_starts_no_more(world: World) -> None:
    gate = asyncio.Event()
    async with receiver(gated(gate)) as there:
        world.make(max_in_flight=3)
        world.start()
        urls = [f"http://127.0.0.1:{there.port}/{n}" for n in range(6)]
        world.make(max_in_flight=6)
        await world.stop()
        world.start()
        world.engine.offer([world.push(there, n, url=url) for n, url in enumerate(urls)])
        await there.count(3)
        draining = asyncio.ensure_future(world.engine.drain(10))
        await asyncio.sleep(0)
        gate.set()
        assert await draining
        assert len(there.requests) == len(world.table.results) == 3
        assert len(world.table.rows) == 3


async def test_draining_gives_up_at_its_deadline(world: World) -> None:
    async with receiver(gated(asyncio.Event())) as there:
        world.start()
        world.engine.offer([world.push(there, 1)])
        await there.count(1)
        assert not await world.engine.drain(0.01)


async def test_draining_an_idle_engine_returns_at_once(world: World) -> None:
    world.start()
    assert await world.engine.drain(10)


async def test_gauges_tell_how_much_waits_and_for_how_long(world: World) -> None:
    gate = asyncio.Event()
    async with receiver(gated(gate)) as there:
        world.start()
        world.engine.offer([world.push(there, n) for n in range(10)])
        await there.count(2)
        world.now += 1234
        stats = world.engine.stats
        assert (stats.in_flight, stats.waiting, stats.lag_ms) == (2, 8, 1234)
        gate.set()
        await world.recorded(10)
        stats = world.engine.stats
        assert (stats.in_flight, stats.waiting, stats.lag_ms, stats.unrecorded) == (0, 0, 0, 0)


async def test_a_push_that_cannot_be_written_down_stops_no_other_and_its_url_is_not_logged(world: World) -> None:
    async with receiver(OK) as there:
        world.start()
        with capture_logs() as logs:
            world.engine.offer([world.push(there, 1, completed_at=10**20), world.push(there, 2)])
            await world.recorded(2)
        assert messages(there) == [2]
    assert [(r.delivered, r.detail) for r in world.table.of(1)] == [(False, "internal error")]
    assert world.engine.stats.errors == 1
    assert logs[0]["event"] == "push try"
    assert "canary" not in repr(logs)
    world.make()


async def test_no_log_line_holds_a_url(world: World) -> None:
    async def silent(call: Call) -> None:
        call.close()

    async with receiver(silent) as there:
        world.make(breaker_after=1)
        world.start()
        with capture_logs() as logs:
            world.engine.offer([world.push(there, n, attempts=3) for n in range(3)])
            await world.recorded(3)
    assert {line["event"] for line in logs} == {"push given up", "endpoint does not answer"}
    assert "canary" not in repr(logs)
    assert "44000000001" not in repr(logs)
