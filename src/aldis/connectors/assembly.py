"""Subscribers' messages put together from the PDUs that they came in."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from aldis.smpp.commands import DataSm, DeliverSm
from aldis.smpp.concat import Place, place_of, user_data
from aldis.smpp.pdu import decode
from aldis.text.reading import read

GAP: Final = "[...]"
"""Stands in a text for parts that did not come."""


class Whole(NamedTuple):
    """A message as it was written, as far as it came."""

    text: str
    octets: bytes
    """Of all parts that came, without user data headers."""
    data_coding: int
    parts: int
    """How many there are in all."""
    got: int


class Piece(NamedTuple):
    """What one PDU has of a message."""

    place: Place
    octets: bytes
    data_coding: int


def key_of(pdu: DeliverSm | DataSm) -> str:
    """Return what the parts of a long message share, and no others; empty for a message that stands alone."""
    place = place_of(pdu)
    if place is None:
        return ""
    who = f"{pdu.source_addr.decode('latin-1')} {pdu.destination_addr.decode('latin-1')}"
    return f"{who} {place.kind} {place.reference}/{place.total}"


def piece_of(frame: bytes) -> Piece:
    """Read a PDU that was read when it came."""
    _, pdu = decode(frame)
    assert isinstance(pdu, DeliverSm | DataSm)
    return Piece(place_of(pdu) or Place("", 0, 1, 1), user_data(pdu)[1], pdu.data_coding)


def choose(pieces: Sequence[Piece]) -> tuple[list[int], list[int]]:
    """Tell the parts of one message among pieces with one key, oldest first.

    A piece with the number and the octets of an earlier one is the same again. With other octets it belongs to the next
    message, which has been given the same reference.

    Returns:
        Places of the message's parts in the sequence, in the order of the text; and of those that only repeat them.
    """
    parts: dict[int, int] = {}
    repeats: list[int] = []
    for at, piece in enumerate(pieces):
        first = parts.setdefault(piece.place.number, at)
        if first != at and pieces[first].octets == piece.octets:
            repeats.append(at)
    return [parts[number] for number in sorted(parts)], repeats


def join(pieces: Sequence[Piece]) -> Whole:
    """Put the parts of one message together, given in order; a gap stands for those that did not come.

    Octets are joined before they are read: a character may be cut in two.
    """
    data_coding, total = pieces[0].data_coding, pieces[0].place.total
    texts, run, expected = [], b"", 1
    for piece in pieces:
        if piece.place.number != expected:
            texts += [read(run, data_coding)] if run else []
            texts.append(GAP)
            run = b""
        run += piece.octets
        expected = piece.place.number + 1
    texts.append(read(run, data_coding))
    if expected <= total:
        texts.append(GAP)
    return Whole("".join(texts), b"".join(piece.octets for piece in pieces), data_coding, total, len(pieces))
