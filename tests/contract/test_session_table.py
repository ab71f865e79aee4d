"""What networks send, and what becomes of it: each line of the table of known troubles, on a real socket.

Every class is one trouble that made some SMPP library lose a receipt, a message or its session.
"""

import asyncio
from collections import Counter

import msgspec
import pytest
from scripted import scripted
from smsc_site import DELIVERED, SILENT, bound

from aldis.connectors.base import Accepted, Refused, Unknown
from aldis.connectors.testing import RecordingSink, make_parts
from aldis.lifecycle import hear_receipt
from aldis.model.status import Status
from aldis.model.types import Dca
from aldis.smpp.commands import (
    BindReceiver,
    Command,
    DeliverSm,
    EnquireLink,
    EsmClass,
    GenericNack,
    Raw,
    SubmitSm,
    SubmitSmResp,
    Tlv,
)
from aldis.smpp.errors import CommandStatus
from aldis.smpp.pdu import encode
from aldis.smpp.session import EsmeSession, Limits
from aldis.text.segment import concat_reference, split

TEXT = b"id:77 sub:001 dlvrd:001 submit date:2611230900 done date:2611230901 stat:DELIVRD err:000 text:"


async def delivered(**fields):
    """Send one deliver_sm; return how it was told, after it was answered with ESME_ROK and nothing else."""
    sink = RecordingSink()
    async with scripted(sink) as (centre, connector):
        centre.send(encode(DeliverSm(**{"esm_class": EsmClass.RECEIPT, "source_addr": b"4477"} | fields), 9))
        header, _ = await centre.read()
        assert header[1:] == (Command.DELIVER_SM_RESP, CommandStatus.ESME_ROK, 9)
        assert connector.counters.binds == 1
        [delivery] = sink.deliveries
        return delivery


async def submitted(make):
    """Submit one part, answered with what `make` makes of its sequence number; return its outcome and the counters."""
    sink = RecordingSink()
    async with scripted(sink) as (centre, connector):
        [part] = make_parts(DELIVERED, 1)
        connector.submit([part])
        await centre.answer_submits(make)
        await sink.until(lambda: bool(sink.outcomes))
        await is_alive(centre, connector)
        assert len(sink.outcomes) == 1
        return sink.outcome_of(part), connector.counters


async def is_alive(centre, connector):
    """See that the session goes on where it was."""
    centre.send(encode(EnquireLink(), 4711))
    while (await centre.read())[0][1:] != (Command.ENQUIRE_LINK_RESP, 0, 4711):
        pass
    assert connector.is_bound
    assert connector.counters.binds == 1


class TestReceipts:
    async def test_row_vendor_tlv_is_accepted_and_kept(self):
        delivery = await delivered(short_message=TEXT, tlvs={0x1400: b"vendor"})
        assert (delivery.state, delivery.upstream_id) == ("DELIVRD", "77")
        assert b"\x14\x00\x00\x06vendor" in delivery.pdu

    async def test_row_network_error_code_tlv_is_accepted_and_mapped(self):
        failed = TEXT.replace(b"DELIVRD", b"UNDELIV")
        delivery = await delivered(short_message=failed, tlvs={Tlv.NETWORK_ERROR_CODE: b"\3\0\x1b"})
        assert (delivery.state, delivery.error) == ("UNDELIV", "027")
        standing = hear_receipt(delivery.state, delivery.error, {"027": Status.HANDSET_FAULT})
        assert standing.status is Status.HANDSET_FAULT

    async def test_row_alphanumeric_err_is_accepted(self):
        delivery = await delivered(short_message=TEXT.replace(b"err:000", b"err:0A1").replace(b"DELIVRD", b"UNDELIV"))
        assert (delivery.state, delivery.error, delivery.is_final) == ("UNDELIV", "0A1", True)

    async def test_row_dates_with_seconds_are_accepted(self):
        text = TEXT.replace(b"2611230900", b"261123090059").replace(b"2611230901", b"261123090101")
        delivery = await delivered(short_message=text)
        assert (delivery.upstream_id, delivery.state) == ("77", "DELIVRD")

    async def test_row_receipt_as_tlvs_only_is_accepted(self):
        delivery = await delivered(tlvs={Tlv.RECEIPTED_MESSAGE_ID: b"77\0", Tlv.MESSAGE_STATE: b"\2"})
        assert (delivery.is_receipt, delivery.upstream_id, delivery.state) == (True, "77", "DELIVRD")

    async def test_row_latin_1_sender_keeps_its_octets(self):
        delivery = await delivered(source_addr=b"Z\xfcrich", esm_class=0, short_message=b"hello")
        assert delivery.source.encode("latin-1") == b"Z\xfcrich"
        assert b"Z\xfcrich\0" in delivery.pdu

    @pytest.mark.parametrize(
        "fields",
        [{"source_addr_ton": 7, "source_addr_npi": 14}, {"data_coding": 0xF5}, {"data_coding": 4}],
        ids=["TON 7", "data_coding F5", "binary"],
    )
    async def test_row_odd_ton_and_data_coding_are_accepted(self, fields):
        delivery = await delivered(esm_class=0, short_message=b"\x01\x02\xff", **fields)
        assert not delivery.is_receipt
        assert delivery.text == ("01" + "02ff" if "data_coding" in fields else delivery.text)

    async def test_row_16_bit_udh_reference_is_taken_off_whole(self):
        """Seven octets of header, not six; the text begins behind them. Parts are handed on as they come."""
        header = b"\6\x08\4\x12\x34\2\1"
        delivery = await delivered(esm_class=EsmClass.UDHI, short_message=header + b"hello")
        assert delivery.text == "hello"
        assert header in delivery.pdu

    async def test_row_12_parts_are_joined_by_number(self):
        """What leaves is numbered so that a phone joins it: 2 before 10."""
        body = b"".join(b"%03d" % n for n in range(600))
        segments = split(body, Dca.GSM7, concat_reference(1))
        assert len(segments) == 12
        [one] = make_parts(27820000101, 1)
        parts = [
            msgspec.structs.replace(one, part_no=no, parts=12, octets=segment.octets, udhi=segment.udhi)
            for no, segment in enumerate(segments, 1)
        ]
        sink = RecordingSink()
        async with bound(sink, window=20) as (_, witness, connector):
            connector.submit(parts)
            await sink.until(lambda: len(sink.outcomes) == 12)
        came = {pdu.short_message[5]: pdu.short_message[6:] for pdu, _ in reversed(witness.submits)}
        assert {pdu.short_message[:5] for pdu, _ in witness.submits} == {parts[0].octets[:5]}
        assert b"".join(came[no] for no in range(1, 13)) == body


class TestBadPdus:
    async def test_row_truncated_body_is_answered_and_the_session_stays(self):
        sink = RecordingSink()
        async with scripted(sink) as (centre, connector):
            centre.send(encode(Raw(Command.DELIVER_SM, b"\0\1\1447"), 9))
            header, _ = await centre.read()
            assert header[1:] == (Command.DELIVER_SM_RESP, CommandStatus.ESME_RINVCMDLEN, 9)
            await is_alive(centre, connector)
            assert sink.deliveries == []

    async def test_row_unknown_command_is_nacked_and_the_session_stays(self):
        sink = RecordingSink()
        async with scripted(sink) as (centre, connector):
            centre.send(encode(Raw(0x0777, b"what"), 9))
            assert (await centre.read())[0][1:] == (Command.GENERIC_NACK, CommandStatus.ESME_RINVCMDID, 9)
            await is_alive(centre, connector)

    @pytest.mark.parametrize("length", [0, 15, 65_553, 1 << 31], ids=["0", "15", "64 kB and more", "2^31"])
    async def test_row_bad_command_length_is_nacked_and_closes(self, length):
        sink = RecordingSink()
        async with scripted(sink) as (centre, connector):
            [part] = make_parts(DELIVERED, 1)
            connector.submit([part])
            await centre.read()
            centre.send(length.to_bytes(4, "big") + bytes(12))
            nack, pdu = await centre.read()
            assert (nack.command_status, pdu) == (CommandStatus.ESME_RINVCMDLEN, GenericNack())
            assert await centre.is_closed_by_the_peer()
            await sink.until(lambda: connector.counters.binds == 2)
            assert isinstance(sink.outcome_of(part), Unknown)


class TestAnswers:
    async def test_row_submit_status_0x450_keeps_the_raw_status(self):
        outcome, _ = await submitted(lambda sequence: encode(SubmitSmResp(), sequence, 0x450))
        assert outcome == Refused(0x450, retryable=False)

    async def test_row_ok_without_a_body_is_accepted_without_an_id(self):
        outcome, counters = await submitted(lambda sequence: encode(Raw(Command.SUBMIT_SM_RESP), sequence))
        assert outcome == Accepted("")
        assert counters.bad_pdus == 0

    # SMPP-15
    @pytest.mark.parametrize("octets", [b"9" * 80 + b"\0", b"unterminated"], ids=["80 octets", "unterminated"])
    async def test_row_ill_formed_id_is_accepted_and_counted(self, octets):
        outcome, counters = await submitted(lambda sequence: encode(Raw(Command.SUBMIT_SM_RESP, octets), sequence))
        assert outcome == Accepted(octets.rstrip(b"\0").decode())
        assert counters.bad_pdus == 1

    async def test_row_connection_cut_with_3_in_flight_makes_each_unknown(self):
        sink = RecordingSink()
        async with scripted(sink) as (centre, connector):
            parts = make_parts(DELIVERED, 3)
            connector.submit(parts)
            for _ in parts:
                await centre.read()
            centre.cut()
            await sink.until(lambda: connector.counters.binds == 2)
            assert Counter(part.message_id for part, _ in sink.outcomes) == Counter({1: 1, 2: 1, 3: 1})
            assert all(isinstance(outcome, Unknown) for _, outcome in sink.outcomes)


class TestWhatLeaves:
    async def test_row_peer_that_stops_reading_for_3_s_gets_every_octet(self):
        sink = RecordingSink()
        async with bound(sink, window=60_000) as (smsc, witness, connector):
            smsc.freeze()
            parts = [msgspec.structs.replace(p, octets=p.octets.ljust(140)) for p in make_parts(27820000101, 30_000)]
            assert connector.submit(parts) == len(parts)
            await asyncio.sleep(3)
            smsc.thaw()
            await sink.until(lambda: len(sink.outcomes) == len(parts))
            assert all(isinstance(outcome, Accepted) for _, outcome in sink.outcomes)
            assert [pdu.short_message for pdu, _ in witness.submits] == [part.octets for part in parts]

    def test_row_submit_on_a_receiver_bind_is_refused_before_the_wire(self):
        session = EsmeSession(0, Limits())
        session.bind(BindReceiver(b"id"), 0)
        session.take_output()
        session.feed(encode(Raw(Command.BIND_RECEIVER_RESP, b"x\0"), 1), 0)
        assert session.is_bound
        with pytest.raises(ValueError, match="can't submit"):
            session.submit(SubmitSm(), "token", 0)
        assert not session.has_output

    @pytest.mark.parametrize(
        "changes", [{"octets": b"x" * 300}, {"originator": "a\0b"}, {"originator": "a" * 300}, {"msisdn": 10**30}],
        ids=["300-octet text", "NUL in an address", "300-octet address", "long number"],
    )  # fmt: skip
    async def test_row_what_fits_into_no_field_is_refused_before_the_wire(self, changes):
        sink = RecordingSink()
        async with scripted(sink) as (centre, connector):
            [bad] = [msgspec.structs.replace(part, **changes) for part in make_parts(DELIVERED, 1)]
            [good] = make_parts(DELIVERED, 1, first_id=2)
            assert connector.submit([bad, good]) == 2
            pdu = await centre.answer_submits(lambda sequence: encode(SubmitSmResp(b"1"), sequence))
            assert pdu.short_message == good.octets
            await sink.until(lambda: len(sink.outcomes) == 2)
            assert isinstance(sink.outcome_of(bad), Refused)
            assert not sink.outcome_of(bad).retryable
            assert sink.outcome_of(good) == Accepted("1")

    @pytest.mark.parametrize("count", [8, 100])
    async def test_row_8_and_more_concurrent_submits_all_end(self, count):
        sink = RecordingSink()
        async with bound(sink, window=count) as (_, witness, connector):
            parts = make_parts(DELIVERED, count)
            assert connector.submit(parts) == count
            await sink.until(lambda: len(sink.outcomes) == count)
            assert len(witness.submits) == count
            assert all(isinstance(outcome, Accepted) for _, outcome in sink.outcomes)

    async def test_row_a_submit_that_is_never_answered_ends_in_time_among_others(self):
        sink = RecordingSink()
        async with bound(sink, window=20, response_timeout_s=0.3) as (_, _, connector):
            parts = make_parts(DELIVERED, 10) + make_parts(SILENT, 10, first_id=11)
            assert connector.submit(parts) == 20
            await sink.until(lambda: len(sink.outcomes) == 20)
            assert Counter(type(outcome) for _, outcome in sink.outcomes) == Counter({Accepted: 10, Unknown: 10})
