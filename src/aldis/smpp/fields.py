"""The kinds of field that an SMPP 3.4 PDU is made of: how each is written, strictly, and read, strictly or leniently.

A field's annotation is its wire format: `Octet` is one octet, `CString21` a NUL-ended string of at most 21 octets with
its NUL, and so on. Lenient reading takes strings of any length, and lets the last one end with the body.
"""

import struct
from typing import Annotated, Any, Final, NamedTuple, Protocol, TypeAlias, get_type_hints

import msgspec

from aldis.smpp.errors import CommandStatus

MAX_SHORT_MESSAGE: Final = 254
MAX_DESTINATIONS: Final = 254


class Malformed(Exception):
    """A field can't be read."""

    def __init__(self, command_status: int, message: str) -> None:
        """Keep the command_status that says what is wrong."""
        super().__init__(message)
        self.command_status = command_status


_FIELD_STATUS = {
    "service_type": CommandStatus.ESME_RINVSERTYP,
    "source_addr": CommandStatus.ESME_RINVSRCADR,
    "destination_addr": CommandStatus.ESME_RINVDSTADR,
    "dest_addresses": CommandStatus.ESME_RINVDSTADR,
    "schedule_delivery_time": CommandStatus.ESME_RINVSCHED,
    "validity_period": CommandStatus.ESME_RINVEXPIRY,
    "short_message": CommandStatus.ESME_RINVMSGLEN,
    "message_id": CommandStatus.ESME_RINVMSGID,
    "system_id": CommandStatus.ESME_RINVSYSID,
    "password": CommandStatus.ESME_RINVPASWD,
    "system_type": CommandStatus.ESME_RINVSYSTYP,
}


class _Codec(Protocol):
    """How one kind of field is written and read."""

    def write(self, name: str, value: Any) -> bytes: ...

    def read(self, name: str, body: bytes, at: int, *, lenient: bool) -> tuple[Any, int]: ...


class _Integer(NamedTuple):
    size: int

    def write(self, name: str, value: int) -> bytes:
        try:
            return value.to_bytes(self.size, "big")
        except OverflowError:
            raise ValueError(f"{name} is {value}, not an integer of {self.size} octets") from None

    def read(self, name: str, body: bytes, at: int, *, lenient: bool) -> tuple[int, int]:
        end = at + self.size
        if end > len(body):
            raise Malformed(CommandStatus.ESME_RINVCMDLEN, f"the body ends before {name}")
        return int.from_bytes(body[at:end], "big"), end


class _CString(NamedTuple):
    size: int
    """Longest, with its NUL."""

    def write(self, name: str, value: bytes) -> bytes:
        if len(value) >= self.size:
            raise ValueError(f"{name} has {len(value)} octets, at most {self.size - 1} are allowed")
        if 0 in value:
            raise ValueError(f"{name} contains a NUL")
        return value + b"\0"

    def read(self, name: str, body: bytes, at: int, *, lenient: bool) -> tuple[bytes, int]:
        end = body.find(b"\0", at)
        if lenient:
            return (body[at:], len(body)) if end < 0 else (body[at:end], end + 1)
        if end < 0:
            raise Malformed(CommandStatus.ESME_RINVCMDLEN, f"{name} has no end")
        if end - at >= self.size:
            status = _FIELD_STATUS.get(name, CommandStatus.ESME_RINVCMDLEN)
            raise Malformed(status, f"{name} has {end - at} octets, at most {self.size - 1} are allowed")
        return body[at:end], end + 1


class _ShortMessage:
    def write(self, name: str, value: bytes) -> bytes:
        if len(value) > MAX_SHORT_MESSAGE:
            raise ValueError(f"{name} has {len(value)} octets, at most {MAX_SHORT_MESSAGE} are allowed")
        return b"%c%b" % (len(value), value)

    def read(self, name: str, body: bytes, at: int, *, lenient: bool) -> tuple[bytes, int]:
        length, start = _OCTET.read("sm_length", body, at, lenient=lenient)
        end = start + length
        if end > len(body):
            raise Malformed(CommandStatus.ESME_RINVCMDLEN, f"the body ends within {name}")
        if length > MAX_SHORT_MESSAGE and not lenient:
            raise Malformed(CommandStatus.ESME_RINVMSGLEN, f"{name} has {length} octets")
        return body[start:end], end


_OCTET = _Integer(1)
Octet: TypeAlias = Annotated[int, _OCTET]
Integer32: TypeAlias = Annotated[int, _Integer(4)]
CString6: TypeAlias = Annotated[bytes, _CString(6)]
CString9: TypeAlias = Annotated[bytes, _CString(9)]
CString13: TypeAlias = Annotated[bytes, _CString(13)]
CString16: TypeAlias = Annotated[bytes, _CString(16)]
CString17: TypeAlias = Annotated[bytes, _CString(17)]
CString21: TypeAlias = Annotated[bytes, _CString(21)]
CString41: TypeAlias = Annotated[bytes, _CString(41)]
CString65: TypeAlias = Annotated[bytes, _CString(65)]
ShortMessage: TypeAlias = Annotated[bytes, _ShortMessage()]
Tlvs: TypeAlias = dict[int, bytes] | None
"""Optional parameters: raw values by tag, the first of equal tags; None where there are none."""


class SmeAddress(msgspec.Struct, frozen=True, gc=False):
    """One destination of a submit_multi."""

    dest_addr_ton: Octet
    dest_addr_npi: Octet
    destination_addr: CString21


class DistributionList(msgspec.Struct, frozen=True, gc=False):
    """A list kept by the message centre, as a destination of a submit_multi."""

    dl_name: CString21


class Unsuccess(msgspec.Struct, frozen=True, gc=False):
    """A destination that a submit_multi did not reach, and the command_status for it."""

    dest_addr_ton: Octet
    dest_addr_npi: Octet
    destination_addr: CString21
    error_status_code: Integer32


Layout: TypeAlias = tuple[tuple[str, _Codec], ...]


def layout_of(a_class: type) -> Layout:
    """Return a class's fields with their kinds, in the order of the wire."""
    hints = get_type_hints(a_class, include_extras=True)
    return tuple((name, hint.__metadata__[0]) for name, hint in hints.items() if hasattr(hint, "__metadata__"))


def write_fields(layout: Layout, value: object) -> bytes:
    """Return a struct's fields as octets.

    Raises:
        ValueError: a field that is too long, out of range, or contains a NUL.
    """
    return b"".join([kind.write(name, getattr(value, name)) for name, kind in layout])


def read_fields(layout: Layout, body: bytes, at: int = 0, *, lenient: bool = False) -> tuple[list[Any], int]:
    """Return the values of the fields that begin at an offset, and the offset behind them.

    Raises:
        Malformed: the body is too short, or, unless lenient, a string too long.
    """
    values: list[Any] = []
    for name, kind in layout:
        value, at = kind.read(name, body, at, lenient=lenient)
        values.append(value)
    return values, at


_SME_ADDRESS = layout_of(SmeAddress)
_DISTRIBUTION_LIST = layout_of(DistributionList)
_UNSUCCESS = layout_of(Unsuccess)


class _Destinations:
    def write(self, name: str, value: tuple[SmeAddress | DistributionList, ...]) -> bytes:
        if not 1 <= len(value) <= MAX_DESTINATIONS:
            raise ValueError(f"{name} has {len(value)} destinations, 1 to {MAX_DESTINATIONS} are allowed")
        return b"%c%b" % (len(value), b"".join(map(self._write_one, value)))

    @staticmethod
    def _write_one(one: SmeAddress | DistributionList) -> bytes:
        if isinstance(one, SmeAddress):
            return b"\1" + write_fields(_SME_ADDRESS, one)
        return b"\2" + write_fields(_DISTRIBUTION_LIST, one)

    def read(
        self, name: str, body: bytes, at: int, *, lenient: bool
    ) -> tuple[tuple[SmeAddress | DistributionList, ...], int]:
        count, at = _OCTET.read("number_of_dests", body, at, lenient=lenient)
        if not 1 <= count <= MAX_DESTINATIONS:
            raise Malformed(CommandStatus.ESME_RINVNUMDESTS, f"{name} has {count} destinations")
        found: list[SmeAddress | DistributionList] = []
        for _ in range(count):
            flag, at = _OCTET.read("dest_flag", body, at, lenient=lenient)
            if flag not in (1, 2):
                raise Malformed(CommandStatus.ESME_RINVDESTFLAG, f"dest_flag is {flag}")
            values, at = read_fields(_SME_ADDRESS if flag == 1 else _DISTRIBUTION_LIST, body, at, lenient=lenient)
            found.append(SmeAddress(*values) if flag == 1 else DistributionList(*values))
        return tuple(found), at


class _Unsuccesses:
    def write(self, name: str, value: tuple[Unsuccess, ...]) -> bytes:
        if len(value) > MAX_DESTINATIONS:
            raise ValueError(f"{name} has {len(value)} destinations, at most {MAX_DESTINATIONS} are allowed")
        return b"%c%b" % (len(value), b"".join([write_fields(_UNSUCCESS, one) for one in value]))

    def read(self, name: str, body: bytes, at: int, *, lenient: bool) -> tuple[tuple[Unsuccess, ...], int]:
        count, at = _OCTET.read("no_unsuccess", body, at, lenient=lenient)
        found: list[Unsuccess] = []
        for _ in range(count):
            values, at = read_fields(_UNSUCCESS, body, at, lenient=lenient)
            found.append(Unsuccess(*values))
        return tuple(found), at


Destinations: TypeAlias = Annotated[tuple[SmeAddress | DistributionList, ...], _Destinations()]
Unsuccesses: TypeAlias = Annotated[tuple[Unsuccess, ...], _Unsuccesses()]

_pack_tag = struct.Struct(">HH").pack
_unpack_tag = struct.Struct(">HH").unpack_from


def write_tlvs(tlvs: dict[int, bytes]) -> bytes:
    """Return optional parameters as octets.

    Raises:
        ValueError: a tag or a value's length is above 65,535.
    """
    try:
        return b"".join([_pack_tag(tag, len(value)) + value for tag, value in tlvs.items()])
    except struct.error:
        raise ValueError("a TLV has a tag or a length above 65,535") from None


def read_tlvs(body: bytes, at: int) -> tuple[Tlvs, bool]:
    """Return the optional parameters from an offset to the end, and whether octets are left behind the last one."""
    tlvs: dict[int, bytes] = {}
    size = len(body)
    while at + 4 <= size:
        tag, length = _unpack_tag(body, at)
        end = at + 4 + length
        if end > size:
            break
        tlvs.setdefault(tag, body[at + 4 : end])
        at = end
    return tlvs or None, at != size
