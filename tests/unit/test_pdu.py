"""The codec of SMPP 3.4 against octets written out by hand, and against what networks get wrong."""

import struct

import pytest

from aldis.smpp.errors import CommandStatus
from aldis.smpp.pdu import (
    RESPONSE,
    AlertNotification,
    BindReceiver,
    BindTransceiver,
    BindTransceiverResp,
    BindTransmitter,
    BindTransmitterResp,
    CancelSm,
    CancelSmResp,
    Command,
    DataSm,
    DataSmResp,
    DeliverSm,
    DeliverSmResp,
    DistributionList,
    EnquireLink,
    EnquireLinkResp,
    FrameError,
    Framer,
    GenericNack,
    Outbind,
    Pdu,
    PduError,
    QuerySm,
    QuerySmResp,
    Raw,
    ReplaceSm,
    SmeAddress,
    SubmitMulti,
    SubmitMultiResp,
    SubmitSm,
    SubmitSmResp,
    Tlv,
    Unbind,
    Unsuccess,
    decode,
    encode,
    response_to,
)


def frame(command_id: int, body: bytes, status: int = 0, sequence: int = 1) -> bytes:
    return struct.pack(">IIII", 16 + len(body), command_id, status, sequence) + body


SUBMIT_BODY = b"".join(
    (
        b"CMT\0",
        b"\x05\x00Aldis\0",
        b"\x01\x01447700900123\0",
        b"\x40\x01\x02",
        b"0\0",
        b"000001000000000R\0",
        b"\x01\x00\x04\x03",
        b"\x05hello",
    )
)
SUBMIT = SubmitSm(
    service_type=b"CMT",
    source_addr_ton=5,
    source_addr=b"Aldis",
    dest_addr_ton=1,
    dest_addr_npi=1,
    destination_addr=b"447700900123",
    esm_class=0x40,
    protocol_id=1,
    priority_flag=2,
    schedule_delivery_time=b"0",
    validity_period=b"000001000000000R",
    registered_delivery=1,
    data_coding=4,
    sm_default_msg_id=3,
    short_message=b"hello",
)
RECEIPT_BODY = b"\0\x01\x01447700900123\0\5\0Aldis\0\4\0\0\0\0\0\0\0\0\2hi"
RECEIPT_TLVS = b"\x00\x1e\x00\x04abc\0\x04\x27\x00\x01\x02"
RECEIPT = DeliverSm(
    source_addr_ton=1,
    source_addr_npi=1,
    source_addr=b"447700900123",
    dest_addr_ton=5,
    destination_addr=b"Aldis",
    esm_class=4,
    short_message=b"hi",
    tlvs={Tlv.RECEIPTED_MESSAGE_ID: b"abc\0", Tlv.MESSAGE_STATE: b"\2"},
)

WIRE: list[tuple[Pdu, int, bytes]] = [
    (BindTransmitter(b"esme", b"secret", b"VMA", 0x34, 1, 2, b"^44"), 0x02, b"esme\0secret\0VMA\0\x34\1\x02^44\0"),
    (BindReceiver(b"esme", b"secret"), 0x01, b"esme\0secret\0\0\x34\0\0\0"),
    (BindTransceiver(b"esme", b"secret", interface_version=0x33), 0x09, b"esme\0secret\0\0\x33\0\0\0"),
    (BindTransmitterResp(b"smsc"), 0x80000002, b"smsc\0"),
    (BindTransceiverResp(b"smsc", {Tlv.SC_INTERFACE_VERSION: b"\x34"}), 0x80000009, b"smsc\0\x02\x10\0\1\x34"),
    (Outbind(b"smsc", b"secret"), 0x0B, b"smsc\0secret\0"),
    (Unbind(), 0x06, b""),
    (EnquireLink(), 0x15, b""),
    (EnquireLinkResp(), 0x80000015, b""),
    (GenericNack(), 0x80000000, b""),
    (SUBMIT, 0x04, SUBMIT_BODY),
    (SubmitSmResp(b"4f2a"), 0x80000004, b"4f2a\0"),
    (RECEIPT, 0x05, RECEIPT_BODY + RECEIPT_TLVS),
    (DeliverSmResp(), 0x80000005, b"\0"),
    (
        DataSm(b"", 1, 1, b"1" * 64, 1, 1, b"2" * 64, 4, 1, 8, {Tlv.MESSAGE_PAYLOAD: b"text"}),
        0x103,
        b"\0\1\1" + b"1" * 64 + b"\0\1\1" + b"2" * 64 + b"\0\4\1\x08\x04\x24\0\4text",
    ),
    (DataSmResp(b"77"), 0x80000103, b"77\0"),
    (QuerySm(b"77", 1, 1, b"44"), 0x03, b"77\0\1\x0144\0"),
    (
        QuerySmResp(b"77", b"240101120000000+", 2, 9),
        0x80000003,
        b"77\x00240101120000000+\0\2\x09",
    ),
    (CancelSm(b"", b"77", 1, 1, b"44", 2, 3, b"45"), 0x08, b"\x0077\0\1\x0144\0\2\x0345\0"),
    (CancelSmResp(), 0x80000008, b""),
    (ReplaceSm(b"77", 1, 1, b"44", b"", b"", 1, 2, b"new"), 0x07, b"77\0\1\x0144\0\0\0\1\2\3new"),
    (
        SubmitMulti(
            source_addr=b"1",
            dest_addresses=(SmeAddress(1, 1, b"44"), DistributionList(b"all")),
            short_message=b"x",
        ),
        0x21,
        b"\0\0\x001\0\2\1\1\x0144\0\2all\0\0\0\0\0\0\0\0\0\0\1x",
    ),
    (
        SubmitMultiResp(b"77", (Unsuccess(1, 1, b"44", 0x0B),)),
        0x80000021,
        b"77\0\1\1\x0144\0\0\0\0\x0b",
    ),
    (AlertNotification(1, 1, b"44", 0, 0, b"esme", {0x0422: b"\0"}), 0x102, b"\1\x0144\0\0\0esme\0\x04\x22\0\1\0"),
    (Raw(0x111, b"broadcast"), 0x111, b"broadcast"),
    (Raw(0x80000111, b""), 0x80000111, b""),
]
WIRE_IDS = [f"{type(pdu).__name__}-{command_id:#x}" for pdu, command_id, _ in WIRE]


@pytest.mark.parametrize(("pdu", "command_id", "body"), WIRE, ids=WIRE_IDS)
def test_a_pdu_is_written_as_the_standard_has_it(pdu: Pdu, command_id: int, body: bytes) -> None:
    assert encode(pdu, 7) == frame(command_id, body, sequence=7)


@pytest.mark.parametrize(("pdu", "command_id", "body"), WIRE, ids=WIRE_IDS)
def test_a_pdu_is_read_as_the_standard_has_it(pdu: Pdu, command_id: int, body: bytes) -> None:
    header, read = decode(frame(command_id, body, status=0, sequence=0x7FFFFFFF))
    assert header == (16 + len(body), command_id, 0, 0x7FFFFFFF)
    assert (header.command_length, header.command_id, header.command_status, header.sequence) == header
    assert read == pdu
    assert decode(memoryview(frame(command_id, body)))[1] == pdu


def test_status_and_sequence_are_in_the_header() -> None:
    assert encode(GenericNack(), 0xFFFFFFFF, 3) == frame(0x80000000, b"", 3, 0xFFFFFFFF)
    with pytest.raises(ValueError, match="sequence"):
        encode(EnquireLink(), 2**32)
    with pytest.raises(ValueError, match="status"):
        encode(EnquireLinkResp(), 1, -1)


@pytest.mark.parametrize("pdu", [SubmitSmResp(), DeliverSmResp(), BindTransceiverResp(), SubmitMultiResp()])
def test_a_refusal_has_no_body_unless_it_says_something(pdu: Pdu) -> None:
    assert len(encode(pdu, 1, 0x45)) == 16
    assert len(encode(pdu, 1)) > 16
    assert encode(SubmitSmResp(b"x"), 1, 0x45)[16:] == b"x\0"


# SMPP-20
@pytest.mark.parametrize(
    ("pdu", "field"),
    [
        pytest.param(SubmitSm(source_addr=b"1\0\0evil"), "source_addr", id="NUL in the source"),
        pytest.param(SubmitSm(destination_addr=b"44\0"), "destination_addr", id="NUL in the destination"),
        pytest.param(SubmitSm(source_addr=b"1" * 21), "source_addr", id="source too long"),
        pytest.param(SubmitSm(destination_addr=b"1" * 300), "destination_addr", id="destination too long"),
        pytest.param(SubmitSm(service_type=b"CMTCMT"), "service_type", id="service type too long"),
        pytest.param(SubmitSm(service_type=b"C\0"), "service_type", id="NUL in the service type"),
        pytest.param(SubmitSm(validity_period=b"1" * 17), "validity_period", id="validity too long"),
        pytest.param(SubmitSm(validity_period=b"\0"), "validity_period", id="NUL in the validity"),
        pytest.param(SubmitSm(schedule_delivery_time=b"1" * 17), "schedule_delivery_time", id="schedule too long"),
        pytest.param(SubmitSm(schedule_delivery_time=b"\0"), "schedule_delivery_time", id="NUL in the schedule"),
        pytest.param(SubmitSm(short_message=b"x" * 255), "short_message", id="message too long"),
        pytest.param(SubmitSm(short_message=b"x" * 300), "short_message", id="message far too long"),
        pytest.param(SubmitSm(data_coding=256), "data_coding", id="integer too large"),
        pytest.param(SubmitSm(esm_class=-1), "esm_class", id="integer negative"),
        pytest.param(SubmitSm(tlvs={65_536: b""}), "TLV", id="tag too large"),
        pytest.param(SubmitSm(tlvs={1: b"x" * 65_536}), "TLV", id="TLV too long"),
        pytest.param(DeliverSm(source_addr=b"1" * 21), "source_addr", id="deliver source too long"),
        pytest.param(SubmitSmResp(b"x" * 65), "message_id", id="message id too long"),
        pytest.param(DataSmResp(b"x\0"), "message_id", id="NUL in the message id"),
        pytest.param(BindTransmitter(b"x" * 16), "system_id", id="system id too long"),
        pytest.param(BindTransmitter(b"x", b"y" * 9), "password", id="password too long"),
        pytest.param(QuerySm(source_addr_ton=256), "source_addr_ton", id="table integer too large"),
        pytest.param(SubmitMulti(), "dest_addresses", id="no destination"),
        pytest.param(
            SubmitMulti(dest_addresses=(DistributionList(b"x"),) * 255), "dest_addresses", id="255 destinations"
        ),
        pytest.param(SubmitMultiResp(unsuccess=(Unsuccess(1, 1, b"1", 1),) * 255), "unsuccess", id="255 unsuccesses"),
        pytest.param(ReplaceSm(short_message=b"x" * 255), "short_message", id="replacement too long"),
    ],
)
def test_what_does_not_fit_is_refused_by_name_before_the_wire(pdu: Pdu, field: str) -> None:
    with pytest.raises(ValueError, match=field):
        encode(pdu, 1)


def test_the_longest_of_everything_fits() -> None:
    pdu = SubmitSm(
        service_type=b"x" * 5,
        source_addr=b"1" * 20,
        destination_addr=b"2" * 20,
        schedule_delivery_time=b"3" * 16,
        validity_period=b"4" * 16,
        data_coding=255,
        short_message=b"\0" * 254,
        tlvs={0xFFFF: b"x" * 0xFF00},
    )
    assert decode(encode(pdu, 1))[1] == pdu


# --- what arrives malformed ---------------------------------------------------------------------------------------

FIXED = b"\0\0\0s\0\0\0d\0\0\0\0\0\0\0\0\0\0"


# SMPP-13 SMPP-14
@pytest.mark.parametrize(
    ("command_id", "body", "status"),
    [
        pytest.param(4, b"", CommandStatus.ESME_RINVCMDLEN, id="submit_sm empty"),
        pytest.param(5, b"", CommandStatus.ESME_RINVCMDLEN, id="deliver_sm empty"),
        pytest.param(4, SUBMIT_BODY[:-1], CommandStatus.ESME_RINVCMDLEN, id="submit_sm cut in its text"),
        pytest.param(5, RECEIPT_BODY[:-1], CommandStatus.ESME_RINVCMDLEN, id="deliver_sm cut in its text"),
        pytest.param(5, RECEIPT_BODY[:20], CommandStatus.ESME_RINVCMDLEN, id="deliver_sm cut in an address"),
        pytest.param(4, SUBMIT_BODY + b"\0", CommandStatus.ESME_RINVOPTPARSTREAM, id="submit_sm with a cut tag"),
        pytest.param(4, SUBMIT_BODY + b"\0\1\0\2x", CommandStatus.ESME_RINVOPTPARSTREAM, id="submit_sm with a cut TLV"),
        pytest.param(4, b"toolong\0" + FIXED[1:] + b"\0", CommandStatus.ESME_RINVSERTYP, id="service type too long"),
        pytest.param(
            4, b"\0\0\0" + b"1" * 21 + b"\0\0\0d\0" + b"\0" * 10, CommandStatus.ESME_RINVSRCADR, id="source too long"
        ),
        pytest.param(
            4, b"\0\0\0s\0\0\0" + b"1" * 21 + b"\0" * 11, CommandStatus.ESME_RINVDSTADR, id="destination too long"
        ),
        pytest.param(
            4, b"\0\0\0s\0\0\0d\0\0\0\0" + b"1" * 17 + b"\0" * 7, CommandStatus.ESME_RINVSCHED, id="schedule too long"
        ),
        pytest.param(
            4,
            b"\0\0\0s\0\0\0d\0\0\0\0\0" + b"1" * 17 + b"\0" * 6,
            CommandStatus.ESME_RINVEXPIRY,
            id="validity too long",
        ),
        pytest.param(4, FIXED + b"\xff" + b"x" * 255, CommandStatus.ESME_RINVMSGLEN, id="text of 255 octets"),
        pytest.param(2, b"x" * 16 + b"\0", CommandStatus.ESME_RINVSYSID, id="system id too long"),
        pytest.param(2, b"x\0" + b"y" * 9 + b"\0", CommandStatus.ESME_RINVPASWD, id="password too long"),
        pytest.param(2, b"x\0y\0\0\x34\0\0\0x", CommandStatus.ESME_RINVCMDLEN, id="octets behind a bind"),
        pytest.param(0x15, b"x", CommandStatus.ESME_RINVCMDLEN, id="octets behind enquire_link"),
        pytest.param(0x21, b"\0\0\0\0\0", CommandStatus.ESME_RINVNUMDESTS, id="no destinations"),
        pytest.param(0x21, b"\0\0\0\0\1\3", CommandStatus.ESME_RINVDESTFLAG, id="destination of a third kind"),
        pytest.param(0x21, b"\0\0\0\0\2\1\1\x011\0", CommandStatus.ESME_RINVCMDLEN, id="destinations cut"),
        pytest.param(0x103, b"\0\0\0s\0\0\0d\0\0\0", CommandStatus.ESME_RINVCMDLEN, id="data_sm cut"),
        pytest.param(0x80000021, b"77\0\1\1", CommandStatus.ESME_RINVCMDLEN, id="submit_multi_resp cut"),
    ],
)
def test_a_malformed_body_names_the_status_to_answer_with(command_id: int, body: bytes, status: CommandStatus) -> None:
    with pytest.raises(PduError) as caught:
        decode(frame(command_id, body, sequence=42))
    assert caught.value.command_status == status
    assert (caught.value.header.command_id, caught.value.header.sequence) == (command_id, 42)


# SMPP-14
@pytest.mark.parametrize("rest", [b"\x04", b"\x04\x23\0", b"\x04\x23\0\3\1", b"\x04\x23\xff\xff"])
def test_a_receipt_keeps_what_comes_before_its_cut_tlv(rest: bytes) -> None:
    _, read = decode(frame(5, RECEIPT_BODY + RECEIPT_TLVS + rest))
    assert isinstance(read, DeliverSm)
    assert read.cut_tlv
    assert read.tlvs == RECEIPT.tlvs
    data_sm = b"\0\0\0s\0\0\0d\0\4\0\0"
    _, read = decode(frame(0x103, data_sm + RECEIPT_TLVS + rest))
    assert isinstance(read, DataSm)
    assert read.cut_tlv
    assert read.tlvs == RECEIPT.tlvs


# SMPP-14
def test_unknown_tlvs_are_kept_and_the_first_of_equal_tags_wins() -> None:
    _, read = decode(frame(5, RECEIPT_BODY + b"\x14\0\0\1a\x14\0\0\1b\x04\x23\0\3\3\0\x22\x14\1\0\0"))
    assert isinstance(read, DeliverSm)
    assert read.tlvs == {0x1400: b"a", Tlv.NETWORK_ERROR_CODE: b"\3\0\x22", 0x1401: b""}
    assert not read.cut_tlv


def test_strange_values_of_a_network_are_kept_as_they_are() -> None:
    body = b"longservice\0\7\7caf\xe9 and a far too long sender\0\0\0d\0\0\0\0" + b"9" * 20 + b"\0\0"
    _, read = decode(frame(5, body + b"\0\0\xf5\0\xff" + b"\xff" * 255))
    assert isinstance(read, DeliverSm)
    assert read.source_addr == b"caf\xe9 and a far too long sender"
    assert (read.source_addr_ton, read.data_coding, read.schedule_delivery_time) == (7, 0xF5, b"9" * 20)
    assert read.short_message == b"\xff" * 255


# SMPP-15
@pytest.mark.parametrize(
    ("body", "message_id"),
    [
        pytest.param(b"", b"", id="no body"),
        pytest.param(b"\0", b"", id="empty id"),
        pytest.param(b"4f2a", b"4f2a", id="unterminated"),
        pytest.param(b"x" * 300 + b"\0", b"x" * 300, id="far too long"),
        pytest.param(b"4f2a\0garbage", b"4f2a", id="octets behind it"),
    ],
)
@pytest.mark.parametrize("status", [0, 0x450])
@pytest.mark.parametrize("command_id", [0x80000004, 0x80000005, 0x80000103])
def test_a_response_is_read_whatever_its_body(command_id: int, status: int, body: bytes, message_id: bytes) -> None:
    header, read = decode(frame(command_id, body, status))
    assert isinstance(read, SubmitSmResp | DeliverSmResp | DataSmResp)
    assert header.command_status == status
    assert read.message_id == message_id
    assert read.cut_tlv == (body != b"" and not body.endswith(b"\0"))


def test_a_response_may_carry_tlvs_of_a_later_version() -> None:
    _, read = decode(frame(0x80000004, b"4f2a\0\x04\x28\0\1\x50"))
    assert read == SubmitSmResp(b"4f2a", {Tlv.CONGESTION_STATE: b"\x50"})
    assert decode(encode(read, 1))[1] == read


@pytest.mark.parametrize("command_id", [command for command in Command if command & RESPONSE])
def test_a_refusal_without_a_body_is_read(command_id: int) -> None:
    header, read = decode(frame(command_id, b"", 0x58))
    assert header.command_status == 0x58
    assert read.command_id == command_id


def test_a_refusal_with_a_broken_body_is_a_refusal() -> None:
    assert decode(frame(0x80000021, b"\0", 0x45))[1] == SubmitMultiResp()
    assert decode(frame(0x80000006, b"junk"))[0].command_id == Command.UNBIND_RESP


@pytest.mark.parametrize(
    "octets", [b"", b"\0" * 15, frame(0x15, b"")[:-1] + b"\0\0", struct.pack(">I", 17) + b"\0" * 12]
)
def test_what_is_not_one_whole_frame_is_no_pdu(octets: bytes) -> None:
    with pytest.raises(FrameError):
        decode(octets)


@pytest.mark.parametrize("command", [command for command in Command if not command & RESPONSE])
def test_a_request_knows_its_response(command: Command) -> None:
    alone = command in {Command.OUTBIND, Command.ALERT_NOTIFICATION}
    assert response_to(command).command_id == (Command.GENERIC_NACK if alone else command | RESPONSE)
    assert response_to(0x111) == GenericNack()


# --- frames -------------------------------------------------------------------------------------------------------

STREAM = [encode(pdu, number) for number, (pdu, _, _) in enumerate(WIRE)]


@pytest.mark.parametrize("step", [1, 2, 3, 15, 16, 17, 100, 10_000])
def test_frames_come_out_whole_however_the_bytes_come_in(step: int) -> None:
    framer, stream = Framer(), b"".join(STREAM)
    frames = []
    for at in range(0, len(stream), step):
        frames += framer.feed(stream[at : at + step])
    assert frames == STREAM


def test_a_frame_is_out_as_soon_as_its_last_byte_is_in() -> None:
    framer = Framer()
    first, second = STREAM[:2]
    assert framer.feed(first[:5]) == []
    assert framer.feed(first[5:-1]) == []
    assert framer.feed(first[-1:] + second[:3]) == [first]
    assert framer.feed(second[3:]) == [second]
    assert framer.feed(b"") == []


# SMPP-12
@pytest.mark.parametrize("length", [0, 15, 65_553, 2**31, 2**32 - 1])
@pytest.mark.parametrize("step", [1, 1000])
def test_a_bad_length_ends_the_stream_at_once(length: int, step: int) -> None:
    framer, octets = Framer(), STREAM[0] + struct.pack(">I", length)
    with pytest.raises(FrameError, match=str(length)):
        for at in range(0, len(octets), step):
            framer.feed(octets[at : at + step])
    with pytest.raises(FrameError):
        framer.feed(STREAM[0])


def test_frames_before_a_bad_length_are_not_lost() -> None:
    with pytest.raises(FrameError) as caught:
        Framer().feed(STREAM[0] + STREAM[1] + b"\0\0\0\0")
    assert caught.value.frames == STREAM[:2]


def test_the_longest_frame_is_the_callers_choice() -> None:
    assert Framer(max_length=16).feed(frame(0x15, b"")) == [frame(0x15, b"")]
    with pytest.raises(FrameError):
        Framer(max_length=16).feed(frame(0x15, b"x"))
    full = frame(0x111, b"x" * 65_536)
    assert Framer().feed(full) == [full]
