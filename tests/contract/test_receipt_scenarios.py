"""What went wrong with receipts on other gateways, twenty scenarios, and what comes of each here.

Real ledger, real connector, real sockets; the simulator has the habit. See docs/spec/receipts.md.
"""

import asyncio
from contextlib import suppress

import pytest
from tests.contract.receipt_site import (
    ALSO_DELIVERED,
    DELIVERED,
    SILENT,
    UNDELIVERABLE,
    connector_to,
    open_site,
)
from tests.stores import Engine

from aldis import dispatch as dispatch_module
from aldis.connectors.simulator import SimulatorRates
from aldis.model.errors import InvalidField
from aldis.model.status import Status
from aldis.rules.profile import ENOUGH
from aldis.rules.spelling import Spelling

THRICE, EARLY, THROTTLED, ALL_THREE, LATE_ENROUTE = (447700900000 + ending for ending in (103, 104, 105, 107, 108))


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch_module, "POLL_S", 0.02)


# SCENARIO-1
async def test_a_normal_message_has_two_transitions_under_one_id(engine: Engine) -> None:
    async with open_site(engine) as site:
        [message_id] = await site.submit()
        await site.answered(1)
        assert await site.told(message_id) == [("submit", 10), ("receipt", 11)]
        assert len({event.upstream_id for event in await site.history(message_id)}) == 1
        assert site.pushed(message_id) == [11]


# SCENARIO-2 RULE-g
async def test_a_receipt_that_comes_again_changes_nothing_and_is_kept(engine: Engine) -> None:
    async with open_site(engine) as site:
        [message_id] = await site.submit(THRICE)
        await site.answered(3)
        assert await site.told(message_id) == [("submit", 10), *[("receipt", 11)] * 3]
        assert (await site.bench.find(site.account, message_id))[2] == 2, "its version has not moved again"
        assert (site.pushed(message_id), await site.parked()) == ([11], 0)


# SCENARIO-3 RULE-a
async def test_a_receipt_before_its_submit_sm_resp_waits_and_is_applied(engine: Engine) -> None:
    async with open_site(engine, centre={"early_gap_ms": 1_500}) as site:
        [message_id] = await site.submit(EARLY)
        await site.answered(1)
        assert (await site.status(message_id), await site.parked()) == (Status.IN_PROGRESS, 1)
        await site.becomes(message_id, Status.DELIVERED)
        assert (site.pushed(message_id), await site.parked()) == ([11], 0)


# SCENARIO-4 RULE-e
async def test_a_receipt_on_another_connection_of_the_account_finds_its_message(engine: Engine) -> None:
    async with open_site(engine, {"other_bind": True}) as site:
        other = connector_to(site, "north")
        task = asyncio.get_running_loop().create_task(other.run())
        await site.until(lambda: site.centres["north"].bound == 2)
        messages = await site.submit(*range(DELIVERED, DELIVERED + 4))
        await site.answered(4)
        assert (site.links["north"].counters.deliveries, other.counters.deliveries) == (0, 4)
        assert await site.statuses(messages) == [11] * 4
        assert await site.parked() == 0
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


# SCENARIO-5 RULE-h
async def test_a_late_enroute_is_recorded_and_moves_nothing(engine: Engine) -> None:
    async with open_site(engine) as site:
        [message_id] = await site.submit(LATE_ENROUTE)
        await site.answered(2)
        assert await site.told(message_id) == [("submit", 10), ("receipt", 11), ("receipt", 11)]
        assert "stat:ENROUTE" in (await site.history(message_id))[-1].detail
        assert site.pushed(message_id) == [11]


# SCENARIO-6
async def test_every_receipt_on_the_way_is_recorded_and_the_end_is_told_once(engine: Engine) -> None:
    async with open_site(engine) as site:
        [message_id] = await site.submit(ALL_THREE)
        await site.answered(3)
        assert await site.told(message_id) == [("submit", 10), ("receipt", 61), ("receipt", 61), ("receipt", 11)]
        details = [event.detail for event in (await site.history(message_id))[1:]]
        assert [detail.split("stat:")[1][:7] for detail in details] == ["ENROUTE", "ACCEPTD", "DELIVRD"]
        assert site.pushed(message_id) == [11]


# SCENARIO-7 RULE-c
async def test_hexadecimal_answers_and_decimal_receipts_are_learnt(engine: Engine) -> None:
    async with open_site(engine, {"answer_ids": "hexadecimal"}) as site:
        messages = await site.submit(*range(DELIVERED, DELIVERED + ENOUGH))
        await site.answered(ENOUGH)
        assert await site.statuses(messages) == [11] * ENOUGH
        assert site.ledger.profiles.spelling("north") is Spelling.DECIMAL
        assert await site.parked() == 0


# SCENARIO-8
async def test_an_id_in_other_letters_is_known(engine: Engine) -> None:
    async with open_site(
        engine, {"answer_ids": "hexadecimal", "receipt_ids": "HEXADECIMAL", "first_id": 0xABC}
    ) as site:
        [message_id] = await site.submit()
        await site.answered(1)
        assert [event.upstream_id for event in await site.history(message_id)] == ["abc", "ABC"]
        assert await site.status(message_id) is Status.DELIVERED


# SCENARIO-9
async def test_an_id_with_dots_is_read_whole(engine: Engine) -> None:
    async with open_site(engine, {"answer_ids": "dotted", "receipt_ids": "dotted", "says": "text"}) as site:
        [message_id] = await site.submit()
        await site.answered(1)
        ids = {event.upstream_id for event in await site.history(message_id)}
        assert len(ids) == 1 and ids.pop().count(".") == 5
        assert await site.status(message_id) is Status.DELIVERED


# SCENARIO-10 RULE-k
async def test_one_undelivered_part_of_three_fails_the_message(engine: Engine) -> None:
    async with open_site(engine, {"part_states": ("DELIVRD", "UNDELIV", "DELIVRD")}) as site:
        message_id = await site.submit_long(3)
        await site.answered(3)
        assert await site.status(message_id) is Status.FAILED_PHONE
        assert site.parts(message_id) == [11, 51, 11], "two of three"
        assert site.pushed(message_id) == [51]


# SCENARIO-11
async def test_parts_that_are_answered_in_reverse_order_are_not_mixed_up(engine: Engine) -> None:
    habits = {"reversed_answers": True, "part_states": ("UNDELIV", "DELIVRD", "DELIVRD"), "first_id": 700}
    async with open_site(engine, habits) as site:
        message_id = await site.submit_long(3)
        await site.answered(3)
        await site.becomes(message_id, Status.FAILED_PHONE)
        assert site.parts(message_id) == [51, 11, 11]
        submit = next(event for event in await site.history(message_id) if event.kind == "submit")
        assert submit.detail == "1: 700; 2: 701; 3: 702"


# SCENARIO-12 RULE-bb
async def test_a_refused_first_part_fails_the_message_whatever_the_others_do(engine: Engine) -> None:
    async with open_site(engine, {"refused_part": 1}) as site:
        message_id = await site.submit_long(3)
        await site.answered(2)
        assert await site.status(message_id) is Status.FAILED_NETWORK
        assert site.parts(message_id) == [52, 11, 11]
        assert any("1: refused 0x00000045" in event.detail for event in await site.history(message_id))
        assert site.pushed(message_id) == [52]


# SCENARIO-13
async def test_two_links_that_hand_out_the_same_id_each_speak_of_their_own_message(engine: Engine) -> None:
    async with open_site(engine, {"first_id": 500}, south={"first_id": 500}) as site:
        [undelivered] = await site.submit(UNDELIVERABLE)
        [delivered] = await site.submit(15551110000)
        await site.answered(1, "north")
        await site.answered(1, "south")
        events = [await site.history(one) for one in (undelivered, delivered)]
        assert {(one.connector, one.upstream_id) for one in events[0]} == {("north", "500")}
        assert {(one.connector, one.upstream_id) for one in events[1]} == {("south", "500")}
        assert await site.statuses([undelivered, delivered]) == [51, 11]


# SCENARIO-14 RULE-f
async def test_a_receipt_under_a_used_id_goes_to_the_message_with_its_number(engine: Engine) -> None:
    async with open_site(engine, {"ids_repeat_after": 1}) as site:
        [first] = await site.submit(SILENT)
        await site.sent(1)
        [second] = await site.submit(UNDELIVERABLE)
        await site.answered(1)
        [third] = await site.submit(DELIVERED)
        await site.answered(2)
        assert await site.statuses([first, second, third]) == [10, 51, 11]
        assert await site.parked() == 0


# SCENARIO-14 RULE-f
async def test_of_two_messages_to_one_number_under_one_id_the_newest_is_meant(engine: Engine) -> None:
    async with open_site(engine, {"ids_repeat_after": 1}) as site:
        site.centres["north"].rates = SimulatorRates(no_receipt=1.0)
        [first] = await site.submit()
        await site.sent(1)
        site.centres["north"].rates = SimulatorRates()
        [second] = await site.submit()
        await site.answered(1)
        assert await site.statuses([first, second]) == [10, 11]


# SCENARIO-15 RULE-r
async def test_a_receipt_without_a_mark_is_none_of_a_subscriber_s_messages(engine: Engine) -> None:
    async with open_site(engine, {"unmarked": True, "says": "text"}) as site:
        [message_id] = await site.submit()
        await site.answered(1)
        assert [(one.esm_class, one.is_receipt) for one in site.deliveries] == [(0, True)]
        assert await site.status(message_id) is Status.DELIVERED
        assert site.engine.look("SELECT count(*) FROM inbox") == [(0,)]


# SCENARIO-16
async def test_the_word_delivered_in_full_is_a_delivery(engine: Engine) -> None:
    async with open_site(engine, {"dialect": "words", "says": "text"}) as site:
        [message_id] = await site.submit()
        await site.answered(1)
        assert "stat:DELIVERED" in (await site.history(message_id))[-1].detail
        assert await site.status(message_id) is Status.DELIVERED


# SCENARIO-17
async def test_the_word_failed_is_a_failure(engine: Engine) -> None:
    async with open_site(engine, {"dialect": "failed", "says": "text", "unmarked": True}) as site:
        [message_id] = await site.submit(UNDELIVERABLE)
        await site.answered(1)
        assert "stat:FAILED" in (await site.history(message_id))[-1].detail
        assert await site.status(message_id) is Status.FAILED_PHONE


# SCENARIO-18 RULE-bb
async def test_throttled_once_is_one_transient_and_then_a_delivery(engine: Engine) -> None:
    async with open_site(engine) as site:
        [message_id] = await site.submit(THROTTLED)
        await site.becomes(message_id, Status.RETRY_QUEUED)
        assert site.pushed(message_id) == []
        site.bench.now += 60_000
        site.dispatch.wake()
        await site.answered(1)
        assert await site.told(message_id) == [("submit", 63), ("submit", 10), ("receipt", 11)]
        assert site.pushed(message_id) == [11]


# SCENARIO-19
async def test_1200_characters_are_refused_or_sent_to_the_last(engine: Engine) -> None:
    body = "".join(f"{n:04d}" for n in range(300)).encode()
    async with open_site(engine) as site:
        with pytest.raises(InvalidField, match="message too long"):
            await site.submit(body=body, max_parts=7)
        [message_id] = await site.submit(body=body, max_parts=8)
        await site.answered(8)
        parts = sorted(site.witnesses["north"].submits, key=lambda pdu: pdu.short_message[5])
        assert b"".join(pdu.short_message[6:] for pdu in parts) == body
        assert {tuple(pdu.short_message[3:5]) for pdu in parts} == {(parts[0].short_message[3], 8)}
        assert await site.status(message_id) is Status.DELIVERED
        assert await site.bench.credits(site.account) == 10_000_000 - 8_000


# SCENARIO-20 RULE-x
async def test_a_plain_message_asks_for_its_receipt_and_ends_in_a_report(engine: Engine) -> None:
    async with open_site(engine) as site:
        [message_id] = await site.submit(ALSO_DELIVERED)
        await site.answered(1)
        assert [pdu.registered_delivery & 3 for pdu in site.witnesses["north"].submits] == [1]
        assert (await site.status(message_id), site.pushed(message_id)) == (Status.DELIVERED, [11])
