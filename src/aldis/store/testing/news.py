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

    # SMPP-6 PROMISE-3
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


class ReceiptContract:
    """T4: receipts in, matched now or later."""

    async def test_an_id_with_a_nul_in_it_is_matched_like_any(self, bench: Bench) -> None:
        """Some upstreams pad their ids: whichever of the two comes first."""
        ada = await bench.account()
        message_id = await bench.send(ada, Accepted("a1\0\0"))
        await bench.receipt("a1\0\0")
        assert await bench.status(ada, message_id) is Status.DELIVERED
        await bench.receipt("b2\0")
        assert await bench.status(ada, await bench.send(ada, Accepted("b2\0"))) is Status.DELIVERED

    async def test_a_receipt_delivers_its_message(self, bench: Bench) -> None:
        """11, with the time of its arrival and the upstream's own words in the history."""
        ada = await bench.account()
        message_id = await bench.send(ada, Accepted("a1"))
        bench.now += 777
        await bench.receipt("a1", source=str(ADA))
        assert await bench.find(ada, message_id) == (Status.DELIVERED, NOON + 777, 2)
        event = (await bench.history(message_id))[-1]
        assert (event.kind, event.upstream_id, event.detail) == ("receipt", "a1", "id:a1 stat:DELIVRD")

    # REC-13
    async def test_a_receipt_before_the_response_waits_for_it(self, bench: Bench) -> None:
        """I7: it is parked, survives a restart, and is judged with the id that gives it a home."""
        ada = await bench.account()
        [message_id] = await bench.submit(ada)
        await bench.claim()
        await bench.receipt("early")
        assert await bench.status(ada, message_id) is Status.IN_PROGRESS
        await bench.reopen()
        assert await bench.parked() == 1
        await bench.outcome(message_id, (1, Accepted("early")))
        assert await bench.status(ada, message_id) is Status.DELIVERED
        assert await bench.parked() == 0
        await bench.reopen()
        assert await bench.parked() == 0
        assert sorted(event.kind for event in await bench.history(message_id)) == ["receipt", "submit"]

    async def test_an_early_receipt_and_its_response_may_share_a_group(self, bench: Bench) -> None:
        """I7: whichever of the two comes first into the transaction."""
        ada = await bench.account()
        for first in ("receipt", "response"):
            messages = await bench.submit(ada, range(4915100000000, 4915100000010))
            await bench.claim()
            responses = [bench.outcome(one, (1, Accepted(f"i{one}"))) for one in messages]
            receipts = [bench.receipt(f"i{one}") for one in messages]
            both = (*receipts, *responses) if first == "receipt" else (*responses, *receipts)
            await asyncio.gather(*both)
            reports = (await bench.report(ada, bench.batch_of(messages[0]))).reports
            assert {one.status for one in reports} == {Status.DELIVERED}, first
            assert await bench.parked() == 0

    async def test_an_early_receipt_of_a_retried_part_finds_that_part(self, bench: Bench) -> None:
        """The second part of the response's own list is not the second part of the message."""
        ada = await bench.account()
        [message_id] = await bench.submit(ada, parts=3)
        await bench.claim()
        await bench.outcome(message_id, (1, BUSY), (2, Accepted("b")), (3, BUSY), retry_at=NOON)
        await bench.claim()
        await bench.receipt("c", "DELIVRD")
        await bench.receipt("b", "DELIVRD")
        await bench.outcome(message_id, (1, Accepted("a")), (3, Accepted("c")), attempt=2)
        assert await bench.status(ada, message_id) is Status.DELIVERED_UPSTREAM
        await bench.receipt("a", "DELIVRD")
        assert await bench.status(ada, message_id) is Status.DELIVERED

    # REC-22 REC-26
    async def test_a_repeated_receipt_changes_nothing_but_the_history(self, bench: Bench) -> None:
        """I6: the version stands still; every copy is kept."""
        ada = await bench.account()
        message_id = await bench.send(ada, Accepted("a1"))
        for _ in range(3):
            await bench.receipt("a1")
        assert await bench.find(ada, message_id) == (Status.DELIVERED, NOON, 2)
        assert [event.kind for event in await bench.history(message_id)] == ["submit", *["receipt"] * 3]

    # REC-11 REC-14
    async def test_a_receipt_never_crosses_to_another_connector(self, bench: Bench) -> None:
        """Two upstreams that hand out the same id each speak of their own part."""
        ada = await bench.account()
        message_id = await bench.send(ada, Accepted("same"))
        other = bench.batch(ada, [BEA], connector="south")
        await bench.ledger.admit(other)
        await bench.claim(connector="south")
        news = bench.submitted(other.last_message_id, (1, Accepted("same")), connector="south")
        await bench.ledger.record([news])
        await bench.receipt("same", "UNDELIV", connector="south")
        await bench.receipt("same", "DELIVRD", connector="east")
        assert await bench.status(ada, message_id) is Status.DELIVERED_UPSTREAM
        assert await bench.status(ada, other.last_message_id) is Status.FAILED_PHONE
        assert await bench.parked() == 1

    # REC-12
    async def test_of_two_messages_with_one_id_the_number_decides(self, bench: Bench) -> None:
        """A restarted SMSC counts from one again; however the number is written."""
        ada = await bench.account()
        first = await bench.send(ada, Accepted("1"), msisdn=ADA)
        second = await bench.send(ada, Accepted("1"), msisdn=BEA)
        await bench.receipt("1", "UNDELIV", source=f"+{ADA}")
        assert await bench.status(ada, second) is Status.DELIVERED_UPSTREAM
        await bench.receipt("1", "DELIVRD", source=f"0{BEA % 10**11}")
        assert await bench.status(ada, first) is Status.FAILED_PHONE
        assert await bench.status(ada, second) is Status.DELIVERED

    # REC-11
    async def test_a_receipt_for_another_number_is_not_for_a_message_that_is_done(self, bench: Bench) -> None:
        """It is early news of a later message with the same id, and waits for it."""
        ada = await bench.account()
        done = await bench.send(ada, Accepted("1"), msisdn=ADA)
        await bench.receipt("1", "UNDELIV", source=str(ADA))
        await bench.receipt("1", "DELIVRD", source=str(BEA))
        assert (await bench.status(ada, done), await bench.parked()) == (Status.FAILED_PHONE, 1)
        later = await bench.send(ada, Accepted("1"), msisdn=BEA)
        assert (await bench.status(ada, later), await bench.parked()) == (Status.DELIVERED, 0)
        assert await bench.status(ada, done) is Status.FAILED_PHONE

    async def test_an_id_of_another_day_is_found_by_its_number(self, bench: Bench) -> None:
        """Today's message with the same id does not hide the one of last week."""
        ada = await bench.account()
        old = await bench.send(ada, Accepted("1"), msisdn=ADA)
        bench.now += 6 * DAY_MS
        new = await bench.send(ada, Accepted("1"), msisdn=BEA)
        await bench.receipt("1", "DELIVRD", source=str(ADA))
        assert await bench.status(ada, old) is Status.DELIVERED
        assert await bench.status(ada, new) is Status.DELIVERED_UPSTREAM

    # REC-12 REC-14
    async def test_a_receipt_that_may_mean_two_messages_moves_neither(self, bench: Bench) -> None:
        """It stays parked until a number decides; a third message's id does not draw it in."""
        ada = await bench.account()
        messages = [await bench.send(ada, Accepted("1"), msisdn=one) for one in (ADA, BEA)]
        await bench.receipt("1")
        assert await bench.parked() == 1
        messages.append(await bench.send(ada, Accepted("1"), msisdn=4915155555555))
        assert await bench.parked() == 1
        assert [await bench.status(ada, one) for one in messages] == [Status.DELIVERED_UPSTREAM] * 3

    async def test_a_parked_receipt_goes_to_one_message_of_a_group(self, bench: Bench) -> None:
        """Two responses with one id in a group share nothing: the number decides there, too."""
        ada = await bench.account()
        messages = await bench.submit(ada, [ADA, BEA])
        await bench.claim()
        await bench.receipt("1", "DELIVRD", source=str(BEA))
        await bench.ledger.record([bench.submitted(one, (1, Accepted("1"))) for one in messages])
        reports = (await bench.report(ada, bench.batch_of(messages[0]))).reports
        assert [one.status for one in reports] == [Status.DELIVERED_UPSTREAM, Status.DELIVERED]
        assert await bench.parked() == 0

    # REC-12
    async def test_of_two_messages_to_one_number_the_one_that_waits_gets_it(self, bench: Bench) -> None:
        """Then the newest: what is done needs no receipt."""
        ada = await bench.account()
        first = await bench.send(ada, Accepted("1"))
        second = await bench.send(ada, Accepted("1"))
        await bench.receipt("1", source=str(ADA))
        assert [await bench.status(ada, one) for one in (first, second)] == [10, 11]
        await bench.receipt("1", source=str(ADA))
        assert [await bench.status(ada, one) for one in (first, second)] == [11, 11]

    # REC-15
    async def test_one_id_for_all_parts_counts_its_receipts(self, bench: Bench) -> None:
        """Some SMSCs name all parts of a message alike: as many receipts as parts deliver it, together or not."""
        ada = await bench.account()
        for together in (True, False):
            message_id = await bench.send(ada, *[Accepted(f"same{together}")] * 3)
            receipts = [bench.delivery(f"same{together}") for _ in range(3)]
            for group in [receipts[:2], receipts[2:]] if together else [[one] for one in receipts]:
                assert await bench.status(ada, message_id) is Status.DELIVERED_UPSTREAM
                await bench.ledger.receive(group)
            assert await bench.status(ada, message_id) is Status.DELIVERED

    # REC-23
    async def test_a_delivery_corrects_a_failure_and_is_never_undone(self, bench: Bench) -> None:
        """I6: the only way out of a failure is that the phone has it after all."""
        ada = await bench.account()
        message_id = await bench.send(ada, Accepted("a1"))
        for state, found in (("UNDELIV", (51, NOON, 2)), ("ENROUTE", (51, NOON, 2)), ("DELIVRD", (11, NOON, 3))):
            await bench.receipt("a1", state)
            assert await bench.find(ada, message_id) == found
        await bench.receipt("a1", "UNDELIV")
        assert await bench.find(ada, message_id) == (11, NOON, 3)

    async def test_a_corrected_part_lets_its_message_move_again(self, bench: Bench) -> None:
        """It is not complete any more, and a part that the failure had kept from being sent is due."""
        ada = await bench.account()
        [message_id] = await bench.submit(ada, parts=2)
        await bench.claim()
        await bench.outcome(message_id, (1, Accepted("a")), (2, BUSY), retry_at=NOON)
        await bench.receipt("a", "UNDELIV")
        assert await bench.find(ada, message_id) == (Status.FAILED_PHONE, NOON, 2)
        assert not await bench.claim()
        await bench.receipt("a", "DELIVRD")
        assert await bench.find(ada, message_id) == (Status.RETRY_QUEUED, None, 3)
        [due] = await bench.claim()
        assert due.pending == (2,)
        await bench.outcome(message_id, (2, Accepted("b")), attempt=2)
        await bench.receipt("b", "DELIVRD")
        assert await bench.find(ada, message_id) == (Status.DELIVERED, NOON, 5)

    async def test_poisoned_receipts_fail_alone(self, bench: Bench) -> None:
        """I7: others of the group are on disk, and the poisoned one was refused."""
        ada = await bench.account()
        message_id = await bench.send(ada, Accepted("a1"))
        ends = await asyncio.gather(
            bench.receipt("zz"), bench.receipt("\ud800"), bench.receipt("a1"), return_exceptions=True
        )
        assert [isinstance(end, Exception) for end in ends] == [False, True, False]
        assert await bench.status(ada, message_id) is Status.DELIVERED
        assert await bench.parked() == 1
