"""The GSM 7-bit default alphabet of 3GPP TS 23.038 (GSM 03.38) with its extension table."""

import codecs
import re
import unicodedata

ESC = 0x1B
"""The septet that leads into the extension table."""

DEFAULT_ALPHABET = (
    "@£$¥èéùìòÇ\nØø\rÅå"
    "Δ_ΦΓΛΩΠΨΣΘΞ\x1bÆæßÉ"
    " !\"#¤%&'()*+,-./"
    "0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNO"
    "PQRSTUVWXYZÄÖÑÜ§"
    "¿abcdefghijklmno"
    "pqrstuvwxyzäöñüà"
)
"""The character of each septet; at ESC stands U+001B, which is not a character of the alphabet."""

EXTENSION = {
    0x0A: "\f",
    0x14: "^",
    0x28: "{",
    0x29: "}",
    0x2F: "\\",
    0x3C: "[",
    0x3D: "~",
    0x3E: "]",
    0x40: "|",
    0x65: "€",
}
"""The character of each septet behind ESC; form feed is the page break."""

_OUTSIDE = 0xFF
_SINGLE = {ord(char): septet for septet, char in enumerate(DEFAULT_ALPHABET) if septet != ESC}
_PAIRS = {ord(char): bytes((ESC, septet)) for septet, char in EXTENSION.items()}
_ENCODING: dict[int, int | bytes] = {**_SINGLE, **_PAIRS}
_CHARACTERS = frozenset(map(chr, _ENCODING))

# Latin-1 and ASCII bytes that are one septet each become it; all others become 0xFF, so that `isascii` tells.
_LATIN1_TO_SEPTET = bytes(_SINGLE.get(code, _OUTSIDE) for code in range(256))
_ASCII_TO_SEPTET = _LATIN1_TO_SEPTET[:128] + bytes((_OUTSIDE,)) * 128

# For decoding, an extension character stands at its code with bit 8 set, which no septet has.
_DECODING = DEFAULT_ALPHABET + "".join(EXTENSION.get(code, "\ufffd") for code in range(128))
_DEFINED = bytes(range(128)) + bytes((_OUTSIDE,)) * 128
_ESCAPED = re.compile(rb"\x1b(.?)", re.DOTALL)
_BEHIND_ESCAPE = {b"": b" ", b"\x1b": b" ", **{bytes((code,)): bytes((code | 0x80,)) for code in EXTENSION}}

_CLOSE_EQUIVALENTS = {
    **dict.fromkeys("`´‘’‚‛′‹›ʹʻʼˈ", "'"),
    **dict.fromkeys("¨“”„‟″«»ˮ〝〞", '"'),
    **dict.fromkeys("‐‑‒–—―⁃−¯", "-"),
    **dict.fromkeys("•‣∗●▪", "*"),
    **dict.fromkeys("·‧∙⋅", "."),
    **dict.fromkeys("⁄∕÷", "/"),
    **dict.fromkeys("\x85\u2028\u2029\v", "\n"),
    **dict.fromkeys("đð", "d"),
    **dict.fromkeys("ĐÐ", "D"),
    **dict(zip("ΑΒΕΖΗΙΚΜΝΟΡΤΥΧ", "ABEZHIKMNOPTYX", strict=True)),
    **dict(zip("ıłŁħĦŧŦƒµ×¢¸ˆ˜∼¦∶ẞ₤", "ilLhHtTfuxc,^~~|:ß£", strict=True)),
    "\t": " ",
    "œ": "oe",
    "Œ": "OE",
    "þ": "th",
    "Þ": "Th",
    "©": "(c)",
    "®": "(r)",
    "…": "...",
}


class _Transliterator(dict[int, str]):
    """A table for `str.translate` that works out what it lacks."""

    _MOST = 4096

    def __missing__(self, code: int) -> str:
        """Return the equivalent of a code point, and keep it while there is room."""
        equivalent = _equivalent(chr(code))
        if len(self) < self._MOST:
            self[code] = equivalent
        return equivalent


def _equivalent(char: str) -> str:
    """Return what stands for a character: by the table, then by its compatibility decomposition, else `?`."""
    if (known := _known(char)) is not None:
        return known
    pieces = [_known(piece) for piece in unicodedata.normalize("NFKD", char)]
    return "?" if None in pieces else "".join(filter(None, pieces))


def _known(char: str) -> str | None:
    """Return what stands for a character that needs no decomposition, or None."""
    if char in _CHARACTERS:
        return char
    if (close := _CLOSE_EQUIVALENTS.get(char)) is not None:
        return close
    if unicodedata.category(char) in {"Mn", "Me", "Cf"}:
        return ""
    capital = char.upper() if "α" <= char <= "ω" else char
    return capital if capital in _CHARACTERS else _CLOSE_EQUIVALENTS.get(capital)


_TRANSLITERATION = _Transliterator()


def is_plain(data: bytes) -> bool:
    """Tell whether every byte is an ASCII character of the default table: one byte, one septet."""
    return data.translate(_ASCII_TO_SEPTET).isascii()


def is_gsm(text: str) -> bool:
    """Tell whether every character is in the default or the extension table."""
    return (text.isascii() and is_plain(text.encode())) or _CHARACTERS.issuperset(text)


def transliterate(text: str) -> str:
    """Return a text of GSM characters only; never fails.

    A character outside becomes a close equivalent (curly quotes, dashes, the base letter under an accent, Greek letters
    as capitals) or `?`; combining marks and invisible format characters that nothing else can hold are dropped.
    """
    if is_gsm(text):
        return text
    return unicodedata.normalize("NFC", text).translate(_TRANSLITERATION)


def septets(text: str) -> int:
    """Return how many septets a text takes, extension characters counting two: the length of `encode(text)`."""
    return len(encode(text))


def encode(text: str) -> bytes:
    """Encode a text, one septet to an octet, transliterating what is outside the alphabet; never fails.

    Returns:
        Octets 0x00 to 0x7F; each extension character is ESC and its code.
    """
    try:
        plain = text.encode("latin-1").translate(_LATIN1_TO_SEPTET)
    except UnicodeEncodeError:
        return _encode_any(text)
    return plain if plain.isascii() else _encode_any(text)


def _encode_any(text: str) -> bytes:
    """Encode a text that is not one Latin-1 byte to one septet."""
    return codecs.charmap_encode(transliterate(text), "strict", _ENCODING)[0]


def decode(data: bytes) -> str:
    """Decode septets that stand one to an octet; never fails.

    An unknown code behind ESC is read in the default table, as 23.038 asks; an ESC that leads nowhere, or to another
    ESC, is a space; an octet above 0x7F is U+FFFD.
    """
    clean = data.translate(_DEFINED)
    if ESC in clean:
        clean = _ESCAPED.sub(_behind_escape, clean)
    return codecs.charmap_decode(clean, "strict", _DECODING)[0]


def _behind_escape(escaped: re.Match[bytes]) -> bytes:
    """Return the index in the decoding table for ESC and the octet behind it."""
    return _BEHIND_ESCAPE.get(escaped[1], escaped[1])


_BITS = [f"{septet:07b}" for septet in range(128)]


def pack(unpacked: bytes, fill_bits: int = 0) -> bytes:
    """Pack septets eight to seven octets, lowest bits first.

    Args:
        unpacked: Septets, one to an octet, 0x00 to 0x7F.
        fill_bits: Zero bits in front, 0 to 6, that bring the first septet to a boundary behind a user data header.

    Returns:
        The octets; the spare bits of the last are zero, so only the septet count tells a last `@` from padding.

    Raises:
        ValueError: An octet is above 0x7F.
    """
    if not unpacked:
        return b""
    if not unpacked.isascii():
        raise ValueError("a septet is above 0x7F")
    value = int("".join([_BITS[septet] for septet in reversed(unpacked)]), 2) << fill_bits
    return value.to_bytes((7 * len(unpacked) + fill_bits + 7) // 8, "little")


def unpack(packed: bytes, count: int | None = None, fill_bits: int = 0) -> bytes:
    """Unpack septets, one to an octet: the inverse of `pack`.

    Args:
        packed: Packed octets.
        count: How many septets to read; None: as many whole ones as there are.
        fill_bits: Bits to skip in front, 0 to 6.

    Raises:
        ValueError: There are fewer septets than `count`.
    """
    whole = max(8 * len(packed) - fill_bits, 0) // 7
    wanted = whole if count is None else count
    if wanted > whole:
        raise ValueError(f"{wanted} septets do not fit into {len(packed)} octets")
    bits = f"{int.from_bytes(packed, 'little') >> fill_bits:0{7 * whole}b}"
    last = len(bits)
    return bytes([int(bits[last - 7 * n - 7 : last - 7 * n], 2) for n in range(wanted)])
