"""Binds that are taken and let go while an SMPP connector runs, against a real message centre on loopback.

What any connector must do about them is in the contract; here is what only SMPP has, and what only chance finds.
"""

import asyncio
import random
from collections import Counter, defaultdict
from contextlib import asynccontextmanager

import msgspec
import pytest
import uvloop
from smsc_site import DELIVERED, QUICK, SILENT, Witness, bound, now_ms, smpp_settings
from structlog.testing import capture_logs

from aldis.connectors import smpp
from aldis.connectors.base import Accepted, NotSent, Unknown
from aldis.connectors.simulator import Smsc, SmscSettings
from aldis.connectors.smpp import SmppConnector
from aldis.connectors.testing import RecordingSink, make_parts

EVERY_TURN = range(30)
"""So many turns of the loop see a bind through from its first step until it is up."""


@asynccontextmanager
async def running(sink, centre, **changes):
    """Run a connector to a message centre."""
    async with asyncio.TaskGroup() as group:
        connector = SmppConnector(smpp_settings(centre, **changes), sink, now_ms, rng=lambda: 0.0)
        task = group.create_task(connector.run())
        yield connector
        task.cancel()


async def turns(count):
    for _ in range(count):
        await asyncio.sleep(0)


class TestLettingGo:
    # SMPP-17
    async def test_the_answer_still_out_is_waited_for(self):
        sink = RecordingSink()
        async with bound(sink, binds=2, smsc={"slow_response_ms": 50}) as (smsc, _, connector):
            await sink.eventually(lambda: smsc.bound == 2)
            parts = make_parts(27820000110, 2)
            connector.submit(parts)
            connector.hold({1})
            await sink.eventually(lambda: connector.held == {1})
            assert all(isinstance(sink.outcome_of(part), Accepted) for part in parts)
            assert (smsc.bound, smsc.connects) == (1, 2)

    # SMPP-17
    async def test_and_only_within_a_bound(self, monkeypatch):
        monkeypatch.setattr(smpp, "LET_GO_S", 0.05)
        sink = RecordingSink()
        async with bound(sink) as (smsc, _, connector):
            [part] = make_parts(SILENT, 1)
            connector.submit([part])
            await sink.eventually(lambda: smsc.submits == 1)
            connector.hold(())
            await sink.eventually(lambda: not connector.held)
            assert isinstance(sink.outcome_of(part), Unknown)
            await sink.eventually(lambda: smsc.bound == 0)

    async def test_a_peer_that_says_nothing_more_holds_no_bind(self, monkeypatch):
        monkeypatch.setattr(smpp, "LET_GO_S", 0.02)
        monkeypatch.setattr("aldis.connectors.bind.UNBIND_S", 0.02)
        sink = RecordingSink()
        async with bound(sink) as (smsc, _, connector):
            smsc.freeze()
            parts = make_parts(DELIVERED, 3)
            connector.submit(parts)
            connector.hold(())
            await sink.eventually(lambda: not connector.held)
            assert [type(sink.outcome_of(part)) for part in parts] == [Unknown] * 3

    async def test_a_drain_does_not_wait_longer_for_a_bind_that_was_let_go_before(self, monkeypatch):
        monkeypatch.setattr(smpp, "LET_GO_S", 1_000.0)
        monkeypatch.setattr("aldis.connectors.bind.UNBIND_S", 0.02)
        sink = RecordingSink()
        async with bound(sink) as (smsc, _, connector):
            [part] = make_parts(SILENT, 1)
            connector.submit([part])
            await sink.eventually(lambda: smsc.submits == 1)
            connector.hold(())
            await connector.drain(0.02)
            assert isinstance(sink.outcome_of(part), Unknown)

    # SMPP-17
    async def test_a_pair_waits_as_one(self):
        sink = RecordingSink()
        async with bound(sink, bind="pair", smsc={"slow_response_ms": 50}) as (smsc, _, connector):
            await sink.eventually(lambda: smsc.bound == 2)
            [part] = make_parts(27820000110, 1)
            connector.submit([part])
            connector.hold(())
            connector.hold({0})
            await sink.eventually(lambda: smsc.bound == 1)  # the receiver is gone, and waits for the transmitter
            assert sink.outcomes == []
            assert smsc.connects == 2
            await sink.until(lambda: bool(sink.outcomes))
            assert isinstance(sink.outcome_of(part), Accepted)
            await sink.eventually(lambda: smsc.bound == 2)
            assert smsc.connects == 4

    async def test_after_a_drain_nothing_is_held_any_more(self):
        sink = RecordingSink()
        async with bound(sink) as (_, _, connector):
            await connector.drain(1.0)
            assert connector.held == frozenset()
            connector.hold({0})
            assert connector.held == frozenset()

    @pytest.mark.parametrize("numbers", [{-1}, {0, 2}])
    def test_a_bind_that_there_is_not_cannot_be_held(self, numbers):
        connector = SmppConnector(smpp_settings(Smsc(SmscSettings(), now_ms), binds=2), RecordingSink(), now_ms)
        with pytest.raises(ValueError, match="has binds 0 to 1"):
            connector.hold(numbers)
        assert connector.held == {0, 1}

    async def test_each_change_of_hands_is_one_line(self):
        with capture_logs() as lines:
            sink = RecordingSink()
            async with bound(sink, bind="pair", binds=2) as (smsc, _, connector):
                await sink.eventually(lambda: smsc.bound == 4)
                connector.hold({0})
                await sink.eventually(lambda: connector.held == {0})
                connector.hold({0, 1})
                await sink.eventually(lambda: smsc.bound == 4)
                changes = [
                    (line["event"], line["connector"], line["bind"])
                    for line in lines
                    if line["event"].startswith("bind ")
                ]
        taken = [("bind taken", "s", 0), ("bind taken", "s", 1)]
        assert changes == [*taken, ("bind let go", "s", 1), ("bind taken", "s", 1)]


class TestTaking:
    # SMPP-17
    async def test_the_pauses_of_the_time_before_do_not_count(self, unused_tcp_port):
        sink = RecordingSink()
        smsc = Smsc(SmscSettings(port=unused_tcp_port), now_ms)
        smsc.port = unused_tcp_port
        with capture_logs() as lines:
            async with running(sink, smsc, reconnect_min_s=3_600.0, reconnect_max_s=3_600.0) as connector:
                await sink.eventually(lambda: any(line["event"] == "link down" for line in lines))
                async with smsc:
                    connector.hold(())
                    await sink.eventually(lambda: not connector.held)
                    connector.hold({0})
                    await sink.until(lambda: connector.is_bound)

    # SMPP-17
    async def test_a_bind_never_has_two_connections(self):
        """The message centre lets in just as many as there are, and refuses none."""
        sink = RecordingSink()
        async with bound(sink, binds=3, smsc={"max_binds": 3}) as (smsc, _, connector):
            for at in range(20):
                connector.hold(())
                await turns(at)
                connector.hold({0, 1, 2})
                await turns(20 - at)
            await sink.eventually(lambda: smsc.bound == 3 and connector.capacity() == 30)
            assert connector.counters.reconnects == 0


async def stop_at_every_turn(stop):
    """Stop holding after any number of turns since a bind was taken: nothing stays, and it can be taken again."""
    sink = RecordingSink()
    async with Smsc(SmscSettings(**QUICK), now_ms) as smsc, running(sink, smsc) as connector:
        for count in EVERY_TURN:
            connector.hold({0})
            await turns(count)
            stop(connector)
            assert not connector.is_bound
            await sink.eventually(lambda: not connector.held and not smsc.connections)
        connector.hold({0})
        await sink.until(lambda: connector.is_bound)


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("stop", [lambda c: c.hold(()), lambda c: c.cut("lost")], ids=["let-go", "cut"])
def test_a_bind_may_be_stopped_at_any_moment_of_its_beginning(new_loop, stop):
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(stop_at_every_turn(stop))


class Churn:
    """A connector whose binds change hands at random while it always has something to send."""

    def __init__(self, connector, sink, seed):
        self.connector, self.sink = connector, sink
        self.random = random.Random(seed)
        self.taken = []

    def submit(self):
        parts = make_parts(DELIVERED, self.random.randint(1, 15), first_id=len(self.taken) + 1)
        parts = [msgspec.structs.replace(part, octets=b"%d" % part.message_id) for part in parts]
        self.taken += parts[: self.connector.submit(parts)]

    def change(self, cuts):
        if self.random.random() < cuts:
            self.connector.cut("lost")
            assert self.connector.submit(make_parts(DELIVERED, 1)) == 0
        self.connector.hold([number for number in range(3) if self.random.random() < 0.6])

    async def run(self, cuts):
        for _ in range(60):
            for _ in range(self.random.randint(0, 12)):
                self.submit()
                await asyncio.sleep(0)
            self.change(cuts)
        self.connector.hold(range(3))
        await self.sink.until(lambda: len(self.sink.outcomes) >= len(self.taken))
        await self.sink.eventually(lambda: self.connector.capacity() == 30)


async def churn(bind, cuts, seed):
    sink, witness = RecordingSink(), Witness()
    centre = SmscSettings(**QUICK, max_binds=6 if bind == "pair" else 3)
    async with Smsc(centre, now_ms, witness) as smsc, running(sink, smsc, binds=3, bind=bind) as connector:
        one = Churn(connector, sink, seed)
        await one.run(cuts)
        assert connector.counters.reconnects == 0
        assert len(one.taken) > 100
        assert sorted(part.message_id for part, _ in sink.outcomes) == [part.message_id for part in one.taken]
        ended = defaultdict(set)
        for part, outcome in sink.outcomes:
            ended[type(outcome)].add(part.message_id)
        arrived = Counter(int(pdu.short_message) for pdu, _ in witness.submits)
        assert set(arrived.values()) == {1}
        assert ended[Accepted] <= set(arrived) <= ended[Accepted] | ended[Unknown]
        assert bool(ended[Unknown] | ended[NotSent]) == bool(cuts)


# SMPP-5 SMPP-17 SMPP-18
@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("cuts", [0.0, 0.3], ids=["let-go", "cut"])
@pytest.mark.parametrize("bind", ["transceiver", "pair"])
def test_each_part_ends_once_however_binds_change_hands(new_loop, cuts, bind):
    for seed in range(3):
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(churn(bind, cuts, seed))
