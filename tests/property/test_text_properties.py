"""What holds for every text, body and list of numbers."""

from hypothesis import example, given
from hypothesis import strategies as st

from aldis.model.types import Dca
from aldis.text import gsm, legacy, segment
from aldis.wire.msisdn import parse_msisdn, parse_msisdns

ALPHABET = gsm.DEFAULT_ALPHABET.replace("\x1b", "") + "".join(gsm.EXTENSION.values())
GSM_TEXT = st.text(st.sampled_from(ALPHABET))
# Texts around the lengths where a part closes, dense in pairs that must not be cut.
LONG_GSM = st.builds(
    lambda unit, count, tail: unit * count + tail,
    st.text("a€[é", min_size=1, max_size=9),
    st.integers(1, 160),
    GSM_TEXT,
)
LONG_UCS2 = st.builds(
    lambda unit, count, tail: unit * count + tail,
    st.text("aя😀", min_size=1, max_size=9),
    st.integers(1, 80),
    st.text(),
)
STORABLE = st.text() | LONG_GSM | LONG_UCS2
TEXT_DCA = st.sampled_from([Dca.GSM7, Dca.UCS2])


@given(GSM_TEXT)
def test_gsm_text_survives_encoding(text: str) -> None:
    assert gsm.is_gsm(text)
    assert gsm.transliterate(text) == text
    assert gsm.decode(gsm.encode(text)) == text
    assert gsm.septets(text) == len(text) + sum(char in gsm.EXTENSION.values() for char in text)


# EAPI-32
@given(st.text(st.characters(categories=None)))
def test_any_text_becomes_gsm_once_and_for_all(text: str) -> None:
    once = gsm.transliterate(text)
    assert set(once) <= set(ALPHABET)
    assert gsm.transliterate(once) == once
    assert gsm.encode(text) == gsm.encode(once)
    assert gsm.septets(text) == len(gsm.encode(text))
    assert gsm.is_gsm(text) == (set(text) <= set(ALPHABET))


@given(st.binary())
def test_any_octets_decode_to_text_that_can_be_stored(data: bytes) -> None:
    assert set(gsm.decode(data)) <= {*ALPHABET, "\ufffd"}
    body = legacy.decode_body(data)
    assert body.encode().decode() == body


@given(st.lists(st.integers(0, 127)).map(bytes), st.integers(0, 6))
def test_packed_septets_unpack(unpacked: bytes, fill_bits: int) -> None:
    packed = gsm.pack(unpacked, fill_bits)
    assert gsm.unpack(packed, len(unpacked), fill_bits) == unpacked
    assert len(packed) == (-(-(7 * len(unpacked) + fill_bits) // 8) if unpacked else 0)


@given(st.text())
def test_utf8_is_detected_and_hex_is_read_back(text: str) -> None:
    assert legacy.decode_body(text.encode()) == text
    shown = legacy.show_body(text.encode(), Dca.UCS2)
    assert legacy.decode_ucs2_hex("FEFF" + shown) == text
    assert legacy.decode_ucs2_hex("fffe" + text.encode("utf-16-le").hex()) == text


@given(st.text())
def test_hex_reading_gives_storable_text_or_a_value_error(digits: str) -> None:
    for read in (legacy.decode_ucs2_hex, legacy.decode_binary_hex):
        try:
            read(digits)
        except ValueError:
            continue
        assert len(digits) % 2 == 0
        assert set(digits) <= set("0123456789abcdefABCDEF")


@given(st.binary(min_size=2).map(lambda octets: octets[: len(octets) & ~1]))
def test_16bit_hex_never_lets_half_a_character_in(octets: bytes) -> None:
    try:
        text = legacy.decode_ucs2_hex(octets.hex())
    except ValueError:
        return
    assert text.encode().decode() == text


# EAPI-35
@given(STORABLE, TEXT_DCA, st.integers(0, 2**63))
@example("a" * 152 + "[" + "a" * 7, Dca.GSM7, 0)
@example("я" * 66 + "😀я", Dca.UCS2, 0)
def test_parts_join_to_the_whole_and_cut_no_character(text: str, dca: Dca, reference: int) -> None:
    body = text.encode()
    segments = segment.split(body, dca, reference)
    whole = gsm.encode(text) if dca is Dca.GSM7 else text.encode("utf-16-be")
    single, size = (160, 153) if dca is Dca.GSM7 else (140, 134)
    assert segment.count_parts(body, dca) == len(segments)
    assert (len(segments) == 1) == (len(whole) <= single)
    if len(segments) == 1:
        assert segments == [segment.Segment(whole, False)]
        return
    pieces = [part.octets[6:] for part in segments]
    assert b"".join(pieces) == whole
    assert [part.octets[:6] for part in segments] == [
        bytes((5, 0, 3, reference & 255, len(segments), number)) for number in range(1, len(segments) + 1)
    ]
    assert all(size - 2 <= len(piece) <= size for piece in pieces[:-1])
    assert 0 < len(pieces[-1]) <= size
    # A cut pair would not decode, or would decode to something else, piece by piece.
    if dca is Dca.GSM7:
        assert "".join(map(gsm.decode, pieces)) == gsm.transliterate(text)
        assert not any(piece.endswith(b"\x1b") for piece in pieces)
    else:
        assert "".join(piece.decode("utf-16-be") for piece in pieces) == text


def by_the_rule(entry: str) -> int | None:
    digits = "".join(char for char in entry if char in "0123456789")
    digits = digits[2:] if digits[:2] == "00" else digits
    return int(digits) if 7 <= len(digits) <= 15 and digits[0] != "0" else None


ENTRY = st.text("0012345+ -\n", max_size=20) | st.integers(0, 10**17).map(str) | st.text(max_size=12)


@given(st.lists(ENTRY | st.integers(10**6, 10**15 - 1).map(str)).map(",".join))
def test_a_list_is_read_as_its_entries_are(text: str) -> None:
    entries = [entry.strip() for entry in text.split(",") if entry.strip()]
    bad = [entry for entry in entries if by_the_rule(entry) is None]
    good = [number for entry in entries if (number := by_the_rule(entry)) is not None]
    assert [parse_msisdn(entry) for entry in entries] == [by_the_rule(entry) for entry in entries]
    assert parse_msisdns(text) == (good, bad[0] if bad else None)


@given(st.lists(st.integers(10**6, 10**15 - 1), min_size=1), st.sampled_from([",", ", ", ",+", " , +"]))
def test_a_clean_list_reads_back(numbers: list[int], separator: str) -> None:
    assert parse_msisdns(separator.join(map(str, numbers))) == (numbers, None)
