"""What is learnt about messages: outcomes of tries (T3) and receipts (T4), judged by the real ledger."""

import asyncio

from aldis.connectors.base import Accepted, NotSent, Refused, Unknown
from aldis.ledger import Ended, Received
from aldis.model.status import Status
from aldis.store.testing.bench import DAY_MS, LEASE_MS, NOON, Bench

BUSY = Refused(0x14, retryable=True)
WRONG = Refused(0x0B, retryable=False)
EXPIRED = Status.EXPIRED
ADA, BEA = 4915112345678, 4915187654321
"""Numbers that end differently."""


class NewsContract:
    """T3: what came of handing parts to a connector."""

    async def test_an_accepted_message_is_upstream_and_leaves_the_queue(self, bench: Bench) -> None:
        """10, nothing given back, nothing left to send."""
        ada = await bench.account()
        message_id = await bench.send(ada, Accepted("a1"))
        assert await bench.find(ada, message_id) == (Status.DELIVERED_UPSTREAM, None, 1)
        state = await bench.store.queue_state(bench.now + 10 * DAY_MS)
        assert (state.due, state.leased) == (0, 0)
        assert await bench.credits(ada) == 99_000

    # REC-25
    async def test_a_permanent_refusal_ends_a_message_and_gives_its_price_back(self, bench: Bench) -> None:
        """Each command_status has its code; nothing was taken upstream, so nothing is owed."""
        ada = await bench.account()
        for code, status in ((0x0B, 31), (0x0E, 23), (0x01, 24), (0x45, 52)):
            message_id = await bench.send(ada, Refused(code, retryable=False))
            assert await bench.find(ada, message_id) == (status, NOON, 1)
            assert f"0x{code:08X}" in (await bench.history(message_id))[0].detail
        assert await bench.credits(ada) == 100_000

    # SMPP-6 PROMISE-3 RULE-b
    async def test_an_unknown_end_is_never_sent_again(self, bench: Bench) -> None:
        """I3: 12, paid for, and out of the queue for good."""
        ada = await bench.account()
        message_id = await bench.send(ada, Unknown("no answer"))
        assert await bench.find(ada, message_id) == (Status.UPSTREAM_UNACKNOWLEDGED, None, 1)
        bench.now += 10 * DAY_MS
        assert not await bench.claim()
        assert await bench.credits(ada) == 99_000

    async def test_what_was_not_sent_is_due_at_once(self, bench: Bench) -> None:
        """No byte left: it goes back unharmed, and its status never moved."""
        ada = await bench.account()
        message_id = await bench.send(ada, NotSent("link down"))
        assert await bench.find(ada, message_id) == (Status.IN_PROGRESS, None, 0)
        [due] = await bench.claim()
        assert (due.message_id, due.attempt) == (message_id, 2)

    # SMPP-25
    async def test_a_temporary_refusal_waits_for_its_time(self, bench: Bench) -> None:
        """63 until the time that the rules give, then it is claimed again."""
        ada = await bench.account()
        [message_id] = await bench.submit(ada)
        await bench.claim()
        await bench.outcome(message_id, (1, BUSY), retry_at=NOON + 5_000)
        assert await bench.find(ada, message_id) == (Status.RETRY_QUEUED, None, 1)
        bench.now += 4_999
        assert not await bench.claim()
        bench.now += 1
        [due] = await bench.claim()
        assert due.attempt == 2
        await bench.outcome(message_id, (1, Accepted("a1")), attempt=2)
        assert await bench.status(ada, message_id) is Status.DELIVERED_UPSTREAM

    # SMPP-25
    async def test_a_refusal_that_outlasts_validity_expires_the_message(self, bench: Bench) -> None:
        """53, and its price back: it never left."""
        ada = await bench.account()
        message_id = await bench.send(ada, BUSY)
        assert await bench.find(ada, message_id) == (Status.EXPIRED, NOON, 1)
        assert await bench.credits(ada) == 100_000

    async def test_a_message_of_several_parts_is_as_far_as_its_hindmost_part(self, bench: Bench) -> None:
        """A part that waits holds the message back; with the last receipt it is delivered."""
        ada = await bench.account()
        [message_id] = await bench.submit(ada, parts=3)
        await bench.claim()
        await bench.outcome(message_id, (1, Accepted("a")), (2, BUSY), (3, Accepted("c")), retry_at=NOON)
        assert await bench.status(ada, message_id) is Status.RETRY_QUEUED
        await bench.claim()
        await bench.outcome(message_id, (2, Accepted("b")), attempt=2)
        assert await bench.status(ada, message_id) is Status.DELIVERED_UPSTREAM
        for upstream_id, status in (("c", 10), ("a", 10), ("b", 11)):
            await bench.receipt(upstream_id, "DELIVRD")
            assert await bench.status(ada, message_id) == status
        assert await bench.credits(ada) == 99_000

    # REC-24
    async def test_where_each_part_stands_is_told(self, bench: Bench) -> None:
        """Of messages that have several, and were tried."""
        ada = await bench.account()
        [message_id] = await bench.submit(ada, parts=3)
        alone = await bench.send(ada, Accepted("alone"))
        assert await bench.store.standings([]) == {}
        await bench.claim()
        await bench.outcome(message_id, (1, Accepted("a")), (2, WRONG), (3, Accepted("c")))
        await bench.receipt("c", "DELIVRD")
        told = await bench.store.standings([bench.key_of(message_id), bench.key_of(alone)])
        assert {of: [(no, at.status) for no, at in sorted(parts.items())] for of, parts in told.items()} == {
            message_id: [(1, Status.DELIVERED_UPSTREAM), (2, Status.UNROUTABLE), (3, Status.DELIVERED)]
        }

    # REC-24
    async def test_one_failed_part_fails_the_message(self, bench: Bench) -> None:
        """With the reason of the first part that failed; what was taken upstream is paid for."""
        ada = await bench.account()
        message_id = await bench.send(ada, Accepted("a"), Refused(0x45, retryable=False), Accepted("c"))
        assert await bench.find(ada, message_id) == (Status.FAILED_NETWORK, NOON, 1)
        await bench.receipt("c", "DELIVRD")
        await bench.receipt("a", "UNDELIV")
        assert await bench.status(ada, message_id) is Status.FAILED_PHONE
        assert await bench.credits(ada) == 99_000

    # SMPP-6
    async def test_what_may_have_left_is_paid_for(self, bench: Bench) -> None:
        """A part without an answer counts as taken when another part fails the message."""
        ada = await bench.account()
        message_id = await bench.send(ada, Unknown("no answer"), Refused(0x45, retryable=False))
        assert await bench.status(ada, message_id) is Status.FAILED_NETWORK
        assert await bench.credits(ada) == 99_000

    async def test_a_late_answer_settles_what_was_unknown(self, bench: Bench) -> None:
        """An id that comes after the time-out makes receipts find their message."""
        ada = await bench.account()
        message_id = await bench.send(ada, Unknown("no answer"))
        await bench.outcome(message_id, (1, Accepted("late")))
        assert await bench.status(ada, message_id) is Status.DELIVERED_UPSTREAM
        await bench.receipt("late")
        assert await bench.status(ada, message_id) is Status.DELIVERED

    async def test_a_late_answer_for_one_part_leaves_the_others_queued(self, bench: Bench) -> None:
        """The second part's retry stays due, and its lease stays its own."""
        ada = await bench.account()
        for late_at in ("before the retry", "during the retry"):
            [message_id] = await bench.submit(ada, parts=2)
            await bench.claim()
            await bench.outcome(message_id, (1, Unknown("no answer")), (2, BUSY), retry_at=NOON)
            if late_at == "during the retry":
                await bench.claim()
            await bench.outcome(message_id, (1, Accepted("late")))
            if late_at == "before the retry":
                assert [due.pending for due in await bench.claim()] == [(2,)]
            assert (await bench.store.queue_state(NOON)).leased == 1, late_at
            await bench.outcome(message_id, (2, Accepted("b")), attempt=2)
            assert (await bench.store.queue_state(NOON)).leased == 0, late_at

    # SMPP-6
    async def test_a_late_refusal_brings_a_message_back(self, bench: Bench) -> None:
        """It is certain now that the upstream has not taken it, so it is no second send: in one part or several."""
        ada = await bench.account()
        for parts in (1, 2):
            [message_id] = await bench.submit(ada, parts=parts)
            await bench.claim()
            await bench.outcome(message_id, *((part_no, Unknown("no answer")) for part_no in range(1, parts + 1)))
            await bench.outcome(message_id, (parts, BUSY), retry_at=NOON)
            [due] = await bench.claim()
            assert (due.message_id, due.pending) == (message_id, (parts,))
            await bench.outcome(message_id, (parts, Accepted("b")), attempt=2)

    # PROMISE-13
    async def test_a_late_answer_ends_the_hold_on_what_needs_no_sending_any_more(self, bench: Bench) -> None:
        """A retry was under way when the first try turned out to be accepted: no lease is left without a purpose."""
        ada = await bench.account()
        message_id = await bench.send(ada, Unknown("no answer"))
        await bench.outcome(message_id, (1, NotSent("it has not left")))
        [due] = await bench.claim()
        await bench.outcome(message_id, (1, Accepted("a1")), attempt=1)
        assert due.attempt == 2 and await bench.status(ada, message_id) is Status.DELIVERED_UPSTREAM
        assert (await bench.store.queue_state(bench.now)).leased == 0
        assert await bench.ledger.recover(1 << 62) == 0
        await bench.outcome(message_id, (1, NotSent("stopping")), attempt=2)
        assert not await bench.claim()

    # PROMISE-3
    async def test_a_zombie_moves_nothing(self, bench: Bench) -> None:
        """B02: whatever a worker says of a claim that was called off, its message stays where it is, paid for."""
        ada = await bench.account()
        for outcome in (Accepted("z1"), BUSY, WRONG, NotSent("stopping"), Unknown("cut")):
            [message_id] = await bench.submit(ada)
            await bench.claim()
            await bench.ledger.recover(bench.now + LEASE_MS)
            before = await bench.find(ada, message_id), await bench.credits(ada)
            await bench.outcome(message_id, (1, outcome), retry_at=NOON)
            await bench.ledger.record([Ended(*bench.key_of(message_id), bench.ledger.next_id(), NOON, EXPIRED, "", 1)])
            assert (await bench.find(ada, message_id), await bench.credits(ada)) == before, outcome
            assert before[0][0] is Status.UPSTREAM_UNACKNOWLEDGED
            assert [event.kind for event in await bench.history(message_id)] == ["lapsed", "late word", "ended"]
            assert not await bench.claim()

    async def test_a_zombie_s_id_still_finds_its_receipt(self, bench: Bench) -> None:
        """What the network says of the part counts, whoever had sent it, and whichever of the two comes first."""
        ada = await bench.account()
        for number, first in enumerate(("receipt", "late word")):
            [message_id] = await bench.submit(ada)
            await bench.claim()
            await bench.ledger.recover(bench.now + LEASE_MS)
            if first == "receipt":
                await bench.receipt(f"z{number}")
            await bench.outcome(message_id, (1, Accepted(f"z{number}")))
            if first == "late word":
                assert await bench.status(ada, message_id) is Status.UPSTREAM_UNACKNOWLEDGED
                await bench.receipt(f"z{number}")
            assert await bench.status(ada, message_id) is Status.DELIVERED
            assert await bench.parked() == 0

    async def test_what_is_being_sent_is_ended_by_its_worker_alone(self, bench: Bench) -> None:
        """An expiry found in the queue a moment ago leaves a message alone that has been claimed since."""
        ada = await bench.account()
        [message_id] = await bench.submit(ada)
        await bench.claim()
        for attempt, status in ((0, Status.IN_PROGRESS), (1, Status.EXPIRED)):
            news = Ended(*bench.key_of(message_id), bench.ledger.next_id(), NOON, EXPIRED, "too late", attempt)
            await bench.ledger.record([news])
            assert await bench.status(ada, message_id) is status
        assert await bench.credits(ada) == 100_000

    async def test_what_turns_out_not_to_have_left_is_given_back(self, bench: Bench) -> None:
        """A late refusal takes back that it may have been sent: if it ends unsent, its price comes back."""
        ada = await bench.account()
        message_id = await bench.send(ada, Unknown("no answer"))
        await bench.outcome(message_id, (1, Refused(0x45, retryable=False)))
        assert await bench.status(ada, message_id) is Status.FAILED_NETWORK
        assert await bench.credits(ada) == 100_000

    async def test_what_we_end_ourselves_ends_only_what_has_not_left(self, bench: Bench) -> None:
        """Expiry in the queue is 53 with the price back; what is upstream already waits for its receipt."""
        ada = await bench.account()
        [queued] = await bench.submit(ada)
        sent = await bench.send(ada, Accepted("a1"), msisdn=BEA)
        [queued] = [one for one in (queued,) if one != sent]
        await bench.outcome(queued, (1, NotSent("link down")))
        ends = [
            Ended(*bench.key_of(one), bench.ledger.next_id(), NOON, Status.EXPIRED, "too late")
            for one in (queued, sent)
        ]
        await bench.ledger.record(ends)
        assert await bench.status(ada, queued) is Status.EXPIRED
        assert await bench.status(ada, sent) is Status.DELIVERED_UPSTREAM
        assert not await bench.claim()
        assert await bench.credits(ada) == 99_000

    # REC-25 PROMISE-5
    async def test_a_message_is_refunded_once(self, bench: Bench) -> None:
        """I5: however often, and for however many reasons, it fails."""
        ada = await bench.account()
        message_id = await bench.send(ada, WRONG)
        for _ in range(2):
            await bench.outcome(message_id, (1, WRONG))
            await bench.outcome(message_id, (1, Refused(0x0E, retryable=False)))
        assert await bench.credits(ada) == 100_000

    # RULE-aa
    async def test_news_of_one_message_in_one_group_is_judged_in_order(self, bench: Bench) -> None:
        """Nothing is lost between two changes of a row that come together."""
        ada = await bench.account()
        [message_id] = await bench.submit(ada)
        await bench.claim()
        accepted = bench.submitted(message_id, (1, Accepted("a1")))
        receipts = [
            Received(*bench.key_of(message_id), bench.ledger.next_id(), NOON, 1, "north", "a1", state, "", "")
            for state in ("ENROUTE", "DELIVRD", "ENROUTE")
        ]
        await bench.ledger.record([accepted, *receipts])
        assert await bench.find(ada, message_id) == (Status.DELIVERED, NOON, 3)
        assert [event.status for event in await bench.history(message_id)] == [10, 61, 11, 11]

    async def test_news_of_an_unknown_message_changes_nothing(self, bench: Bench) -> None:
        """What was purged is not missed, and does not hinder others in the group."""
        ada = await bench.account()
        [message_id] = await bench.submit(ada)
        await bench.claim()
        news = [bench.submitted(message_id + 1, (1, Accepted("x"))), bench.submitted(message_id, (1, Accepted("a1")))]
        await bench.ledger.record(news)
        assert await bench.status(ada, message_id) is Status.DELIVERED_UPSTREAM

    async def test_poisoned_news_fails_alone(self, bench: Bench) -> None:
        """Other calls of the group are written; the poisoned one leaves no trace."""
        ada = await bench.account()
        messages = await bench.submit(ada, range(4915100000000, 4915100000020))
        await bench.claim()
        poisoned = bench.submitted(messages[7], (1, Accepted("\ud800")))
        news = [bench.submitted(one, (1, Accepted(f"a{one}"))) for one in messages]
        news[7] = poisoned
        ends = await asyncio.gather(*(bench.ledger.record([one]) for one in news), return_exceptions=True)
        assert [index for index, end in enumerate(ends) if end is not None] == [7]
        statuses = [one.status for one in (await bench.report(ada, bench.batch_of(messages[0]))).reports]
        assert statuses == [10] * 7 + [0] + [10] * 12
        assert len(await bench.history(messages[7])) == 0
