"""Dispatch and inbound on a real store, with a connector that does as it is told."""

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AbstractAsyncContextManager, suppress

import msgspec
import pytest
from tests.stores import Engine

from aldis import dispatch as dispatch_module
from aldis.connectors.base import Accepted, Connector, Delivery, NotSent, OutboundPart, Outcome, Refused, Unknown
from aldis.dispatch import Dispatch
from aldis.inbound import Inbound
from aldis.ledger import Ended, News
from aldis.model.status import Status
from aldis.model.types import Account
from aldis.rules.retry import next_submit_at
from aldis.store.testing import Bench
from aldis.store.testing.bench import LEASE_MS, NOON, VALIDITY_MS

THROTTLED = Refused(0x58, retryable=True, throttled=True)
BUSY = Refused(0x14, retryable=True)
ADA = 4915112345678
TAKEN = Accepted("")
"""Taken, under an id that names message and part."""


class ScriptedConnector:
    """Takes parts into a window and answers when the test says so."""

    def __init__(self, name: str, window: int) -> None:
        self.name = name
        self.window = window
        self.is_bound = True
        self.binds = 1
        self.held = frozenset({0})
        self.told: Dispatch
        self.sent: list[OutboundPart] = []
        self.open: list[OutboundPart] = []
        self._came = asyncio.Event()

    def hold(self, numbers: Collection[int]) -> None:
        self.held = frozenset(numbers)
        self.is_bound = bool(numbers)

    def cut(self, reason: str) -> None:
        self.hold(())
        self.answer(*[Unknown(reason)] * len(self.open))

    def capacity(self) -> int:
        return self.window - len(self.open)

    def submit(self, parts: Sequence[OutboundPart]) -> int:
        taken = list(parts[: max(self.capacity(), 0)])
        self.sent += taken
        self.open += taken
        self._came.set()
        return len(taken)

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def drain(self, timeout_s: float) -> None:
        self.is_bound = False

    async def has_sent(self, count: int) -> list[OutboundPart]:
        """Wait until so many parts were submitted."""
        async with asyncio.timeout(10):
            while len(self.sent) < count:
                await self._came.wait()
                self._came.clear()
        assert len(self.sent) == count
        return self.sent

    def answer(self, *outcomes: Outcome) -> None:
        """Answer the oldest open parts; an Accepted gets an id of its own."""
        told: list[tuple[OutboundPart, Outcome]] = []
        for outcome in outcomes:
            part = self.open.pop(0)
            named = Accepted(f"{part.message_id}-{part.part_no}") if outcome == TAKEN else outcome
            told.append((part, named))
        self.told.on_outcomes(self.name, told)


class Rig:
    """A dispatch with two connectors on a bench, running as a task."""

    def __init__(self, bench: Bench, account: Account, engine: Engine) -> None:
        self.bench = bench
        self.account = account
        self.engine = engine
        self.north = ScriptedConnector("north", 3)
        self.south = ScriptedConnector("south", 3)
        connectors: dict[str, Connector] = {"north": self.north, "south": self.south}
        self.dispatch = Dispatch(bench.ledger, connectors)
        self.north.told = self.south.told = self.dispatch
        self.task: asyncio.Task[None]

    async def submit(self, count: int = 1, **fields: object) -> list[int]:
        batch = self.bench.batch(self.account, range(ADA, ADA + count), **fields)  # type: ignore[arg-type]
        await self.bench.ledger.admit(batch)
        self.dispatch.wake()
        return [row[0] for row in batch.messages]

    async def submit_long(self, parts: int) -> int:
        batch = self.bench.batch(self.account, [ADA], parts=parts)
        await self.bench.ledger.admit(msgspec.structs.replace(batch, body=b"x" * 153 * parts))
        self.dispatch.wake()
        return batch.last_message_id

    async def status(self, message_id: int) -> Status:
        await self.dispatch.flush()
        return await self.bench.status(self.account, message_id)

    async def turns(self) -> None:
        """Let all that can happen now happen: a claim and news behind everything else have gone through."""
        ledger = self.bench.ledger
        nothing = Ended(0, 0, 0, NOON, Status.EXPIRED, "of no message")
        for _ in range(3):
            await asyncio.gather(
                ledger.claim("nobody", 1, 1),
                ledger.store.record([nothing], ledger.judge, lambda part, receipt: nothing),
            )
            await asyncio.sleep(0)

    async def spent(self) -> int:
        return 100_000 - await self.bench.credits(self.account)

    def refuse_writes(self) -> AbstractAsyncContextManager[None]:
        return self.engine.refuse_writes(self.bench.store)


@pytest.fixture
async def rig(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    monkeypatch.setattr(dispatch_module, "POLL_S", 0.02)
    monkeypatch.setattr(dispatch_module, "RETRY_RECORD_S", 0.02)
    bench = Bench(engine.open)
    await bench.open()
    rig = Rig(bench, await bench.account(), engine)
    rig.task = asyncio.get_running_loop().create_task(rig.dispatch.run())
    yield rig
    rig.task.cancel()
    with suppress(asyncio.CancelledError):
        await rig.task
    await bench.store.close()


async def test_the_window_is_kept_full_and_never_overfilled(rig: Rig) -> None:
    messages = await rig.submit(8)
    for done in range(6):
        await rig.north.has_sent(3 + done)
        await rig.turns()
        assert len(rig.north.open) == min(3, 8 - done)
        assert (await rig.bench.store.queue_state(NOON)).due == max(0, 8 - 3 - done)
        rig.north.answer(TAKEN)
    rig.north.answer(TAKEN, TAKEN)
    assert {await rig.status(one) for one in messages} == {Status.DELIVERED_UPSTREAM}
    assert [part.message_id for part in rig.north.sent] == messages
    assert (rig.dispatch.submitted, rig.dispatch.recorded) == (8, 8)


async def test_a_link_that_is_down_pauses_its_queue_and_no_other(rig: Rig) -> None:
    rig.north.is_bound = False
    await rig.submit(2)
    await rig.submit(2, connector="south")
    await rig.south.has_sent(2)
    await rig.turns()
    assert not rig.north.sent
    state = await rig.bench.store.queue_state(NOON)
    assert (state.due, state.leased) == (2, 2)
    rig.north.is_bound = True
    rig.dispatch.on_ready("north")
    await rig.north.has_sent(2)


async def test_a_part_goes_out_with_all_that_it_is(rig: Rig) -> None:
    [message_id] = await rig.submit()
    [part] = await rig.north.has_sent(1)
    assert (part.message_id, part.part_no, part.parts, part.attempt) == (message_id, 1, 1, 1)
    assert (part.msisdn, part.originator, part.octets, part.udhi) == (ADA, "Aldis", b"hello", False)
    assert (part.data_coding, part.valid_until) == (0, NOON + VALIDITY_MS)


@pytest.mark.parametrize(("refusal", "throttled"), [(BUSY, False), (THROTTLED, True)], ids=["busy", "throttled"])
async def test_what_was_refused_for_now_is_tried_again_when_the_rules_say(
    rig: Rig, refusal: Refused, throttled: bool
) -> None:
    [message_id] = await rig.submit()
    for attempt in range(1, 5):
        part = (await rig.north.has_sent(attempt))[-1]
        assert part.attempt == attempt
        rig.north.answer(refusal)
        assert await rig.status(message_id) is Status.RETRY_QUEUED
        due_at = next_submit_at(attempt, rig.bench.now, throttled, message_id)
        assert (await rig.bench.store.queue_state(due_at)).oldest_due_at == due_at
        rig.bench.now = due_at - 1
        rig.dispatch.wake()
        await rig.turns()
        assert len(rig.north.sent) == attempt, "too early"
        rig.bench.now = due_at
    await rig.north.has_sent(5)
    rig.north.answer(TAKEN)
    assert await rig.status(message_id) is Status.DELIVERED_UPSTREAM
    assert await rig.spent() == 1_000


async def test_a_retry_that_would_come_after_validity_expires_the_message_now(rig: Rig) -> None:
    messages = await rig.submit(2)
    await rig.north.has_sent(2)
    for message_id, spare, status in zip(messages, (0, 1), (Status.EXPIRED, Status.RETRY_QUEUED), strict=True):
        rig.bench.now = NOON + VALIDITY_MS - next_submit_at(1, 0, False, message_id) - spare
        rig.north.answer(BUSY)
        assert await rig.status(message_id) is status
    assert await rig.spent() == 1_000


async def test_nothing_is_sent_after_its_validity(rig: Rig) -> None:
    rig.north.is_bound = False
    [message_id] = await rig.submit()
    rig.bench.now += VALIDITY_MS
    rig.north.is_bound = True
    rig.dispatch.on_ready("north")
    async with asyncio.timeout(10):
        while not (await rig.bench.history(message_id)):
            await rig.turns()
    assert await rig.status(message_id) is Status.EXPIRED
    assert not rig.north.sent
    assert await rig.spent() == 0


async def test_a_message_expires_in_the_queue_of_a_link_that_stays_down(rig: Rig) -> None:
    rig.north.is_bound = False
    [message_id] = await rig.submit()
    rig.bench.now += VALIDITY_MS - 1
    await rig.dispatch.sweep()
    assert await rig.status(message_id) is Status.IN_PROGRESS
    rig.bench.now += 1
    await rig.dispatch.sweep()
    assert await rig.status(message_id) is Status.EXPIRED
    assert [event.kind for event in await rig.bench.history(message_id)] == ["ended"]
    assert await rig.spent() == 0


# RULE-y
async def test_a_worker_that_died_leaves_12_and_no_second_send(rig: Rig) -> None:
    rig.north.is_bound = False
    [message_id] = await rig.submit()
    await rig.bench.claim()
    rig.bench.now += LEASE_MS
    rig.north.is_bound = True
    await rig.dispatch.sweep()
    rig.dispatch.wake()
    await rig.turns()
    assert await rig.status(message_id) is Status.UPSTREAM_UNACKNOWLEDGED
    assert not rig.north.sent


async def test_a_long_message_goes_out_in_parts_that_belong_together(rig: Rig) -> None:
    await rig.submit_long(3)
    parts = await rig.north.has_sent(3)
    assert [(part.part_no, part.parts, part.udhi) for part in parts] == [(1, 3, True), (2, 3, True), (3, 3, True)]
    heads = {part.octets[:5] for part in parts}
    assert len(heads) == 1 and heads.pop()[:3] == b"\x05\x00\x03"
    assert b"".join(part.octets[6:] for part in parts) == b"x" * 153 * 3


async def test_the_outcomes_of_a_message_s_parts_are_one_piece_of_news(rig: Rig) -> None:
    message_id = await rig.submit_long(3)
    await rig.north.has_sent(3)
    rig.north.answer(TAKEN)
    rig.north.answer(TAKEN)
    await rig.turns()
    assert rig.dispatch.recorded == 0, "a part is still out"
    rig.north.answer(TAKEN)
    assert await rig.status(message_id) is Status.DELIVERED_UPSTREAM
    [event] = await rig.bench.history(message_id)
    assert event.detail == "; ".join(f"{n}: {message_id}-{n}" for n in (1, 2, 3))


async def test_only_the_parts_that_were_not_taken_are_sent_again(rig: Rig) -> None:
    message_id = await rig.submit_long(3)
    first = list(await rig.north.has_sent(3))
    rig.north.answer(TAKEN, THROTTLED, NotSent("cut"))
    assert await rig.status(message_id) is Status.IN_PROGRESS
    rig.bench.now += 60_000
    rig.dispatch.wake()
    again = (await rig.north.has_sent(5))[3:]
    assert [(part.part_no, part.attempt) for part in again] == [(2, 2), (3, 2)]
    assert [part.octets for part in again] == [part.octets for part in first[1:]]
    rig.north.answer(TAKEN, TAKEN)
    assert await rig.status(message_id) is Status.DELIVERED_UPSTREAM


# RULE-bb
async def test_one_refused_part_fails_the_message_that_is_paid_for(rig: Rig) -> None:
    message_id = await rig.submit_long(2)
    await rig.north.has_sent(2)
    rig.north.answer(TAKEN, Refused(0x45, retryable=False))
    assert await rig.status(message_id) is Status.FAILED_NETWORK
    assert await rig.spent() == 1_000


# RULE-b
async def test_an_unknown_end_is_settled_by_a_late_answer(rig: Rig) -> None:
    [message_id] = await rig.submit()
    [part] = await rig.north.has_sent(1)
    rig.north.answer(Unknown("no answer in time"))
    assert await rig.status(message_id) is Status.UPSTREAM_UNACKNOWLEDGED
    rig.dispatch.on_late_outcomes("north", [(part, Accepted("late"))])
    assert await rig.status(message_id) is Status.DELIVERED_UPSTREAM
    await rig.bench.receipt("late")
    assert await rig.status(message_id) is Status.DELIVERED
    assert len(rig.north.sent) == 1


async def test_what_was_not_sent_goes_out_again_at_once(rig: Rig) -> None:
    [message_id] = await rig.submit()
    await rig.north.has_sent(1)
    rig.north.answer(NotSent("link down"))
    again = (await rig.north.has_sent(2))[-1]
    assert (again.message_id, again.attempt) == (message_id, 2)


async def test_a_body_that_can_t_be_cut_ends_its_message_with_22(rig: Rig) -> None:
    [message_id] = await rig.submit(parts=2)
    async with asyncio.timeout(10):
        while not await rig.bench.history(message_id):
            await rig.turns()
    assert await rig.status(message_id) is Status.INTERNAL_ERROR
    assert "can't be cut" in (await rig.bench.history(message_id))[0].detail
    assert await rig.spent() == 0
    await rig.submit()
    await rig.north.has_sent(1)


async def test_stop_gives_back_what_no_connector_has_taken(rig: Rig) -> None:
    rig.north.window = 1
    message_id = await rig.submit_long(3)
    await rig.north.has_sent(1)
    await rig.turns()
    rig.dispatch.stop()
    await rig.submit(2)
    rig.north.answer(TAKEN)
    await rig.dispatch.flush()
    await rig.turns()
    assert len(rig.north.sent) == 1, "nothing is claimed after a stop"
    state = await rig.bench.store.queue_state(NOON)
    assert (state.due, state.leased) == (3, 0)
    dues = await rig.bench.claim()
    assert [due.pending for due in dues if due.message_id == message_id] == [(2, 3)]


async def test_stop_during_a_claim_gives_its_messages_back(rig: Rig) -> None:
    rig.north.is_bound = False
    await rig.submit(3)
    rig.north.is_bound = True
    rig.dispatch.on_ready("north")
    await asyncio.sleep(0)
    rig.dispatch.stop()
    await rig.turns()
    await rig.dispatch.flush()
    state = await rig.bench.store.queue_state(NOON)
    assert (state.due, state.leased) == (3, 0)
    assert not rig.north.sent


async def test_outcomes_outlast_a_ledger_that_refuses_them(rig: Rig) -> None:
    messages = await rig.submit(3)
    await rig.north.has_sent(3)
    async with rig.refuse_writes():
        rig.north.answer(TAKEN, Refused(0x0B, retryable=False), BUSY)
        flushed = asyncio.get_running_loop().create_task(rig.dispatch.flush())
        await asyncio.sleep(0.1)
        assert not flushed.done()
        assert await rig.bench.status(rig.account, messages[0]) is Status.IN_PROGRESS
    async with asyncio.timeout(10):
        await flushed
    assert [await rig.status(one) for one in messages] == [10, 31, 63]
    assert rig.dispatch.unrecorded == 0


async def test_claims_go_on_after_a_ledger_outage(rig: Rig) -> None:
    rig.north.is_bound = False
    await rig.submit()
    async with rig.refuse_writes():
        rig.north.is_bound = True
        rig.dispatch.on_ready("north")
        await asyncio.sleep(0.05)
        assert not rig.north.sent
    await rig.north.has_sent(1)


async def test_an_outcome_that_can_t_be_written_hinders_no_other(rig: Rig) -> None:
    messages = await rig.submit(3)
    await rig.north.has_sent(3)
    rig.north.answer(TAKEN, Accepted("\ud800"), TAKEN)
    assert [await rig.status(one) for one in messages] == [10, 0, 10]
    assert (await rig.bench.store.queue_state(NOON)).leased == 1, "its lease will lapse, and then it shows 12"


async def test_outcomes_that_pile_up_stop_the_claims(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch_module, "MAX_UNRECORDED", 1)
    gate, record = asyncio.Event(), rig.bench.ledger.record

    async def slow_record(news: Sequence[News]) -> None:
        await gate.wait()
        await record(news)

    monkeypatch.setattr(rig.bench.ledger, "record", slow_record)
    await rig.submit(9)
    for count in (3, 6):  # the second three are what waits behind the first
        await rig.north.has_sent(count)
        rig.north.answer(TAKEN, TAKEN, TAKEN)
        await rig.turns()
    assert rig.dispatch.unrecorded == 3
    assert len(rig.north.sent) == 6
    gate.set()
    await rig.north.has_sent(9)


async def test_what_waits_for_room_is_given_back_when_the_link_goes_down(rig: Rig) -> None:
    rig.north.window = 1
    message_id = await rig.submit_long(3)
    await rig.north.has_sent(1)
    await rig.turns()
    rig.north.is_bound = False
    rig.dispatch.on_ready("north")
    rig.north.answer(TAKEN)
    await rig.turns()
    await rig.dispatch.flush()
    state = await rig.bench.store.queue_state(NOON)
    assert (state.due, state.leased) == (1, 0)
    rig.bench.now += VALIDITY_MS
    await rig.dispatch.sweep()
    assert await rig.status(message_id) is Status.EXPIRED
    assert len(rig.north.sent) == 1


# Inbound


class Answers:
    """What deliveries were answered, and what was on disk at that moment."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.given: list[tuple[str, bool, int | None]] = []
        self._one = asyncio.Event()

    def delivery(self, upstream_id: str, state: str = "DELIVRD") -> Delivery:
        def answer(taken: bool) -> None:
            self.given.append((upstream_id, taken, self.on_disk(upstream_id)))
            self._one.set()

        return msgspec.structs.replace(self.rig.bench.delivery(upstream_id, state), answer=answer)

    def on_disk(self, upstream_id: str) -> int | None:
        found = self.rig.engine.look(
            "SELECT status FROM events WHERE upstream_id = $1 AND kind = 'receipt'", upstream_id
        )
        found += self.rig.engine.look("SELECT -1 FROM inbox WHERE upstream_id = $1", upstream_id)
        return found[0][0] if found else None

    async def come(self, count: int) -> list[tuple[str, bool, int | None]]:
        async with asyncio.timeout(10):
            while len(self.given) < count:
                await self._one.wait()
                self._one.clear()
        return self.given


@pytest.fixture
async def inbound(rig: Rig) -> AsyncIterator[Inbound]:
    inbound = Inbound(rig.bench.ledger)
    task = asyncio.get_running_loop().create_task(inbound.run())
    yield inbound
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def sent(rig: Rig) -> int:
    [message_id] = await rig.submit()
    await rig.north.has_sent(1)
    rig.north.answer(Accepted("a1"))
    await rig.dispatch.flush()
    return message_id


async def test_a_receipt_is_answered_once_it_is_on_disk(rig: Rig, inbound: Inbound) -> None:
    message_id = await sent(rig)
    answers = Answers(rig)
    inbound.offer([answers.delivery("a1"), answers.delivery("nobody's", "UNDELIV")])
    assert not answers.given
    assert await answers.come(2) == [("a1", True, 11), ("nobody's", True, -1)]
    assert await rig.status(message_id) is Status.DELIVERED
    assert (inbound.received, inbound.refused, inbound.waiting) == (2, 0, 0)


async def test_a_receipt_that_the_ledger_refuses_is_asked_for_again(rig: Rig, inbound: Inbound) -> None:
    message_id = await sent(rig)
    answers = Answers(rig)
    async with rig.refuse_writes():
        inbound.offer([answers.delivery("a1")])
        assert await answers.come(1) == [("a1", False, None)]
    assert await rig.status(message_id) is Status.DELIVERED_UPSTREAM
    inbound.offer([answers.delivery("a1")])
    assert (await answers.come(2))[1] == ("a1", True, 11)
    assert (inbound.received, inbound.refused) == (1, 1)


async def test_a_receipt_that_can_t_be_written_hinders_no_other(rig: Rig, inbound: Inbound) -> None:
    message_id = await sent(rig)
    answers = Answers(rig)
    poisoned = msgspec.structs.replace(answers.delivery("poisoned"), text="\ud800")
    inbound.offer([answers.delivery("x"), poisoned, answers.delivery("a1")])
    assert sorted(await answers.come(3)) == [("a1", True, 11), ("poisoned", False, None), ("x", True, -1)]
    assert await rig.status(message_id) is Status.DELIVERED


async def test_a_flood_is_answered_whole_and_each_once(rig: Rig, inbound: Inbound) -> None:
    taken: list[int] = []
    flood = [
        msgspec.structs.replace(rig.bench.delivery(f"f{n}"), answer=lambda ok, n=n: taken.append(n if ok else -1))
        for n in range(5_000)
    ]
    for start in range(0, 5_000, 700):
        inbound.offer(flood[start : start + 700])
    async with asyncio.timeout(20):
        await inbound.flush()
    assert taken == list(range(5_000))
    assert await rig.bench.parked() == 5_000


async def test_a_message_from_a_subscriber_is_kept_and_is_no_receipt(rig: Rig, inbound: Inbound) -> None:
    answers = Answers(rig)
    mo = msgspec.structs.replace(answers.delivery(""), is_receipt=False, text="STOP", source=str(ADA))
    inbound.offer([mo])
    assert await answers.come(1) == [("", True, -1)]
    assert await rig.bench.parked() == 0
