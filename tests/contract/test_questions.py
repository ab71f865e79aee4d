"""query_sm and cancel_sm, from the connector to a real message centre and back."""

import asyncio

import pytest
from smsc_site import DELIVERED, SILENT, bound, now_ms

from aldis.connectors.base import Cancelled, Declined, Found, Inquirer, SentPart, Unanswered
from aldis.connectors.questions import answer_of
from aldis.connectors.simulator import SimulatorConnector, SimulatorSettings
from aldis.connectors.testing import RecordingSink, make_parts
from aldis.smpp import events
from aldis.smpp.commands import CancelSmResp, QuerySmResp
from aldis.smpp.errors import CommandStatus

LATE, FAILED, NO_RECEIPT, ASKED = 27820000102, 27820000050, 27820000101, 27820000111


class Answers:
    """Keeps what is told, and waits for it."""

    def __init__(self):
        self.told = []
        self.names = set()

    def __call__(self, connector, answers):
        self.names.add(connector)
        self.told += answers

    async def wait(self, count):
        async with asyncio.timeout(10):
            while len(self.told) < count:
                await asyncio.sleep(0.005)
        assert len(self.told) == count
        return [answer for _, answer in self.told]


def sent(part, upstream_id):
    return SentPart(
        account_id=part.account_id, message_id=part.message_id, part_no=1, upstream_id=upstream_id,
        originator=part.originator, msisdn=part.msisdn,
    )  # fmt: skip


async def taken(sink, connector, msisdn, first_id=1):
    """Submit a part; return it as one that was taken."""
    [part] = make_parts(msisdn, 1, first_id)
    connector.submit([part])
    await sink.until(lambda: sink.outcome_of(part) is not None)
    return sent(part, sink.outcome_of(part).upstream_id)


async def ask(connector, part):
    answers = Answers()
    assert connector.query([part], answers) == 1
    assert answers.told == [], "told within the call"
    [answer] = await answers.wait(1)
    return answer


async def withdraw(connector, part):
    answers = Answers()
    assert connector.cancel([part], answers) == 1
    [answer] = await answers.wait(1)
    return answer


class TestQuery:
    # SMPP-34
    @pytest.mark.parametrize(
        ("msisdn", "answer"),
        [
            (LATE, Found("ENROUTE", "000", False)),
            (FAILED, Found("UNDELIV", "050", True)),
            (DELIVERED, Found("DELIVRD", "000", True)),
            (NO_RECEIPT, Found("ENROUTE", "000", False)),
        ],
        ids=["on its way", "failed", "delivered", "no receipt ever"],
    )
    async def test_the_answer_is_how_the_part_stands(self, msisdn, answer):
        sink = RecordingSink()
        async with bound(sink, query=True) as (smsc, _, connector):
            part = await taken(sink, connector, msisdn)
            if answer.is_final:
                await sink.until(lambda: bool(sink.deliveries))
            assert await ask(connector, part) == answer
            assert smsc.receipts_kept == 0

    # SMPP-34
    async def test_what_no_receipt_tells_can_be_asked_for(self):
        sink = RecordingSink()
        async with bound(sink, query=True) as (_, _, connector):
            part = await taken(sink, connector, ASKED)
            async with asyncio.timeout(10):
                while await ask(connector, part) != Found("DELIVRD", "000", True):
                    pass
            assert sink.deliveries == []

    # SMPP-34
    @pytest.mark.parametrize("changes", [{"upstream_id": "12345"}, {"originator": "another"}], ids=["id", "originator"])
    async def test_what_the_upstream_does_not_know_is_declined(self, changes):
        sink = RecordingSink()
        async with bound(sink, query=True) as (_, _, connector):
            part = await taken(sink, connector, DELIVERED)
            other = SentPart(**{name: getattr(part, name) for name in part.__struct_fields__} | changes)
            assert await ask(connector, other) == Declined(CommandStatus.ESME_RQUERYFAIL)

    # SMPP-34
    async def test_an_upstream_that_is_not_to_be_asked_is_not(self):
        sink = RecordingSink()
        async with bound(sink) as (_, _, connector):
            part = await taken(sink, connector, DELIVERED)
            assert not connector.can_query
            assert connector.query([part], Answers()) == 0
            assert connector.in_flight == 0

    # SMPP-34
    async def test_a_part_without_an_id_is_not_asked_about_and_not_withdrawn(self):
        sink = RecordingSink()
        async with bound(sink, query=True) as (_, _, connector):
            [part] = make_parts(SILENT, 1)
            for call in (connector.query, connector.cancel):
                with pytest.raises(ValueError, match="upstream's id"):
                    call([sent(part, "77"), sent(part, "")], Answers())
            assert connector.in_flight == 0

    # SMPP-34
    async def test_questions_take_places_in_the_window_and_pay_the_pace(self):
        sink = RecordingSink()
        async with bound(sink, query=True, window=3, rate=20.0) as (smsc, _, connector):
            part = await taken(sink, connector, DELIVERED)
            await sink.eventually(lambda: connector.capacity() == 2)  # a tenth of a second's worth
            smsc.freeze()
            answers = Answers()
            assert connector.query([part] * 5, answers) == 2
            assert connector.capacity() == 0
            smsc.thaw()
            assert await answers.wait(2) == [Found("DELIVRD", "000", True)] * 2

    # SMPP-34
    async def test_a_cut_leaves_each_question_unanswered_once_and_touches_no_outcome(self):
        sink = RecordingSink()
        async with bound(sink, query=True) as (smsc, _, connector):
            part = await taken(sink, connector, DELIVERED)
            smsc.freeze()
            answers = Answers()
            assert connector.query([part], answers) + connector.cancel([part], answers) == 2
            [silent] = make_parts(SILENT, 1, first_id=2)
            connector.submit([silent])
            await asyncio.sleep(0)
            smsc.cut()
            told = await answers.wait(2)
            assert {type(answer) for answer in told} == {Unanswered}
            await sink.until(lambda: connector.counters.binds == 2)
            assert [heard.message_id for heard, _ in sink.outcomes] == [1, 2]
            assert answers.names == {"s"}

    # SMPP-34
    async def test_an_answer_that_comes_too_late_is_told_nobody(self):
        sink = RecordingSink()
        async with bound(sink, query=True, response_timeout_s=0.1) as (smsc, _, connector):
            part = await taken(sink, connector, DELIVERED)
            smsc.freeze()
            answers = Answers()
            connector.query([part], answers)
            [answer] = await answers.wait(1)
            assert answer == Unanswered("no response in time")
            smsc.thaw()
            assert await ask(connector, part) == Found("DELIVRD", "000", True)
            assert len(answers.told) == 1
            assert sink.late == []
            assert connector.counters.bad_pdus == 0


class TestCancel:
    # SMPP-34
    async def test_what_is_on_its_way_can_be_withdrawn_and_the_receipt_says_so(self):
        sink = RecordingSink()
        async with bound(sink, query=True, smsc={"late_delay_ms": 60}) as (smsc, _, connector):
            part = await taken(sink, connector, LATE)
            assert await withdraw(connector, part) == Cancelled()
            assert await ask(connector, part) == Found("DELETED", "000", True)
            other = await taken(sink, connector, LATE, first_id=2)
            await sink.until(lambda: len(sink.deliveries) == 2)
            heard = [(delivery.upstream_id, delivery.state) for delivery in sink.deliveries]
            assert heard == [(part.upstream_id, "DELETED"), (other.upstream_id, "DELIVRD")]
            assert await withdraw(connector, part) == Declined(CommandStatus.ESME_RCANCELFAIL)
            assert smsc.receipts_kept == 0

    # SMPP-34
    async def test_what_was_delivered_can_not(self):
        sink = RecordingSink()
        async with bound(sink) as (_, _, connector):
            part = await taken(sink, connector, DELIVERED)
            await sink.until(lambda: bool(sink.deliveries))
            assert await withdraw(connector, part) == Declined(CommandStatus.ESME_RCANCELFAIL)
            unknown = SentPart(**{n: getattr(part, n) for n in part.__struct_fields__} | {"upstream_id": "12345"})
            assert await withdraw(connector, unknown) == Declined(CommandStatus.ESME_RCANCELFAIL)


async def test_the_simulator_connector_can_be_asked_too():
    connector = SimulatorConnector(SimulatorSettings(name="sim", query=True), RecordingSink(), now_ms)
    assert isinstance(connector, Inquirer)
    assert connector.can_query


@pytest.mark.parametrize(
    ("event", "answer"),
    [
        (events.Accepted("token", b"", None), Unanswered("the answer can't be read")),
        (events.Accepted("token", b"7", QuerySmResp(b"7", b"", 9, 255)), Found("SKIPPED", "255", True)),
        (events.Accepted("token", b"7", QuerySmResp(b"7", b"", 6, 1)), Found("ACCEPTD", "001", False)),
        (events.Accepted("token", b"7", QuerySmResp(b"7", b"", 17, 0)), Found("", "000", False)),
        (events.Accepted("token", b"", CancelSmResp()), Cancelled()),
        (events.Refused("token", 0x67), Declined(0x67)),
        (events.NotSent("token", "cut"), Unanswered("cut")),
    ],
    ids=["unreadable", "skipped", "accepted", "no such state", "withdrawn", "declined", "not sent"],
)
def test_each_end_of_a_question_is_an_answer(event, answer):
    assert answer_of(event) == answer
