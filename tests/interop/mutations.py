"""PDUs of every kind that our codec writes, and what becomes of them on a bad line or under a bad hand."""

import random
from collections.abc import Callable, Iterator
from typing import Any, get_args

from aldis.smpp.fields import DistributionList, SmeAddress, Unsuccess
from aldis.smpp.pdu import (
    HEADER_LENGTH,
    AlertNotification,
    BindReceiverResp,
    BindTransceiver,
    BindTransceiverResp,
    BindTransmitter,
    CancelSm,
    DataSm,
    DataSmResp,
    DeliverSm,
    DeliverSmResp,
    GenericNack,
    Outbind,
    Pdu,
    QuerySm,
    QuerySmResp,
    Raw,
    ReplaceSm,
    SubmitMulti,
    SubmitMultiResp,
    SubmitSm,
    SubmitSmResp,
    Tlv,
    encode,
)
from aldis.smpp.receipt import MESSAGE_STATES, format_receipt, receipt_tlvs

ID = "0123456789"
UNKNOWN_COMMAND = 0x111
_TO: dict[str, Any] = {"dest_addr_ton": 1, "dest_addr_npi": 1, "destination_addr": b"447700900123"}
_FROM: dict[str, Any] = {"source_addr_ton": 5, "source_addr_npi": 0, "source_addr": b"Aldis"}
_BACK: dict[str, Any] = {
    "source_addr_ton": 1,
    "source_addr_npi": 1,
    "source_addr": b"447700900123",
    "destination_addr": b"Aldis",
}
_TIMES: dict[str, Any] = {"schedule_delivery_time": b"270115080000000+", "validity_period": b"000002000000000R"}
_MANY = {
    Tlv.USER_MESSAGE_REFERENCE: b"\1\2", Tlv.SAR_MSG_REF_NUM: b"\0\7", Tlv.SAR_TOTAL_SEGMENTS: b"\2",
    Tlv.SAR_SEGMENT_SEQNUM: b"\1", 0x1400: b"vendor's",
}  # fmt: skip


def _receipt(state: str) -> DeliverSm:
    text = format_receipt(ID, state, submitted_at=1_704_110_400_000, done_at=1_704_110_465_000, text="hello")
    tlvs = {**receipt_tlvs(ID, state), Tlv.NETWORK_ERROR_CODE: b"\3\0\1"}
    return DeliverSm(**_BACK, esm_class=4, short_message=text, tlvs=tlvs)


def _rich() -> list[Any]:
    several = (SmeAddress(1, 1, b"447700900123"), DistributionList(b"friends"), SmeAddress(1, 1, b"447700900124"))
    unsuccess = (Unsuccess(1, 1, b"447700900123", 0x0B), Unsuccess(1, 1, b"447700900124", 0x14))
    submits: list[dict[str, Any]] = [
        {"short_message": b"x" * 160},
        {"short_message": b"y" * 254, "service_type": b"CMT", **_TIMES, "tlvs": _MANY},
        {"short_message": b"\5\0\3\7\2\1" + b"z" * 134, "esm_class": 0x40, "data_coding": 8, "registered_delivery": 1},
        {"tlvs": {Tlv.MESSAGE_PAYLOAD: b"p" * 700, **_MANY}},
    ]
    return [
        *(SubmitSm(**_FROM, **_TO, **one) for one in submits),
        *(_receipt(state) for state in MESSAGE_STATES),
        DeliverSm(**_BACK, short_message=b"STOP", tlvs=_MANY),
        DeliverSm(**_BACK, short_message=b"\x04\x22", data_coding=8, service_type=b"WAP"),
        DataSm(**_FROM, **_TO, registered_delivery=1, tlvs={Tlv.MESSAGE_PAYLOAD: b"hello"}),
        BindTransceiver(b"customer", b"secret", b"VMA", addr_ton=1, addr_npi=1, address_range=b"^4477"),
        BindTransmitter(b"customer", b"secret"),
        BindTransceiverResp(b"centre", {Tlv.SC_INTERFACE_VERSION: b"\x34"}),
        BindReceiverResp(b"centre"),
        Outbind(b"centre", b"secret"),
        SubmitSmResp(ID.encode()),
        DeliverSmResp(),
        DataSmResp(ID.encode(), {Tlv.ADDITIONAL_STATUS_INFO_TEXT: b"fine\0"}),
        QuerySm(ID.encode(), **_FROM),
        QuerySmResp(ID.encode(), b"270115080000000+", 2, 0),
        CancelSm(b"CMT", ID.encode(), **_FROM, **_TO),
        ReplaceSm(ID.encode(), **_FROM, **_TIMES, registered_delivery=1, short_message=b"other words"),
        SubmitMulti(b"CMT", **_FROM, dest_addresses=several, short_message=b"to all", tlvs=_MANY),
        SubmitMultiResp(ID.encode(), unsuccess),
        AlertNotification(1, 1, b"447700900123", 1, 1, b"Aldis", {Tlv.MS_AVAILABILITY_STATUS: b"\0"}),
        Raw(UNKNOWN_COMMAND, b"of SMPP 5.0\0"),
    ]  # fmt: skip


def _bare() -> list[Any]:
    """One of each kind that may be empty; of the others, the ones above must do."""
    return [a_class() for a_class in get_args(Pdu) if a_class not in (Raw, SubmitMulti)]


PDUS: list[Any] = [*_rich(), *_bare()]
assert {type(pdu) for pdu in PDUS} == set(get_args(Pdu))
SEEDS = [encode(pdu, number) for number, pdu in enumerate(PDUS, 1)]
MESSAGES = [seed for seed in SEEDS if int.from_bytes(seed[4:8], "big") in (SubmitSm.command_id, DeliverSm.command_id)]
"""Those that carry the traffic, and that others decode too; half of what is mutated."""
REFUSALS = [encode(SubmitSmResp(), 1, 0x58), encode(GenericNack(), 1, 3), encode(BindTransceiverResp(), 1, 0x0E)]


def framed(body: bytes) -> bytes:
    """Return a PDU with the command_length that it has."""
    return len(body).to_bytes(4, "big") + body[4:]


# Each takes a whole PDU and returns what came of it, with whatever command_length.


def flip_bits(rng: random.Random, pdu: bytes) -> bytes:
    octets = bytearray(pdu)
    for _ in range(rng.randint(1, 4)):
        octets[rng.randrange(4, len(octets))] ^= 1 << rng.randrange(8)
    return framed(bytes(octets))


def change_body(rng: random.Random, pdu: bytes) -> bytes:
    octets = bytearray(pdu)
    for _ in range(rng.randint(1, 4)):
        if len(octets) > HEADER_LENGTH:
            octets[rng.randrange(HEADER_LENGTH, len(octets))] = rng.choice((0, 1, 0x7F, 0x80, 0xFE, 0xFF))
    return framed(bytes(octets))


def truncate(rng: random.Random, pdu: bytes) -> bytes:
    return framed(pdu[: rng.randint(HEADER_LENGTH, len(pdu))])


def remove_nuls(rng: random.Random, pdu: bytes) -> bytes:
    octets = bytearray(pdu)
    for _ in range(rng.randint(1, 3)):
        nuls = [at for at in range(HEADER_LENGTH, len(octets)) if octets[at] == 0]
        if nuls:
            del octets[rng.choice(nuls)]
    return framed(bytes(octets))


def add_octets(rng: random.Random, pdu: bytes) -> bytes:
    at = rng.choice((len(pdu), rng.randint(HEADER_LENGTH, len(pdu))))
    return framed(pdu[:at] + rng.randbytes(rng.choice((1, 2, 3, 4, 5, 30))) + pdu[at:])


def lengthen_a_string(rng: random.Random, pdu: bytes) -> bytes:
    ends = [at for at in range(HEADER_LENGTH, min(len(pdu), 100)) if pdu[at] == 0]
    at = rng.choice((*ends, len(pdu)))
    return framed(pdu[:at] + bytes([rng.choice(b"7a\xe9")]) * rng.choice((1, 3, 9, 16, 70, 300)) + pdu[at:])


def tamper_with_tlvs(rng: random.Random, pdu: bytes) -> bytes:
    """Put TLVs behind the PDU whose lengths are true, or too long, or whose tags come twice."""
    octets = bytearray(pdu)
    for _ in range(rng.randint(1, 3)):
        value = rng.randbytes(rng.randrange(6))
        length = rng.choice((len(value), len(value), len(value) + 1, 0, 0xFFFF, rng.randrange(300)))
        tag = rng.choice((*_MANY, Tlv.MESSAGE_STATE, Tlv.RECEIPTED_MESSAGE_ID, rng.randrange(65_536)))
        octets += tag.to_bytes(2, "big") + length.to_bytes(2, "big") + value
    return framed(bytes(octets[: len(octets) - rng.choice((0, 0, 1, 3))]))


def lie_about_sm_length(rng: random.Random, pdu: bytes) -> bytes:
    """Change the octet before a text, if there is one; elsewhere any octet."""
    at = max(pdu.find(text, HEADER_LENGTH) for text in (b"xxx", b"yyy", b"id:", b"STOP", b"zzz", b"to all")) - 1
    at = at if at >= HEADER_LENGTH else rng.randrange(4, len(pdu))
    return pdu[:at] + bytes([rng.choice((0, 1, 254, 255, rng.randrange(256)))]) + pdu[at + 1 :]


def lie_about_the_length(rng: random.Random, pdu: bytes) -> bytes:
    length = rng.choice((0, 4, 15, len(pdu) - 1, len(pdu) + 1, 65_553, 2**31, 2**32 - 1, rng.randrange(2**32)))
    return length.to_bytes(4, "big") + pdu[4:]


HONEST: tuple[Callable[[random.Random, bytes], bytes], ...] = (
    flip_bits,
    change_body,
    truncate,
    remove_nuls,
    add_octets,
    lengthen_a_string,
    tamper_with_tlvs,
    lie_about_sm_length,
)
"""The mutations after which command_length is true still."""
MUTATIONS = (*HONEST, lie_about_the_length)


def mutated(seed: int, count: int, kinds: tuple[Callable[[random.Random, bytes], bytes], ...]) -> Iterator[bytes]:
    """Yield so many mutated PDUs, the same for the same seed; about a fifth went through two mutations."""
    rng = random.Random(seed)
    for _ in range(count):
        seeds = rng.choices((MESSAGES, SEEDS, REFUSALS), (50, 45, 5))[0]
        pdu = rng.choice(kinds)(rng, rng.choice(seeds))
        if rng.random() < 0.2 and int.from_bytes(pdu[:4], "big") == len(pdu):
            pdu = rng.choice(kinds)(rng, pdu)
        yield pdu
