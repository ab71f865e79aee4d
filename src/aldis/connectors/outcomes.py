"""What the simulator does to whom: the last four digits of the MSISDN choose a script.

`00SS` makes a message end in the customer's status SS. `01NN` plays one of the troubles that networks make.
Every other number is delivered.
"""

from enum import Enum

import msgspec

from aldis.model.status import Status
from aldis.smpp.errors import CommandStatus


class Answer(Enum):
    """What becomes of a submit_sm that is not refused."""

    ACCEPT = "accept"
    SWALLOW = "swallow"
    """Taken, and never answered."""
    CUT = "cut"
    """Taken, and the connection is cut in place of an answer: the first time; accepted after that."""


class Step(msgspec.Struct, frozen=True):
    """One receipt."""

    state: str
    error: str = "000"
    intermediate: bool = False
    is_data_sm: bool = False
    """Whether it comes by data_sm."""
    is_forged: bool = False
    """Whether it names an id that was never given."""


class Script(msgspec.Struct, frozen=True, kw_only=True):
    """What the simulator does with a message."""

    shows: Status
    """The status that the customer sees in the end."""
    what: str
    """In words, for the documentation."""
    answer: Answer = Answer.ACCEPT
    refusal: int = 0
    """command_status of the submit_sm_resp; 0 for none."""
    refusals: int = 0
    """How many submits in a row to a number are refused before one is not; 0: all, where there is a refusal."""
    slow: bool = False
    """The submit_sm_resp takes the simulator's `slow_response_ms`."""
    receipts: tuple[Step, ...] = ()
    copies: int = 1
    """How often each receipt is sent."""
    receipt_first: bool = False
    """The receipt overtakes the submit_sm_resp."""
    late: bool = False
    """Receipts wait the simulator's `late_delay_ms`, not its `receipt_delay_ms`."""
    asked: Step | None = None
    """What query_sm tells though no receipt does."""
    reply: tuple[str, ...] = ()
    """The parts of what the subscriber answers, ASCII; the last comes first."""


DELIVERED = Script(shows=Status.DELIVERED, what="accepted, then a receipt DELIVRD", receipts=(Step("DELIVRD"),))
"""The script of every number that has no other."""


def _final(status: Status, state: str) -> Script:
    error = f"{status:03d}"
    what = f"accepted, then a final receipt {state} err:{error}"
    return Script(shows=status, what=what, receipts=(Step(state, error),))


def _transient(status: Status) -> Script:
    error = f"{status:03d}"
    what = f"accepted, then an intermediate receipt ENROUTE err:{error}, and no final one"
    return Script(shows=status, what=what, receipts=(Step("ENROUTE", error, intermediate=True),))


_ENROUTE = Step("ENROUTE", intermediate=True)
_REJECTED = (
    Status.INTERNAL_ERROR,
    Status.AUTHENTICATION_FAILURE,
    Status.DATA_INVALID,
    Status.NO_CREDITS,
    Status.UPSTREAM_NO_CREDITS,
    Status.QUOTA_EXCEEDED,
    Status.UPSTREAM_QUOTA_EXCEEDED,
    Status.UNROUTABLE,
    Status.BLOCKED,
    Status.CENSORED,
    Status.REMOTELY_BLOCKED,
    Status.REMOTELY_CENSORED,
)
_UNDELIVERED = (
    Status.FAILED,
    Status.FAILED_PHONE,
    Status.FAILED_NETWORK,
    Status.FAILED_REMOTE_NETWORK,
    Status.HANDSET_FAULT,
)
_TRANSIENT = (
    Status.TEMPORARILY_UNAVAILABLE,
    Status.UPSTREAM_TRANSIENT,
    Status.UPSTREAM_UPDATE,
    Status.UPSTREAM_CANCEL_FAILED,
    Status.RETRY_QUEUED_HANDSET,
)

_BY_STATUS = {
    Status.DELIVERED_UPSTREAM: Script(
        shows=Status.DELIVERED_UPSTREAM, what="accepted, then only a receipt ACCEPTD", receipts=(Step("ACCEPTD"),)
    ),
    Status.DELIVERED: DELIVERED,
    Status.UPSTREAM_UNACKNOWLEDGED: Script(
        shows=Status.UPSTREAM_UNACKNOWLEDGED,
        what="taken, but no submit_sm_resp and no receipt ever comes",
        answer=Answer.SWALLOW,
    ),
    **{status: _final(status, "REJECTD") for status in _REJECTED},
    **{status: _final(status, "UNDELIV") for status in _UNDELIVERED},
    Status.CANCELLED: _final(Status.CANCELLED, "DELETED"),
    Status.EXPIRED: _final(Status.EXPIRED, "EXPIRED"),
    Status.UNKNOWN_UPSTREAM: _final(Status.UNKNOWN_UPSTREAM, "UNKNOWN"),
    **{status: _transient(status) for status in _TRANSIENT},
    Status.RETRY_QUEUED: Script(
        shows=Status.RETRY_QUEUED,
        what="refused twice with ESME_RX_T_APPN (63 meanwhile), accepted the third time, then delivered",
        refusal=CommandStatus.ESME_RX_T_APPN,
        refusals=2,
        receipts=DELIVERED.receipts,
    ),
}

_TROUBLES = {
    "0101": Script(shows=Status.DELIVERED_UPSTREAM, what="accepted; no receipt ever comes"),
    "0102": Script(
        shows=Status.DELIVERED, what="accepted; the receipt comes late", receipts=DELIVERED.receipts, late=True
    ),
    "0103": Script(
        shows=Status.DELIVERED, what="accepted; the receipt comes three times", receipts=DELIVERED.receipts, copies=3
    ),
    "0104": Script(
        shows=Status.DELIVERED,
        what="the receipt comes before the submit_sm_resp",
        receipts=DELIVERED.receipts,
        receipt_first=True,
    ),
    "0105": Script(
        shows=Status.DELIVERED,
        what="refused once with ESME_RTHROTTLED, then accepted and delivered",
        refusal=CommandStatus.ESME_RTHROTTLED,
        refusals=1,
        receipts=DELIVERED.receipts,
    ),
    "0106": Script(
        shows=Status.DELIVERED,
        what="taken, but the line is cut in place of the answer (12 meanwhile); the receipt comes after the next bind",
        answer=Answer.CUT,
        receipts=DELIVERED.receipts,
    ),
    "0107": Script(
        shows=Status.DELIVERED,
        what="accepted; receipts ENROUTE, ACCEPTD, DELIVRD",
        receipts=(_ENROUTE, Step("ACCEPTD"), Step("DELIVRD")),
    ),
    "0108": Script(
        shows=Status.DELIVERED,
        what="accepted; receipts out of order: DELIVRD, then ENROUTE",
        receipts=(Step("DELIVRD"), _ENROUTE),
    ),
    "0109": Script(
        shows=Status.UNROUTABLE,
        what="refused for good with ESME_RINVDSTADR",
        refusal=CommandStatus.ESME_RINVDSTADR,
    ),
    "0110": Script(
        shows=Status.DELIVERED,
        what="the submit_sm_resp takes two seconds",
        slow=True,
        receipts=DELIVERED.receipts,
    ),
    "0111": Script(
        shows=Status.DELIVERED_UPSTREAM,
        what="accepted; no receipt ever comes, but query_sm is answered DELIVRD",
        asked=Step("DELIVRD"),
    ),
    "0120": Script(
        shows=Status.DELIVERED,
        what="delivered, and the subscriber answers STOP",
        receipts=DELIVERED.receipts,
        reply=("STOP",),
    ),
    "0121": Script(
        shows=Status.DELIVERED,
        what="delivered, and the subscriber answers in three parts, of which the last comes first",
        receipts=DELIVERED.receipts,
        reply=("Thank you ", "very much ", "indeed"),
    ),
}

OUTCOMES: dict[str, Script] = {f"00{status:02d}": script for status, script in _BY_STATUS.items()} | _TROUBLES
"""The last four digits of an MSISDN, and what becomes of a message to it."""
