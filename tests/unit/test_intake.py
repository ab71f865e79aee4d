"""Submissions in: checked, priced, judged, stored."""

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from tests.stores import Engine

from aldis.intake import FARTHEST_SCHEDULE_MS, Intake, IntakeSettings
from aldis.model.errors import InvalidField, NoCredits, OurError
from aldis.model.status import Status
from aldis.model.types import Account, Dca, Submission, TestMode
from aldis.rules.admission import Admission
from aldis.rules.routing import Route, Router
from aldis.store.testing import Bench
from aldis.store.testing.bench import NOON, VALIDITY_MS

DE, UK, BLOCKED, NOWHERE = 4915112345678, 447700900123, 4915100000666, 33612345678
ROUTES = [Route("49", "north", 700), Route("44", "south", 1_100)]
SETTINGS = IntakeSettings(max_recipients=5, validity_ms=VALIDITY_MS)


class Desk:
    """An intake on a real store."""

    def __init__(self, bench: Bench, account: Account) -> None:
        self.bench = bench
        self.account = account
        self.dues = 0
        admission = Admission([BLOCKED], ["forbidden"])
        self.intake = Intake(bench.ledger, Router(ROUTES), admission, SETTINGS, self.on_due)

    def on_due(self) -> None:
        self.dues += 1

    async def submit(self, *msisdns: int, body: bytes = b"hello", **fields: Any) -> int:
        submission = Submission(msisdns=msisdns, body=body, **fields)
        return (await self.intake.submit(self.account, submission)).batch_id

    async def statuses(self, batch_id: int) -> list[tuple[int, int, int]]:
        reports = (await self.bench.report(self.account, batch_id)).reports
        return [(one.msisdn, int(one.status), one.price_milli) for one in reports]

    async def spent(self) -> int:
        return 100_000 - await self.bench.credits(self.account)


@pytest.fixture
async def desk(engine: Engine) -> AsyncIterator[Desk]:
    bench = Bench(engine.open)
    await bench.open()
    yield Desk(bench, await bench.account())
    await bench.store.close()


async def test_each_message_costs_its_route_s_price_a_part(desk: Desk) -> None:
    batch_id = await desk.submit(DE, UK, body=b"x" * 307, max_parts=3)
    assert await desk.statuses(batch_id) == [(DE, 0, 2_100), (UK, 0, 3_300)]
    assert await desk.spent() == 5_400
    [due] = await desk.bench.claim(connector="south")
    assert (due.msisdn, due.parts, due.body) == (UK, 3, b"x" * 307)


async def test_a_submission_is_kept_as_it_was(desk: Desk) -> None:
    body = "smörgås €".encode()
    batch_id = await desk.submit(DE, body=body, originator="+491510000", msg_class=0, source_id="mine", dca=Dca.UCS2)
    report = await desk.bench.report(desk.account, batch_id)
    assert (report.body, report.originator, report.source_id, report.dca) == (body, "+491510000", "mine", Dca.UCS2)
    [due] = await desk.bench.claim()
    assert (due.msg_class, due.dca, due.valid_until) == (0, Dca.UCS2, NOON + VALIDITY_MS)


async def test_a_number_given_twice_is_written_to_twice_unless_duplicates_go(desk: Desk) -> None:
    twice = await desk.submit(DE, UK, DE)
    assert [one[0] for one in await desk.statuses(twice)] == [DE, UK, DE]
    once = await desk.submit(UK, DE, UK, DE, strip_duplicates=True)
    assert [one[0] for one in await desk.statuses(once)] == [UK, DE]
    assert await desk.spent() == 700 * 3 + 1_100 * 2


async def test_refused_recipients_are_final_free_and_told_at_once(desk: Desk) -> None:
    batch_id = await desk.submit(DE, BLOCKED, NOWHERE)
    assert await desk.statuses(batch_id) == [(DE, 0, 700), (BLOCKED, 32, 0), (NOWHERE, 31, 0)]
    assert await desk.spent() == 700
    assert [(push.msisdn, push.status, push.completed_at) for push in desk.bench.pushes] == [
        (BLOCKED, 32, NOON),
        (NOWHERE, 31, NOON),
    ]
    assert await desk.bench.ledger.due_pushes(NOON, 10) == desk.bench.pushes


@pytest.mark.parametrize("quiet", ["no URL", "no report wanted"])
async def test_a_refusal_is_not_pushed_to_who_wants_none(desk: Desk, quiet: str) -> None:
    if quiet == "no URL":
        desk.account = msgspec.structs.replace(desk.account, push_url="")
    await desk.submit(BLOCKED, want_report=quiet == "no URL")
    assert not desk.bench.pushes
    assert not await desk.bench.ledger.due_pushes(NOON, 10)


async def test_a_censored_body_ends_every_message(desk: Desk) -> None:
    batch_id = await desk.submit(DE, NOWHERE, body=b"This is FORBIDDEN here")
    assert [one[1] for one in await desk.statuses(batch_id)] == [Status.CENSORED, Status.CENSORED]
    assert await desk.spent() == 0


async def test_octets_are_not_read_as_words(desk: Desk) -> None:
    batch_id = await desk.submit(DE, body=b"forbidden\xff", dca=Dca.BINARY)
    assert await desk.statuses(batch_id) == [(DE, 0, 700)]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"body": b"x" * 161}, "message too long"),
        ({"body": b"x" * 307, "max_parts": 2}, "message too long"),
        ({"body": b"x" * 40_000, "max_parts": 255}, "message too long"),
        ({"body": b"x" * 141, "dca": Dca.BINARY, "max_parts": 9}, "message too long"),
        ({"originator": "Aldis Signal"}, "more than 11 characters"),
        ({"originator": "+" + "1" * 21}, "more than 20 digits"),
        ({"originator": "a\nb"}, "unprintable"),
        ({"send_at": NOON + FARTHEST_SCHEDULE_MS + 1}, "send_time"),
    ],
    ids=["two parts", "three parts", "256 parts", "binary", "long name", "long number", "newline", "far ahead"],
)
async def test_what_is_wrong_is_named_and_costs_nothing(desk: Desk, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidField, match=message) as caught:
        await desk.submit(DE, **fields)
    assert caught.value.status is Status.DATA_INVALID
    assert await desk.spent() == 0 and desk.dues == 0
    assert not await desk.bench.claim()


@pytest.mark.parametrize("originator", ["", "Aldis", "ÄÖÜ Müller1", "+1", "12345678901234567890", "+", "A" * 11])
async def test_originators_that_a_handset_can_show_are_taken(desk: Desk, originator: str) -> None:
    batch_id = await desk.submit(DE, originator=originator)
    assert (await desk.bench.report(desk.account, batch_id)).originator == originator


@pytest.mark.parametrize(("count", "message"), [(0, "missing parameter: msisdn"), (6, "too many recipients: 6")])
async def test_the_number_of_recipients_is_bounded(desk: Desk, count: int, message: str) -> None:
    with pytest.raises(InvalidField, match=message):
        await desk.submit(*range(DE, DE + count))


async def test_the_bound_holds_after_duplicates_are_gone(desk: Desk) -> None:
    assert await desk.submit(*[DE] * 9, strip_duplicates=True)


async def test_a_scheduled_batch_waits_and_its_validity_with_it(desk: Desk) -> None:
    submission = Submission(msisdns=(DE,), body=b"later", send_at=NOON + 60_000)
    accepted = await desk.intake.submit(desk.account, submission)
    assert accepted.scheduled
    assert not await desk.bench.claim()
    desk.bench.now += 60_000
    [due] = await desk.bench.claim()
    assert due.valid_until == NOON + 60_000 + VALIDITY_MS


@pytest.mark.parametrize("send_at", [NOON, NOON - 1, 0])
async def test_a_time_that_has_passed_means_now(desk: Desk, send_at: int) -> None:
    accepted = await desk.intake.submit(desk.account, Submission(msisdns=(DE,), body=b"now", send_at=send_at))
    assert not accepted.scheduled
    assert len(await desk.bench.claim()) == 1


async def test_a_rehearsal_that_succeeds_sends_and_costs_nothing(desk: Desk) -> None:
    batch_id = await desk.submit(DE, BLOCKED, test_mode=TestMode.SUCCEED)
    assert await desk.statuses(batch_id) == [(DE, 0, 0), (BLOCKED, 32, 0)]
    desk.bench.now += 10 * VALIDITY_MS
    assert not await desk.bench.claim()
    assert await desk.bench.store.expired("north", desk.bench.now, 10) == []
    assert await desk.spent() == 0


async def test_a_rehearsal_that_fails_stores_nothing_and_still_validates(desk: Desk) -> None:
    before = await desk.bench.store.largest_id()
    with pytest.raises(OurError, match="test failure") as caught:
        await desk.submit(DE, test_mode=TestMode.FAIL)
    assert caught.value.status is Status.INTERNAL_ERROR
    with pytest.raises(InvalidField):
        await desk.submit(DE, body=b"x" * 500, test_mode=TestMode.FAIL)
    assert await desk.bench.store.largest_id() == before


async def test_dispatch_is_woken_once_a_batch_is_on_disk_and_not_for_a_refusal(desk: Desk) -> None:
    await desk.submit(DE)
    assert desk.dues == 1
    with pytest.raises(NoCredits):
        await desk.submit(*[DE] * 5, body=b"x" * 153 * 200, max_parts=255)
    assert desk.dues == 1
    assert await desk.spent() == 700


async def test_a_number_of_its_own_makes_a_submission_once(desk: Desk) -> None:
    first = await desk.submit(DE, stop_dup_id=9)
    assert await desk.submit(UK, body=b"another", stop_dup_id=9) == first
    assert await desk.spent() == 700


async def test_only_what_is_sent_counts_against_the_quota(desk: Desk) -> None:
    desk.account = await desk.bench.account("bob", quota=2)
    await desk.submit(BLOCKED, NOWHERE, BLOCKED, DE)
    await desk.submit(DE, test_mode=TestMode.SUCCEED)
    await desk.submit(DE)
    with pytest.raises(Exception, match="quota"):
        await desk.submit(DE)
