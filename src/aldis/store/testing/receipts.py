"""What receipts do (T4): matched now or later, and judged by the real ledger."""

import asyncio
from typing import Any

import msgspec
import pytest

from aldis.connectors.base import Accepted, Refused, Unknown
from aldis.model.ids import id_at
from aldis.model.status import Status
from aldis.rules.profile import ENOUGH
from aldis.rules.spelling import Spelling
from aldis.store.base import Wanted
from aldis.store.rows import REMATCHED_AT_ONCE
from aldis.store.testing.bench import DAY_MS, LEASE_MS, NOON, Bench

BUSY = Refused(0x14, retryable=True)
WRONG = Refused(0x0B, retryable=False)
ADA, BEA = 4915112345678, 4915187654321
"""Numbers that end differently."""


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

    # REC-13 RULE-a RULE-z
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

    # RULE-a
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

    # RULE-z
    async def test_the_ids_of_upstreams_outlive_a_restart(self, bench: Bench) -> None:
        """Nothing that receipts are matched by is in memory alone."""
        ada = await bench.account()
        message_id = await bench.send(ada, Accepted("a1"), Accepted("ff00"))
        unanswered = await bench.send(ada, Unknown("cut"), msisdn=BEA)
        await bench.reopen()
        await bench.receipt("a1")
        await bench.receipt(str(0xFF00), source=str(ADA))
        await bench.receipt("x9", source=str(BEA))
        assert await bench.rematch() == 1
        assert [await bench.status(ada, one) for one in (message_id, unanswered)] == [Status.DELIVERED] * 2

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

    # REC-22 REC-26 RULE-g
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

    # REC-12 REC-14 RULE-f
    async def test_a_receipt_that_may_mean_two_messages_moves_neither(self, bench: Bench) -> None:
        """It stays parked until a number decides; a third message's id does not draw it in."""
        ada = await bench.account()
        messages = [await bench.send(ada, Accepted("1"), msisdn=one) for one in (ADA, BEA)]
        await bench.receipt("1")
        assert (await bench.parked(), bench.ledger.ambiguous["north"]) == (1, 1)
        messages.append(await bench.send(ada, Accepted("1"), msisdn=4915155555555))
        assert await bench.parked() == 1
        assert [await bench.status(ada, one) for one in messages] == [Status.DELIVERED_UPSTREAM] * 3

    # RULE-c RULE-d REC-16
    @pytest.mark.parametrize(
        ("given", "written"),
        [
            ("deadbeef", "3735928559"),
            ("DEADBEEF", "3735928559"),
            ("0000BEEF", "48879"),
            ("3735928559", "deadbeef"),
            ("3735928559", "DEADBEEF"),
            ("abc-DEF".lower(), "ABC-DEF"),
            ("5F1D6C1E-0C9B", "5f1d6c1e-0c9b"),
            ("123", "0000000123"),
            ("0000000123", "123"),
            ("3000000000", "-1294967296"),
        ],
    )
    async def test_an_id_that_the_receipt_spells_otherwise_is_known_with_the_number(
        self, bench: Bench, given: str, written: str
    ) -> None:
        """Alone it could stand for another message."""
        ada = await bench.account()
        message_id = await bench.send(ada, Accepted(given))
        await bench.receipt(written)
        await bench.receipt(written, source="4915198765432")
        assert (await bench.status(ada, message_id), await bench.parked()) == (Status.DELIVERED_UPSTREAM, 2)
        await bench.receipt(written, source="4915112345678")
        assert (await bench.status(ada, message_id), await bench.parked()) == (Status.DELIVERED, 2)

    async def test_the_very_id_goes_before_one_spelt_otherwise_and_the_number_before_both(self, bench: Bench) -> None:
        """A restarted upstream may count in another base."""
        ada = await bench.account()
        exact = await bench.send(ada, Accepted("48879"), msisdn=4915100000001)
        respelt = await bench.send(ada, Accepted("beef"), msisdn=4915100000001)
        other = await bench.send(ada, Accepted("0048879"), msisdn=4915100000002)
        await bench.receipt("48879", source="4915100000001")
        assert await bench.status(ada, exact) is Status.DELIVERED
        await bench.receipt("48879", source="4915100000002")
        assert await bench.status(ada, other) is Status.DELIVERED
        assert await bench.status(ada, respelt) is Status.DELIVERED_UPSTREAM

    # RULE-c REC-17
    async def test_a_habit_of_spelling_is_learnt_and_then_needs_no_number(self, bench: Bench) -> None:
        """Also of receipts that were parked before it was known."""
        ada = await bench.account()
        early = await bench.send(ada, Accepted("ff00"), msisdn=BEA)
        await bench.receipt(str(0xFF00))
        assert await bench.rematch() == 0
        for n in range(ENOUGH):
            await bench.send(ada, Accepted(f"{0xAA00 + n:x}"))
            await bench.receipt(str(0xAA00 + n), source=str(ADA))
        assert bench.ledger.profiles.spelling("north") is Spelling.DECIMAL
        assert await bench.rematch() == 1
        assert await bench.status(ada, early) is Status.DELIVERED
        late = await bench.send(ada, Accepted("ff01"), msisdn=BEA)
        await bench.receipt(str(0xFF01), source="short code")
        assert await bench.status(ada, late) is Status.DELIVERED
        assert bench.ledger.profiles.spelling("south") is Spelling.SAME

    # RULE-k REC-17
    async def test_a_link_that_sends_receipts_for_first_parts_only_ends_whole_messages(self, bench: Bench) -> None:
        """What is assumed of the other parts gives way to what is heard of them."""
        ada = await bench.account()
        for n in range(ENOUGH):
            message_id = await bench.send(ada, Accepted(f"a{n}"), Accepted(f"b{n}"), Accepted(f"c{n}"))
            await bench.receipt(f"a{n}", "DELIVRD")
            assert await bench.status(ada, message_id) is Status.DELIVERED_UPSTREAM
        message_id = await bench.send(ada, Accepted("a"), Accepted("b"), Accepted("c"))
        await bench.receipt("b")
        assert await bench.status(ada, message_id) is Status.DELIVERED_UPSTREAM, "it is not the first part"
        await bench.receipt("a")
        assert await bench.status(ada, message_id) is Status.DELIVERED
        await bench.receipt("c", "UNDELIV")
        assert await bench.status(ada, message_id) is Status.FAILED_PHONE

    async def test_numbers_are_noted_added_and_forgotten_by_their_names(self, bench: Bench) -> None:
        """Which may begin alike, and hold any character."""
        store = bench.store
        await store.add_facts({"a\x1fnorth\x1fx": 2, "a\x1fnorthern\x1fx": 5, "a\x1fnörd%_\x1f'": 1})
        await store.add_facts({"a\x1fnorth\x1fx": 3, "a\x1fnorth\x1fy": 1})
        assert await store.facts("a\x1fnorth\x1f") == {"a\x1fnorth\x1fx": 5, "a\x1fnorth\x1fy": 1}
        await store.forget_facts("a\x1fnorth\x1f")
        assert await store.facts("a\x1f") == {"a\x1fnorthern\x1fx": 5, "a\x1fnörd%_\x1f'": 1}

    # RULE-d REC-16
    async def test_two_messages_whose_ids_are_spelt_alike_are_not_told_apart(self, bench: Bench) -> None:
        """Nothing moves: better no news than wrong news."""
        ada = await bench.account()
        messages = [await bench.send(ada, Accepted(given)) for given in ("beef", "00048879")]
        await bench.receipt("48879", source="4915112345678")
        assert [await bench.status(ada, one) for one in messages] == [Status.DELIVERED_UPSTREAM] * 2
        assert await bench.parked() == 1

    # REC-18
    async def test_an_early_receipt_that_spells_the_id_otherwise_is_looked_at_again(self, bench: Bench) -> None:
        """The answer's transaction looks for the very id alone."""
        ada = await bench.account()
        [message_id] = await bench.submit(ada)
        await bench.claim()
        await bench.receipt("48879", source="4915112345678")
        assert await bench.rematch() == 0
        await bench.outcome(message_id, (1, Accepted("beef")))
        assert await bench.rematch() == 1
        assert (await bench.status(ada, message_id), await bench.parked()) == (Status.DELIVERED, 0)
        assert await bench.rematch() == 0

    # RULE-b REC-19
    async def test_a_message_without_an_answer_adopts_the_receipt_that_fits_it(self, bench: Bench) -> None:
        """Its id is learnt from it: what comes for it later is matched at once."""
        ada = await bench.account()
        message_id = await bench.send(ada, Unknown("cut"), msisdn=ADA)
        await bench.receipt("x9", "ENROUTE", source=str(ADA))
        assert await bench.parked() == 1
        assert await bench.rematch() == 1
        assert (await bench.status(ada, message_id), await bench.parked()) == (Status.UPSTREAM_UPDATE, 0)
        await bench.receipt("x9", source=str(ADA))
        assert (await bench.status(ada, message_id), await bench.parked()) == (Status.DELIVERED, 0)

    # RULE-y
    async def test_a_message_whose_worker_died_adopts_the_receipt_that_fits_it(self, bench: Bench) -> None:
        """The receipt may have come before anybody knew that the worker was gone."""
        ada = await bench.account()
        [message_id] = await bench.submit(ada, [ADA])
        await bench.claim()
        await bench.receipt("x9", source=str(ADA))
        assert await bench.rematch() == 0
        assert await bench.ledger.recover(bench.now + LEASE_MS) == 1
        assert await bench.rematch() == 1
        assert (await bench.status(ada, message_id), await bench.parked()) == (Status.DELIVERED, 0)

    async def test_a_dead_worker_may_have_used_any_connector_of_a_queue(self, bench: Bench) -> None:
        """A route may name several."""
        ada = await bench.account()
        batch = bench.batch(ada, [ADA], connector="north>south")
        await bench.ledger.admit(batch)
        await bench.claim(connector="north>south")
        await bench.ledger.recover(bench.now + LEASE_MS)
        await bench.receipt("x9", source=str(ADA), connector="south")
        assert await bench.rematch() == 1
        assert await bench.status(ada, batch.last_message_id) is Status.DELIVERED

    # RULE-v REC-19
    @pytest.mark.parametrize(
        "change", ["another number", "another originator", "before it", "another text", "answered"]
    )
    async def test_nothing_is_adopted_that_does_not_fit(self, bench: Bench, change: str) -> None:
        """Somebody else may use the same account with the upstream."""
        ada = await bench.account()
        message_id = await bench.send(ada, Accepted("a1") if change == "answered" else Unknown("cut"), msisdn=ADA)
        receipt = bench.delivery("x9", source=str(BEA if change == "another number" else ADA))
        facts: dict[str, dict[str, Any]] = {
            "another originator": {"destination": "Somebody"},
            "before it": {"received_at": NOON - 600_000},
            "another text": {"text": "id:x9 stat:DELIVRD text:Your code is 12345"},
        }
        await bench.ledger.receive([msgspec.structs.replace(receipt, **facts.get(change, {}))])
        assert await bench.rematch() == 0
        assert await bench.parked() == 1
        expected = Status.DELIVERED_UPSTREAM if change == "answered" else Status.UPSTREAM_UNACKNOWLEDGED
        assert await bench.status(ada, message_id) is expected

    async def test_of_two_messages_without_an_answer_to_one_number_neither_adopts(self, bench: Bench) -> None:
        """Nor does a message for which there are receipts with two ids."""
        ada = await bench.account()
        first = await bench.send(ada, Unknown("cut"), msisdn=ADA)
        second = await bench.send(ada, Unknown("cut"), msisdn=ADA)
        third = await bench.send(ada, Unknown("cut"), msisdn=BEA)
        for upstream_id, number in (("x1", ADA), ("y1", BEA), ("y2", BEA)):
            await bench.receipt(upstream_id, source=str(number))
        assert await bench.rematch() == 0
        assert {await bench.status(ada, one) for one in (first, second, third)} == {Status.UPSTREAM_UNACKNOWLEDGED}

    async def test_parts_without_an_answer_adopt_one_receipt_each(self, bench: Bench) -> None:
        """In turn: there is no telling which is whose."""
        ada = await bench.account()
        message_id = await bench.send(ada, Unknown("cut"), Unknown("cut"), Unknown("cut"), msisdn=ADA)
        await bench.receipt("x1", source=str(ADA))
        assert await bench.rematch() == 1
        await bench.receipt("x2", source=str(ADA))
        await bench.receipt("x3", source=str(ADA))
        assert await bench.rematch() == 2
        assert await bench.status(ada, message_id) is Status.DELIVERED

    # RULE-a RULE-v REC-18
    async def test_receipts_that_belong_to_no_message_are_listed_and_forgotten_in_time(self, bench: Bench) -> None:
        """The newest first; inbound messages are none of them, and stay."""
        await bench.account()
        await bench.receipt("x1", source=str(ADA))
        bench.now += 1_000
        await bench.receipt("x2", "UNDELIV", source=str(BEA), connector="south")
        message = msgspec.structs.replace(bench.delivery("", ""), is_receipt=False)
        await bench.ledger.receive([message])

        async def listed(**wanted: Any) -> list[str]:
            return [one.upstream_id for one in await bench.store.parked_receipts(Wanted(**wanted))]

        assert await listed() == ["x2", "x1"]
        assert await listed(limit=1) == ["x2"]
        assert await listed(connector="north") == ["x1"]
        assert await listed(number="345678") == ["x1"]
        assert await listed(upstream_id="x2") == ["x2"]
        assert await listed(upstream_id="x2", number="345678") == []
        while await bench.store.tidy(bench.now, NOON + 1):
            pass
        assert (await listed(), await bench.parked()) == (["x2"], 1)

    # RULE-i RULE-j REC-27
    async def test_a_message_whose_receipt_never_comes_ends_as_assumed(self, bench: Bench) -> None:
        """One that got no answer too; what is over, queued, young, or another connector's is left alone."""
        ada = await bench.account()
        accepted = await bench.send(ada, Accepted("a1"))
        unanswered = await bench.send(ada, Unknown("cut"))
        half = await bench.send(ada, Accepted("c1"), Accepted("c2"))
        await bench.receipt("c1")
        done = await bench.send(ada, Accepted("d1"))
        await bench.receipt("d1")
        [queued] = await bench.submit(ada)
        elsewhere = bench.batch(ada, [ADA], connector="south")
        await bench.ledger.admit(elsewhere)
        bench.now += DAY_MS
        young = await bench.send(ada, Accepted("y1"))
        before = len(bench.pushes)
        until = id_at(NOON + 1_000)
        position = await bench.ledger.end_untold("north", 0, until)
        assert await bench.ledger.end_untold("north", position, until) == until
        old = [accepted, unanswered, half, done, queued, elsewhere.last_message_id, young]
        assert [await bench.status(ada, one) for one in old] == [53, 53, 53, 11, 0, 0, 10]
        assert [push.message_id for push in bench.pushes[before:]] == [accepted, unanswered, half]
        assert (await bench.history(accepted))[-1].kind == "untold"
        assert await bench.credits(ada) == 93_000, "nothing is given back"
        await bench.ledger.end_untold("north", 0, until)
        assert len(await bench.history(accepted)) == 2, "it is told once"
        await bench.receipt("a1")
        await bench.receipt("c2", "UNDELIV")
        assert await bench.status(ada, accepted) is Status.DELIVERED
        assert await bench.status(ada, half) is Status.FAILED_PHONE

    async def test_old_messages_are_looked_at_from_a_position_on(self, bench: Bench) -> None:
        """Which is noted, and is where the next look begins."""
        ada = await bench.account()
        first = await bench.send(ada, Accepted("a1"))
        bench.now += 60_000
        second = await bench.send(ada, Accepted("a2"))
        await bench.ledger.end_untold("north", first, id_at(bench.now + 1))
        assert await bench.status(ada, first) is Status.DELIVERED_UPSTREAM
        assert await bench.status(ada, second) is Status.EXPIRED
        assert await bench.store.fact("tracked north") == 0
        for position in (5, 2**62):
            await bench.store.note_fact("tracked north", position)
            assert await bench.store.fact("tracked north") == position

    async def test_all_parked_receipts_of_a_span_are_looked_at_page_by_page(self, bench: Bench) -> None:
        """More than fit into one transaction; what came at the end of the span is not in it."""
        ada = await bench.account()
        [message_id] = await bench.submit(ada)
        await bench.claim()
        await bench.ledger.receive([bench.delivery(f"nobody's {n}") for n in range(REMATCHED_AT_ONCE)])
        bench.now += 1
        await bench.receipt("48879", source="4915112345678")
        await bench.outcome(message_id, (1, Accepted("beef")))
        assert await bench.ledger.rematch(0, bench.now) == 0
        assert await bench.ledger.rematch(0, bench.now + 1) == 1
        assert await bench.parked() == REMATCHED_AT_ONCE

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

    # REC-23 RULE-h
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
