"""Messages of subscribers from their PDUs: places, what is told apart, what is put together, what is read."""

from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aldis.connectors.assembly import GAP, choose, join, key_of, piece_of
from aldis.inbound import assemble
from aldis.rules.replies import Keyword, conversation, keyword_of
from aldis.smpp.commands import DataSm, DeliverSm, EsmClass, Tlv
from aldis.smpp.concat import Place, place_of, user_data
from aldis.smpp.pdu import encode
from aldis.store.base import Parked
from aldis.text.reading import read

KINDS = ("udh8", "udh16", "sar")
_ids = count(1)


def part(octets: bytes, number: int, total: int, *, kind: str = "udh8", reference: int = 7, **fields: Any) -> DeliverSm:
    """Make a PDU with one part of a message."""
    plain = {"source_addr": b"447700900123", "destination_addr": b"60777"} | fields
    if kind == "sar":
        values = (reference.to_bytes(2, "big"), bytes((total,)), bytes((number,)))
        tags = (Tlv.SAR_MSG_REF_NUM, Tlv.SAR_TOTAL_SEGMENTS, Tlv.SAR_SEGMENT_SEQNUM)
        return DeliverSm(**plain, short_message=octets, tlvs=dict(zip(map(int, tags), values, strict=True)))
    head = b"\x05\x00\x03" if kind == "udh8" else b"\x06\x08\x04"
    header = head + reference.to_bytes(1 if kind == "udh8" else 2, "big") + bytes((total, number))
    return DeliverSm(**plain, esm_class=EsmClass.UDHI, short_message=header + octets)


def parked(pdu: DeliverSm, received_at: int = 0) -> Parked:
    return Parked(
        inbox_id=next(_ids), connector="up", received_at=received_at, is_receipt=False, upstream_id=key_of(pdu),
        state="", error="", source=pdu.source_addr.decode(), destination=pdu.destination_addr.decode(), text="",
        pdu=encode(pdu, 1),
    )  # fmt: skip


# INB-2
@pytest.mark.parametrize("kind", KINDS)
def test_a_part_says_where_it_belongs(kind: str) -> None:
    assert place_of(part(b"x", 2, 3, kind=kind)) == Place(kind, 7, 3, 2)
    assert user_data(part(b"words", 2, 3, kind=kind))[1] == b"words"


# INB-2
@pytest.mark.parametrize(
    "pdu",
    [
        DeliverSm(short_message=b"words"),
        part(b"x", 0, 3),
        part(b"x", 4, 3),
        part(b"x", 1, 1),
        DeliverSm(esm_class=EsmClass.UDHI, short_message=b"\x06\x05\x04\x0b\x84\x23\xf0x"),  # ports
        DeliverSm(esm_class=EsmClass.UDHI, short_message=b"\x05\x00\x04\x07\x03\x01x"),  # a wrong length inside
        DeliverSm(esm_class=EsmClass.UDHI, short_message=b"\x63\x00\x03\x07\x03\x01x"),  # longer than it is
        DeliverSm(esm_class=EsmClass.UDHI),
        DeliverSm(short_message=b"x", tlvs={int(Tlv.SAR_MSG_REF_NUM): b"\0\7"}),
        DataSm(tlvs={int(Tlv.MESSAGE_PAYLOAD): b"words"}),
    ],
)
def test_what_makes_no_sense_as_a_part_stands_alone(pdu: DeliverSm | DataSm) -> None:
    assert place_of(pdu) is None
    assert key_of(pdu) == ""


# INB-2
def test_another_element_before_the_concatenation_does_not_hide_it() -> None:
    pdu = DeliverSm(esm_class=EsmClass.UDHI, short_message=b"\x0b\x05\x04\x0b\x84\x23\xf0\x00\x03\x07\x03\x02x")
    assert place_of(pdu) == Place("udh8", 7, 3, 2)


# INB-3
@pytest.mark.parametrize(
    "change", [{"source_addr": b"447700900124"}, {"destination_addr": b"60778"}, {"reference": 8}, {"kind": "udh16"}]
)
def test_parts_of_different_messages_share_nothing(change: dict[str, Any]) -> None:
    assert key_of(part(b"x", 1, 2)) == key_of(part(b"y", 2, 2))
    assert key_of(part(b"x", 1, 2)) != key_of(part(b"x", 1, 2, **change))
    assert key_of(part(b"x", 1, 2)) != key_of(part(b"x", 1, 3))


@st.composite
def messages(draw: st.DrawFn) -> list[tuple[str, int, list[bytes]]]:
    """Draw messages with keys of their own: kind, reference, and what each part holds."""
    keys = draw(st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 255)), max_size=4, unique=True))
    words = st.binary(min_size=1, max_size=8).map(lambda octets: bytes(one % 26 + 97 for one in octets))
    return [(*key, draw(st.lists(words, min_size=2, max_size=6))) for key in keys]


# INB-3 INB-4
@given(messages(), st.randoms(use_true_random=False), st.integers(0, 3))
def test_parts_in_any_order_mixed_and_repeated_become_their_messages(
    wanted: list[tuple[str, int, list[bytes]]], random: Any, repeats: int
) -> None:
    pdus = [
        part(octets, number, len(texts), kind=kind, reference=reference)
        for kind, reference, texts in wanted
        for number, octets in enumerate(texts, 1)
    ]
    pdus += random.sample(pdus, min(repeats, len(pdus)))
    random.shuffle(pdus)
    came = [parked(pdu) for pdu in pdus]
    groups: dict[str, list[Parked]] = {}
    for one in came:
        groups.setdefault(one.upstream_id, []).append(one)
    found = assemble([], list(groups.values()), given_up_before=-1)
    assert sorted(one.octets for one in found.messages) == sorted(b"".join(texts) for _, _, texts in wanted)
    assert all(one.parts == one.parts_got for one in found.messages)
    assert sorted(found.used) == sorted(one.inbox_id for one in came)


# INB-4
def test_parts_wait_for_others_for_a_time_from_the_newest_on() -> None:
    group = [parked(part(b"one ", 1, 4), 1_000), parked(part(b"three", 3, 4), 5_000)]
    assert assemble([], [group], given_up_before=4_999).messages == []
    [told] = assemble([], [group], given_up_before=5_000).messages
    assert (told.text, told.parts, told.parts_got, told.received_at) == (f"one {GAP}three{GAP}", 4, 2, 1_000)


# INB-4
def test_a_reference_that_is_given_again_at_once_makes_two_messages() -> None:
    came = [part(b"a", 1, 2), part(b"c", 1, 2), part(b"b", 2, 2), part(b"d", 2, 2)]
    pieces = [piece_of(encode(pdu, 1)) for pdu in came]
    first, repeats = choose(pieces)
    assert (first, repeats) == ([0, 2], [])
    rest = [pieces[at] for at in range(4) if at not in first]
    assert join([rest[at] for at in choose(rest)[0]]).text == "cd"


# INB-5
@pytest.mark.parametrize(
    ("octets", "cut", "data_coding", "text"),
    [
        ("a€b".encode("utf-16-be"), 3, 8, "a€b"),
        ("x😀y".encode("utf-16-be"), 4, 8, "x😀y"),
        (b"caf\x05 \x1be", 6, 0, "café €"),
        (b"caf\xe9", 2, 3, "café"),
        (b"\x01\xff", 1, 4, "01ff"),
        ("Ж".encode("utf-16-be"), 1, 0x18, "Ж"),
        (b"hi", 1, 0xF1, "hi"),
        (b"\x01\xff", 1, 0xF5, "01ff"),
        (b"\xd8\x00", 1, 8, "\ufffd"),
    ],
)
def test_a_character_may_be_cut_between_parts(octets: bytes, cut: int, data_coding: int, text: str) -> None:
    halves = [part(octets[:cut], 1, 2, data_coding=data_coding), part(octets[cut:], 2, 2, data_coding=data_coding)]
    assert join([piece_of(encode(half, 1)) for half in halves]).text == text
    assert read(octets, data_coding) == text


@given(st.binary(max_size=300), st.integers(0, 255), st.integers(0, 255))
def test_no_octets_whatever_can_t_be_read(octets: bytes, data_coding: int, esm_class: int) -> None:
    pdu = DeliverSm(esm_class=esm_class, data_coding=data_coding, short_message=octets[:254])
    whole = join([piece_of(encode(pdu, 1))])
    whole.text.encode()
    assert 1 <= whole.got <= whole.parts


# INB-7
@pytest.mark.parametrize(
    ("text", "keyword"),
    [
        ("STOP", "stop"),
        (" stop. ", "stop"),
        ("Stop it please", "stop"),
        ("stòp", "stop"),
        ("STOPALL", "stop"),
        ("Unsubscribe!", "stop"),
        ("quit", "stop"),
        ("Start", "start"),
        ("yes", "start"),
        ("UNSTOP", "start"),
        ("yes please", ""),
        ("cancel my order", ""),
        ("end of story", ""),
        ("don't stop", ""),
        ("stopped", ""),
        ("", ""),
        ("\0\0", ""),
        ("стоп", ""),
    ],
)
def test_a_word_asks_for_an_end_or_a_beginning(text: str, keyword: str) -> None:
    assert keyword_of(text) == Keyword(keyword)


# INB-6
@pytest.mark.parametrize(
    ("originator", "number", "is_one"),
    [
        ("60777", "447700900123", True),
        ("+27820001111", "447700900123", True),
        ("Parcels", "447700900123", False),
        ("", "447700900123", False),
        ("60777", "", False),
    ],
)
def test_only_numbers_can_be_answered(originator: str, number: str, is_one: bool) -> None:
    assert bool(conversation(originator, number)) is is_one


# INB-6
def test_a_conversation_is_known_in_any_spelling_of_its_numbers() -> None:
    assert conversation("+27820001111", "447700900123") == conversation("0820001111", "07700900123")
    assert conversation("60777", "447700900123") != conversation("60778", "447700900123")
    assert conversation("60777", "447700900123") != conversation("447700900123", "60777")
