"""Cutting bodies into parts."""

import pytest

from aldis.model.types import Dca
from aldis.text.segment import Segment, TextTooLong, concat_reference, count_parts, data_coding, split


def user_data(segments: list[Segment]) -> list[bytes]:
    return [segment.octets[6:] for segment in segments]


# EAPI-35
@pytest.mark.parametrize(
    ("text", "dca", "sizes"),
    [
        ("", Dca.GSM7, [0]),
        ("a" * 160, Dca.GSM7, [160]),
        ("a" * 161, Dca.GSM7, [153, 8]),
        ("a" * 306, Dca.GSM7, [153, 153]),
        ("a" * 307, Dca.GSM7, [153, 153, 1]),
        ("é" * 160, Dca.GSM7, [160]),
        ("€" * 80, Dca.GSM7, [160]),
        ("€" * 81, Dca.GSM7, [152, 10]),
        ("a" * 159 + "[", Dca.GSM7, [153, 8]),
        ("a" * 152 + "[" + "a" * 152, Dca.GSM7, [152, 153, 1]),
        ("a" * 151 + "[" + "a" * 152, Dca.GSM7, [153, 152]),
        ("…" * 54, Dca.GSM7, [153, 9]),
        ("", Dca.UCS2, [0]),
        ("я" * 70, Dca.UCS2, [140]),
        ("я" * 71, Dca.UCS2, [134, 8]),
        ("a" * 71, Dca.UCS2, [134, 8]),
        ("😀" * 35, Dca.UCS2, [140]),
        ("😀" * 36, Dca.UCS2, [132, 12]),
        ("я" * 66 + "😀" + "я" * 66, Dca.UCS2, [132, 134, 2]),
        ("я" * 65 + "😀" + "я" * 66, Dca.UCS2, [134, 132]),
    ],
)
def test_parts_are_as_long_as_the_field_allows(text: str, dca: Dca, sizes: list[int]) -> None:
    segments = split(text.encode(), dca, 0)
    headers = 0 if len(sizes) == 1 else 6
    assert [len(segment.octets) - headers for segment in segments] == sizes
    assert count_parts(text.encode(), dca) == len(sizes)


def test_one_part_has_no_header() -> None:
    assert split(b"Hi [x]", Dca.GSM7, 7) == [Segment(b"Hi \x1b<x\x1b>", False)]
    assert split("né".encode(), Dca.UCS2, 7) == [Segment(b"\x00n\x00\xe9", False)]


# EAPI-35
def test_each_of_several_parts_begins_with_the_concatenation_header() -> None:
    segments = split(b"a" * 400, Dca.GSM7, 0x1A7)
    assert [segment.octets[:6].hex() for segment in segments] == [f"050003a703{n:02x}" for n in (1, 2, 3)]
    assert all(segment.udhi for segment in segments)
    assert b"".join(user_data(segments)) == b"a" * 400


def test_a_part_closes_early_before_an_escape_pair() -> None:
    first, second = user_data(split(b"a" * 152 + b"[" + b"b" * 20, Dca.GSM7, 1))
    assert first == b"a" * 152
    assert second == b"\x1b<" + b"b" * 20


def test_a_part_closes_early_before_a_surrogate_pair() -> None:
    first, second = user_data(split(("я" * 66 + "😀" + "я" * 9).encode(), Dca.UCS2, 1))
    assert first.decode("utf-16-be") == "я" * 66
    assert second.decode("utf-16-be") == "😀" + "я" * 9


# EAPI-34
def test_a_binary_body_is_one_part_with_its_own_header() -> None:
    body = b"\x06\x05\x04\x23\xf4\x00\x00" + bytes(133)
    assert split(body, Dca.BINARY, 9) == [Segment(body, True)]
    assert count_parts(body, Dca.BINARY) == 1


@pytest.mark.parametrize("measure", [lambda *args: split(*args, 0), count_parts], ids=["split", "count_parts"])
@pytest.mark.parametrize(
    ("body", "dca"),
    [
        (b"a" * (255 * 153 + 1), Dca.GSM7),
        (b"[" * (255 * 76 + 1), Dca.GSM7),
        (b"a" * (255 * 67 + 1), Dca.UCS2),
        (("я" + "😀" * (255 * 33)).encode() + b"aa", Dca.UCS2),
        (bytes(141), Dca.BINARY),
    ],
    ids=["gsm", "gsm-pairs", "ucs2", "ucs2-pairs", "binary"],
)
def test_a_body_beyond_the_last_part_is_too_long(measure, body: bytes, dca: Dca) -> None:
    with pytest.raises(TextTooLong):
        measure(body, dca)


def test_the_longest_bodies_fill_255_parts() -> None:
    assert count_parts(b"a" * (255 * 153), Dca.GSM7) == 255
    assert count_parts(b"[" * (255 * 76), Dca.GSM7) == 255
    assert split(b"a" * (255 * 67), Dca.UCS2, 0)[-1].octets[:6] == b"\x05\x00\x03\x00\xff\xff"


# EAPI-37
@pytest.mark.parametrize(
    ("msg_class", "expected"),
    [(0, (0x10, 0x14, 0x18)), (1, (0x11, 0x15, 0x19)), (2, (0x00, 0x04, 0x08)), (3, (0x13, 0x17, 0x1B))],
)
def test_the_class_rides_in_data_coding(msg_class: int, expected: tuple[int, int, int]) -> None:
    assert tuple(data_coding(dca, msg_class) for dca in (Dca.GSM7, Dca.BINARY, Dca.UCS2)) == expected


@pytest.mark.parametrize("step", [1, 1 << 22, 1000 << 22], ids=["same-ms", "next-ms", "next-second"])
def test_ids_close_together_get_different_references(step: int) -> None:
    first = 1_700_000_000_000 << 22
    references = [concat_reference(first + n * step) for n in range(64)]
    assert all(0 <= reference <= 255 for reference in references)
    assert len(set(references)) >= 48
