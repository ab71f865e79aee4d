"""Cut a body into the parts that go upstream, one submit_sm each."""

from collections.abc import Callable

import msgspec

from aldis.model.types import Dca
from aldis.text import gsm

SINGLE_SEPTETS, PART_SEPTETS = 160, 153
SINGLE_OCTETS, PART_OCTETS = 140, 134
MAX_PARTS = 255
"""What the one octet for the total can say."""

_CODING_BITS = {Dca.GSM7: 0x00, Dca.BINARY: 0x04, Dca.UCS2: 0x08}
_CLASS_GIVEN = 0x10
_NORMAL_CLASS = 2


class TextTooLong(ValueError):
    """The body needs more parts than a message can have."""


class Segment(msgspec.Struct, frozen=True, gc=False):
    """One part as it goes upstream."""

    octets: bytes
    """The short message, user data header first where `udhi`; GSM text is one septet to an octet."""
    udhi: bool
    """Whether a user data header is in front: the UDHI bit of esm_class."""


def data_coding(dca: Dca, msg_class: int) -> int:
    """Return SMPP's data_coding for a body.

    Args:
        dca: The coding.
        msg_class: 0 flash, 1, or 3 go upstream as message classes; 2 is the normal message, which names none.
    """
    bits = _CODING_BITS[dca]
    return bits if msg_class == _NORMAL_CLASS else bits | _CLASS_GIVEN | msg_class


def concat_reference(message_id: int) -> int:
    """Return a concatenation reference, 0 to 255, that is the same at each try of a message.

    The ids of one node are mostly multiples of a large power of two, so their low bits would not do.
    """
    return (message_id * 0x9E3779B97F4A7C15 >> 56) & 0xFF


def count_parts(body: bytes, dca: Dca) -> int:
    """Return how many parts a body takes: the length of `split`, without splitting.

    Args:
        body: As in `Submission.body`.
        dca: Its coding.

    Raises:
        TextTooLong: More than 255 parts, or a binary body of more than 140 octets.
    """
    if dca is Dca.GSM7 and len(body) <= SINGLE_SEPTETS and gsm.is_plain(body):
        return 1
    return len(_cut(body, dca))


def split(body: bytes, dca: Dca, reference: int) -> list[Segment]:
    """Cut a body into parts, none of which ends inside an escape pair or a surrogate pair.

    A body in one part gets no header; in several, each part begins with a concatenation header of six octets. A binary
    body is always one part that brings its own header.

    Args:
        body: As in `Submission.body`; text outside the GSM alphabet is transliterated for GSM7.
        dca: Its coding.
        reference: The concatenation reference that the parts share; its low 8 bits count.

    Raises:
        TextTooLong: More than 255 parts, or a binary body of more than 140 octets.
    """
    pieces = _cut(body, dca)
    total = len(pieces)
    if total == 1:
        return [Segment(pieces[0], dca is Dca.BINARY)]
    head = bytes((5, 0, 3, reference & 0xFF, total))
    return [Segment(b"%b%c%b" % (head, part_no, piece), True) for part_no, piece in enumerate(pieces, 1)]


def _cut(body: bytes, dca: Dca) -> list[bytes]:
    """Return the user data of each part, without concatenation headers."""
    if dca is Dca.GSM7:
        return _cut_units(gsm.encode(body.decode()), SINGLE_SEPTETS, PART_SEPTETS, _septets_of_escape)
    if dca is Dca.UCS2:
        return _cut_units(body.decode().encode("utf-16-be"), SINGLE_OCTETS, PART_OCTETS, _octets_of_surrogate)
    if len(body) > SINGLE_OCTETS:
        raise TextTooLong(f"{len(body)} octets of a binary message are more than {SINGLE_OCTETS}")
    return [body]


def _cut_units(octets: bytes, single: int, size: int, overhang: Callable[[bytes], int]) -> list[bytes]:
    """Cut octets into pieces of at most `size`, giving to the next piece what overhangs at the end of one."""
    if len(octets) <= single:
        return [octets]
    pieces = []
    start = 0
    while start < len(octets):
        piece = octets[start : start + size]
        if start + size < len(octets) and (over := overhang(piece)):
            piece = piece[:-over]
        pieces.append(piece)
        start += len(piece)
    if len(pieces) > MAX_PARTS:
        raise TextTooLong(f"the message needs more than {MAX_PARTS} parts")
    return pieces


def _septets_of_escape(piece: bytes) -> int:
    """Return 1 where a piece ends in an escape whose code is in the next."""
    return piece[-1] == gsm.ESC


def _octets_of_surrogate(piece: bytes) -> int:
    """Return 2 where a piece ends in a high surrogate whose low one is in the next."""
    return 2 if 0xD8 <= piece[-2] <= 0xDB else 0
