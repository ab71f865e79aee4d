"""Rules a to l of receipts: which message one is about. The simulator has the habit; ledger and sockets are real."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.contract.receipt_site import DELIVERED, SILENT, UNDELIVERABLE, Site, open_site
from tests.stores import Engine, Sqlite

from aldis import dispatch as dispatch_module
from aldis import tracking as tracking_module
from aldis.connectors.simulator import SimulatorRates
from aldis.model.status import Status
from aldis.rules.profile import ENOUGH, Topic
from aldis.rules.spelling import Spelling
from aldis.store.testing.bench import DAY_MS
from aldis.tracking import Tracking

LATE = 447700900102


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch_module, "POLL_S", 0.02)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Sqlite]:
    """One engine: what the two do alike is in the contract that ships with the stores."""
    made = Sqlite(tmp_path / "ledgers")
    yield made
    made.close()


async def delivered(site: Site, receipts: int = 1) -> int:
    """Submit a message, wait for its receipts, and return it."""
    [message_id] = await site.submit()
    await site.answered(receipts)
    return message_id


# RULE-b
async def test_what_was_never_answered_is_sent_once_and_found_by_its_receipt(engine: Engine) -> None:
    async with open_site(engine, {"no_answer": True}, link={"response_timeout_s": 0.3}) as site:
        [message_id] = await site.submit()
        await site.answered(1)
        await site.becomes(message_id, Status.UPSTREAM_UNACKNOWLEDGED)
        assert await site.parked() == 1
        assert await site.ledger.rematch(0, site.bench.now + 1) == 1
        assert (await site.status(message_id), await site.parked()) == (Status.DELIVERED, 0)
        assert len(site.witnesses["north"].submits) == 1, "it is not sent again"


# RULE-c
@pytest.mark.parametrize(
    ("answers", "receipts", "habit"),
    [
        ("hexadecimal", "decimal", Spelling.DECIMAL),
        ("HEXADECIMAL", "decimal", Spelling.DECIMAL),
        ("decimal", "hexadecimal", Spelling.HEXADECIMAL),
        ("padded", "decimal", Spelling.ZEROS),
    ],
)
async def test_the_base_and_width_of_ids_is_learnt(
    ledger: Sqlite, answers: str, receipts: str, habit: Spelling
) -> None:
    async with open_site(ledger, {"answer_ids": answers, "receipt_ids": receipts}) as site:
        await site.submit(*range(DELIVERED, DELIVERED + ENOUGH))
        await site.answered(ENOUGH)
        assert site.ledger.profiles.settled("north", Topic.SPELLING) == habit.value


# RULE-d
@pytest.mark.parametrize(
    "habits",
    [
        {"answer_ids": "padded"},
        {"receipt_ids": "padded"},
        {"answer_ids": "HEXADECIMAL", "receipt_ids": "hexadecimal"},
        {"answer_ids": "word", "receipt_ids": "signed word", "first_id": 3_000_000_000},
        {"dialect": "nul", "says": "text"},
    ],
    ids=str,
)
async def test_zeros_letters_nul_and_a_sign_make_no_other_id(ledger: Sqlite, habits: dict[str, Any]) -> None:
    async with open_site(ledger, habits) as site:
        message_id = await delivered(site)
        assert (await site.status(message_id), await site.parked()) == (Status.DELIVERED, 0)


# RULE-e
async def test_a_receipt_on_another_bind_of_one_connector_finds_its_message(ledger: Sqlite) -> None:
    async with open_site(ledger, {"other_bind": True}, link={"binds": 2}) as site:
        await site.until(lambda: site.centres["north"].bound == 2)
        messages = await site.submit(*range(DELIVERED, DELIVERED + 20))
        await site.answered(20)
        assert await site.statuses(messages) == [11] * 20


# RULE-f
async def test_two_accounts_with_one_message_centre_that_get_the_same_ids_are_kept_apart(ledger: Sqlite) -> None:
    async with open_site(ledger, {"ids_by_account": True, "first_id": 9}, second_account=True) as site:
        [undelivered] = await site.submit(UNDELIVERABLE)
        [delivered] = await site.submit(15551110000)
        await site.answered(2)
        assert {(one.connector, one.upstream_id) for one in site.deliveries} == {("north", "9"), ("south", "9")}
        assert await site.statuses([undelivered, delivered]) == [51, 11]


# RULE-g
async def test_a_receipt_by_deliver_sm_and_by_data_sm_is_told_once(engine: Engine) -> None:
    async with open_site(engine, {"by": "both"}) as site:
        message_id = await delivered(site, receipts=2)
        assert await site.told(message_id) == [("submit", 10), ("receipt", 11), ("receipt", 11)]
        assert (await site.bench.find(site.account, message_id))[2] == 2
        assert len({push.push_id for push in site.bench.pushes}) == 1


# RULE-h
@pytest.mark.parametrize("number", [DELIVERED, UNDELIVERABLE], ids=["then undelivered", "then delivered"])
async def test_of_two_receipts_that_contradict_each_other_the_delivery_stands(ledger: Sqlite, number: int) -> None:
    async with open_site(ledger, {"contradicts": True}) as site:
        [message_id] = await site.submit(number)
        await site.answered(2)
        words = [event.detail.split("stat:")[1][:7] for event in (await site.history(message_id))[1:]]
        assert sorted(words) == ["DELIVRD", "UNDELIV"], "both are kept"
        assert await site.status(message_id) is Status.DELIVERED
        assert site.ledger.contradicting["north"] == 1
        [plain] = await site.submit(number + 10_000)
        await site.answered(4)
        assert (await site.status(plain), site.ledger.contradicting["north"]) == (Status.DELIVERED, 2)


# RULE-i
async def test_a_receipt_after_the_end_that_we_assumed_says_what_really_became_of_it(engine: Engine) -> None:
    async with open_site(engine, centre={"late_delay_ms": 1_500}) as site:
        [message_id] = await site.submit(LATE)
        await site.sent(1)
        await site.ledger.end_untold("north", 0, message_id)
        assert await site.status(message_id) is Status.EXPIRED
        await site.answered(1)
        assert await site.status(message_id) is Status.DELIVERED
        assert site.pushed(message_id) == [53, 11]


# RULE-j
async def test_a_message_whose_receipt_never_comes_ends_in_time(
    ledger: Sqlite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking_module, "PAUSE_S", 0)
    async with open_site(ledger) as site:
        [message_id] = await site.submit(SILENT)
        await site.sent(1)
        tracking = Tracking(site.ledger, lambda: {"north": DAY_MS})
        await tracking.sweep("north")
        assert await site.status(message_id) is Status.DELIVERED_UPSTREAM
        site.bench.now += DAY_MS + 1_000
        await tracking.sweep("north")
        assert (await site.status(message_id), site.pushed(message_id)) == (Status.EXPIRED, [53])
        assert (await site.told(message_id))[-1] == ("untold", 53)
        assert site.ledger.missing == {"north": 1}


# RULE-k
@pytest.mark.parametrize(("receipts_for", "standing"), [("first part", [11, 10, 10]), ("last part", [10, 10, 11])])
async def test_a_link_that_sends_one_receipt_for_all_parts_is_found_out(
    ledger: Sqlite, receipts_for: str, standing: list[int]
) -> None:
    async with open_site(ledger, {"receipts_for": receipts_for}, link={"window": 500}) as site:
        messages = [await site.submit_long(3, DELIVERED + n) for n in range(ENOUGH)]
        await site.answered(ENOUGH)
        assert await site.status(messages[0]) is Status.DELIVERED_UPSTREAM, "nothing is known of the link yet"
        assert site.parts(messages[0]) == standing
        message_id = await site.submit_long(3)
        await site.answered(ENOUGH + 1)
        assert await site.status(message_id) is Status.DELIVERED


# RULE-k
async def test_a_message_is_delivered_when_every_part_is(ledger: Sqlite) -> None:
    async with open_site(ledger, {"part_states": ("DELIVRD", "ENROUTE", "DELIVRD")}) as site:
        message_id = await site.submit_long(3)
        await site.answered(3)
        assert (await site.status(message_id), site.parts(message_id)) == (Status.UPSTREAM_UPDATE, [11, 61, 11])
        assert site.pushed(message_id) == []


# RULE-l
async def test_one_id_for_all_parts_takes_as_many_receipts_as_parts(engine: Engine) -> None:
    async with open_site(engine, {"one_id": True, "first_id": 42}) as site:
        message_id = await site.submit_long(3)
        await site.answered(3)
        assert {event.upstream_id for event in await site.history(message_id)} == {"42"}
        assert (await site.status(message_id), site.parts(message_id)) == (Status.DELIVERED, [11, 11, 11])


# RULE-l
async def test_receipts_for_two_of_three_parts_under_one_id_do_not_deliver(ledger: Sqlite) -> None:
    habits = {"one_id": True, "part_states": ("DELIVRD", "DELIVRD", "ENROUTE")}
    async with open_site(ledger, habits) as site:
        message_id = await site.submit_long(3)
        await site.answered(3)
        assert await site.status(message_id) is Status.UPSTREAM_UPDATE


# RULE-a
async def test_a_whole_burst_of_early_receipts_finds_its_messages(ledger: Sqlite) -> None:
    async with open_site(ledger) as site:
        site.centres["north"].rates = SimulatorRates(early=1.0)
        messages = await site.submit(*range(DELIVERED, DELIVERED + 40))
        await site.answered(40)
        for message_id in messages:
            await site.becomes(message_id, Status.DELIVERED)
        assert await site.parked() == 0
