"""How a message's status moves: one table, and the few functions that read it.

Everything that can be learnt about a part speaks for one status. A part's standing is the strongest word heard so
far, by the table's `rank`; so it does not matter in which order, or how often, the same news arrives. A message's
standing follows from its parts' standings alone.
"""

from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from itertools import pairwise
from typing import NamedTuple

from aldis.model.status import Phase, Status


class Refund(Enum):
    """Whether a message that ends here gives its price back."""

    NO = "no"
    IF_UNSENT = "if no part was taken upstream"
    YES = "yes"


class Row(NamedTuple):
    """What one status code is and does."""

    phase: Phase
    final: bool
    refund: Refund
    announced: bool
    """Whether reaching it owes the customer a push."""
    rank: int
    """How much it outweighs what was known: the higher stays."""
    meaning: str
    led_by: str
    """The news that leads to it."""


_M, _D, _F = Phase.MOVING, Phase.DELIVERED, Phase.FAILED

TABLE: Mapping[Status, Row] = {
    Status.IN_PROGRESS: Row(_M, False, Refund.NO, False, 0, "In progress", "the submission was accepted"),
    Status.RETRY_QUEUED: Row(
        _M, False, Refund.NO, False, 6, "Queued for retry after a temporary failure", "a temporary refusal upstream"
    ),
    Status.UPSTREAM_UNACKNOWLEDGED: Row(
        _M, False, Refund.NO, False, 8, "Delivered upstream, unacknowledged", "sent, and no answer came"
    ),
    Status.DELIVERED_UPSTREAM: Row(
        _M, False, Refund.NO, False, 10, "Delivered upstream", "the upstream's answer, or a receipt ACCEPTD"
    ),
    Status.TEMPORARILY_UNAVAILABLE: Row(
        _M, False, Refund.NO, False, 12, "Temporarily unavailable", "an intermediate receipt whose error maps here"
    ),
    Status.UPSTREAM_TRANSIENT: Row(
        _M, False, Refund.NO, False, 13, "Transient upstream failure", "an intermediate receipt whose error maps here"
    ),
    Status.UPSTREAM_UPDATE: Row(
        _M, False, Refund.NO, False, 14, "Upstream status update", "an intermediate receipt ENROUTE or SCHEDULED"
    ),
    Status.UPSTREAM_CANCEL_FAILED: Row(
        _M, False, Refund.NO, False, 15, "Upstream cancel failed", "an intermediate receipt whose error maps here"
    ),
    Status.RETRY_QUEUED_HANDSET: Row(
        _M, False, Refund.NO, True, 16, "Queued for retry, handset fault", "an intermediate receipt: handset fault"
    ),
    Status.UNKNOWN_UPSTREAM: Row(
        _M, False, Refund.NO, False, 17, "Unknown upstream status", "a receipt UNKNOWN, or a word we don't know"
    ),
    Status.FAILED: Row(
        _F, True, Refund.IF_UNSENT, True, 30, "Delivery failed, generic", "a receipt DELETED or SKIPPED"
    ),
    Status.EXPIRED: Row(
        _F, True, Refund.IF_UNSENT, True, 31, "Message expired", "a receipt EXPIRED, or validity ended first"
    ),
    Status.FAILED_REMOTE_NETWORK: Row(
        _F, True, Refund.IF_UNSENT, True, 32, "Failed on the remote network", "a receipt whose error maps here"
    ),
    Status.FAILED_NETWORK: Row(
        _F, True, Refund.IF_UNSENT, True, 33, "Delivery to the network failed", "a permanent refusal upstream"
    ),
    Status.FAILED_PHONE: Row(_F, True, Refund.IF_UNSENT, True, 34, "Delivery to the phone failed", "a receipt UNDELIV"),
    Status.HANDSET_FAULT: Row(
        _F, True, Refund.IF_UNSENT, True, 35, "Handset fault, such as a full SIM", "a receipt whose error maps here"
    ),
    Status.REMOTELY_BLOCKED: Row(_F, True, Refund.IF_UNSENT, True, 36, "Remotely blocked", "a receipt REJECTD"),
    Status.REMOTELY_CENSORED: Row(
        _F, True, Refund.IF_UNSENT, True, 37, "Remotely censored", "a receipt whose error maps here"
    ),
    Status.INTERNAL_ERROR: Row(
        _F, True, Refund.YES, True, 40, "Internal fatal error", "we could not make the message ready to send"
    ),
    Status.AUTHENTICATION_FAILURE: Row(
        _F, True, Refund.YES, True, 41, "Authentication failure", "the upstream refused our credentials for it"
    ),
    Status.DATA_INVALID: Row(
        _F, True, Refund.YES, True, 42, "Data validation failed", "the upstream refused an address or the length"
    ),
    Status.NO_CREDITS: Row(_F, True, Refund.YES, True, 43, "Not enough credits", "a receipt whose error maps here"),
    Status.UPSTREAM_NO_CREDITS: Row(
        _F, True, Refund.YES, True, 44, "Upstream credits not available", "a receipt whose error maps here"
    ),
    Status.QUOTA_EXCEEDED: Row(
        _F, True, Refund.YES, True, 45, "Daily quota exceeded", "a receipt whose error maps here"
    ),
    Status.UPSTREAM_QUOTA_EXCEEDED: Row(
        _F, True, Refund.YES, True, 46, "Upstream quota exceeded", "a receipt whose error maps here"
    ),
    Status.CANCELLED: Row(_F, True, Refund.YES, True, 47, "Message sending cancelled", "it was cancelled in time"),
    Status.UNROUTABLE: Row(
        _F, True, Refund.YES, True, 48, "Unroutable", "no route takes the number, or the upstream has none"
    ),
    Status.BLOCKED: Row(_F, True, Refund.YES, True, 49, "Blocked", "the number is on the blocklist"),
    Status.CENSORED: Row(_F, True, Refund.YES, True, 50, "Failed: censored", "the body is refused here"),
    Status.DELIVERED: Row(_D, True, Refund.NO, True, 99, "Delivered to mobile", "a receipt DELIVRD"),
}

ASSUMED_RANK = 20
"""Rank of a final status that nobody told us: an expiry assumed because no receipt came."""


class Standing(NamedTuple):
    """Where a part or a message stands."""

    status: Status
    assumed: bool = False

    @property
    def rank(self) -> int:
        """How strongly this is known."""
        return ASSUMED_RANK if self.assumed else TABLE[self.status].rank

    @property
    def is_final(self) -> bool:
        """Whether nothing more is expected."""
        return TABLE[self.status].final


START = Standing(Status.IN_PROGRESS)
EXPIRED_UNSEEN = Standing(Status.EXPIRED, assumed=True)


def advance(current: Standing, heard: Standing) -> Standing:
    """Return the standing after news: the stronger of the two.

    Commutative, associative and idempotent: any order and repetition of the same news ends the same.
    """
    return heard if heard.rank > current.rank else current


def contradict(before: Standing, heard: Standing) -> bool:
    """Tell whether two final words, none of them assumed, are opposites: a delivery and a failure."""
    if before.assumed or not (before.is_final and heard.is_final):
        return False
    return TABLE[before.status].phase is not TABLE[heard.status].phase


def roll_up(parts: Sequence[Standing]) -> Standing:
    """Return a message's standing from its parts', in order of part number.

    Failed as soon as one part failed, with the reason of the first that did; delivered when all are; otherwise it
    stands where its hindmost moving part stands.
    """
    for part in parts:
        if TABLE[part.status].phase is Phase.FAILED:
            return part
    moving = [part for part in parts if not part.is_final]
    return min(moving, key=lambda part: part.rank) if moving else parts[0]


def owes_refund(status: Status, sent: bool) -> bool:
    """Tell whether a message that reached this status gives its price back.

    Args:
        status: The status reached.
        sent: Whether any part was, or may have been, taken upstream.
    """
    refund = TABLE[status].refund
    return refund is Refund.YES or (refund is Refund.IF_UNSENT and not sent)


def is_final(status: Status) -> bool:
    """Tell whether a status ends a message."""
    return TABLE[status].final


def is_announced(status: Status) -> bool:
    """Tell whether reaching a status owes the customer a push."""
    return TABLE[status].announced


RECEIPT_STATES: Mapping[str, Status] = {
    "DELIVRD": Status.DELIVERED,
    "ACCEPTD": Status.DELIVERED_UPSTREAM,
    "ENROUTE": Status.UPSTREAM_UPDATE,
    "SCHEDULED": Status.UPSTREAM_UPDATE,
    "UNDELIV": Status.FAILED_PHONE,
    "EXPIRED": Status.EXPIRED,
    "REJECTD": Status.REMOTELY_BLOCKED,
    "DELETED": Status.FAILED,
    "SKIPPED": Status.FAILED,
    "UNKNOWN": Status.UNKNOWN_UPSTREAM,
}
"""The receipt's word -> the status it speaks for; any other word speaks for 70."""


def hear_receipt(state: str, error: str, errors: Mapping[str, Status]) -> Standing:
    """Return what a receipt speaks for.

    Args:
        state: The receipt's word, upper case.
        error: Its err, verbatim.
        errors: The connector's table err -> status. It refines the reason within the phase that the state gives: it
            never makes a failure of a delivery, nor an end of an intermediate receipt.
    """
    status = RECEIPT_STATES.get(state, Status.UNKNOWN_UPSTREAM)
    refined = errors.get(error)
    if refined is not None and TABLE[refined].phase is TABLE[status].phase:
        status = refined
    return Standing(status)


SUBMIT_REFUSALS: Mapping[int, Status] = {
    0x01: Status.DATA_INVALID,  # ESME_RINVMSGLEN
    0x0A: Status.DATA_INVALID,  # ESME_RINVSRCADR
    0x0B: Status.UNROUTABLE,  # ESME_RINVDSTADR
    0x0E: Status.AUTHENTICATION_FAILURE,  # ESME_RINVPASWD
    0x0F: Status.AUTHENTICATION_FAILURE,  # ESME_RINVSYSID
}
"""The command_status of a permanent refusal -> status; any other is 52."""


def hear_refusal(command_status: int) -> Standing:
    """Return what a permanent refusal of a submit_sm speaks for."""
    return Standing(SUBMIT_REFUSALS.get(command_status, Status.FAILED_NETWORK))


def diagram(statuses: Iterable[Status] = Status) -> str:
    """Return the Mermaid diagram of the table: from weaker to stronger standings, phase by phase."""
    rows = sorted(statuses, key=lambda status: TABLE[status].rank)
    lines = ["stateDiagram-v2", "    direction LR", "    [*] --> s0"]
    for phase in Phase:
        lines.append(f"    state {phase.value} {{")
        lines += [f"        s{s.value}: {s.value} {TABLE[s].meaning}" for s in rows if TABLE[s].phase is phase]
        lines.append("    }")
    moving = [s for s in rows if TABLE[s].phase is Phase.MOVING]
    lines += [f"    s{a.value} --> s{b.value}" for a, b in pairwise(moving)]
    lines += ["    moving --> failed", "    moving --> delivered", "    failed --> delivered: a real delivery corrects"]
    return "\n".join(lines)
