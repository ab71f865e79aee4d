"""The rules that both sides of a session keep, on real sockets."""

import asyncio
from contextlib import suppress

import pytest
from scripted import scripted
from smsc_site import DELIVERED, SILENT, bound, now_ms

from aldis.connectors.base import Accepted, Refused
from aldis.connectors.simulator import Smsc, SmscSettings
from aldis.connectors.testing import RecordingSink, make_parts
from aldis.smpp.commands import BindTransceiver, Command, DeliverSm, SubmitSm
from aldis.smpp.errors import CommandStatus
from aldis.smpp.pdu import Framer, decode, encode


class Peer:
    """An ESME that says what it is told, octet by octet."""

    def __init__(self, reader, writer):
        self.reader, self.writer, self.framer, self.frames = reader, writer, Framer(), []

    async def say(self, *pdus):
        self.writer.write(b"".join(encode(pdu, sequence) for sequence, pdu in enumerate(pdus, 1)))
        return [await self.hear() for _ in pdus]

    async def hear(self):
        async with asyncio.timeout(10):
            while not self.frames:
                data = await self.reader.read(1 << 16)
                assert data, "closed"
                self.frames += self.framer.feed(data)
        return decode(self.frames.pop(0))[0]

    async def is_closed(self, within_s):
        async with asyncio.timeout(within_s):
            while await self.reader.read(1 << 16):
                pass
        return True


@pytest.fixture
async def connect():
    """Yield what connects to a message centre."""
    peers = []

    async def connect_to(smsc):
        peers.append(Peer(*await asyncio.open_connection("127.0.0.1", smsc.port)))
        return peers[-1]

    yield connect_to
    for peer in peers:
        peer.writer.transport.abort()
        with suppress(ConnectionError):
            await peer.writer.wait_closed()


class TestRule1:
    async def test_rule_1_a_delivery_is_answered_after_its_commit(self):
        sink = RecordingSink(answer=None)
        async with scripted(sink) as (centre, _):
            centre.send(b"".join(encode(DeliverSm(short_message=b"%d" % n), n) for n in range(1, 6)))
            await sink.until(lambda: len(sink.deliveries) == 5)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await centre.read()
            for delivery in sink.deliveries:
                delivery.answer(True)
            data = await centre._reader.read(1 << 16)
            assert [decode(frame)[0].sequence for frame in Framer().feed(data)] == [1, 2, 3, 4, 5]

    async def test_rule_1_on_a_full_ledger_the_network_is_asked_to_send_again(self):
        sink = RecordingSink(answer=False)
        async with scripted(sink) as (centre, _):
            centre.send(encode(DeliverSm(short_message=b"hello"), 7))
            header, _ = await centre.read()
            assert header[1:] == (Command.DELIVER_SM_RESP, CommandStatus.ESME_RX_T_APPN, 7)


class TestRule4:
    @pytest.mark.parametrize("status", [CommandStatus.ESME_RTHROTTLED, CommandStatus.ESME_RMSGQFUL])
    async def test_rule_4_a_complaint_halves_the_rate_of_that_bind_alone(self, status):
        sink = RecordingSink()
        async with bound(sink, window=10, binds=2, rate=100.0, smsc={"refuse": status}) as (smsc, _, connector):
            await sink.until(lambda: connector.rate == 200)
            connector.submit(make_parts(DELIVERED, 1))
            await sink.until(lambda: len(sink.outcomes) == 1)
            assert sink.outcomes[0][1] == Refused(status, retryable=True, throttled=True)
            assert sorted(leg.pace.rate > 90 for leg in connector._submitters) == [False, True]
            assert 150 <= connector.rate < 160
            smsc.refuse = 0
            await sink.eventually(lambda: connector.capacity() > 0 and connector.rate > 153)

    async def test_rule_4_a_network_with_a_rate_gets_everything_through(self):
        sink = RecordingSink()
        async with bound(sink, window=20, smsc={"max_rate": 100.0}) as (_, _, connector):
            waiting = make_parts(DELIVERED, 60)
            while waiting:
                heard = len(sink.outcomes)
                await sink.until(lambda: connector.capacity() > 0)
                taken = waiting[: connector.submit(waiting)]
                waiting = waiting[len(taken) :]
                await sink.until(lambda: len(sink.outcomes) == heard + len(taken))  # noqa: B023
                waiting += [part for part, outcome in sink.outcomes[heard:] if isinstance(outcome, Refused)]
            accepted = {part.message_id for part, outcome in sink.outcomes if isinstance(outcome, Accepted)}
            assert accepted == set(range(1, 61))
            assert connector.counters.throttles > 0
            assert connector.rate < 1_000


class TestRule6:
    async def test_rule_6_nothing_is_done_before_the_password(self, connect):
        async with Smsc(SmscSettings(passwords={"id": "right"}), now_ms) as smsc:
            peer = await connect(smsc)
            heads = await peer.say(SubmitSm(), BindTransceiver(b"id", b"wrong"), SubmitSm())
            assert [head.command_status for head in heads] == [
                CommandStatus.ESME_RINVBNDSTS,
                CommandStatus.ESME_RINVPASWD,
                CommandStatus.ESME_RINVBNDSTS,
            ]
            assert smsc.submits == smsc.bound == 0

    async def test_rule_6_an_account_has_only_so_many_binds(self, connect):
        async with Smsc(SmscSettings(max_binds=1), now_ms) as smsc:
            heads = [(await (await connect(smsc)).say(BindTransceiver(b"id")))[0] for _ in range(2)]
            assert [head.command_status for head in heads] == [0, CommandStatus.ESME_RBINDFAIL]

    async def test_rule_6_a_bind_has_only_so_many_submits_open(self):
        sink = RecordingSink()
        async with bound(sink, window=10, smsc={"max_window": 3}) as (_, _, connector):
            parts = make_parts(SILENT, 3) + make_parts(DELIVERED, 2, first_id=4)
            connector.submit(parts)
            await sink.until(lambda: len(sink.outcomes) == 2)
            full = Refused(CommandStatus.ESME_RMSGQFUL, retryable=True, throttled=True)
            assert [(part.message_id, outcome) for part, outcome in sink.outcomes] == [(4, full), (5, full)]

    async def test_rule_6_an_account_has_a_rate_over_all_its_binds(self, connect):
        async with Smsc(SmscSettings(max_rate=20.0), now_ms) as smsc:
            statuses = []
            for _ in range(2):
                peer = await connect(smsc)
                heads = await peer.say(BindTransceiver(b"id"), *[SubmitSm(destination_addr=b"27820000101")] * 2)
                statuses += [head.command_status for head in heads[1:]]
            assert statuses == [0, 0, CommandStatus.ESME_RTHROTTLED, CommandStatus.ESME_RTHROTTLED]

    async def test_rule_6_a_pdu_has_at_most_64_kb_and_its_header(self, connect):
        async with Smsc(SmscSettings(), now_ms) as smsc:
            peer = await connect(smsc)
            await peer.say(BindTransceiver(b"id"))
            peer.writer.write((65_536 + 17).to_bytes(4, "big") + bytes(12))
            assert (await peer.hear()).command_status == CommandStatus.ESME_RINVCMDLEN
            assert await peer.is_closed(5.0)

    async def test_rule_6_who_does_not_bind_in_5_s_is_cut_off(self, connect):
        async with Smsc(SmscSettings(), now_ms) as smsc:
            peer, started = await connect(smsc), asyncio.get_running_loop().time()
            assert await peer.is_closed(8.0)
            assert asyncio.get_running_loop().time() - started > 4.9


async def test_rule_2_and_3_a_receipt_may_overtake_the_answer_and_each_submit_ends_once():
    sink = RecordingSink()
    async with bound(sink) as (_, witness, connector):
        parts = [part for at in range(10) for part in make_parts(27820000104, 1, first_id=at)]
        connector.submit(parts)
        await sink.until(lambda: len(sink.outcomes) == len(sink.deliveries) == 10)
        taken = [sink.outcome_of(part).upstream_id for part in parts]
        assert sorted(taken) == sorted(delivery.upstream_id for delivery in sink.deliveries)
        assert len(witness.submits) == 10


async def test_rule_5_one_bad_pdu_after_the_other_never_ends_a_session():
    sink = RecordingSink()
    async with scripted(sink) as (centre, connector):
        for command in (Command.DELIVER_SM, Command.DATA_SM, 0x0777, Command.SUBMIT_SM, Command.QUERY_SM_RESP):
            body = b"\xff" * 9
            centre.send((16 + len(body)).to_bytes(4, "big") + int(command).to_bytes(4, "big") + bytes(7) + b"\7" + body)
        await sink.eventually(lambda: connector.counters.bad_pdus >= 5)
        assert connector.counters.binds == 1
        assert connector.is_bound
