"""The legacy API's message parameter in all its encodings."""

import pytest

from aldis.model.types import Dca
from aldis.text import gsm
from aldis.text.legacy import decode_binary_hex, decode_body, decode_ucs2_hex, show_body

ALLOWED_LATIN1 = bytes.fromhex(
    "A1 A3 A4 A5 A7 BF C4 C5 C6 C7 C9 D1 D6 D8 DC DF E0 E4 E5 E6 E8 E9 EC F1 F2 F6 F8 F9 FC".replace(" ", "")
)
GREEK = {
    "Δ": 0xD0,
    "Φ": 0xDE,
    "Γ": 0xAC,
    "Λ": 0xC2,
    "Ω": 0xDB,
    "Π": 0xBA,
    "Ψ": 0xDD,
    "Σ": 0xCA,
    "Θ": 0xD4,
    "Ξ": 0xB1,
}
EXTENSION = {
    "^": 0x14,
    "{": 0x28,
    "}": 0x29,
    "\\": 0x2F,
    "[": 0x3C,
    "~": 0x3D,
    "]": 0x3E,
    "|": 0x40,
    "€": 0x65,
}


@pytest.mark.parametrize("byte", ALLOWED_LATIN1, ids=[f"{byte:02X}" for byte in ALLOWED_LATIN1])
def test_an_allowed_latin1_byte_is_itself_and_gsm(byte: int) -> None:
    text = decode_body(bytes([byte]))
    assert text == chr(byte)
    assert gsm.septets(text) == 1


# EAPI-31
@pytest.mark.parametrize(("char", "byte"), GREEK.items(), ids=GREEK)
def test_a_greek_capital_sits_on_a_spare_byte(char: str, byte: int) -> None:
    assert decode_body(b"x" + bytes([byte]) + b"y") == f"x{char}y"


# EAPI-31
@pytest.mark.parametrize(("char", "code"), EXTENSION.items(), ids=EXTENSION)
def test_bb_and_a_code_is_an_extension_character(char: str, code: int) -> None:
    text = decode_body(b"x" + bytes([0xBB, code]) + b"y")
    assert text == f"x{char}y"
    assert gsm.septets(text) == 4


def test_raw_ascii_brackets_are_the_same_characters() -> None:
    assert decode_body(b"[]{}\\^~|") == "[]{}\\^~|"


# EAPI-30
@pytest.mark.parametrize(
    ("raw", "options", "expected"),
    [
        (b"plain", {}, "plain"),
        ("5 € é".encode(), {}, "5 € é"),
        (b"caf\xe9", {}, "café"),
        (b"caf\xe9 \xe2\x82\xac", {}, "café â\x82Γ"),
        (b"\xbb<\xbb>", {}, "[]"),
        (b"\xabok\xbb ", {}, "«ok» "),
        (b"\xbb\n", {}, "»\n"),
        ("é".encode(), {"strict_latin1": True}, "Ã©"),
        (b"\xbb\x65", {"strict_latin1": True}, "€"),
        ("é".encode(), {"charset": "ISO-8859-1"}, "Ã©"),
        (b"\xbb\x65", {"charset": "latin1"}, "€"),
        ("é".encode(), {"charset": "UTF-8", "strict_latin1": True}, "é"),
        ("é".encode(), {"charset": ' "utf-8"'}, "é"),
        (b"\xbb\x65 \xe9", {"charset": "utf-8"}, "€ é"),
        (b"\x80\x92", {"charset": "windows-1252"}, "€’"),
        (b"\x81", {"charset": "windows-1252"}, "\ufffd"),
        (b"\xa4", {"charset": "iso-8859-15"}, "€"),
        ("я".encode("koi8-r"), {"charset": "KOI8-R"}, "я"),
        ("é".encode(), {"charset": "no-such-thing"}, "é"),
        (b"\xe9", {"charset": "zlib"}, "é"),
        ("é".encode(), {"charset": "bogus", "strict_latin1": True}, "Ã©"),
        ("é".encode(), {"charset": ""}, "é"),
        (b"\xed\xa0\x80", {}, "í\xa0\x80"),
        (b"", {}, ""),
    ],
    ids=[
        "ascii",
        "utf-8",
        "latin-1",
        "partly-utf-8",
        "escape-is-never-utf-8",
        "guillemet-before-no-code",
        "no-page-break",
        "strict",
        "strict-keeps-escape",
        "charset-latin-1",
        "charset-latin-1-keeps-escape",
        "charset-wins-over-strict",
        "charset-quoted",
        "charset-utf-8-by-mistake",
        "charset-1252",
        "charset-1252-hole",
        "charset-8859-15",
        "charset-koi8",
        "charset-unknown",
        "charset-no-text-codec",
        "charset-unknown-strict",
        "charset-empty",
        "utf-8-surrogate",
        "empty",
    ],
)
def test_the_charset_is_declared_or_detected(raw: bytes, options: dict, expected: str) -> None:
    assert decode_body(raw, **options) == expected


@pytest.mark.parametrize(
    "charset",
    ["utf-8", "iso-8859-1", "iso-8859-2", "iso-8859-11", "iso-8859-16", "windows-1250", "windows-1258", "koi8-u"],
)
def test_every_byte_decodes_under_every_charset(charset: str) -> None:
    text = decode_body(bytes(range(256)), charset=charset)
    assert len(text) >= 250
    assert text.encode()


# EAPI-33
@pytest.mark.parametrize(
    ("digits", "expected"),
    [
        ("004200430044", "BCD"),
        ("0600060106020603060C", "\u0600\u0601\u0602\u0603\u060c"),
        ("feff00e9", "é"),
        ("FFFEE900AC20", "é€"),
        ("D83DDE00", "😀"),
        ("0041FEFF", "A\ufeff"),
        ("", ""),
        ("FEFF", ""),
    ],
    ids=["faq", "arabic", "bom", "little-endian", "surrogate-pair", "bom-not-in-front", "empty", "only-bom"],
)
def test_16bit_hex_is_utf_16(digits: str, expected: str) -> None:
    assert decode_ucs2_hex(digits) == expected


# EAPI-33
@pytest.mark.parametrize(
    "digits",
    ["004", "00", "004100", "00 41", "0041\n", "004G", "０041", "D83D", "DE00D83D", "FFFE3DD8", "0x41"],
    ids=ascii,
)
def test_16bit_hex_that_is_no_utf_16_is_refused(digits: str) -> None:
    with pytest.raises(ValueError, match=r"^the message is not "):
        decode_ucs2_hex(digits)


# EAPI-34
@pytest.mark.parametrize("digits", ["06050423F40000414243", "0605040b8423f0DC0601AE", "00", "0141"])
def test_8bit_hex_is_octets_with_a_header(digits: str) -> None:
    assert decode_binary_hex(digits) == bytes.fromhex(digits)


# EAPI-34
@pytest.mark.parametrize("digits", ["", "01", "0605040B8423", "060504", "FF00", "5", "0g", "00 00", "é0"], ids=ascii)
def test_8bit_hex_without_a_whole_header_is_refused(digits: str) -> None:
    with pytest.raises(ValueError, match=r"^the message "):
        decode_binary_hex(digits)


# EAPI-55
@pytest.mark.parametrize(
    ("body", "dca", "expected"),
    [
        ("5 €|\n".encode(), Dca.GSM7, "5 €|\n"),
        (b"\x00\xab", Dca.BINARY, "00AB"),
        ("é😀".encode(), Dca.UCS2, "00E9D83DDE00"),
    ],
    ids=["7bit", "8bit", "16bit"],
)
def test_a_body_is_shown_in_the_form_it_is_submitted(body: bytes, dca: Dca, expected: str) -> None:
    assert show_body(body, dca) == expected
