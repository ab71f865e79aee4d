"""What the legacy HTTP API makes of a message parameter: bytes of some charset, or hex."""

import binascii
import codecs
import re

from aldis.model.types import Dca
from aldis.text.gsm import EXTENSION

_GREEK = {
    0xD0: "Δ",
    0xDE: "Φ",
    0xAC: "Γ",
    0xC2: "Λ",
    0xDB: "Ω",
    0xBA: "Π",
    0xDD: "Ψ",
    0xCA: "Σ",
    0xD4: "Θ",
    0xB1: "Ξ",
}
_LEGACY_LATIN1 = "".join(_GREEK.get(byte, chr(byte)) for byte in range(256))

_ESCAPE = "\xbb"
_EXTENSION_BY_CODE = {chr(code): char for code, char in EXTENSION.items() if char != "\f"}
_ESCAPED = re.compile(f"{_ESCAPE}([{re.escape(''.join(_EXTENSION_BY_CODE))}])")

_UTF8_NAMES = frozenset(("utf-8", "utf8"))
_LATIN1_NAMES = frozenset(("iso-8859-1", "iso8859-1", "iso_8859-1", "latin-1", "latin1", "l1"))
# Names are looked up here and not by `codecs`, which would let a request import modules and fill a cache.
_OTHER_CHARSETS = frozenset(
    [f"iso-8859-{number}" for number in range(2, 17) if number != 12]
    + [f"windows-{number}" for number in range(1250, 1259)]
    + ["koi8-r", "koi8-u", "latin9", "cp1252"]
)


def decode_body(raw: bytes, *, charset: str | None = None, strict_latin1: bool = False) -> str:
    """Decode the bytes of a 7-bit message; never fails.

    Without a charset the bytes are UTF-8 if all of them are valid UTF-8, else the legacy form of ISO-8859-1: 0xBB and a
    code of the GSM extension table are that character, and the Greek capitals sit on spare bytes. A body that is
    declared UTF-8 and is not is read so too, because HTTP libraries declare it unasked.

    Args:
        raw: The parameter's value, percent-decoded.
        charset: From the request's content type; wins over everything, except that an unknown one counts as none.
        strict_latin1: Without a charset, take ISO-8859-1 whatever the bytes look like.
    """
    if raw.isascii():
        return raw.decode("ascii")
    name = charset.strip(" \"'").lower() if charset else ""
    if name in _OTHER_CHARSETS:
        return raw.decode(name, "replace")
    if name in _LATIN1_NAMES or (strict_latin1 and name not in _UTF8_NAMES):
        return _decode_latin1(raw)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return _decode_latin1(raw)


def _decode_latin1(raw: bytes) -> str:
    """Decode ISO-8859-1 with the legacy API's own use of its spare bytes."""
    text = codecs.charmap_decode(raw, "strict", _LEGACY_LATIN1)[0]
    return _ESCAPED.sub(_extension_char, text) if _ESCAPE in text else text


def _extension_char(escaped: re.Match[str]) -> str:
    """Return the character for 0xBB and a code."""
    return _EXTENSION_BY_CODE[escaped[1]]


def decode_ucs2_hex(text: str) -> str:
    """Decode the hex of a 16-bit message: four digits a UTF-16 unit, big-endian unless it begins with FFFE.

    A byte order mark in front is dropped.

    Raises:
        ValueError: Not hex, half a unit, or half a surrogate pair.
    """
    octets = _unhex(text)
    if octets[:2] == codecs.BOM_UTF16_LE:
        encoding, octets = "utf-16-le", octets[2:]
    else:
        encoding, octets = "utf-16-be", octets.removeprefix(codecs.BOM_UTF16_BE)
    try:
        return octets.decode(encoding)
    except UnicodeDecodeError:
        raise ValueError("the message is not whole UTF-16 characters of four hex digits a unit") from None


def decode_binary_hex(text: str) -> bytes:
    """Decode the hex of an 8-bit message, which begins with its user data header.

    Raises:
        ValueError: Not hex, or the header's length octet is missing or points beyond the end.
    """
    octets = _unhex(text)
    if not octets or octets[0] >= len(octets):
        raise ValueError("the message does not begin with a whole user data header")
    return octets


def _unhex(text: str) -> bytes:
    """Return the octets of a hex string without anything between the digits."""
    try:
        return binascii.unhexlify(text)
    except ValueError:
        raise ValueError("the message is not pairs of hex digits") from None


def show_body(body: bytes, dca: Dca) -> str:
    """Return a stored body as get_report and get_inbox show it: text, or the upper-case hex of what is sent.

    Args:
        body: As in `Submission.body`.
        dca: Its coding.
    """
    if dca is Dca.BINARY:
        return body.hex().upper()
    text = body.decode()
    return text if dca is Dca.GSM7 else text.encode("utf-16-be").hex().upper()
