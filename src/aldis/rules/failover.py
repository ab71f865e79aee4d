"""Which of a route's connectors takes a message: while one is down, and after one refused it."""

from collections.abc import Sequence
from enum import Enum
from typing import Final, NamedTuple

QUEUE_SEPARATOR: Final = ">"


def queue_of(connectors: Sequence[str]) -> str:
    """Return the name of the queue of messages that go by these connectors, in order of preference."""
    return QUEUE_SEPARATOR.join(connectors)


def connectors_of(queue: str) -> tuple[str, ...]:
    """Return the connectors of a queue, in order of preference."""
    return tuple(queue.split(QUEUE_SEPARATOR))


class Blame(Enum):
    """What a refusal is about, for whoever has another connector."""

    MESSAGE = "message"
    """The message itself: nobody else would take it either, or nobody knows."""
    UPSTREAM = "upstream"
    """This upstream, our account there or our bind: another may take it."""
    PACE = "pace"
    """The pace: the same upstream takes it later."""


_UPSTREAM: Final[dict[int, str]] = {
    0x03: "ESME_RINVCMDID",
    0x04: "ESME_RINVBNDSTS",
    0x05: "ESME_RALYBND",
    0x08: "ESME_RSYSERR",
    0x0D: "ESME_RBINDFAIL",
    0x0E: "ESME_RINVPASWD",
    0x0F: "ESME_RINVSYSID",
    0x15: "ESME_RINVSERTYP",
    0x45: "ESME_RSUBMITFAIL",
    0x53: "ESME_RINVSYSTYP",
    0x64: "ESME_RX_T_APPN",
    0x65: "ESME_RX_P_APPN",
    0x66: "ESME_RX_R_APPN",
    0xFE: "ESME_RDELIVERYFAILURE",
    0xFF: "ESME_RUNKNOWNERR",
    0x100: "ESME_RSERTYPUNAUTH",
    0x101: "ESME_RPROHIBITED",
    0x102: "ESME_RSERTYPUNAVAIL",
}
_PACE: Final[dict[int, str]] = {0x14: "ESME_RMSGQFUL", 0x58: "ESME_RTHROTTLED"}


def blame(command_status: int) -> Blame:
    """Return what a refusal is about; a status that is in no table, such as a vendor's, is about the message."""
    if command_status in _PACE:
        return Blame.PACE
    return Blame.UPSTREAM if command_status in _UPSTREAM else Blame.MESSAGE


class Way(NamedTuple):
    """A connector as the choice sees it."""

    is_bound: bool
    down_s: float
    """For how long it has not been bound."""


def choose(ways: Sequence[Way], patience_s: float) -> int | None:
    """Return which of a route's connectors takes its messages now; None: they wait.

    The first that is bound, once each one before it has been down for longer than `patience_s`.
    """
    for at, way in enumerate(ways):
        if way.is_bound:
            return at
        if way.down_s <= patience_s:
            return None
    return None
