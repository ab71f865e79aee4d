"""Rules m to dd of receipts: what one says, and what follows from it. See test_receipt_rules.py."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.contract.receipt_site import DELIVERED, UNDELIVERABLE, open_site
from tests.stores import Engine, Sqlite

from aldis import dispatch as dispatch_module
from aldis.connectors.habits import DIALECTS
from aldis.connectors.simulator import SimulatorRates
from aldis.model.status import Status
from aldis.rules.profile import ENOUGH, Topic
from aldis.smpp.commands import DeliverSm
from aldis.store.base import WantedInbound

REJECTED, EXPIRED, HANDSET, ENROUTE = 447700900055, 447700900053, 447700900057, 447700900061
ESME_RX_T_APPN = 0x64


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch_module, "POLL_S", 0.02)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Sqlite]:
    made = Sqlite(tmp_path / "ledgers")
    yield made
    made.close()


# RULE-m
@pytest.mark.parametrize("says", ["text and TLVs", "text", "TLVs", "contradiction"])
@pytest.mark.parametrize(("number", "status"), [(DELIVERED, 11), (UNDELIVERABLE, 51)], ids=["delivered", "failed"])
async def test_state_and_id_are_read_from_tlvs_then_from_the_text(
    ledger: Sqlite, says: str, number: int, status: int
) -> None:
    async with open_site(ledger, {"says": says}) as site:
        [message_id] = await site.submit(number)
        await site.answered(1)
        assert await site.status(message_id) == status
        if says == "contradiction":
            wrong = "UNDELIV" if status == 11 else "DELIVRD"
            assert f"stat:{wrong}" in (await site.history(message_id))[-1].detail, "both are kept"


# RULE-m RULE-v
async def test_a_receipt_without_any_id_moves_nothing_and_is_kept(ledger: Sqlite) -> None:
    async with open_site(ledger, {"no_id": True}) as site:
        [message_id] = await site.submit()
        await site.answered(1)
        assert (await site.status(message_id), await site.parked()) == (Status.DELIVERED_UPSTREAM, 1)


# RULE-l RULE-m REC-32
@pytest.mark.parametrize(
    "habits", [{"no_id": True}, {"receipt_ids": "dotted", "says": "text"}], ids=["none", "foreign"]
)
async def test_a_receipt_without_a_known_id_is_matched_by_number_where_an_operator_says_so(
    engine: Engine, habits: dict[str, Any]
) -> None:
    async with open_site(engine, habits) as site:
        site.ledger.by_number = frozenset({"north"})
        twice = DELIVERED + 10_000
        messages = await site.submit(DELIVERED, UNDELIVERABLE, originator="Parcels")
        doubtful = [(await site.submit(twice))[0] for _ in range(2)]
        await site.answered(4)
        assert await site.parked() == 4
        assert await site.ledger.rematch(0, site.bench.now + 1) == 2
        assert await site.statuses(messages) == [11, 51]
        assert (await site.statuses(doubtful), await site.parked()) == ([10, 10], 2), "it may be either"
        assert site.pushed(messages[0]) == [11]
        assert await site.ledger.rematch(0, site.bench.now + 1) == 0


# RULE-l REC-32
async def test_each_part_of_a_long_message_is_matched_by_number_once(engine: Engine) -> None:
    async with open_site(engine, {"no_id": True, "part_states": ("DELIVRD", "DELIVRD", "UNDELIV")}) as site:
        site.ledger.by_number = frozenset({"north"})
        message_id = await site.submit_long(3)
        await site.answered(3)
        for _ in range(3):
            await site.ledger.rematch(0, site.bench.now + 1)
        assert await site.parked() == 0
        assert (sorted(site.parts(message_id)), await site.status(message_id)) == ([11, 11, 51], Status.FAILED_PHONE)


# RULE-n
@pytest.mark.parametrize("dialect", sorted(DIALECTS))
async def test_every_dialect_ends_messages_alike(ledger: Sqlite, dialect: str) -> None:
    async with open_site(ledger, {"dialect": dialect, "says": "text"}) as site:
        messages = await site.submit(DELIVERED, UNDELIVERABLE, ENROUTE)
        await site.answered(3)
        assert await site.statuses(messages) == [11, 51, 61]
        assert await site.parked() == 0


# RULE-n
@pytest.mark.parametrize(
    ("state", "status"),
    [("SCHEDULED", 61), ("SKIPPED", 50), ("UNKNOWN", 70), ("DELETED", 50), ("EXPIRED", 53), ("REJECTD", 55)],
)
async def test_a_message_state_has_its_status(ledger: Sqlite, state: str, status: int) -> None:
    async with open_site(ledger, {"part_states": (state,), "says": "TLVs"}) as site:
        message_id = await site.submit_long(2)
        await site.answered(2)
        assert await site.status(message_id) == status


# RULE-o
async def test_acceptd_is_a_delivery_only_where_an_operator_says_so(engine: Engine) -> None:
    async with open_site(engine, {"accepted_only": True}) as site:
        [before] = await site.submit()
        await site.answered(1)
        assert await site.told(before) == [("submit", 10), ("receipt", 10)]
        site.ledger.profiles.learn([], [("north", Topic.STATE, "ACCEPTD")])
        [after] = await site.submit()
        await site.answered(2)
        assert await site.statuses([before, after]) == [10, 11]
        assert "stat:ACCEPTD" in (await site.history(after))[-1].detail


# RULE-p
@pytest.mark.parametrize("is_tlv", [True, False])
async def test_a_link_s_table_of_errors_gives_the_reason(ledger: Sqlite, is_tlv: bool) -> None:
    async with open_site(ledger, {"errors_in_tlv": is_tlv}) as site:
        site.ledger.errors = {"north": {"057": Status.HANDSET_FAULT, "055": Status.DELIVERED}}
        messages = await site.submit(HANDSET, REJECTED)
        await site.answered(2)
        assert sorted(one.error for one in site.deliveries) == ["055", "057"]
        assert await site.statuses(messages) == [57, 55], "an error never makes a delivery of a failure"


# RULE-q
@pytest.mark.parametrize(("zone_min", "dialect"), [(120, "standard"), (-330, "seconds"), (540, "years")])
async def test_a_local_clock_is_learnt_and_orders_nothing(ledger: Sqlite, zone_min: int, dialect: str) -> None:
    async with open_site(ledger, {"zone_min": zone_min, "dialect": dialect}) as site:
        messages = await site.submit(*range(DELIVERED, DELIVERED + ENOUGH))
        await site.answered(ENOUGH)
        assert site.ledger.profiles.settled("north", Topic.CLOCK) == str(zone_min)
        assert {event.at for one in messages for event in await site.history(one)} == {site.bench.now}
        assert await site.statuses(messages) == [11] * ENOUGH


# RULE-q
async def test_a_date_of_zeros_is_none(ledger: Sqlite) -> None:
    async with open_site(ledger, {"dialect": "undated"}) as site:
        [message_id] = await site.submit()
        await site.answered(1)
        assert await site.status(message_id) is Status.DELIVERED
        assert site.ledger.profiles.counts("north")[Topic.CLOCK] == {}


# RULE-r
async def test_a_subscriber_s_words_about_receipts_are_a_message(engine: Engine) -> None:
    text = b"My last one said stat:DELIVRD, what is that? id: 77"
    async with open_site(engine) as site:
        [message_id] = await site.submit()
        await site.answered(1)
        site.centres["north"].deliver("id", DeliverSm(source_addr=b"447700901111", short_message=text))
        await site.until(lambda: len(site.deliveries) == 2)
        await site.inbound.flush()
        await site.inbound.gather(0, site.bench.now + 1)
        assert not site.deliveries[1].is_receipt
        assert [one.text for one in await site.bench.store.inbound_messages(WantedInbound())] == [text.decode()]
        assert len(await site.history(message_id)) == 2


# RULE-s
@pytest.mark.parametrize(
    "habits",
    [
        {"payload": True},
        {"ucs2": True},
        {"payload": True, "ucs2": True},
        {"by": "data_sm"},
        {"by": "data_sm", "unmarked": True, "ucs2": True},
        {"ucs2": True, "dialect": "nul"},
    ],
    ids=str,
)
async def test_a_receipt_is_read_wherever_its_text_is(ledger: Sqlite, habits: dict[str, Any]) -> None:
    async with open_site(ledger, habits | {"says": "text"}) as site:
        messages = await site.submit(DELIVERED, UNDELIVERABLE)
        await site.answered(2)
        assert await site.statuses(messages) == [11, 51]


# RULE-t
async def test_the_network_is_answered_while_the_customer_s_push_is_still_owed(engine: Engine) -> None:
    async with open_site(engine) as site:
        [message_id] = await site.submit()
        await site.answered(1)
        assert site.witnesses["north"].answers == [0]
        assert (await site.bench.store.queue_state(site.bench.now)).pushes == 1
        assert await site.status(message_id) is Status.DELIVERED


# RULE-u
async def test_the_network_is_asked_again_only_while_the_ledger_can_t_write(engine: Engine) -> None:
    async with open_site(engine, centre={"receipt_delay_ms": 1_000}) as site:
        [message_id] = await site.submit()
        await site.sent(1)
        answers = site.witnesses["north"].answers
        async with engine.refuse_writes(site.bench.store):
            await site.until(lambda: len(answers) >= 1)
        await site.until(lambda: 0 in answers)
        assert set(answers[:-1]) == {ESME_RX_T_APPN}, "a refusal each time, and then ESME_ROK"
        assert await site.told(message_id) == [("submit", 10), ("receipt", 11)]


# RULE-v
async def test_a_receipt_for_what_was_never_sent_is_kept_apart(engine: Engine) -> None:
    async with open_site(engine, {"forges": True}) as site:
        [message_id] = await site.submit(UNDELIVERABLE)
        await site.answered(2)
        assert await site.ledger.rematch(0, site.bench.now + 1) == 0
        assert await site.told(message_id) == [("submit", 10), ("receipt", 51)]
        assert site.engine.look("SELECT is_receipt, state FROM inbox") == [(1, "UNDELIV")]


# RULE-w
async def test_receipts_that_no_phone_can_have_caused_are_doubted(ledger: Sqlite) -> None:
    async with open_site(ledger, centre={"receipt_delay_ms": 0}) as site:
        messages = await site.submit(*range(DELIVERED, DELIVERED + ENOUGH))
        await site.answered(ENOUGH)
        [doubt] = site.ledger.profiles.doubts("north")
        assert "phones take longer" in doubt
        assert await site.statuses(messages) == [11] * ENOUGH, "nothing follows from a doubt"


# RULE-x
async def test_who_wants_no_report_has_its_receipt_asked_for_all_the_same(ledger: Sqlite) -> None:
    async with open_site(ledger) as site:
        [message_id] = await site.submit(want_report=False)
        await site.answered(1)
        assert [pdu.registered_delivery for pdu in site.witnesses["north"].submits] == [1]
        assert (await site.status(message_id), site.pushed(message_id)) == (Status.DELIVERED, [])


# RULE-aa
async def test_receipts_of_one_transaction_are_judged_in_turn(engine: Engine) -> None:
    async with open_site(engine) as site:
        site.centres["north"].rates = SimulatorRates(no_receipt=1.0)
        message_id = await site.submit_long(2)
        await site.sent(1)
        ids = [part.split(": ")[1] for part in (await site.history(message_id))[0].detail.split("; ")]
        words = [
            (ids[0], "ENROUTE"),
            (ids[0], "DELIVRD"),
            (ids[0], "UNDELIV"),
            (ids[1], "EXPIRED"),
            (ids[1], "DELIVRD"),
        ]
        await site.ledger.receive([site.bench.delivery(*word) for word in words])
        assert (await site.status(message_id), site.parts(message_id)) == (Status.DELIVERED, [11, 11])
        assert [event.kind for event in await site.history(message_id)] == ["submit", *["receipt"] * 5]
        assert [int(event.status) for event in (await site.history(message_id))[1:]] == [10, 10, 10, 53, 11]


# RULE-dd
@pytest.mark.parametrize(("number", "words"), [(EXPIRED, "stat:EXPIRED err:053"), (REJECTED, "stat:REJECTD err:055")])
async def test_the_network_s_own_words_stay_in_the_history(ledger: Sqlite, number: int, words: str) -> None:
    async with open_site(ledger) as site:
        [message_id] = await site.submit(number)
        await site.answered(1)
        assert words in (await site.history(message_id))[-1].detail
