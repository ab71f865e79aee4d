"""What a session tells: how its requests ended, what the peer sent, what became of the connection."""

from typing import Any, TypeAlias

import msgspec

from aldis.smpp.commands import BindRequest, BindResponse, Pdu


class Bound(msgspec.Struct, frozen=True):
    """The session is bound; `pdu` is the message centre's answer."""

    pdu: BindResponse | None


class BindRefused(msgspec.Struct, frozen=True):
    """The message centre said no; `Ended` follows."""

    status: int


class BindRequested(msgspec.Struct, frozen=True):
    """An ESME wants to bind; nothing else is looked at before `answer_bind`."""

    sequence: int
    pdu: BindRequest


class Accepted(msgspec.Struct, frozen=True):
    """A request was answered with ESME_ROK."""

    token: Any
    message_id: bytes
    """The upstream's id as it spells it; empty where the answer has none."""
    pdu: Pdu | None
    """The response; None if its body could not be read."""


class Refused(msgspec.Struct, frozen=True):
    """A request was answered with an error."""

    token: Any
    status: int


class Unknown(msgspec.Struct, frozen=True):
    """A request left and was not answered: it may have been taken."""

    token: Any
    reason: str


class NotSent(msgspec.Struct, frozen=True):
    """A request that never left."""

    token: Any
    reason: str


class LateResponse(msgspec.Struct, frozen=True):
    """The answer to a request that was reported Unknown before, because it took too long."""

    token: Any
    status: int
    message_id: bytes


class Incoming(msgspec.Struct, frozen=True):
    """A message from the peer, not answered yet."""

    sequence: int
    pdu: Pdu
    frame: bytes
    """The whole PDU as it came."""


class BadPdu(msgspec.Struct, frozen=True):
    """The peer sent something that can't be read or is out of place; it was answered if it asked for an answer."""

    status: int
    reason: str


class Ended(msgspec.Struct, frozen=True):
    """The session is over: write what is in the buffer, then close the connection."""

    reason: str
    clean: bool
    """Whether it ended by unbind."""


Event: TypeAlias = (
    Bound
    | BindRefused
    | BindRequested
    | Accepted
    | Refused
    | Unknown
    | NotSent
    | LateResponse
    | Incoming
    | BadPdu
    | Ended
)

End: TypeAlias = Accepted | Refused | Unknown | NotSent
"""The ends of a request."""
