"""Reading what a subscriber wrote, by its data_coding. Source: 3GPP TS 23.038 4; SMPP 3.4 5.2.19."""

from typing import Final

from aldis.text import gsm

GSM: Final = 0
_OCTETS: Final = (2, 4)
_UCS2: Final = 8
_CLASSES: Final = 0xF0
_CLASS_OCTETS: Final = 0x04
_GENERAL_GROUP_MAX: Final = 0x3F
_ALPHABET: Final = 0x0C


def alphabet_of(data_coding: int) -> int:
    """Return the data_coding of the plain alphabet that one with a class stands for: 0 GSM, 4 octets, 8 UCS-2.

    SMPP's own values (1 ASCII, 2 octets, 3 Latin-1, 5 to 14) stand for themselves.
    """
    if data_coding >= _CLASSES:
        return 4 if data_coding & _CLASS_OCTETS else GSM
    if 0x10 <= data_coding <= _GENERAL_GROUP_MAX:
        return data_coding & _ALPHABET
    return data_coding


def read(octets: bytes, data_coding: int) -> str:
    """Return a message's text; octets that are none as hexadecimal. Never raises."""
    alphabet = alphabet_of(data_coding)
    if alphabet == GSM:
        return gsm.decode(octets)
    if alphabet == _UCS2:
        return octets.decode("utf-16-be", "replace")
    if alphabet in _OCTETS:
        return octets.hex()
    return octets.decode("latin-1")
