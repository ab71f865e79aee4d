"""The codec's laws: what is written is read back, and nothing that arrives raises what it should not."""

import contextlib
import random
import time
from typing import Any, get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aldis.smpp.fields import DistributionList, SmeAddress, Unsuccess
from aldis.smpp.pdu import (
    Command,
    DataSm,
    DeliverSm,
    FrameError,
    Framer,
    Pdu,
    PduError,
    Raw,
    SubmitSm,
    Tlv,
    decode,
    encode,
)
from aldis.smpp.receipt import MESSAGE_STATES, format_receipt, parse_receipt, receipt_tlvs

SIZES = {
    "service_type": 5,
    "source_addr": 20,
    "destination_addr": 20,
    "schedule_delivery_time": 16,
    "validity_period": 16,
    "final_date": 16,
    "message_id": 64,
    "esme_addr": 64,
    "system_id": 15,
    "password": 8,
    "system_type": 12,
    "address_range": 40,
}
"""The standard's longest strings, without their NUL; told again here so that the codec's own table is checked."""

octet = st.integers(0, 255)
tlvs = st.none() | st.dictionaries(st.integers(0, 65_535), st.binary(max_size=80), min_size=1, max_size=5)


def strings(size: int) -> st.SearchStrategy[bytes]:
    return st.binary(max_size=size).map(lambda octets: octets.replace(b"\0", b"."))


sme_address = st.builds(SmeAddress, octet, octet, strings(20))
destination = sme_address | st.builds(DistributionList, strings(20))
unsuccess = st.builds(Unsuccess, octet, octet, strings(20), st.integers(0, 2**32 - 1))


def field_values(a_class: type[Any], name: str) -> st.SearchStrategy[Any]:
    if name == "tlvs":
        return tlvs
    if name == "short_message":
        return st.binary(max_size=254)
    if name == "dest_addresses":
        return st.lists(destination, min_size=1, max_size=5).map(tuple)
    if name == "unsuccess":
        return st.lists(unsuccess, max_size=5).map(tuple)
    if name.endswith("_addr") and a_class.__name__ in {"DataSm", "AlertNotification"}:
        return strings(64)
    return strings(SIZES[name]) if get_type_hints(a_class)[name] is bytes else octet


def pdus_of(a_class: type[Any]) -> st.SearchStrategy[Any]:
    if a_class is Raw:
        unknown = st.integers(0, 2**32 - 1).filter(lambda command_id: command_id not in set(Command))
        return st.builds(Raw, unknown, st.binary(max_size=80))
    names = [name for name in a_class.__struct_fields__ if name != "cut_tlv"]
    return st.fixed_dictionaries({name: field_values(a_class, name) for name in names}).map(lambda v: a_class(**v))


CLASSES = get_args(Pdu)
any_pdu = st.one_of([pdus_of(a_class) for a_class in CLASSES])
sequences = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize("a_class", CLASSES, ids=lambda a_class: a_class.__name__)
@given(data=st.data())
def test_every_pdu_is_read_back_as_it_was_written(a_class: type[Any], data: st.DataObject) -> None:
    pdu, sequence = data.draw(pdus_of(a_class)), data.draw(sequences)
    octets = encode(pdu, sequence)
    header, read = decode(octets)
    assert read == pdu
    assert header == (len(octets), pdu.command_id, 0, sequence)
    assert encode(read, sequence) == octets


@given(
    st.sampled_from([SubmitSm, DeliverSm]),
    st.sampled_from([name for name in SIZES if name in SubmitSm.__struct_fields__]),
    st.binary(max_size=30),
)
def test_a_string_is_written_if_and_only_if_it_can_be_read_back(a_class: Any, name: str, value: bytes) -> None:
    pdu = a_class(**{name: value})
    if 0 in value or len(value) > SIZES[name]:
        with pytest.raises(ValueError, match=name):
            encode(pdu, 1)
    else:
        assert getattr(decode(encode(pdu, 1))[1], name) == value


# SMPP-12
@given(st.lists(any_pdu, min_size=1, max_size=8), st.lists(st.integers(1, 60), min_size=1))
def test_a_stream_is_cut_the_same_however_it_is_split(pdus: list[Any], steps: list[int]) -> None:
    frames = [encode(pdu, number) for number, pdu in enumerate(pdus)]
    stream, framer, out, at = b"".join(frames), Framer(), [], 0
    while at < len(stream):
        step = steps[at % len(steps)]
        out += framer.feed(stream[at : at + step])
        at += step
    assert out == frames


# REC-8
@given(st.binary(max_size=200), octet, octet, tlvs, st.booleans())
def test_a_receipt_reader_never_raises(
    octets: bytes, esm_class: int, coding: int, optional: dict[int, bytes] | None, as_data_sm: bool
) -> None:
    if as_data_sm:
        pdu: DeliverSm | DataSm = DataSm(
            esm_class=esm_class, data_coding=coding, tlvs={**(optional or {}), Tlv.MESSAGE_PAYLOAD: octets}
        )
    else:
        pdu = DeliverSm(esm_class=esm_class, data_coding=coding, short_message=octets, tlvs=optional)
    info = parse_receipt(pdu)
    assert info is not None or esm_class & 0x24 == 0


SEEDS = [
    *[
        encode(a_class() if a_class is not Raw else Raw(0x111, b"body"), 1)
        for a_class in CLASSES
        if a_class.__name__ != "SubmitMulti"
    ],
    *[
        encode(
            DeliverSm(
                source_addr=b"447700900123",
                destination_addr=b"Aldis",
                esm_class=4,
                short_message=format_receipt(
                    "0123456789", state, submitted_at=1_704_110_400_000, done_at=1_704_110_465_000, text="hello"
                ),
                tlvs={**receipt_tlvs("0123456789", state), Tlv.NETWORK_ERROR_CODE: b"\3\0\1"},
            ),
            2,
        )
        for state in MESSAGE_STATES
    ],
    *[
        encode(
            SubmitSm(b"CMT", 5, 0, b"Aldis", 1, 1, b"447700900123", short_message=b"x" * size, tlvs={0x1400: b"v"}), 3
        )
        for size in (0, 1, 160, 254)
    ],
]


def mutate(rng: random.Random, octets: bytes) -> bytes:
    """Change, cut, insert or double octets of a PDU; its length is then mended, mostly."""
    body = bytearray(octets)
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(4, len(body)) if len(body) > 4 else 0
        kind = rng.randrange(4)
        if kind == 0 and at:
            body[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        elif kind == 1:
            del body[at : at + rng.randint(1, 8)]
        elif kind == 2:
            body[at:at] = rng.randbytes(rng.randint(1, 8))
        else:
            body[at:at] = body[at : at + rng.randint(1, 40)]
    if rng.random() < 0.95:
        body[:4] = len(body).to_bytes(4, "big")
    return bytes(body)


def test_20000_mutated_pdus_are_read_or_refused_and_nothing_else() -> None:
    rng = random.Random(20_240_101)
    tally = {"read": 0, "PduError": 0, "FrameError": 0}
    slow: list[bytes] = []
    for _ in range(20_000):
        octets = mutate(rng, rng.choice(SEEDS))
        started = time.process_time()
        try:
            for frame in Framer().feed(octets):
                header, pdu = decode(frame)
                assert header.command_length == len(frame)
                if isinstance(pdu, DeliverSm | DataSm):
                    parse_receipt(pdu)
            tally["read"] += 1
        except (PduError, FrameError) as error:
            tally[type(error).__name__] += 1
        if time.process_time() - started > LONGEST_S:
            slow.append(octets)
    assert min(tally.values()) > 100, tally
    assert [octets for octets in slow if fastest_of(3, octets) > LONGEST_S] == []


LONGEST_S = 0.005


def fastest_of(tries: int, octets: bytes) -> float:
    """Return the shortest time that reading takes: one try may have been interrupted."""
    times = []
    for _ in range(tries):
        started = time.process_time()
        with contextlib.suppress(PduError, FrameError):
            for frame in Framer().feed(octets):
                decode(frame)
        times.append(time.process_time() - started)
    return min(times)
