"""What holds for every standing and every order of news: in the table alone, and through a real ledger."""

import asyncio
import itertools
import random
from collections.abc import Callable, Coroutine, Sequence
from functools import reduce

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.stores import Engine

from aldis import lifecycle
from aldis.connectors.base import Accepted
from aldis.lifecycle import EXPIRED_UNSEEN, RECEIPT_STATES, START, TABLE, Refund, Standing, advance, roll_up
from aldis.model.status import Phase, Status
from aldis.store.testing import Bench

ALL = [*map(Standing, Status), EXPIRED_UNSEEN]
STANDINGS = st.sampled_from(ALL)
STATES = st.sampled_from([*RECEIPT_STATES, "GARBLED"])
TAKEN = Standing(Status.DELIVERED_UPSTREAM)


def test_the_table_has_a_row_for_every_status_and_no_two_rows_weigh_the_same() -> None:
    assert set(TABLE) == set(Status)
    assert len({standing.rank for standing in ALL}) == len(ALL)


def test_what_is_final_outweighs_what_is_not_and_a_delivery_outweighs_all() -> None:
    assert max(ALL, key=lambda one: one.rank) == Standing(Status.DELIVERED)
    assert min(ALL, key=lambda one: one.rank) == START
    moving = [one.rank for one in ALL if not one.is_final]
    told = [one.rank for one in ALL if one.is_final and not one.assumed]
    assert max(moving) < EXPIRED_UNSEEN.rank < min(told)


def test_phases_and_finality_agree() -> None:
    for status, row in TABLE.items():
        assert row.final == (row.phase is not Phase.MOVING), status
        assert lifecycle.is_final(status) == row.final
    assert [status for status, row in TABLE.items() if row.phase is Phase.DELIVERED] == [Status.DELIVERED]


def test_only_ends_and_the_handset_s_retry_are_announced() -> None:
    for status in Status:
        assert lifecycle.is_announced(status) == (TABLE[status].final or status is Status.RETRY_QUEUED_HANDSET)


def test_advance_is_commutative_associative_and_idempotent() -> None:
    for a, b in itertools.product(ALL, repeat=2):
        assert advance(a, b) == advance(b, a)
        assert advance(a, a) == a
    for a, b, c in itertools.product(ALL, repeat=3):
        assert advance(advance(a, b), c) == advance(a, advance(b, c))


def test_news_never_makes_a_final_part_move_again() -> None:
    for current, heard in itertools.product(ALL, repeat=2):
        after = advance(current, heard)
        if current.is_final:
            assert after.is_final
        if current.status is Status.DELIVERED:
            assert after == current
        if not current.assumed:
            assert not after.assumed or not current.is_final


def test_refunds_follow_the_table() -> None:
    for status in Status:
        sent, unsent = lifecycle.owes_refund(status, sent=True), lifecycle.owes_refund(status, sent=False)
        assert (sent, unsent) == {
            Refund.NO: (False, False), Refund.IF_UNSENT: (False, True), Refund.YES: (True, True)
        }[TABLE[status].refund]  # fmt: skip
        if TABLE[status].phase is not Phase.FAILED:
            assert not unsent, "what moves or was delivered is paid for"


@given(st.lists(STANDINGS, min_size=1, max_size=6))
def test_a_message_is_as_its_parts_are(parts: list[Standing]) -> None:
    whole = roll_up(parts)
    phases = [TABLE[part.status].phase for part in parts]
    assert whole in parts
    assert (TABLE[whole.status].phase is Phase.FAILED) == (Phase.FAILED in phases)
    assert (whole.status is Status.DELIVERED) == (set(phases) == {Phase.DELIVERED})
    if not whole.is_final:
        assert whole.rank == min(part.rank for part in parts if not part.is_final)


@given(
    st.lists(st.lists(STANDINGS, max_size=4), min_size=1, max_size=4),
    st.randoms(use_true_random=False),
)
def test_any_order_and_repetition_of_news_ends_the_same(heard: list[list[Standing]], rng: random.Random) -> None:
    news = [(part, one) for part, ones in enumerate(heard) for one in ones]
    shuffled = news + rng.choices(news, k=rng.randrange(5)) if news else []
    rng.shuffle(shuffled)
    ends = []
    for order in (news, shuffled):
        parts = [START for _ in heard]
        for part, one in order:
            parts[part] = advance(parts[part], one)
        ends.append(roll_up(parts))
    assert ends[0] == ends[1]


@given(STATES, st.text(max_size=3), st.dictionaries(st.text(max_size=3), st.sampled_from(Status)))
def test_a_connector_s_error_table_refines_a_receipt_and_never_turns_it(
    state: str, error: str, errors: dict[str, Status]
) -> None:
    plain, refined = (lifecycle.hear_receipt(state, error, table) for table in ({}, errors))
    assert TABLE[refined.status].phase is TABLE[plain.status].phase
    assert refined == plain or refined.status is errors[error]
    assert not refined.assumed


# The same through a real store: receipts shuffled, repeated, early, and in groups that share transactions.


def on_bench(engine: Engine, check: Callable[[Bench], Coroutine[None, None, None]]) -> None:
    """Check an example on a store without rows."""

    async def run() -> None:
        bench = Bench(engine.open)
        await bench.open()
        try:
            await check(bench)
        finally:
            await bench.store.close()

    engine.clear()
    asyncio.run(run())


ON_A_STORE = {
    "deadline": None,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
}
"""The fixture is made once for all examples: each begins with clearing it."""


def expected(heard: Sequence[Sequence[str]]) -> Status:
    """The status that a message with these receipts, part by part, ends at."""
    parts = [
        reduce(advance, (lifecycle.hear_receipt(state, "", {}) for state in states), advance(START, TAKEN))
        for states in heard
    ]
    return roll_up(parts).status


MESSAGES = st.lists(st.lists(st.lists(STATES, max_size=4), min_size=1, max_size=3), min_size=1, max_size=5)


@settings(max_examples=20, **ON_A_STORE)
@given(heard=MESSAGES, rng=st.randoms(use_true_random=False))
def test_receipts_in_any_order_and_grouping_end_a_message_the_same(
    engine: Engine, heard: list[list[list[str]]], rng: random.Random
) -> None:
    async def check(bench: Bench) -> None:
        ada = await bench.account(credits_milli=1_000_000)
        messages = [(await bench.submit(ada, parts=len(parts)))[0] for parts in heard]
        await bench.claim()
        calls: list[Callable[[], Coroutine[None, None, None]]] = []
        for message_id, parts in zip(messages, heard, strict=True):
            outcomes = [(n, Accepted(f"{message_id}-{n}")) for n in range(1, len(parts) + 1)]
            calls.append(lambda m=message_id, o=outcomes: bench.outcome(m, *o))
            for part_no, states in enumerate(parts, 1):
                for state in states:
                    upstream_id = f"{message_id}-{part_no}"
                    calls += [lambda u=upstream_id, s=state: bench.receipt(u, s)] * rng.choice((1, 1, 2))
        rng.shuffle(calls)
        while calls:
            size = rng.choice((1, 2, 5, 50))
            await asyncio.gather(*(call() for call in calls[:size]))
            calls = calls[size:]
        for message_id, parts in zip(messages, heard, strict=True):
            assert await bench.status(ada, message_id) is expected(parts)
        assert await bench.parked() == 0
        assert await bench.credits(ada) == 1_000_000 - 1_000 * len(messages), "what was taken upstream is paid for"

    on_bench(engine, check)


@settings(max_examples=10, **ON_A_STORE)
@given(states=st.lists(STATES, min_size=1, max_size=8))
def test_versions_rise_with_each_change_and_nothing_illegal_is_shown(engine: Engine, states: list[str]) -> None:
    async def check(bench: Bench) -> None:
        ada = await bench.account()
        message_id = await bench.send(ada, Accepted("a1"))
        status, completed_at, seq = await bench.find(ada, message_id)
        for state in states:
            bench.now += 1
            await bench.receipt("a1", state)
            after, completed, version = await bench.find(ada, message_id)
            assert version == seq + (after is not status)
            if lifecycle.is_final(status):
                assert TABLE[after].rank >= TABLE[status].rank
            assert (completed is not None) == lifecycle.is_final(after)
            assert completed == (bench.now if after is not status and lifecycle.is_final(after) else completed_at)
            status, completed_at, seq = after, completed, version
        pushed = [push.status for push in bench.pushes]
        shown = [event.status for event in await bench.history(message_id)]
        changes = [one for one, before in zip(shown[1:], shown, strict=False) if one != before]
        assert pushed == [one for one in changes if lifecycle.is_announced(Status(one))]

    on_bench(engine, check)
