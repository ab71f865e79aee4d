"""The GSM alphabet against the table of 3GPP TS 23.038, row by row."""

import pytest

from aldis.text import gsm

# Code points in the order of the codes, sixteen a line; 001B is the escape.
DEFAULT_ROWS = """
0040 00A3 0024 00A5 00E8 00E9 00F9 00EC 00F2 00C7 000A 00D8 00F8 000D 00C5 00E5
0394 005F 03A6 0393 039B 03A9 03A0 03A8 03A3 0398 039E 001B 00C6 00E6 00DF 00C9
0020 0021 0022 0023 00A4 0025 0026 0027 0028 0029 002A 002B 002C 002D 002E 002F
0030 0031 0032 0033 0034 0035 0036 0037 0038 0039 003A 003B 003C 003D 003E 003F
00A1 0041 0042 0043 0044 0045 0046 0047 0048 0049 004A 004B 004C 004D 004E 004F
0050 0051 0052 0053 0054 0055 0056 0057 0058 0059 005A 00C4 00D6 00D1 00DC 00A7
00BF 0061 0062 0063 0064 0065 0066 0067 0068 0069 006A 006B 006C 006D 006E 006F
0070 0071 0072 0073 0074 0075 0076 0077 0078 0079 007A 00E4 00F6 00F1 00FC 00E0
"""
EXTENSION_TABLE = [
    (0x0A, 0x0C),
    (0x14, 0x5E),
    (0x28, 0x7B),
    (0x29, 0x7D),
    (0x2F, 0x5C),
    (0x3C, 0x5B),
    (0x3D, 0x7E),
    (0x3E, 0x5D),
    (0x40, 0x7C),
    (0x65, 0x20AC),
]
SINGLES = [(code, chr(int(point, 16))) for code, point in enumerate(DEFAULT_ROWS.split()) if point != "001B"]


@pytest.mark.parametrize(("code", "char"), SINGLES, ids=[f"{code:02X}" for code, _ in SINGLES])
def test_a_default_character_is_one_septet_both_ways(code: int, char: str) -> None:
    assert gsm.encode(char) == bytes([code])
    assert gsm.decode(bytes([code])) == char
    assert gsm.septets(char) == 1
    assert gsm.is_gsm(char)


# EAPI-32
@pytest.mark.parametrize(("code", "point"), EXTENSION_TABLE, ids=[f"{code:02X}" for code, _ in EXTENSION_TABLE])
def test_an_extension_character_is_an_escape_pair_both_ways(code: int, point: int) -> None:
    assert gsm.encode(chr(point)) == bytes([0x1B, code])
    assert gsm.decode(bytes([0x1B, code])) == chr(point)
    assert gsm.septets(chr(point)) == 2
    assert gsm.is_gsm(chr(point))


def test_the_alphabet_holds_nothing_else() -> None:
    alphabet = {char for _, char in SINGLES} | {chr(point) for _, point in EXTENSION_TABLE}
    assert len(alphabet) == 137
    assert {chr(code) for code in range(0x3000) if gsm.is_gsm(chr(code))} == alphabet


@pytest.mark.parametrize("char", ["`", "\x1b", "\x00", "\t", "ç", "’", "я", "😀", "\ud800"], ids=ascii)
def test_a_character_outside_is_not_gsm(char: str) -> None:
    assert not gsm.is_gsm(char)
    assert not gsm.is_gsm(f"text {char} text")


def test_only_ascii_of_the_default_table_is_plain() -> None:
    plain = {bytes([byte]) for byte in range(256) if gsm.is_plain(bytes([byte]))}
    assert plain == {char.encode() for _, char in SINGLES if char.isascii()}


def test_a_mixed_text_encodes_in_order() -> None:
    assert gsm.encode("a[é]€Ω") == b"a\x1b\x3c\x05\x1b\x3e\x1b\x65\x15"
    assert gsm.septets("a[é]€Ω") == 9


# EAPI-32
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain £5 Ωé [x]", "plain £5 Ωé [x]"),
        ("‘it’s’ “so” „low‟", '\'it\'s\' "so" "low"'),
        ("a–b—c‑d−e", "a-b-c-d-e"),
        ("wait…", "wait..."),
        ("`", "'"),
        ("naïve façade Łódź Ěščř", "naive facade Lodz Escr"),
        ("e\u0301 n\u0303 g\u0303", "é ñ g"),
        ("œuf Þór đak", "oeuf Thor dak"),
        ("Ά ς άλφα", "A Σ AΛΦA"),
        ("ﬁ ² ½ ™", "fi 2 1/2 TM"),
        ("a\xa0b\tc\u2003d", "a b c d"),
        ("zero\u200bwidth\ufeff so\xadft", "zerowidth soft"),
        ("5µg", "5ug"),
        ("да", "??"),
        ("❤\ufe0f 👍🏽", "? ??"),
        ("㍿", "?"),
        ("\x1b\x00\ud800", "???"),
        ("", ""),
    ],
    ids=ascii,
)
def test_transliteration_finds_the_close_equivalent(text: str, expected: str) -> None:
    assert gsm.transliterate(text) == expected


# EAPI-32
def test_encoding_transliterates_what_is_outside() -> None:
    assert gsm.encode("“€”…") == b'"\x1b\x65"...'
    assert gsm.septets("“€”…") == 7


def test_transliteration_keeps_a_bounded_memory() -> None:
    gsm.transliterate("".join(map(chr, range(0x4E00, 0x4E00 + 6000))))
    assert gsm.transliterate("\u5fff\u9fa5’") == "??'"
    assert len(gsm._TRANSLITERATION) <= 4096


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"a\x1bzb", "azb"),
        (b"\x1b\x0d", "\r"),
        (b"end\x1b", "end "),
        (b"\x1b\x1b", " "),
        (b"\x1b\x1b\x65", " e"),
        (b"\x1b\x1b\x1b\x65", " €"),
        (b"\xe5\xff", "\ufffd\ufffd"),
        (b"\x1b\xe5", "\ufffd"),
        (b"", ""),
    ],
    ids=["unknown", "control", "at-the-end", "twice", "twice-then-text", "thrice", "bit-8", "escaped-bit-8", "empty"],
)
def test_decoding_tolerates_a_broken_escape(data: bytes, expected: str) -> None:
    assert gsm.decode(data) == expected


@pytest.mark.parametrize(
    ("unpacked", "fill_bits", "packed"),
    [
        (b"hellohello", 0, "E8329BFD4697D9EC37"),
        (b"", 0, ""),
        (b"\x7f", 0, "7F"),
        (b"\x7f", 1, "FE"),
        (b"\x7f", 2, "FC01"),
        (b"\x00\x00", 0, "0000"),
        (bytes(8), 0, "00" * 7),
    ],
    ids=["hello", "empty", "one", "fill-1", "fill-2", "zeros", "eight"],
)
def test_packing_puts_the_lowest_bits_first(unpacked: bytes, fill_bits: int, packed: str) -> None:
    assert gsm.pack(unpacked, fill_bits) == bytes.fromhex(packed)
    assert gsm.unpack(bytes.fromhex(packed), len(unpacked), fill_bits) == unpacked


def test_unpacking_without_a_count_reads_all_whole_septets() -> None:
    assert gsm.unpack(bytes(7)) == bytes(8)
    assert gsm.unpack(bytes(7), fill_bits=1) == bytes(7)


def test_packing_refuses_an_octet_above_a_septet() -> None:
    with pytest.raises(ValueError, match="0x7F"):
        gsm.pack(b"\x80")


def test_unpacking_refuses_more_septets_than_there_are() -> None:
    with pytest.raises(ValueError, match="9 septets"):
        gsm.unpack(bytes(7), 9)
