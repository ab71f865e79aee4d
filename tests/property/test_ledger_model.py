"""Random programs against the ledger on a real store, beside a model that keeps its books in dictionaries.

The promises I1 to I6: what was acknowledged is there, whole or not at all; nothing is sent twice; credits are conserved
to the milli-credit; statuses move as the table says; all of it across crashes.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tests.stores import ENGINES, Engine

from aldis import lifecycle
from aldis.connectors.base import Accepted, NotSent, Outcome, Refused, Unknown
from aldis.lifecycle import RECEIPT_STATES, Standing, advance, roll_up
from aldis.model.errors import NoCredits, QuotaExceeded
from aldis.model.status import Status
from aldis.model.types import Account, PushResult
from aldis.store.testing import Bench
from aldis.store.testing.bench import DAY_MS, LEASE_MS

RETRY_MS = 5_000
UNTAKEN = (Status.IN_PROGRESS, Status.RETRY_QUEUED)
OUTCOMES: dict[str, Callable[[str], Outcome]] = {
    "accepted": Accepted,
    "nameless": lambda _: Accepted(""),
    "refused": lambda _: Refused(0x45, retryable=False),
    "unroutable": lambda _: Refused(0x0B, retryable=False),
    "busy": lambda _: Refused(0x14, retryable=True),
    "not sent": lambda _: NotSent("cut"),
    "unknown": lambda _: Unknown("no answer"),
}
HEARD = {
    "accepted": Status.DELIVERED_UPSTREAM,
    "nameless": Status.DELIVERED_UPSTREAM,
    "refused": Status.FAILED_NETWORK,
    "unroutable": Status.UNROUTABLE,
    "busy": Status.RETRY_QUEUED,
    "unknown": Status.UPSTREAM_UNACKNOWLEDGED,
}


@dataclass
class Money:
    account: Account
    credits: int
    quota: int | None
    day: int = 0
    used: int = 0


@dataclass
class Message:
    """What the model knows of a message."""

    message_id: int
    money: Money
    price: int
    due: int | None
    valid_until: int
    parts: dict[int, Standing]
    attempts: int = 0
    fenced: int = 0
    """Claims up to this one were called off: what comes of them moves nothing."""
    lease: int | None = None
    out: list[int] = field(default_factory=list)
    """Parts whose outcome is awaited; after a lapse it may still come."""
    sent: bool = False
    refunded: bool = False
    status: Status = Status.IN_PROGRESS
    seq: int = 0

    @property
    def pending(self) -> list[int]:
        return [n for n, standing in self.parts.items() if standing.status in UNTAKEN]

    def settle(self, due: int) -> bool:
        """Draw the conclusions of a change; tell whether the status moved."""
        status = roll_up(list(self.parts.values())).status
        moved = status is not self.status
        self.status = status
        self.seq += moved
        if lifecycle.is_final(status):
            self.due = self.lease = None
            if not self.refunded and lifecycle.owes_refund(status, self.sent):
                self.refunded = True
                self.money.credits += self.price
        elif not self.pending:
            self.due = self.lease = None
        elif self.lease is None and self.due is None:
            self.due = due
        return moved


class LedgerMachine(RuleBasedStateMachine):
    """Does everything twice: to the store, and to the model."""

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self.engine = engine

    @initialize()
    def open(self) -> None:
        self.engine.clear()
        self.loop = asyncio.new_event_loop()
        self.bench = Bench(self.engine.open)
        self.messages: dict[int, Message] = {}
        self.numbers: dict[tuple[int, int], int] = {}
        self.homes: dict[str, tuple[int, int]] = {}
        self.parked: dict[str, list[str]] = {}
        self.owed: dict[int, Status] = {}
        self.run(self.bench.open())
        self.monies = [
            Money(self.run(self.bench.account("ada", 50_000)), 50_000, None),
            Money(self.run(self.bench.account("bob", 9_000, quota=6)), 9_000, 6),
        ]

    def run(self, act: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(act)

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            self.check_all()
            self.run(self.bench.store.close())
            assert self.engine.books() == {money.account.account_id: money.credits for money in self.monies}
            self.run(self.loop.shutdown_default_executor())
            self.loop.close()

    def live(self, keep: Callable[[Message], object]) -> list[Message]:
        return [one for one in self.messages.values() if keep(one)]

    def moved(self, one: Message) -> None:
        if lifecycle.is_announced(one.status):
            self.owed[one.message_id] = one.status

    # In

    @rule(
        who=st.integers(0, 1),
        count=st.integers(1, 4),
        parts=st.integers(1, 3),
        price=st.sampled_from([0, 1, 999, 2_500]),
        delay=st.sampled_from([0, 0, 0, 3_000]),
        number=st.integers(0, 3),
        refused=st.booleans().flatmap(lambda often: st.booleans() if often else st.just(False)),
    )
    def admit(self, who: int, count: int, parts: int, price: int, delay: int, number: int, refused: bool) -> None:
        money = self.monies[who]
        batch = self.bench.batch(
            money.account,
            range(4915100000000, 4915100000000 + count),
            price=price,
            parts=parts,
            due_at=self.bench.now + delay,
            number=number,
            refused=Status.BLOCKED if refused else None,
        )
        known = self.numbers.get((who, number))
        today = self.bench.now // DAY_MS
        used = money.used if money.day == today else 0
        verdict: type[Exception] | None = None
        if known is None and money.credits < batch.charge_milli:
            verdict = NoCredits
        elif known is None and money.quota is not None and used + batch.counted > money.quota:
            verdict = QuotaExceeded
        try:
            answer = self.run(self.bench.ledger.admit(batch))
        except (NoCredits, QuotaExceeded) as error:
            assert type(error) is verdict
            return
        assert verdict is None
        assert answer == known or (known is None and answer == batch.batch_id)
        if known is not None:
            return
        if number:
            self.numbers[who, number] = batch.batch_id
        money.credits -= batch.charge_milli
        money.day, money.used = today, used + batch.counted
        for message_id, _, _, _, status, cost, _, due, _ in batch.messages:
            start = Standing(Status(status))
            standings = dict.fromkeys(range(1, parts + 1), start)
            one = Message(message_id, money, cost, due, batch.valid_until, standings, status=start.status)
            self.messages[message_id] = one

    @rule(who=st.integers(0, 1), amount=st.sampled_from([1, 777, 5_000, -500]))
    def top_up(self, who: int, amount: int) -> None:
        money = self.monies[who]
        if money.credits + amount >= 0:
            money.credits += amount
            account_id = money.account.account_id
            assert self.run(self.bench.store.top_up(account_id, amount, self.bench.now, "")) == money.credits

    # Out

    @rule(room=st.sampled_from([1, 2, 5, 100, 100]))
    def claim(self, room: int) -> None:
        due = sorted(self.live(lambda one: one.due is not None and one.due <= self.bench.now), key=lambda one: one.due)
        dues = self.run(self.bench.claim(room))
        taken = [self.messages[one.message_id] for one in dues]
        assert [one.due for one in taken] == [one.due for one in due[: len(taken)]], "oldest first"
        assert sum(len(one.parts) for one in taken[:-1]) < room
        if len(taken) < len(due):
            assert sum(len(one.parts) for one in taken) + max(len(one.parts) for one in due) > room
        for one, model in zip(dues, taken, strict=True):
            model.attempts += 1
            assert (one.attempt, list(one.pending)) == (model.attempts, model.pending)
            model.due, model.lease, model.out = None, self.bench.now + LEASE_MS, model.pending

    @precondition(lambda self: self.live(lambda one: one.out))
    @rule(data=st.data())
    def outcome(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from(self.live(lambda one: one.out)))
        kinds = {n: data.draw(st.sampled_from(list(OUTCOMES))) for n in one.out}
        names = {n: f"{one.message_id}-{n}-{one.attempts}" for n in one.out}
        retry_at = self.bench.now + RETRY_MS
        outcomes = [(n, OUTCOMES[kind](names[n])) for n, kind in kinds.items()]
        self.run(self.bench.outcome(one.message_id, *outcomes, attempt=one.attempts, retry_at=retry_at))
        if one.attempts > one.fenced:
            self.end_try(one, kinds, retry_at)
        one.out = []
        for n, kind in kinds.items():
            if kind == "accepted":
                self.homes[names[n]] = (one.message_id, n)
                for state in self.parked.pop(names[n], []):
                    self.hear(names[n], state)

    def end_try(self, one: Message, kinds: dict[int, str], retry_at: int) -> None:
        one.lease = None
        for n, kind in kinds.items():
            standing = one.parts[n]
            if standing.status is Status.UPSTREAM_UNACKNOWLEDGED and kind in (
                "refused",
                "unroutable",
                "busy",
                "not sent",
            ):
                standing = Standing(Status.RETRY_QUEUED)
                one.sent = len(one.parts) > 1
            if kind != "not sent":
                standing = advance(standing, Standing(HEARD[kind]))
            one.parts[n] = standing
            one.sent |= kind in ("accepted", "nameless", "unknown")
        if one.settle(retry_at):
            self.moved(one)

    @rule()
    def call_off(self) -> None:
        lapsed = self.live(lambda one: one.lease is not None and one.lease <= self.bench.now)
        assert self.run(self.bench.ledger.recover(self.bench.now)) == len(lapsed)
        self.lapse(lapsed)

    def lapse(self, lapsed: list[Message]) -> None:
        for one in lapsed:
            one.lease, one.sent, one.fenced = None, True, one.attempts
            for n in one.pending:
                one.parts[n] = Standing(Status.UPSTREAM_UNACKNOWLEDGED)
            if one.settle(0):
                self.moved(one)

    @rule()
    def expire(self) -> None:
        now = self.bench.now
        over = self.live(lambda one: one.due is not None and one.due <= now and one.valid_until <= now)
        found = self.run(self.bench.store.expired("north", now, 1_000))
        assert sorted(key.message_id for key in found) == sorted(one.message_id for one in over)
        assert self.run(self.bench.ledger.expire("north", 1_000)) == len(found)
        for one in over:
            for n in one.pending:
                one.parts[n] = Standing(Status.EXPIRED)
            if one.settle(0):
                self.moved(one)

    # Receipts

    def hear(self, upstream_id: str, state: str) -> None:
        message_id, n = self.homes[upstream_id]
        one = self.messages[message_id]
        one.parts[n] = advance(one.parts[n], lifecycle.hear_receipt(state, "", {}))
        one.sent = True
        if one.settle(self.bench.now):
            self.moved(one)

    @precondition(lambda self: self.homes or self.live(lambda one: one.out))
    @rule(data=st.data(), states=st.lists(st.sampled_from(list(RECEIPT_STATES)), min_size=1, max_size=4))
    def receive(self, data: st.DataObject, states: list[str]) -> None:
        early = [f"{one.message_id}-{n}-{one.attempts}" for one in self.live(lambda one: one.out) for n in one.out]
        ids = st.sampled_from([*self.homes, *early, "nobody's"])
        told = [(data.draw(ids), state) for state in states]
        self.run(self.bench.ledger.receive([self.bench.delivery(*one) for one in told]))
        for upstream_id, state in told:
            if upstream_id in self.homes:
                self.hear(upstream_id, state)
            else:
                self.parked.setdefault(upstream_id, []).append(state)

    # Pushes, time, crashes

    @precondition(lambda self: self.owed)
    @rule(data=st.data(), delivered=st.booleans())
    def push(self, data: st.DataObject, delivered: bool) -> None:
        pushes = self.run(self.bench.ledger.due_pushes(self.bench.now, 1_000))
        push = data.draw(st.sampled_from(list(pushes)))
        next_at = None if delivered else self.bench.now
        result = PushResult(
            push.push_id, push.account_id, push.message_id, delivered, push.attempts + 1, next_at, "", self.bench.now
        )
        self.run(self.bench.ledger.record_push_results([result]))
        if delivered:
            del self.owed[push.message_id]

    @rule(step=st.sampled_from([1, 900, RETRY_MS, LEASE_MS, DAY_MS]))
    def wait(self, step: int) -> None:
        self.bench.now += step

    @rule()
    def restart(self) -> None:
        self.run(self.bench.reopen())

    @rule()
    def crash(self) -> None:
        """What is on disk at this moment is all that the next process gets."""
        old = self.bench.store
        self.bench.now += 10
        self.engine.crash()
        self.run(self.bench.open())
        self.run(old.close())
        leased = self.live(lambda one: one.lease is not None)
        assert self.run(self.bench.ledger.recover(1 << 62)) == len(leased)
        self.lapse(leased)
        for one in self.live(lambda one: one.out):
            one.out = []
        self.check_all()

    # What must hold

    @invariant()
    def check_credits(self) -> None:
        if hasattr(self, "monies"):
            for money in self.monies:
                assert self.run(self.bench.credits(money.account)) == money.credits >= 0
            assert self.run(self.bench.parked()) == sum(map(len, self.parked.values()))

    def check_all(self) -> None:
        for one in self.messages.values():
            status, completed_at, seq = self.run(self.bench.find(one.money.account, one.message_id))
            assert (status, seq) == (one.status, one.seq)
            assert (completed_at is not None) == lifecycle.is_final(status)
        pushes = self.run(self.bench.ledger.due_pushes(self.bench.now, 10_000))
        assert {push.message_id: push.status for push in pushes} == self.owed
        state = self.run(self.bench.store.queue_state(self.bench.now + 10 * DAY_MS))
        assert state.due == len(self.live(lambda one: one.due is not None))
        assert state.leased == len(self.live(lambda one: one.lease is not None))


@pytest.mark.parametrize(("engine", "examples"), [("sqlite", 40), ("postgres", 8)], indirect=["engine"], ids=ENGINES)
def test_the_ledger_does_as_the_model_does(engine: Engine, examples: int) -> None:
    run = settings(
        max_examples=examples, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
    )
    run_state_machine_as_test(lambda: LedgerMachine(engine), settings=run)
