"""The SMPP 3.4 codec: `encode`, `decode`, and the cutting of a byte stream into frames.

The PDUs that make up the traffic (submit_sm, deliver_sm, their responses) are coded by hand, all others from their
classes' annotations. Addresses and texts are bytes, as they are on the wire.

Encoding is strict. Decoding is strict for what an ESME asks, and lenient for what a message centre says, since a
receipt is worth more than its broken last TLV.
"""

import re
import struct
from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple, get_args

from aldis.smpp.commands import (
    RESPONSE,
    AlertNotification,
    BindReceiver,
    BindReceiverResp,
    BindRequest,
    BindResponse,
    BindTransceiver,
    BindTransceiverResp,
    BindTransmitter,
    BindTransmitterResp,
    CancelSm,
    CancelSmResp,
    Command,
    DataSm,
    DataSmResp,
    DeliverSm,
    DeliverSmResp,
    EnquireLink,
    EnquireLinkResp,
    EsmClass,
    GenericNack,
    Outbind,
    Pdu,
    QuerySm,
    QuerySmResp,
    Raw,
    RegisteredDelivery,
    ReplaceSm,
    ReplaceSmResp,
    SubmitMulti,
    SubmitMultiResp,
    SubmitSm,
    SubmitSmResp,
    Tlv,
    Unbind,
    UnbindResp,
)
from aldis.smpp.errors import CommandStatus
from aldis.smpp.fields import (
    MAX_SHORT_MESSAGE,
    DistributionList,
    Malformed,
    SmeAddress,
    Unsuccess,
    layout_of,
    read_fields,
    read_tlvs,
    write_fields,
    write_tlvs,
)

__all__ = [
    "DEFAULT_MAX_LENGTH",
    "HEADER_LENGTH",
    "MAX_SHORT_MESSAGE",
    "RESPONSE",
    "AlertNotification",
    "BindReceiver",
    "BindReceiverResp",
    "BindRequest",
    "BindResponse",
    "BindTransceiver",
    "BindTransceiverResp",
    "BindTransmitter",
    "BindTransmitterResp",
    "CancelSm",
    "CancelSmResp",
    "Command",
    "DataSm",
    "DataSmResp",
    "DeliverSm",
    "DeliverSmResp",
    "DistributionList",
    "EnquireLink",
    "EnquireLinkResp",
    "EsmClass",
    "FrameError",
    "Framer",
    "GenericNack",
    "Header",
    "Outbind",
    "Pdu",
    "PduError",
    "QuerySm",
    "QuerySmResp",
    "Raw",
    "RegisteredDelivery",
    "ReplaceSm",
    "ReplaceSmResp",
    "SmeAddress",
    "SubmitMulti",
    "SubmitMultiResp",
    "SubmitSm",
    "SubmitSmResp",
    "Tlv",
    "Unbind",
    "UnbindResp",
    "Unsuccess",
    "decode",
    "encode",
    "response_to",
]

HEADER_LENGTH: Final = 16
DEFAULT_MAX_LENGTH: Final = 65_536 + HEADER_LENGTH


class Header(NamedTuple):
    """The four integers that begin each PDU."""

    command_length: int
    command_id: int
    command_status: int
    sequence: int


class FrameError(ValueError):
    """The stream can't be cut into PDUs any more: the connection has to end."""

    def __init__(self, message: str, frames: list[bytes] | None = None) -> None:
        """Keep the whole frames that came before the bad length in the same bytes."""
        super().__init__(message)
        self.frames = frames or []


class PduError(ValueError):
    """The body of one PDU is malformed; the stream behind it is fine."""

    def __init__(self, command_status: int, header: Header, message: str) -> None:
        """Keep the command_status to answer with, and the header of the PDU to answer."""
        super().__init__(message)
        self.command_status = command_status
        self.header = header


_pack_header = struct.Struct(">IIII").pack
_unpack_header = struct.Struct(">IIII").unpack_from
_unpack_length = struct.Struct(">I").unpack_from
_new_tuple = tuple.__new__

_CLASSES: Final[dict[int, type[Any]]] = {a_class.command_id: a_class for a_class in get_args(Pdu) if a_class is not Raw}
_LAYOUTS: Final = {a_class: layout_of(a_class) for a_class in _CLASSES.values()}
_HAVE_TLVS: Final = frozenset(a_class for a_class in _CLASSES.values() if "tlvs" in a_class.__struct_fields__)
_LENIENT: Final = frozenset(
    a_class for a_class in _CLASSES.values() if a_class.command_id & RESPONSE or a_class in (DeliverSm, DataSm)
)
_EMPTY_RESPONSES: Final = {a_class: a_class() for a_class in _CLASSES.values() if a_class.command_id & RESPONSE}


def response_to(command_id: int) -> Pdu:
    """Return the empty response to a request; generic_nack where the command is unknown or has no response."""
    response: Pdu = _CLASSES.get(command_id | RESPONSE, GenericNack)()
    return response


def encode(pdu: Pdu, sequence: int, status: int = 0) -> bytes:
    """Return a PDU as it goes on the wire.

    A response that refuses (status not 0) and says nothing else has no body, as SMPP 3.4 wants it.

    Args:
        pdu: What to send.
        sequence: sequence_number, 0 to 0xFFFFFFFF.
        status: command_status; 0 in requests.

    Raises:
        ValueError: a field that is too long, out of range, or a string with a NUL. Nothing was made.
    """
    body = _WRITERS[type(pdu)](pdu)
    if status and pdu == _EMPTY_RESPONSES.get(type(pdu)):
        body = b""
    try:
        return _pack_header(len(body) + HEADER_LENGTH, pdu.command_id, status, sequence) + body
    except struct.error:
        raise ValueError(f"status {status} or sequence {sequence} is not an integer of 4 octets") from None


def _write_by_table(pdu: Any) -> bytes:
    a_class = type(pdu)
    body = write_fields(_LAYOUTS[a_class], pdu)
    return body + write_tlvs(pdu.tlvs) if a_class in _HAVE_TLVS and pdu.tlvs else body


def _write_nothing(_pdu: Pdu) -> bytes:
    return b""


def _write_raw(pdu: Raw) -> bytes:
    return pdu.body


_SM_FORMAT: Final = b"%b\0%c%c%b\0%c%c%b\0%c%c%c%b\0%b\0%c%c%c%c%c%b"


def _write_sm(pdu: SubmitSm | DeliverSm) -> bytes:
    source, destination, text = pdu.source_addr, pdu.destination_addr, pdu.short_message
    rare = pdu.service_type, pdu.schedule_delivery_time, pdu.validity_period
    if (
        len(source) > 20
        or len(destination) > 20
        or len(text) > MAX_SHORT_MESSAGE
        or 0 in source
        or 0 in destination
        or (rare != _NOTHING_RARE and not _is_rare_valid(*rare))
    ):
        return _write_by_table(pdu)  # which raises, and names the field
    try:
        body = _SM_FORMAT % (
            rare[0],
            pdu.source_addr_ton,
            pdu.source_addr_npi,
            source,
            pdu.dest_addr_ton,
            pdu.dest_addr_npi,
            destination,
            pdu.esm_class,
            pdu.protocol_id,
            pdu.priority_flag,
            rare[1],
            rare[2],
            pdu.registered_delivery,
            pdu.replace_if_present_flag,
            pdu.data_coding,
            pdu.sm_default_msg_id,
            len(text),
            text,
        )
    except OverflowError:
        return _write_by_table(pdu)
    return body + write_tlvs(pdu.tlvs) if pdu.tlvs else body


_NOTHING_RARE: Final = (b"", b"", b"")


def _is_rare_valid(service_type: bytes, schedule: bytes, validity: bytes) -> bool:
    if len(service_type) > 5 or len(schedule) > 16 or len(validity) > 16:
        return False
    return not (0 in service_type or 0 in schedule or 0 in validity)


def _write_message_id(pdu: SubmitSmResp | DeliverSmResp | DataSmResp) -> bytes:
    message_id = pdu.message_id
    if len(message_id) > 64 or 0 in message_id or pdu.tlvs:
        return _write_by_table(pdu)
    return message_id + b"\0"


_WRITERS: Final[dict[type[Any], Callable[[Any], bytes]]] = {
    **{a_class: _write_by_table if layout else _write_nothing for a_class, layout in _LAYOUTS.items()},
    SubmitSm: _write_sm,
    DeliverSm: _write_sm,
    SubmitSmResp: _write_message_id,
    DeliverSmResp: _write_message_id,
    DataSmResp: _write_message_id,
    Raw: _write_raw,
}


def decode(frame: bytes | memoryview) -> tuple[Header, Pdu]:
    """Return the header and the PDU in one whole frame.

    Args:
        frame: As `Framer.feed` returns it.

    Raises:
        PduError: the body is malformed; answer with its command_status and go on.
        FrameError: not one whole frame.
    """
    if type(frame) is not bytes:
        frame = bytes(frame)
    if len(frame) < HEADER_LENGTH:
        raise FrameError(f"{len(frame)} octets are no PDU")
    header = _new_tuple(Header, _unpack_header(frame))
    length, command_id, status, _ = header
    if length != len(frame):
        raise FrameError(f"command_length is {length}, the frame has {len(frame)} octets")
    reader = _READERS.get(command_id)
    if reader is None:
        return header, Raw(command_id, frame[HEADER_LENGTH:])
    try:
        return header, reader(frame)
    except Malformed as error:
        if status and command_id & RESPONSE:
            return header, _CLASSES[command_id]()  # what a refusal says besides its status is of no use
        raise PduError(error.command_status, header, f"{_CLASSES[command_id].__name__}: {error}") from None


def _read_by_table(a_class: type[Any], frame: bytes) -> Pdu:
    lenient = a_class in _LENIENT
    if len(frame) == HEADER_LENGTH and a_class in _EMPTY_RESPONSES:
        return a_class()  # type: ignore[no-any-return]
    values, at = read_fields(_LAYOUTS[a_class], frame, HEADER_LENGTH, lenient=lenient)
    if a_class in _HAVE_TLVS:
        tlvs, cut = read_tlvs(frame, at)
        if lenient:
            return a_class(*values, tlvs, cut)  # type: ignore[no-any-return]
        if cut:
            raise Malformed(CommandStatus.ESME_RINVOPTPARSTREAM, "the last TLV is cut")
        return a_class(*values, tlvs)  # type: ignore[no-any-return]
    if at != len(frame) and not lenient:
        raise Malformed(CommandStatus.ESME_RINVCMDLEN, f"{len(frame) - at} octets follow the last field")
    return a_class(*values)  # type: ignore[no-any-return]


_match_submit = re.compile(
    rb"([^\0]{0,5}+)\0(..)([^\0]{0,20}+)\0(..)([^\0]{0,20}+)\0(...)([^\0]{0,16}+)\0([^\0]{0,16}+)\0(.....)", re.DOTALL
).match
_match_deliver = re.compile(
    rb"([^\0]*+)\0(..)([^\0]*+)\0(..)([^\0]*+)\0(...)([^\0]*+)\0([^\0]*+)\0(.....)", re.DOTALL
).match


def _read_sm(a_class: type[SubmitSm] | type[DeliverSm], match_fields: Any, frame: bytes) -> Pdu:
    match = match_fields(frame, HEADER_LENGTH)
    if match is None:
        return _read_by_table(a_class, frame)  # which raises, and names the field
    service_type, source_type, source, dest_type, destination, classes, schedule, validity, last = match.groups()
    source_ton, source_npi = source_type
    dest_ton, dest_npi = dest_type
    esm_class, protocol_id, priority = classes
    registered, replace, coding, default_id, length = last
    start = match.end()
    end = start + length
    size = len(frame)
    if end > size or length > MAX_SHORT_MESSAGE:
        return _read_by_table(a_class, frame)
    pdu = a_class(
        service_type,
        source_ton,
        source_npi,
        source,
        dest_ton,
        dest_npi,
        destination,
        esm_class,
        protocol_id,
        priority,
        schedule,
        validity,
        registered,
        replace,
        coding,
        default_id,
        frame[start:end],
    )
    if end != size:
        pdu.tlvs, cut = read_tlvs(frame, end)
        if cut:
            _note_cut(pdu)
    return pdu


def _note_cut(pdu: SubmitSm | DeliverSm) -> None:
    if isinstance(pdu, SubmitSm):
        raise Malformed(CommandStatus.ESME_RINVOPTPARSTREAM, "the last TLV is cut")
    pdu.cut_tlv = True


def _read_message_id(a_class: type[SubmitSmResp | DeliverSmResp | DataSmResp], frame: bytes) -> Pdu:
    end = frame.find(b"\0", HEADER_LENGTH)
    if end == len(frame) - 1:
        return a_class(frame[HEADER_LENGTH:end])
    if end < 0:
        return a_class(frame[HEADER_LENGTH:], None, len(frame) > HEADER_LENGTH)
    return a_class(frame[HEADER_LENGTH:end], *read_tlvs(frame, end + 1))


_READERS: Final[dict[int, Callable[[bytes], Pdu]]] = {
    **{command_id: partial(_read_by_table, a_class) for command_id, a_class in _CLASSES.items()},
    Command.SUBMIT_SM: partial(_read_sm, SubmitSm, _match_submit),
    Command.DELIVER_SM: partial(_read_sm, DeliverSm, _match_deliver),
    Command.SUBMIT_SM_RESP: partial(_read_message_id, SubmitSmResp),
    Command.DELIVER_SM_RESP: partial(_read_message_id, DeliverSmResp),
    Command.DATA_SM_RESP: partial(_read_message_id, DataSmResp),
}


class Framer:
    """Cuts a byte stream into frames, in time linear in its length."""

    def __init__(self, max_length: int = DEFAULT_MAX_LENGTH) -> None:
        """Take the longest command_length to accept."""
        self._max_length = max_length
        self._rest = bytearray()
        self._needed = 4
        """How many octets `_rest` must have before it tells anything new."""

    def feed(self, data: bytes) -> list[bytes]:
        """Return the frames that are whole now; what is behind them is kept.

        Raises:
            FrameError: a command_length below 16 or above the longest; its `frames` are those that came before, and
                every later call raises too.
        """
        rest = self._rest
        if rest:
            rest += data
            if len(rest) < self._needed:
                return []
            data = bytes(rest)
            rest.clear()
        return self._cut(data)

    def _cut(self, data: bytes) -> list[bytes]:
        frames: list[bytes] = []
        shortest, longest, unpack = HEADER_LENGTH, self._max_length, _unpack_length
        start, size, self._needed = 0, len(data), 4
        last = size - 4
        while start <= last:
            (length,) = unpack(data, start)
            if not shortest <= length <= longest:
                self._rest += data[start : start + 4]
                raise FrameError(f"command_length is {length}, not {shortest} to {longest}", frames)
            end = start + length
            if end > size:
                self._needed = length
                break
            frames.append(data[start:end])
            start = end
        if start < size:
            self._rest += data[start:]
        return frames
