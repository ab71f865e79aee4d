"""The shared store keeps the contract of every store, and what is promised where several nodes share it."""

import asyncio
import random
from collections.abc import AsyncIterator
from functools import partial

import msgspec
import pytest
from tests.contract.postgres_nodes import NodeBench, Site, result, site
from tests.stores import Postgres, postgres_opener
from tests.unit.test_assembly import part

from aldis.connectors.base import Accepted, NotSent, Refused
from aldis.connectors.translate import to_delivery
from aldis.inbound import assemble
from aldis.ledger import Submitted
from aldis.model.errors import NoCredits
from aldis.model.status import Status
from aldis.model.types import Account, AccountId
from aldis.smpp.events import Incoming
from aldis.smpp.pdu import encode
from aldis.store.base import Parked, Span
from aldis.store.postgres import verbs
from aldis.store.postgres.lane import Seat
from aldis.store.testing import Bench, StoreContract
from aldis.store.testing.bench import LEASE_MS, NOON

WRONG = Refused(0x0B, retryable=False)


@pytest.fixture
async def bench(postgres_url: str) -> AsyncIterator[Bench]:
    bench = Bench(postgres_opener(postgres_url))
    await bench.open()
    yield bench
    await bench.store.close()


class TestPostgresStore(StoreContract):
    """The whole contract."""


@pytest.fixture
async def db(postgres_url: str) -> AsyncIterator[Site]:
    async with site(postgres_url) as made:
        yield made


# Several nodes at once


# PROMISE-3
async def test_nodes_that_race_for_messages_share_them_out(db: Site) -> None:
    """B07: four nodes with eight claims at a time each; none is claimed twice, none is left."""
    nodes = await db.start(4)
    ada = await nodes[0].account(credits_milli=20_000)
    messages: list[int] = []
    for _ in range(4):
        batch = nodes[0].batch(ada, range(4915100000000, 4915100005000), price=1)
        await nodes[0].ledger.admit(batch)
        messages += [row[0] for row in batch.messages]

    async def work(node: NodeBench) -> list[int]:
        taken: list[int] = []
        while dues := await node.claim(100):
            taken += [due.message_id for due in dues]
        return taken

    async with asyncio.timeout(120):
        claimed = await asyncio.gather(*(work(node) for node in nodes for _ in range(8)))
    assert sorted(one for taken in claimed for one in taken) == messages
    assert await db.rows("SELECT DISTINCT attempts FROM queue") == [(1,)]


# PROMISE-5
async def test_the_last_credits_are_spent_once_by_all_nodes(db: Site) -> None:
    nodes = await db.start(4)
    ada = await nodes[0].account(credits_milli=10_000)
    calls = [node.ledger.admit(node.batch(ada, [4915100000001])) for node in nodes for _ in range(16)]
    ends = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(end, int) for end in ends) == 10
    assert sum(isinstance(end, NoCredits) for end in ends) == 54
    assert await nodes[1].credits(ada) == 0
    assert await db.rows("SELECT count(*) FROM batches") == [(10,)]


async def test_a_submission_that_comes_to_all_nodes_at_once_is_one_batch(db: Site) -> None:
    nodes = await db.start(4)
    ada = await nodes[0].account()
    calls = [node.ledger.admit(node.batch(ada, [4915100000001], number=77)) for node in nodes for _ in range(16)]
    ends = await asyncio.gather(*calls)
    assert len(set(ends)) == 1
    assert await db.rows("SELECT batch_id FROM batches") == [(ends[0],)]
    assert await nodes[1].credits(ada) == 99_000


async def test_accounts_may_be_made_on_all_nodes_at_once(db: Site) -> None:
    """Each has its number; only a name that is taken is refused."""
    nodes = await db.start(4)
    wishes = [
        (node, Account(account_id=AccountId(0), username=f"{node.number}-{n}", password_hash=""))
        for node in nodes
        for n in range(10)
    ]
    made = await asyncio.gather(*(node.store.put_account(account, 1_000, NOON) for node, account in wishes))
    assert len({account.account_id for account in made}) == 40
    same = Account(account_id=AccountId(0), username="same", password_hash="")
    ends = await asyncio.gather(*(node.store.put_account(same) for node in nodes), return_exceptions=True)
    assert sum(isinstance(end, ValueError) for end in ends) == 3
    assert await db.rows("SELECT count(*), sum(credits_milli)::int FROM accounts") == [(41, 40_000)]


async def test_a_changed_account_counts_on_every_node_within_two_seconds(db: Site) -> None:
    one, other = await db.start(2)
    ada = await one.account()
    assert await other.store.find_account("ada") is not None
    assert other.store.recall_account("ada") is not None
    await one.store.put_account(msgspec.structs.replace(ada, disabled=True))
    async with asyncio.timeout(2):
        while not (found := other.store.recall_account("ada") or await other.store.find_account("ada")).disabled:
            await asyncio.sleep(0.01)
    assert found is not None


# PROMISE-5
async def test_charges_and_refunds_of_several_nodes_conserve_credits(postgres_url: str, db: Site) -> None:
    nodes = await db.start(4)
    accounts = [await nodes[0].account(name, 1_000_000) for name in ("ada", "bob", "eve")]
    rng = random.Random(7)

    async def live(node: NodeBench) -> None:
        for _ in range(8):
            account = rng.choice(accounts)
            batch = node.batch(account, range(4915100000000, 4915100000005), connector=f"c{node.number}")
            await node.ledger.admit(batch)
            dues = await node.claim(connector=f"c{rng.randrange(4)}")
            news = [
                node.submitted(
                    due.message_id,
                    (1, rng.choice((WRONG, Accepted("x"), NotSent("")))),
                )
                for due in dues
            ]
            rng.shuffle(news)
            await node.ledger.record(news)

    async def give() -> None:
        for account in accounts * 3:
            await nodes[3].store.top_up(account.account_id, 7, NOON, "")

    async with asyncio.timeout(60):
        await asyncio.gather(give(), *(live(node) for node in nodes for _ in range(3)))
    engine = Postgres(postgres_url)
    assert engine.books() == dict(await db.rows("SELECT account_id, credits_milli FROM accounts"))
    engine.close()
    assert sum([await nodes[0].credits(account) for account in accounts]) < 3_000_000


async def test_opposite_orders_of_locks_end_well(db: Site) -> None:
    """The database ends a deadlock by failing one of the two: ours is tried again."""
    [node] = await db.start()
    ada = await node.account()
    first, second = await node.submit(ada, [4915100000001, 4915100000002])
    await node.claim()
    async with db.transaction() as tx:
        lock = "SELECT FROM messages WHERE message_id = $1 FOR UPDATE"
        await tx.connection.execute(lock, second)
        recorded = asyncio.ensure_future(
            node.ledger.record([node.submitted(first, (1, WRONG)), node.submitted(second, (1, WRONG))])
        )
        await db_waits(db, "Lock")
        await tx.connection.execute(lock, first)
    async with asyncio.timeout(10):
        await recorded
    assert [await node.status(ada, one) for one in (first, second)] == [Status.UNROUTABLE] * 2
    assert await node.credits(ada) == 100_000


async def db_waits(db: Site, event_type: str) -> None:
    """Wait until a store's statement waits for something."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'aldis %' AND wait_event_type = $1 AND datname = current_database() AND state = 'active'"  # noqa: E501
    async with asyncio.timeout(10):
        while await db.rows(query, event_type) == [(0,)]:
            await asyncio.sleep(0.01)


# Receipts that come to another node


async def test_receipts_in_any_order_on_any_node_find_their_messages(db: Site) -> None:
    nodes = await db.start(3)
    ada = await nodes[0].account(credits_milli=1_000_000)
    messages = await nodes[0].submit(ada, range(4915100000000, 4915100000300))
    await nodes[0].claim()
    rng = random.Random(3)
    acts = [(one, kind) for one in messages for kind in ("response", "receipt")]
    rng.shuffle(acts)

    async def act(message_id: int, kind: str) -> None:
        node = rng.choice(nodes)
        if kind == "response":
            await node.outcome(message_id, (1, Accepted(f"i{message_id}")))
        else:
            await node.receipt(f"i{message_id}")

    async with asyncio.timeout(60):
        while acts:
            await asyncio.gather(*(act(*one) for one in acts[:40]))
            del acts[:40]
        while await nodes[2].parked():
            assert await nodes[1].rematch(), "what is parked has its part by now"
    reports = (await nodes[0].report(ada, nodes[0].batch_of(messages[0]))).reports
    assert {one.status for one in reports} == {Status.DELIVERED}
    assert await db.rows("SELECT count(*) FROM events WHERE kind = 'receipt'") == [(300,)]


# REC-13
@pytest.mark.parametrize("open_one", ["response", "receipt"])
async def test_a_receipt_and_its_response_in_two_transactions_miss_each_other_for_a_while(
    db: Site, open_one: str
) -> None:
    """Neither sees what the other has not committed; the look at what is parked brings them together, once."""
    one, other = await db.start(2)
    ada = await one.account()
    [message_id] = await one.submit(ada)
    await one.claim()
    answered = one.submitted(message_id, (1, Accepted("a1")))
    judge, match = one.ledger.judge, one.ledger.match_receipt
    async with db.transaction() as tx:
        if open_one == "response":
            await verbs.record(tx, [verbs.NewsItem(answered, judge, match)])
            await other.receipt("a1")
        else:
            await verbs.receive(tx, [verbs.Arrival(parked("a1", one.ledger.next_id()), judge, match)])
            await other.ledger.record([answered])
    assert (await one.status(ada, message_id), await one.parked()) == (Status.DELIVERED_UPSTREAM, 1)
    found = await asyncio.gather(one.rematch(), other.rematch())
    assert sorted(found) == [0, 1]
    assert (await one.status(ada, message_id), await one.parked()) == (Status.DELIVERED, 0)
    assert [event.kind for event in await one.history(message_id)].count("receipt") == 1
    assert await other.rematch() == 0


async def test_what_one_node_looks_at_again_another_leaves_alone(db: Site) -> None:
    one, other = await db.start(2)
    ada = await one.account()
    [message_id] = await one.submit(ada)
    await one.claim()
    judge, match = one.ledger.judge, one.ledger.match_receipt
    async with db.transaction() as tx:
        await verbs.record(tx, [verbs.NewsItem(one.submitted(message_id, (1, Accepted("a1"))), judge, match)])
        await one.receipt("a1")
    async with db.transaction() as tx:
        assert await verbs.rematch(tx, [verbs.Rematch(Span(0, NOON + 1), judge, match)]) == [(1, None)]
        async with asyncio.timeout(2):
            assert await other.rematch() == 0
    assert (await one.status(ada, message_id), await one.parked()) == (Status.DELIVERED, 0)


def parked(upstream_id: str, inbox_id: int) -> Parked:
    return Parked(
        inbox_id=inbox_id, connector="north", received_at=NOON, is_receipt=True, upstream_id=upstream_id,
        state="DELIVRD", error="", source="", destination="", text="", pdu=b"",
    )  # fmt: skip


# Nodes that live and nodes that don't


# PROMISE-13
async def test_a_node_that_counts_as_dead_claims_nothing(db: Site) -> None:
    alive, dead = await db.start(2)
    ada = await alive.account()
    await alive.submit(ada, [4915100000001, 4915100000002])
    await db.bury(dead)
    assert not await dead.claim(1)
    assert len(await alive.claim(1)) == 1
    await db.bury(alive)
    assert not await alive.claim(1)
    assert (await alive.store.queue_state(NOON)).due == 1


# PROMISE-13
async def test_leases_of_a_dead_node_lapse_at_once_and_those_of_a_living_one_when_they_end(db: Site) -> None:
    alive, dead = await db.start(2)
    ada = await alive.account()
    held, lost = await alive.submit(ada, [4915100000001, 4915100000002])
    assert [due.message_id for due in await alive.claim(1)] == [held]
    assert [due.message_id for due in await dead.claim(1)] == [lost]
    assert await alive.store.lapsed(NOON, 10) == []
    await db.bury(dead)
    assert [lease.message_id for lease in await alive.store.lapsed(NOON, 10)] == [lost]
    assert [lease.message_id for lease in await alive.store.lapsed(NOON + LEASE_MS - 1, 10)] == [lost]
    assert sorted(lease.message_id for lease in await alive.store.lapsed(NOON + LEASE_MS, 10)) == [held, lost]
    assert await alive.ledger.recover(NOON) == 1
    assert await alive.status(ada, lost) is Status.UPSTREAM_UNACKNOWLEDGED
    assert await alive.status(ada, held) is Status.IN_PROGRESS


# PROMISE-3
async def test_what_a_node_found_dead_says_late_moves_nothing(db: Site) -> None:
    """B02: another has called its claim off; its id alone is learnt, so that the receipt finds its message."""
    alive, dead = await db.start(2)
    ada = await alive.account()
    [message_id] = await dead.submit(ada)
    await dead.claim()
    await db.bury(dead)
    await alive.ledger.recover(NOON)
    await dead.outcome(message_id, (1, WRONG))
    assert await alive.status(ada, message_id) is Status.UPSTREAM_UNACKNOWLEDGED
    assert await alive.credits(ada) == 99_000
    await dead.outcome(message_id, (1, Accepted("late")))
    await alive.receipt("late")
    assert await alive.status(ada, message_id) is Status.DELIVERED


async def test_a_message_given_back_by_one_node_is_sent_by_another(db: Site) -> None:
    one, other = await db.start(2)
    ada = await one.account()
    [message_id] = await one.submit(ada)
    await one.claim()
    await one.outcome(message_id, (1, NotSent("stopping")))
    [due] = await other.claim()
    assert (due.message_id, due.attempt) == (message_id, 2)
    await db.bury(one)
    assert await other.store.lapsed(NOON, 10) == [], "the lease is the other's, who lives"


# Pushes


# PROMISE-8
async def test_a_push_of_a_node_that_sends_none_is_adopted_once(db: Site) -> None:
    [recorder] = await db.start(pushes=False)
    pushers = await db.start(2)
    ada = await recorder.account()
    messages = [await recorder.send(ada, WRONG) for _ in range(20)]
    assert not recorder.pushes
    await asyncio.gather(*(node.ledger.due_pushes(NOON, 7) for node in pushers for _ in range(2)))
    owned = [{push.message_id for push in await node.ledger.due_pushes(NOON, 100)} for node in pushers]
    assert owned[0] | owned[1] == set(messages)
    assert not owned[0] & owned[1]


# EAPI-65
async def test_a_newer_push_stays_with_the_living_owner_of_the_older(db: Site) -> None:
    """So that the older one can't overtake it; with an owner that is gone it is the recorder's."""
    owner, recorder = await db.start(2)
    ada = await owner.account()
    for upstream_id in ("a1", "a2"):
        await owner.send(ada, Accepted(upstream_id))
        await owner.receipt(upstream_id, "UNDELIV")
    older = owner.pushes[:]
    await recorder.receipt("a1", "DELIVRD")
    assert not recorder.pushes
    assert sorted(push.status for push in await owner.ledger.due_pushes(NOON, 10)) == [11, 51]
    assert not await recorder.ledger.due_pushes(NOON, 10)
    await db.bury(owner)
    await recorder.receipt("a2", "DELIVRD")
    assert [push.status for push in recorder.pushes] == [11]
    assert await recorder.ledger.due_pushes(NOON, 10) == recorder.pushes
    await owner.ledger.record_push_results([result(older[1])])
    assert await recorder.ledger.due_pushes(NOON, 10) == recorder.pushes


# PROMISE-8
@pytest.mark.parametrize("delivered", [True, False])
async def test_what_a_former_owner_says_of_a_push_is_history_alone(db: Site, delivered: bool) -> None:
    former, owner = await db.start(2)
    ada = await former.account()
    message_id = await former.send(ada, WRONG)
    [push] = former.pushes
    await db.bury(former)
    await owner.store.tidy(NOON)
    assert await owner.ledger.due_pushes(NOON, 10) == [push]
    await former.ledger.record_push_results([result(push, delivered=delivered)])
    assert await owner.ledger.due_pushes(NOON, 10) == [push]
    said = (await owner.history(message_id))[-1].kind
    assert said == ("pushed" if delivered else "push failed")
    await owner.ledger.record_push_results([result(push)])
    assert not await owner.ledger.due_pushes(NOON + 10**9, 10)


# PROMISE-8
@pytest.mark.parametrize("delivered", [True, False])
async def test_the_end_of_a_push_that_waits_for_a_newer_one_does_not_end_that(db: Site, delivered: bool) -> None:
    """The newer one is written, and not committed yet, when the older one's end is recorded."""
    [node] = await db.start()
    ada = await node.account()
    await node.send(ada, Accepted("a1"))
    await node.receipt("a1", "UNDELIV")
    [older] = node.pushes
    async with db.transaction(Seat(node.epoch)) as tx:
        arrival = verbs.Arrival(parked("a1", node.ledger.next_id()), node.ledger.judge, node.ledger.match_receipt)
        await verbs.receive(tx, [arrival])
        ended = asyncio.ensure_future(node.ledger.record_push_results([result(older, delivered=delivered)]))
        await db_waits(db, "Lock")
    async with asyncio.timeout(10):
        await ended
    [newer] = await node.ledger.due_pushes(NOON, 10)
    assert (newer.status, newer.attempts) == (Status.DELIVERED, 0)


# PROMISE-8
async def test_pushes_of_a_dead_node_are_nobody_s_and_of_a_living_one_are_not(db: Site) -> None:
    living, dead, third = await db.start(3)
    ada = await living.account()
    await living.send(ada, WRONG)
    await dead.send(ada, WRONG)
    exhausted = await dead.send(ada, WRONG)
    await dead.ledger.record_push_results([result(dead.pushes[1], delivered=False)])
    assert not await third.ledger.due_pushes(NOON, 10)
    await db.bury(dead)
    await third.store.tidy(NOON)
    assert await third.ledger.due_pushes(NOON, 10) == dead.pushes[:1]
    assert await living.ledger.due_pushes(NOON, 10) == living.pushes
    assert await db.rows("SELECT message_id FROM pushes WHERE due_at IS NULL") == [(exhausted,)]


async def test_a_tool_without_an_epoch_leaves_nodes_their_pushes(db: Site) -> None:
    """A command that an operator runs beside the nodes takes nothing from them."""
    [node] = await db.start()
    ada = await node.account()
    await node.send(ada, WRONG)
    tool = Bench(postgres_opener(db.url))
    await tool.open()
    await tool.store.tidy(NOON)
    assert not await tool.ledger.due_pushes(NOON, 10)
    await tool.store.close()
    assert await node.ledger.due_pushes(NOON, 10) == node.pushes


# Subscribers' messages


# INB-4
async def test_a_message_is_not_given_up_while_another_node_has_a_part_of_it_in_hand(db: Site) -> None:
    [node] = await db.start()
    for number in (1, 2):
        pdu = part(b"ab"[number - 1 : number], number, 2)
        await node.ledger.receive([to_delivery("up", Incoming(1, pdu, encode(pdu, 1)), NOON, lambda taken: None)])
    give_up_all = partial(assemble, given_up_before=NOON)
    async with db.transaction(Seat(node.epoch)) as tx:
        await tx.fetch("waiting_inbound", 0, 0, NOON + 1, 1)
        assert await node.store.gather(Span(0, NOON + 1), give_up_all) == ([], None)
    [message], _ = await node.store.gather(Span(0, NOON + 1), give_up_all)
    assert (message.text, message.parts_got) == ("ab", 2)


# The same news twice


async def test_news_that_was_recorded_is_recorded_once_however_it_is_grouped(db: Site) -> None:
    """Whoever did not hear of a commit says the same again, perhaps with more beside it."""
    [node] = await db.start()
    ada = await node.account()
    messages = await node.submit(ada, range(4915100000001, 4915100000005))
    await node.claim()
    news: list[Submitted] = [node.submitted(one, (1, WRONG)) for one in messages]
    await node.ledger.record(news[:2])
    await node.ledger.record(news[:2])
    await node.ledger.record([news[0], news[2], news[1]])
    assert [await node.status(ada, one) for one in messages] == [31, 31, 31, 0]
    await asyncio.gather(*(node.ledger.record([one]) for one in news))
    reports = (await node.report(ada, node.batch_of(messages[0]))).reports
    assert [(one.status, one.seq) for one in reports] == [(Status.UNROUTABLE, 1)] * 4
    assert [len(await node.history(one)) for one in messages] == [1] * 4
    assert len(node.pushes) == 4
    assert await node.credits(ada) == 100_000
