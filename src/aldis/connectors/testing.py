"""The contract of a connector as tests: subclass `ConnectorContract`, and pytest runs it against yours.

    class TestMine(ConnectorContract):
        def rig(self, sink):
            return a_context_manager_that_yields_a_Rig(sink)

The tests are coroutines; run them with pytest-asyncio in auto mode, or await them yourself.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import UnionType
from typing import NamedTuple

from aldis.connectors.base import Accepted, Connector, Delivery, NotSent, OutboundPart, Outcome, Refused, Sink, Unknown


class Rig(NamedTuple):
    """A connector that was not run yet, and an upstream that does what the contract needs."""

    connector: Connector
    delivered: int
    """An MSISDN to which parts are accepted, and reported delivered soon."""
    refused: int
    """An MSISDN to which parts are refused for good."""
    silent: int
    """An MSISDN to which parts are taken, and not answered for longer than a test lasts."""
    cut: Callable[[], None]
    """Cuts the line to the upstream; it comes up again by itself."""
    bound: Callable[[], int]
    """-> connections that are bound at the upstream now."""
    connects: Callable[[], int]
    """-> connections that were ever made to the upstream."""
    arrived: Callable[[], int]
    """-> parts that reached the upstream."""
    per_bind: int = 1
    """Connections that one bind is made of."""


class RecordingSink:
    """A `Sink` that keeps what it hears, and answers deliveries as it is told."""

    def __init__(self, *, answer: bool | None = True, patience_s: float = 10.0) -> None:
        """Start empty.

        Args:
            answer: What each delivery is answered with at once; None: nothing, the test does it.
            patience_s: How long `until` waits before it fails.
        """
        self.answer = answer
        self.outcomes: list[tuple[OutboundPart, Outcome]] = []
        self.late: list[tuple[OutboundPart, Accepted | Refused]] = []
        self.deliveries: list[Delivery] = []
        self.batches: list[int] = []
        """The length of each list of deliveries."""
        self.readies = 0
        self.is_alive = True
        """Whether anything may leave."""
        self.names: set[str] = set()
        self._patience_s = patience_s
        self._news = asyncio.Event()

    def on_outcomes(self, connector: str, outcomes: Sequence[tuple[OutboundPart, Outcome]]) -> None:
        """Keep outcomes."""
        self.outcomes += outcomes
        self._hear(connector)

    def on_late_outcomes(self, connector: str, outcomes: Sequence[tuple[OutboundPart, Accepted | Refused]]) -> None:
        """Keep late answers."""
        self.late += outcomes
        self._hear(connector)

    def on_deliveries(self, connector: str, deliveries: Sequence[Delivery]) -> None:
        """Keep deliveries, and answer them if told to."""
        self.deliveries += deliveries
        self.batches.append(len(deliveries))
        if self.answer is not None:
            for delivery in deliveries:
                delivery.answer(self.answer)
        self._hear(connector)

    def may_send(self) -> bool:
        """Let everything leave, unless a check says otherwise."""
        return self.is_alive

    def on_ready(self, connector: str) -> None:
        """Count."""
        self.readies += 1
        self._hear(connector)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something that becomes true by what the sink hears.

        Raises:
            TimeoutError: it did not in time.
        """
        async with asyncio.timeout(self._patience_s):
            while not condition():
                self._news.clear()
                await self._news.wait()

    async def eventually(self, condition: Callable[[], bool]) -> None:
        """Wait for something that becomes true elsewhere: it is looked at every few milliseconds.

        Raises:
            TimeoutError: it did not in time.
        """
        async with asyncio.timeout(self._patience_s):
            while not condition():  # noqa: ASYNC110 (there is no event for it)
                await asyncio.sleep(0.005)

    def outcome_of(self, part: OutboundPart) -> Outcome | None:
        """Return the outcome of a part, if it was heard."""
        return next((outcome for heard, outcome in self.outcomes if heard is part), None)

    def _hear(self, connector: str) -> None:
        self.names.add(connector)
        self._news.set()


def make_parts(msisdn: int, count: int, first_id: int = 1) -> list[OutboundPart]:
    """Return `count` one-part messages to an MSISDN."""
    return [
        OutboundPart(
            account_id=1,
            message_id=first_id + at,
            part_no=1,
            parts=1,
            attempt=1,
            msisdn=msisdn,
            originator="27831234567",
            octets=b"part %d" % at,
            data_coding=0,
            udhi=False,
            valid_until=None,
        )
        for at in range(count)
    ]


class _Sender(RecordingSink):
    """A sink that sends what waits as soon as it may."""

    rig: Rig | None = None
    waiting: Sequence[OutboundPart] = ()

    def on_ready(self, connector: str) -> None:
        super().on_ready(connector)
        if self.rig is not None:
            self.waiting = self.waiting[self.rig.connector.submit(self.waiting) :]


class ConnectorContract:
    """What any connector must do; see `aldis.connectors.base`."""

    def rig(self, sink: Sink) -> AbstractAsyncContextManager[Rig]:
        """Return a context in which a connector that reports to `sink` can be run."""
        raise NotImplementedError

    @asynccontextmanager
    async def running(self, sink: RecordingSink) -> AsyncIterator[Rig]:
        """Run the connector until it is ready, and as long as the context lasts."""
        async with self.rig(sink) as rig, asyncio.TaskGroup() as group:
            task = group.create_task(rig.connector.run())
            await sink.until(lambda: sink.readies > 0)
            yield rig
            task.cancel()

    async def submit_all(self, rig: Rig, sink: RecordingSink, parts: Sequence[OutboundPart]) -> None:
        """Submit parts as capacity allows, until all were taken."""
        taken = 0
        while taken < len(parts):
            await sink.until(lambda: rig.connector.capacity() > 0)
            taken += rig.connector.submit(parts[taken:])

    async def test_nothing_is_taken_before_it_is_bound(self) -> None:
        """No capacity, and `submit` takes none."""
        sink = RecordingSink()
        async with self.rig(sink) as rig:
            assert not rig.connector.is_bound
            assert rig.connector.capacity() == 0
            assert rig.connector.submit(make_parts(rig.delivered, 3)) == 0

    async def test_it_says_when_it_is_ready(self) -> None:
        """`on_ready` is called once there is room."""
        sink = RecordingSink()
        async with self.running(sink) as rig:
            assert rig.connector.is_bound
            assert rig.connector.capacity() > 0

    async def test_submit_takes_what_capacity_says_and_no_more(self) -> None:
        """The first parts are taken, in order."""
        sink = RecordingSink()
        async with self.running(sink) as rig:
            capacity = rig.connector.capacity()
            parts = make_parts(rig.silent, capacity + 5)
            assert rig.connector.submit(parts) == capacity
            assert rig.connector.capacity() == 0
            assert rig.connector.submit(parts[capacity:]) == 0

    # SMPP-5
    async def test_each_part_taken_has_one_outcome(self) -> None:
        """Accepted with an id of its own, for many more parts than the window has."""
        sink = RecordingSink()
        async with self.running(sink) as rig:
            parts = make_parts(rig.delivered, 500)
            await self.submit_all(rig, sink, parts)
            await sink.until(lambda: len(sink.outcomes) >= len(parts))
            heard = Counter(part.message_id for part, _ in sink.outcomes)
            assert heard == Counter(part.message_id for part in parts)
            ids = {outcome.upstream_id for _, outcome in sink.outcomes if isinstance(outcome, Accepted)}
            assert len(ids) == len(parts)
            assert sink.names == {rig.connector.name}

    async def test_on_ready_alone_keeps_a_sender_going(self) -> None:
        """Whenever room returns, `on_ready` is called: a sender that acts on nothing else gets all parts out."""
        sink = _Sender()
        async with self.running(sink) as rig:
            sink.rig, sink.waiting = rig, make_parts(rig.delivered, 300)
            sink.on_ready(rig.connector.name)
            await sink.until(lambda: len(sink.outcomes) >= 300)
            assert sink.waiting == []

    async def test_outcomes_are_not_told_within_submit(self) -> None:
        """The caller of `submit` learns first how many were taken."""
        sink = RecordingSink()
        async with self.running(sink) as rig:
            [good] = make_parts(rig.delivered, 1)
            [refused] = make_parts(rig.refused, 1)
            assert rig.connector.submit([good, refused]) == 2
            assert sink.outcomes == []

    async def test_a_refusal_for_good_is_not_retryable(self) -> None:
        """Refused, and not to be tried again."""
        sink = RecordingSink()
        async with self.running(sink) as rig:
            [part] = make_parts(rig.refused, 1)
            rig.connector.submit([part])
            await sink.until(lambda: bool(sink.outcomes))
            outcome = sink.outcome_of(part)
            assert isinstance(outcome, Refused)
            assert not outcome.retryable

    async def test_a_receipt_names_the_id_that_was_accepted(self) -> None:
        """One part, one final receipt, under the id of the outcome."""
        sink = RecordingSink()
        async with self.running(sink) as rig:
            [part] = make_parts(rig.delivered, 1)
            rig.connector.submit([part])
            await sink.until(lambda: bool(sink.outcomes) and bool(sink.deliveries))
            accepted, receipt = sink.outcome_of(part), sink.deliveries[0]
            assert isinstance(accepted, Accepted)
            assert (receipt.is_receipt, receipt.is_final, receipt.state) == (True, True, "DELIVRD")
            assert receipt.upstream_id == accepted.upstream_id
            assert receipt.connector == rig.connector.name

    # REC-10
    async def test_a_delivery_refused_comes_again(self) -> None:
        """False asks the upstream to send it again; True ends it."""
        sink = RecordingSink(answer=None)
        async with self.running(sink) as rig:
            rig.connector.submit(make_parts(rig.delivered, 1))
            await sink.until(lambda: len(sink.deliveries) == 1)
            sink.deliveries[0].answer(False)
            await sink.until(lambda: len(sink.deliveries) == 2)
            assert sink.deliveries[1].upstream_id == sink.deliveries[0].upstream_id
            sink.deliveries[1].answer(True)

    async def test_a_delivery_not_answered_comes_again_after_a_cut(self) -> None:
        """Nothing but an answer takes a delivery off the upstream."""
        sink = RecordingSink(answer=None)
        async with self.running(sink) as rig:
            rig.connector.submit(make_parts(rig.delivered, 1))
            await sink.until(lambda: len(sink.deliveries) == 1)
            rig.cut()
            await sink.until(lambda: len(sink.deliveries) == 2)
            assert sink.deliveries[1].upstream_id == sink.deliveries[0].upstream_id
            sink.deliveries[0].answer(True)
            sink.deliveries[1].answer(True)

    async def test_a_cut_line_makes_what_was_sent_unknown(self) -> None:
        """Each part in flight is told of once; nothing is sent again; the connector comes back."""
        sink = RecordingSink()
        async with self.running(sink) as rig:
            parts = make_parts(rig.silent, rig.connector.capacity())
            rig.connector.submit(parts)
            [witness] = make_parts(rig.delivered, 1, first_id=len(parts) + 1)
            await self._let_out(rig)
            rig.cut()
            await sink.until(lambda: len(sink.outcomes) >= len(parts))
            assert all(isinstance(outcome, Unknown) for _, outcome in sink.outcomes)
            assert {part.message_id for part, _ in sink.outcomes} == {part.message_id for part in parts}
            await self.submit_all(rig, sink, [witness])
            await sink.until(lambda: sink.outcome_of(witness) is not None)
            assert len(sink.outcomes) == len(parts) + 1

    async def test_drain_waits_for_outcomes_and_takes_no_more(self) -> None:
        """After `drain` every part has its outcome, nothing is bound, and `run` returns."""
        sink = RecordingSink()
        async with self.rig(sink) as rig, asyncio.TaskGroup() as group:
            running = group.create_task(rig.connector.run())
            await sink.until(lambda: sink.readies > 0)
            parts = make_parts(rig.delivered, rig.connector.capacity())
            rig.connector.submit(parts)
            draining = group.create_task(rig.connector.drain(5.0))
            await asyncio.sleep(0)
            assert rig.connector.capacity() == 0
            assert rig.connector.submit(make_parts(rig.delivered, 1)) == 0
            await draining
            assert len(sink.outcomes) == len(parts)
            assert all(isinstance(outcome, Accepted) for _, outcome in sink.outcomes)
            assert not rig.connector.is_bound
            await running

    async def test_drain_gives_up_on_silence(self) -> None:
        """What is not answered within the time is Unknown."""
        sink = RecordingSink()
        async with self.rig(sink) as rig, asyncio.TaskGroup() as group:
            group.create_task(rig.connector.run())
            await sink.until(lambda: sink.readies > 0)
            [part] = make_parts(rig.silent, 1)
            rig.connector.submit([part])
            await self._let_out(rig)
            await rig.connector.drain(0.05)
            assert isinstance(sink.outcome_of(part), Unknown)

    async def test_cancelling_run_leaves_no_part_without_outcome(self) -> None:
        """What was taken is told of, Unknown or NotSent, before `run` is over."""
        sink = RecordingSink()
        async with self.rig(sink) as rig, asyncio.TaskGroup() as group:
            task = group.create_task(rig.connector.run())
            await sink.until(lambda: sink.readies > 0)
            parts = make_parts(rig.silent, rig.connector.capacity())
            rig.connector.submit(parts)
            task.cancel()
            await asyncio.wait([task])
            assert len(sink.outcomes) == len(parts)
            assert all(isinstance(outcome, Unknown | NotSent) for _, outcome in sink.outcomes)
            assert not rig.connector.is_bound

    # SMPP-17
    async def test_a_new_connector_holds_all_its_binds(self) -> None:
        """One that is alone needs no call."""
        async with self.rig(RecordingSink()) as rig:
            assert rig.connector.held == frozenset(range(rig.connector.binds))

    # SMPP-17
    async def test_with_nothing_held_it_connects_nowhere(self) -> None:
        """`run` waits, and ends with `drain`, which has nothing to wait for."""
        async with self.rig(RecordingSink()) as rig, asyncio.TaskGroup() as group:
            rig.connector.hold(())
            running = group.create_task(rig.connector.run())
            await self._let_out(rig)
            self._takes_nothing(rig)
            assert rig.connector.held == frozenset()
            async with asyncio.timeout(1.0):
                await rig.connector.drain(5.0)
                await running
            assert rig.connects() == 0

    # SMPP-17
    async def test_only_what_is_held_is_connected(self) -> None:
        """A connection for each bind that is held and none besides; what is held later connects then."""
        sink = RecordingSink()
        async with self.rig(sink) as rig, asyncio.TaskGroup() as group:
            binds = rig.connector.binds
            most = frozenset(range(max(1, binds - 1)))
            rig.connector.hold(most)
            running = group.create_task(rig.connector.run())
            await self._bound(rig, sink, len(most))
            await self._accepted(rig, sink, make_parts(rig.delivered, 20))
            assert rig.connector.held == most
            assert rig.connects() == len(most) * rig.per_bind
            rig.connector.hold(range(binds))
            await self._bound(rig, sink, binds)
            assert rig.connects() == binds * rig.per_bind
            running.cancel()

    # SMPP-17
    async def test_letting_a_bind_go_loses_nothing(self) -> None:
        """The parts in flight end as if nothing had happened; the bind is held until they have, and is gone then."""
        sink = RecordingSink()
        async with self.running(sink) as rig:
            binds = rig.connector.binds
            await self._bound(rig, sink, binds)
            parts = make_parts(rig.delivered, 100 + rig.connector.capacity())
            taken = rig.connector.submit(parts)
            rig.connector.hold(range(1, binds))
            assert rig.connector.held == frozenset(range(binds))
            await sink.eventually(lambda: rig.connector.held == frozenset(range(1, binds)))
            await self._bound(rig, sink, binds - 1)
            rig.connector.hold(range(binds))
            await self._accepted(rig, sink, parts[taken:])
            await sink.until(lambda: len(sink.outcomes) >= len(parts))
            self._each_ended_once(sink, parts, Accepted)

    # SMPP-17
    async def test_a_bind_let_go_takes_no_more_parts(self) -> None:
        """From the call on, though what it took before has no outcome yet."""
        sink = RecordingSink()
        async with self.running(sink) as rig:
            parts = make_parts(rig.delivered, rig.connector.capacity())
            rig.connector.submit(parts)
            await sink.until(lambda: rig.connector.capacity() > 0)
            rig.connector.hold(())
            self._takes_nothing(rig)
            await sink.eventually(lambda: not rig.connector.held)
            self._each_ended_once(sink, parts, Accepted)
            await self._bound(rig, sink, 0)

    # SMPP-17
    async def test_a_bind_held_again_before_it_is_gone_comes_back(self) -> None:
        """It is never without a holder, ends what was in flight, and has one connection after the other."""
        sink = RecordingSink()
        async with self.running(sink) as rig:
            binds = rig.connector.binds
            await self._bound(rig, sink, binds)
            parts = make_parts(rig.delivered, rig.connector.capacity())
            rig.connector.submit(parts)
            rig.connector.hold(())
            rig.connector.hold(range(binds))
            assert rig.connector.held == frozenset(range(binds))
            await sink.eventually(lambda: rig.connects() == 2 * binds * rig.per_bind)
            await self._bound(rig, sink, binds)
            self._each_ended_once(sink, parts, Accepted)
            await self._accepted(rig, sink, make_parts(rig.delivered, 20, first_id=1_000_000))
            assert rig.connects() == 2 * binds * rig.per_bind

    # SMPP-18
    async def test_a_cut_leaves_what_was_sent_unknown(self) -> None:
        """At once nothing is taken; nothing arrives any more; what is held afterwards binds again."""
        sink = RecordingSink()
        async with self.running(sink) as rig:
            await self._bound(rig, sink, rig.connector.binds)
            parts = make_parts(rig.silent, rig.connector.capacity())
            rig.connector.submit(parts)
            await sink.eventually(lambda: rig.arrived() == len(parts))
            rig.connector.cut("the lease is gone")
            self._takes_nothing(rig)
            await sink.until(lambda: len(sink.outcomes) >= len(parts))
            self._each_ended_once(sink, parts, Unknown)
            await sink.eventually(lambda: not rig.connector.held)
            await self._bound(rig, sink, 0)
            rig.connector.hold(range(rig.connector.binds))
            await self._bound(rig, sink, rig.connector.binds)
            await self._accepted(rig, sink, make_parts(rig.delivered, 1, first_id=1_000_000))
            assert rig.arrived() == len(parts) + 1

    # SMPP-18
    async def test_what_was_taken_just_before_a_cut_does_not_leave(self) -> None:
        """Nothing is kept for the next turn of the loop."""
        sink = RecordingSink()
        async with self.running(sink) as rig:
            await self._bound(rig, sink, rig.connector.binds)
            parts = make_parts(rig.delivered, rig.connector.capacity())
            rig.connector.submit(parts)
            rig.connector.cut("the lease is gone")
            await sink.until(lambda: len(sink.outcomes) >= len(parts))
            self._each_ended_once(sink, parts, Unknown | NotSent)
            await self._bound(rig, sink, 0)
            assert rig.arrived() == 0

    # SMPP-18
    async def test_a_cut_ends_the_waiting_of_a_bind_let_go(self) -> None:
        """A bind is held as long as it waits, and no longer after a cut."""
        sink = RecordingSink()
        async with self.running(sink) as rig:
            await self._bound(rig, sink, rig.connector.binds)
            parts = make_parts(rig.silent, rig.connector.capacity())
            rig.connector.submit(parts)
            await sink.eventually(lambda: rig.arrived() == len(parts))
            rig.connector.hold(())
            await self._let_out(rig)
            assert rig.connector.held == frozenset(range(rig.connector.binds))
            rig.connector.cut("the lease is gone")
            await sink.eventually(lambda: not rig.connector.held)
            self._each_ended_once(sink, parts, Unknown)

    def _takes_nothing(self, rig: Rig) -> None:
        assert not rig.connector.is_bound
        assert rig.connector.capacity() == 0
        assert rig.connector.submit(make_parts(rig.delivered, 1)) == 0

    def _each_ended_once(self, sink: RecordingSink, parts: Sequence[OutboundPart], kind: type | UnionType) -> None:
        heard = Counter(part.message_id for part, _ in sink.outcomes)
        assert heard == Counter(part.message_id for part in parts)
        assert all(isinstance(outcome, kind) for _, outcome in sink.outcomes)

    async def _bound(self, rig: Rig, sink: RecordingSink, binds: int) -> None:
        """Wait until so many binds are up, each with all its connections."""
        count = binds * rig.per_bind
        await sink.eventually(lambda: rig.bound() == count and rig.connector.is_bound == (binds > 0))

    async def _accepted(self, rig: Rig, sink: RecordingSink, parts: Sequence[OutboundPart]) -> None:
        """Submit parts as capacity allows, and wait until each was accepted."""
        await self.submit_all(rig, sink, parts)
        await sink.until(lambda: all(sink.outcome_of(part) is not None for part in parts))
        assert all(isinstance(sink.outcome_of(part), Accepted) for part in parts)

    async def _let_out(self, rig: Rig) -> None:
        """Give the connector the turns of the loop that it needs to write what it took."""
        for _ in range(5):
            await asyncio.sleep(0)
