"""Clauses of docs/spec that no other test names: paths, what submissions become, what news means."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.stores import Engine

from aldis.connectors.base import Accepted, Delivery, OutboundPart, Outcome, Refused
from aldis.dispatch import Dispatch
from aldis.inbound import Inbound
from aldis.intake import Intake, IntakeSettings
from aldis.ledger import Ledger, Submitted
from aldis.lifecycle import RECEIPT_STATES, START, TABLE, Standing, advance, hear_receipt, hear_refusal, roll_up
from aldis.model.errors import InvalidField, LedgerUnavailable, NoCredits, OurError
from aldis.model.ids import IdMaker
from aldis.model.status import Status
from aldis.model.types import Account, AccountId, Push, Report, Submission, TestMode
from aldis.rules.admission import Admission
from aldis.rules.matching import Candidate, choose
from aldis.rules.routing import Route, Router
from aldis.smpp.receipt import MESSAGE_STATES
from aldis.store.base import Store
from aldis.web.app import build
from aldis.web.request import PLAIN, Answer, Request

NOW = 1_767_268_800_000
PHONE = 447_700_900_001
OPENING = 10_000


class World:
    """A ledger on a real store, and an intake in front of it, at a time that stands still."""

    def __init__(self, store: Store, pushes: list[Push]) -> None:
        self.now = NOW
        self.pushes = pushes
        self.store = store
        self.ledger = Ledger(self.store, IdMaker(), lambda: self.now)
        router = Router([Route("44", "north", 800), Route("1", "north", 1_500)])
        self.intake = Intake(self.ledger, router, Admission([PHONE + 99], ["rude"]), IntakeSettings())
        self.account: Account

    async def open_account(self) -> None:
        account = Account(account_id=AccountId(0), username="ada", password_hash="-", push_url="http://ada.example/r")
        self.account = await self.store.put_account(account)
        await self.store.top_up(self.account.account_id, OPENING, NOW, "opening")

    async def credits(self) -> int:
        return await self.store.credits_of(self.account.account_id)

    async def submit(self, *msisdns: int, body: bytes = b"hello", **options: object) -> int:
        submission = Submission(msisdns=msisdns or (PHONE,), body=body, **options)  # type: ignore[arg-type]
        return (await self.intake.submit(self.account, submission)).batch_id

    async def reports(self, batch_id: int) -> list[Report]:
        batch = await self.ledger.find_report(self.account.account_id, batch_id, None)
        return batch.reports if batch else []

    async def statuses(self, batch_id: int) -> list[int]:
        return [report.status.value for report in await self.reports(batch_id)]

    async def claim(self) -> list[int]:
        return [due.message_id for due in await self.ledger.claim("north", 1_000, 60_000)]

    async def sent(self, outcome: Outcome, retry_at: int | None = None, **options: object) -> tuple[int, int]:
        """Submit one message, send it with this outcome, and return the batch's id and the message's."""
        batch_id = await self.submit(**options)  # type: ignore[arg-type]
        [message_id] = await self.claim()
        news = Submitted(
            self.account.account_id, message_id, self.ledger.next_id(), self.now, 1, "north", ((1, outcome),), retry_at
        )
        await self.ledger.record([news])
        return batch_id, message_id


@pytest.fixture
async def world(engine: Engine) -> AsyncIterator[World]:
    pushes: list[Push] = []
    world = World(await engine.open(pushes.extend), pushes)
    await world.open_account()
    yield world
    await world.store.close()


def receipt(upstream_id: str, state: str = "DELIVRD", answers: list[bool] | None = None, **fields: str) -> Delivery:
    return Delivery(
        connector="north",
        received_at=NOW,
        is_receipt=True,
        upstream_id=upstream_id,
        state=state,
        error=fields.get("error", ""),
        is_final=True,
        source=fields.get("source", str(PHONE)),
        destination="ada",
        text=f"id:{upstream_id} stat:{state}",
        pdu=b"pdu",
        answer=lambda taken: None if answers is None else answers.append(taken),
    )


# ------------------------------------------------------------------------------------------------------------ paths


class Well:
    """Health without problems."""

    def problems(self) -> list[str]:
        return []


async def ask(method: str, path: str) -> int:
    """Ask an application that has one call for a page, and return the HTTP status."""

    async def call(request: Request) -> Answer:
        return Answer(request.path.encode(), PLAIN)

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    sent: list[dict[str, object]] = []
    scope = {"type": "http", "method": method, "path": path, "query_string": b"", "headers": [], "client": None}
    await build({"/eapi/user/get_credits/1/1.1": call}, Well()).app(scope, receive, send)  # type: ignore[arg-type]
    return int(str(sent[0]["status"]))


# EAPI-1
@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/eapi/user/get_credits/1/1.1", 200),
        ("POST", "/eapi/user/get_credits/1/1.1", 200),
        ("POST", "//eapi/user///get_credits/1/1.1/", 200),
        ("PUT", "/eapi/user/get_credits/1/1.1", 405),
        ("HEAD", "/eapi/user/get_credits/1/1.1", 405),
        ("POST", "/eapi/user/get_credits/1/1.0", 404),
        ("POST", "/EAPI/user/get_credits/1/1.1", 404),
    ],
)
async def test_a_call_answers_at_its_path_and_nowhere_else(method: str, path: str, status: int) -> None:
    assert await ask(method, path) == status


# ----------------------------------------------------------------------------------------------------- submissions


# EAPI-16
async def test_a_rehearsal_is_checked_and_stored_but_neither_sent_nor_charged(world: World) -> None:
    batch_id = await world.submit(PHONE, PHONE + 99, test_mode=TestMode.SUCCEED)
    assert await world.statuses(batch_id) == [0, 32]
    assert (await world.credits(), await world.claim()) == (OPENING, [])
    with pytest.raises(InvalidField):
        await world.submit(body=b"x" * 161, test_mode=TestMode.SUCCEED)
    with pytest.raises(OurError):
        await world.submit(test_mode=TestMode.FAIL)


# EAPI-22
async def test_a_number_given_twice_gets_two_messages_unless_they_are_stripped(world: World) -> None:
    numbers = (PHONE + 1, PHONE, PHONE + 1)
    both, stripped = await world.submit(*numbers), await world.submit(*numbers, strip_duplicates=True)
    assert [report.msisdn for report in await world.reports(both)] == list(numbers)
    assert [report.msisdn for report in await world.reports(stripped)] == [PHONE + 1, PHONE]


# EAPI-36
@pytest.mark.parametrize(("length", "most"), [(161, 1), (307, 2)])
async def test_a_message_of_too_many_parts_is_refused_and_never_cut(world: World, length: int, most: int) -> None:
    with pytest.raises(InvalidField, match="message too long"):
        await world.submit(body=b"x" * length, max_parts=most)
    assert await world.submit(body=b"x" * (length - 1), max_parts=most)


# EAPI-19
async def test_a_message_costs_its_parts_at_its_routes_price_and_too_much_is_refused(world: World) -> None:
    batch_id = await world.submit(PHONE, 12_025_550_100, body=b"x" * 200, max_parts=2)
    assert [report.price_milli for report in await world.reports(batch_id)] == [1_600, 3_000]
    assert await world.credits() == OPENING - 4_600
    with pytest.raises(NoCredits):
        await world.submit(*range(PHONE, PHONE + 7))
    assert await world.credits() == OPENING - 4_600


# EAPI-23
@pytest.mark.parametrize(
    ("msisdn", "body", "status"), [(33_600_000_000, b"hi", 31), (PHONE + 99, b"hi", 32), (PHONE, b"how RUDE", 33)]
)
async def test_a_refused_recipient_has_its_verdict_at_once_for_free_and_owes_a_push(
    world: World, msisdn: int, body: bytes, status: int
) -> None:
    [report] = await world.reports(await world.submit(msisdn, body=body))
    assert (report.status, report.price_milli, report.completed_at) == (status, 0, NOW)
    assert (await world.credits(), await world.claim()) == (OPENING, [])
    assert [(push.msisdn, push.status, push.completed_at) for push in world.pushes] == [(msisdn, status, NOW)]


# EAPI-60
@pytest.mark.parametrize(
    ("state", "error", "owed"),
    [("DELIVRD", "", [11]), ("UNDELIV", "", [51]), ("ENROUTE", "", []), ("ACCEPTD", "", []), ("ENROUTE", "064", [64])],
)
async def test_a_push_is_owed_for_final_statuses_and_64(world: World, state: str, error: str, owed: list[int]) -> None:
    world.ledger.errors["north"] = {"064": Status.RETRY_QUEUED_HANDSET}
    await world.sent(Accepted("7"))
    await world.ledger.receive([receipt("7", state, error=error)])
    assert [push.status for push in world.pushes] == owed


# --------------------------------------------------------------------------------------------- sending and receiving


class Recorder:
    """A connector that keeps what it is handed, and says nothing about it; one that is not bound is handed nothing."""

    name = "north"
    binds = 1
    held = frozenset({0})

    def __init__(self, *, is_bound: bool) -> None:
        self.is_bound = is_bound
        self.parts: list[OutboundPart] = []
        self.has_all = asyncio.Event()

    def hold(self, numbers: Collection[int]) -> None:
        self.held = frozenset(numbers)

    def cut(self, reason: str) -> None:
        self.held = frozenset()

    def capacity(self) -> int:
        return 100

    def submit(self, parts: Sequence[OutboundPart]) -> int:
        self.parts += parts
        if len(self.parts) >= 4:
            self.has_all.set()
        return len(parts)

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def drain(self, timeout_s: float) -> None:
        pass


# SMPP-25
async def test_no_retry_is_planned_beyond_the_validity(world: World) -> None:
    dispatch = Dispatch(world.ledger, {"north": Recorder(is_bound=False)})
    batch_id = await world.submit()
    [due] = await world.ledger.claim("north", 1, 60_000)
    part = OutboundPart(
        account_id=1,
        message_id=due.message_id, part_no=1, parts=1, attempt=1, msisdn=PHONE, originator="", octets=b"",
        data_coding=0, udhi=False, valid_until=NOW + 5_000,
    )  # fmt: skip
    dispatch.on_outcomes("north", [(part, Refused(0x64, retryable=True))])
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(dispatch.run())
        await dispatch.flush()
        running.cancel()
    assert await world.statuses(batch_id) == [53]


# PROMISE-4
async def test_only_what_was_accepted_is_sent_with_its_text_originator_and_recipient(world: World) -> None:
    for refused in ({"body": b"how rude"}, {"body": b"x" * 999}, {"test_mode": TestMode.FAIL}):
        with suppress(InvalidField, OurError):
            await world.submit(**refused)  # type: ignore[arg-type]
    await world.submit(PHONE + 99, 33_600_000_000)
    await world.submit(test_mode=TestMode.SUCCEED)
    await world.submit(PHONE, PHONE + 1, body=b"one [x]", originator="Ada")
    await world.submit(PHONE + 2, body=b"y" * 160 + b"z", originator="12345", max_parts=2)
    recorder = Recorder(is_bound=True)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(Dispatch(world.ledger, {"north": recorder}).run())
        await recorder.has_all.wait()
        running.cancel()
    assert [(p.msisdn, p.originator, p.part_no, p.octets[6:] if p.udhi else p.octets) for p in recorder.parts] == [
        (PHONE, "Ada", 1, b"one \x1b<x\x1b>"),
        (PHONE + 1, "Ada", 1, b"one \x1b<x\x1b>"),
        (PHONE + 2, "12345", 1, b"y" * 153),
        (PHONE + 2, "12345", 2, b"y" * 7 + b"z"),
    ]
    assert await world.claim() == []


# PROMISE-5 REC-25
async def test_credits_add_up_through_charges_refunds_and_corrections(world: World) -> None:
    await world.sent(Refused(0x0B, retryable=False))
    assert await world.credits() == OPENING
    await world.sent(Accepted("8"))
    await world.ledger.receive([receipt("8", "UNDELIV")])
    assert await world.credits() == OPENING - 800
    batch_id, _ = await world.sent(Accepted("9"))
    world.ledger.errors["north"] = {"031": Status.UNROUTABLE}
    for state, error in (("REJECTD", "031"), ("REJECTD", "031"), ("DELIVRD", "")):
        await world.ledger.receive([receipt("9", state, error=error)])
    assert (await world.statuses(batch_id), await world.credits()) == ([11], OPENING - 800)


# PROMISE-6 REC-22
@pytest.mark.parametrize("order", list(itertools.permutations(["ENROUTE", "UNDELIV", "DELIVRD", "UNDELIV"]))[::4])
async def test_a_ledger_ends_the_same_whatever_the_order_and_the_last_push_says_so(
    world: World, order: Sequence[str]
) -> None:
    batch_id, _ = await world.sent(Accepted("7"))
    versions = [(await world.reports(batch_id))[0].seq]
    for state in order:
        before = await world.statuses(batch_id)
        await world.ledger.receive([receipt("7", state)])
        versions += [(await world.reports(batch_id))[0].seq] if await world.statuses(batch_id) != before else []
    assert await world.statuses(batch_id) == [11]
    assert world.pushes[-1].status == 11
    assert versions == sorted(set(versions))


class StubbornLedger:
    """Writes what it is given only when told to, or never."""

    def __init__(self, error: Exception | None = None) -> None:
        self.may_commit = asyncio.Event()
        self.asked = asyncio.Event()
        self.error = error
        self.outbound = 0

    def now_ms(self) -> int:
        return 0

    async def rematch(self, since: int, until: int) -> int:
        return 0

    async def receive(self, deliveries: Sequence[Delivery]) -> None:
        self.asked.set()
        if self.error:
            raise self.error
        await self.may_commit.wait()


# REC-10 SMPP-16 PROMISE-7 RULE-t
async def test_a_receipt_is_answered_only_after_its_commit() -> None:
    ledger, answers = StubbornLedger(), []
    inbound = Inbound(ledger)  # type: ignore[arg-type]
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(inbound.run())
        inbound.offer([receipt("7", answers=answers)])
        await ledger.asked.wait()
        assert answers == []
        ledger.may_commit.set()
        await inbound.flush()
        running.cancel()
    assert answers == [True]


# REC-10 PROMISE-16 RULE-u
@pytest.mark.parametrize("error", [LedgerUnavailable(), OurError(), RuntimeError("a bug")], ids=repr)
async def test_a_receipt_that_cannot_be_written_is_sent_back(error: Exception) -> None:
    answers: list[bool] = []
    inbound = Inbound(StubbornLedger(error))  # type: ignore[arg-type]
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(inbound.run())
        inbound.offer([receipt("7", answers=answers), receipt("8", answers=answers)])
        await inbound.flush()
        running.cancel()
    assert answers == [False, False]


# ------------------------------------------------------------------------------------------------ what news means

HEARD = {
    "DELIVRD": 11,
    "ACCEPTD": 10,
    "ENROUTE": 61,
    "SCHEDULED": 61,
    "UNDELIV": 51,
    "EXPIRED": 53,
    "REJECTD": 55,
    "DELETED": 50,
    "SKIPPED": 50,
    "UNKNOWN": 70,
}


# REC-20
@pytest.mark.parametrize("state", [*MESSAGE_STATES, "LOST", "", "128"])
def test_every_state_that_a_receipt_can_name_speaks_for_one_status(state: str) -> None:
    assert hear_receipt(state, "", {}) == Standing(Status(HEARD.get(state, 70)))
    assert set(HEARD) == set(MESSAGE_STATES) <= set(RECEIPT_STATES)


# REC-21 RULE-p
@given(
    state=st.sampled_from([*MESSAGE_STATES, "LOST"]),
    refined=st.sampled_from(Status),
)
def test_an_error_refines_the_reason_and_never_the_phase(state: str, refined: Status) -> None:
    plain, heard = hear_receipt(state, "17", {}), hear_receipt(state, "17", {"17": refined})
    same_phase = TABLE[refined].phase is TABLE[plain.status].phase
    assert heard.status is (refined if same_phase else plain.status)


standings = st.builds(Standing, st.sampled_from(Status), st.booleans())


# REC-22 PROMISE-6
@given(st.lists(standings, max_size=8), st.randoms(use_true_random=False))
def test_a_part_stands_at_the_strongest_word_in_whatever_order_and_number(heard: list[Standing], random) -> None:
    def end(words: Sequence[Standing]) -> int:
        current = START
        for word in words:
            current = advance(current, word)
        return current.rank

    shuffled = random.sample(heard + heard, 2 * len(heard))
    assert end(shuffled) == end(heard) == max([0, *(one.rank for one in heard)])


# REC-22
def test_no_two_statuses_weigh_the_same() -> None:
    assert len({row.rank for row in TABLE.values()}) == len(TABLE) == len(Status)


# REC-23
@pytest.mark.parametrize("status", Status, ids=str)
def test_a_delivery_outranks_every_other_word(status: Status) -> None:
    delivered = Standing(Status.DELIVERED)
    assert advance(Standing(status), delivered) == advance(delivered, Standing(status)) == delivered


D, U, E, T = (Standing(Status(code)) for code in (11, 51, 53, 10))


# REC-24
@pytest.mark.parametrize(
    ("parts", "whole"),
    [
        ([D, D, D], 11),
        ([D, U, D], 51),
        ([T, U, D], 51),
        ([E, U, D], 53),
        ([D, U, E], 51),
        ([D, T, D], 10),
        ([D, START, T], 0),
    ],
)
def test_a_message_follows_from_its_parts(parts: list[Standing], whole: int) -> None:
    assert roll_up(parts).status == whole


# SMPP-24
@pytest.mark.parametrize(
    ("command_status", "status"),
    [(0x01, 24), (0x0A, 24), (0x0B, 31), (0x0E, 23), (0x0F, 23), (0x45, 52), (0x450, 52)],
)
def test_a_refusal_for_good_has_its_status(command_status: int, status: int) -> None:
    assert hear_refusal(command_status) == Standing(Status(status))


def candidate(message_id: int, msisdn: int = PHONE, *, final: bool = False) -> Candidate:
    return Candidate(1, message_id, 1, msisdn, final)


# REC-12
@pytest.mark.parametrize(
    ("candidates", "number", "chosen"),
    [
        pytest.param([candidate(1)], "something else", 1, id="one is it, whatever the number"),
        pytest.param([candidate(1), candidate(2, PHONE + 1)], str(PHONE), 1, id="the number decides"),
        pytest.param([candidate(1), candidate(2, PHONE + 1)], f"0{PHONE % 10**9}", 1, id="in its national form too"),
        pytest.param([candidate(1), candidate(2)], str(PHONE), 2, id="then the newest"),
        pytest.param([candidate(1), candidate(2, final=True)], str(PHONE), 1, id="that still waits"),
        pytest.param([candidate(1), candidate(2, PHONE + 1)], "", None, id="two numbers and no word which"),
        pytest.param([], str(PHONE), None, id="none"),
    ],
)
def test_a_receipt_is_for_the_part_that_it_can_only_mean(
    candidates: list[Candidate], number: str, chosen: int | None
) -> None:
    found = choose(candidates, number)
    assert (found.message_id if found else None) == chosen
