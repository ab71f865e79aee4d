"""What the push engine sends and when, with real receivers; the wall clock is in the test's hands."""

import asyncio
import contextlib

import pytest
from push_receiver import OK, Call, receiver, until
from push_world import HOUR, MINUTE, NO, World, fields, gated, messages

from aldis.model.types import PushResult
from aldis.push.client import PushClient
from aldis.push.guard import EgressGuard


# PROMISE-9
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


# EAPI-63 EAPI-64 PROMISE-8 PROMISE-9
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
    assert world.table.results == [PushResult(1, 1, 1, delivered, 1, next_at, detail, world.now)]


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


# EAPI-65
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


# EAPI-65
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


async def test_a_push_that_becomes_durable_while_the_engine_ends_waits_in_the_table(world: World) -> None:
    """Found by zombie: the error ended the lane that had just committed it, and with it the node."""

    async def behave(call: Call) -> None:
        await call.send(OK)

    async with receiver(behave) as there:
        world.start()
        await world.swept()
        world.running[0].cancel()
        await asyncio.sleep(0)  # it is ending now
        world.engine.offer([world.push(there, 1)])
        await world.stop()
        assert len(there.requests) == 0
    assert list(world.table.rows) == [1]
