"""The push engine under pressure: receivers that hang, memory that is full, a ledger that refuses, a stop."""

import asyncio
from collections import Counter

from push_receiver import OK, Call, receiver, until
from push_world import HOUR, MINUTE, World, gated, messages
from structlog.testing import capture_logs


async def hang(call: Call) -> None:
    await call.closed_by_peer()


async def test_endpoints_that_hang_do_not_starve_one_that_answers(world: World) -> None:
    async with receiver(hang) as hanging, receiver(OK) as healthy:
        world.make(max_in_flight=16)
        world.start()
        world.engine.offer([world.push(healthy, 500)])
        await world.recorded(1)
        stuck = [world.push(hanging, 10_000 + n, url=f"http://127.0.0.1:{hanging.port}/{n % 30}") for n in range(3000)]
        world.engine.offer(stuck)
        await hanging.count(8)
        world.engine.offer([world.push(healthy, n) for n in range(500)])
        await world.recorded(501)
        assert Counter(messages(healthy)) == Counter(range(501))
        assert hanging.most_open == world.engine.stats.in_flight == 8


async def test_endpoints_that_hang_do_not_starve_a_new_one(world: World) -> None:
    async with receiver(hang) as hanging, receiver(OK) as healthy:
        world.make(max_in_flight=64)
        world.start()
        stuck = [world.push(hanging, 10_000 + n, url=f"http://127.0.0.1:{hanging.port}/{n % 30}") for n in range(3000)]
        world.engine.offer(stuck)
        await hanging.count(30)
        world.engine.offer([world.push(healthy, n) for n in range(500)])
        await world.recorded(500)
        assert Counter(messages(healthy)) == Counter(range(500))
        assert hanging.most_open == world.engine.stats.in_flight == 30


async def test_hanging_tries_end_at_the_deadline_and_are_scheduled_again(world: World) -> None:
    await world.limit_time(0.1)
    world.make(probe_pause=3600.0, probe_pause_max=3600.0)
    async with receiver(hang) as there:
        world.start()
        world.engine.offer([world.push(there, n) for n in range(50)])
        await world.recorded(5)
        await until(lambda: world.engine.stats.in_flight == 0)
        assert there.most_open == 1
        assert (len(there.requests), world.engine.stats.waiting) == (5, 45)
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
            assert there.most_open == 1
            gate.set()
            await world.recorded(200)
        failed = [r for r in world.table.results if not r.delivered]
        assert 10 <= len(failed) < 200
        assert there.most_open > 1
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
        await there.count(1)
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
        for _ in range(20):
            world.now += 5 * MINUTE
            await world.swept()
        assert not world.table.rows
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


# PROMISE-8
async def test_stopping_records_what_has_ended_and_a_restart_sends_the_rest(world: World) -> None:
    gate = asyncio.Event()

    async def behave(call: Call) -> None:
        if call.number in (3, 4):
            await gate.wait()
        await call.send(OK)

    async with receiver(behave) as there:
        world.make(max_in_flight=2)
        world.start()
        world.table.refusals = 1
        world.pause = asyncio.Event().wait
        world.engine.offer([world.push(there, n) for n in range(20)])
        await there.count(5)
        await until(lambda: world.engine.stats.delivered == 3)
        assert world.table.results == []
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
        await there.count(1)
        world.now += 1234
        stats = world.engine.stats
        assert (stats.in_flight, stats.waiting, stats.lag_ms) == (1, 9, 1234)
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
