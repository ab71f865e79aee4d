"""How one long message is cut over several PDUs: concatenation by the user data header, and by SAR TLVs.

Source: 3GPP TS 23.040 9.2.3.24.1 and .8; SMPP 3.4 5.3.2.22 to .24.
"""

from typing import Final, NamedTuple

from aldis.smpp.commands import DataSm, DeliverSm, EsmClass, Tlv

_REFERENCE_8: Final = 0x00
_REFERENCE_16: Final = 0x08
_LENGTHS: Final = {_REFERENCE_8: 3, _REFERENCE_16: 4}
_SAR: Final = (Tlv.SAR_MSG_REF_NUM, Tlv.SAR_TOTAL_SEGMENTS, Tlv.SAR_SEGMENT_SEQNUM)


class Place(NamedTuple):
    """Which part of which long message a PDU has."""

    kind: str
    """How it is said: `udh8`, `udh16` or `sar`. References of one kind say nothing of another's."""
    reference: int
    total: int
    number: int
    """From 1."""


def user_data(pdu: DeliverSm | DataSm) -> tuple[bytes, bytes]:
    """Return the user data header, without its length octet, and what follows it.

    A header that claims to be longer than there are octets is none: all of it is text then.
    """
    octets = pdu.short_message if isinstance(pdu, DeliverSm) else b""
    if not octets and pdu.tlvs:
        octets = pdu.tlvs.get(Tlv.MESSAGE_PAYLOAD, b"")
    if not pdu.esm_class & EsmClass.UDHI or not octets or octets[0] >= len(octets):
        return b"", octets
    end = octets[0] + 1
    return octets[1:end], octets[end:]


def place_of(pdu: DeliverSm | DataSm) -> Place | None:
    """Return the place in a long message; None for what stands alone, or whose numbers make no sense."""
    place = _from_header(user_data(pdu)[0]) or _from_tlvs(pdu.tlvs or {})
    return place if place and 1 <= place.number <= place.total and place.total > 1 else None


def _from_header(header: bytes) -> Place | None:
    at = 0
    while at + 2 <= len(header):
        element, length = header[at], header[at + 1]
        value = header[at + 2 : at + 2 + length]
        if _LENGTHS.get(element) == length == len(value):
            kind = "udh8" if element == _REFERENCE_8 else "udh16"
            return Place(kind, int.from_bytes(value[:-2], "big"), value[-2], value[-1])
        at += 2 + length
    return None


def _from_tlvs(tlvs: dict[int, bytes]) -> Place | None:
    values = [tlvs.get(tag, b"") for tag in _SAR]
    if not all(values):
        return None
    return Place("sar", *(int.from_bytes(value[:2], "big") for value in values))
