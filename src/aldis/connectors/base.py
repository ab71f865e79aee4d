"""The seam to upstream networks: what a connector takes, and what it says back."""

from collections.abc import Callable, Collection, Sequence
from typing import Protocol, runtime_checkable

import msgspec


class OutboundPart(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One part of a message on its way out: what becomes one submit_sm."""

    account_id: int
    message_id: int
    part_no: int
    """1 to `parts`."""
    parts: int
    attempt: int
    """1 for the first try of this part."""
    msisdn: int
    originator: str
    octets: bytes
    """The short message, user data header first where `udhi`."""
    data_coding: int
    udhi: bool
    valid_until: int | None
    """End of validity, epoch ms."""


class Accepted(msgspec.Struct, frozen=True, gc=False):
    """The upstream took the part under its own id; empty where it gave none."""

    upstream_id: str


class Refused(msgspec.Struct, frozen=True, gc=False):
    """The upstream answered, and did not take the part."""

    command_status: int
    retryable: bool
    throttled: bool = False
    """The upstream asked for a slower pace; the message itself is fine."""


class NotSent(msgspec.Struct, frozen=True, gc=False):
    """No byte of the part left: it may be tried again without risk."""

    reason: str


class Unknown(msgspec.Struct, frozen=True, gc=False):
    """The part left, and no answer came: it may have been taken. Never resent blindly."""

    reason: str


Outcome = Accepted | Refused | NotSent | Unknown


class SentPart(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A part that the upstream took under an id, to be asked about or withdrawn."""

    account_id: int
    message_id: int
    part_no: int
    upstream_id: str
    """As the upstream spells it; not empty, for SMPP can't ask about a part without it."""
    originator: str
    """As it was sent: an upstream compares it."""
    msisdn: int


class Found(msgspec.Struct, frozen=True, gc=False):
    """The upstream tells how the part stands; it weighs what a receipt that says so weighs."""

    state: str
    """A receipt's word (DELIVRD …); empty for a number that nobody knows."""
    error: str
    """In the form of a receipt's err."""
    is_final: bool


class Cancelled(msgspec.Struct, frozen=True, gc=False):
    """The upstream took the part back; a receipt DELETED may follow."""


class Declined(msgspec.Struct, frozen=True, gc=False):
    """The upstream answered, and not with what was asked for: nothing is known and nothing has changed."""

    command_status: int


class Unanswered(msgspec.Struct, frozen=True, gc=False):
    """No answer that can be read came. A question may be asked again; a withdrawal may have been heard."""

    reason: str


Answer = Found | Cancelled | Declined | Unanswered


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """A deliver_sm or data_sm from an upstream, not answered yet."""

    connector: str
    received_at: int
    """Epoch ms."""
    is_receipt: bool
    upstream_id: str
    """The receipted id in the upstream's own spelling; of a part of a subscriber's long message, what its parts share;
    empty if there is none."""
    state: str
    """The receipt's word, upper case (DELIVRD …); empty if there is none."""
    error: str
    """The receipt's err, verbatim."""
    is_final: bool
    """Whether the state ends the part's life, as the receipt tells it."""
    source: str
    destination: str
    text: str
    """The receipt's text or the message, decoded for reading."""
    pdu: bytes
    """The whole PDU as it came."""
    esm_class: int = 0
    done_date: str = ""
    """The receipt's, as it stands: local time of who knows where."""
    answer: Callable[[bool], None]
    """Call once, after the commit: True answers ESME_ROK, False asks the upstream to send it again."""


class Sink(Protocol):
    """Who hears from connectors. All calls are made on the event loop and return at once."""

    def on_outcomes(self, connector: str, outcomes: Sequence[tuple[OutboundPart, Outcome]]) -> None:
        """Take the ends of submitted parts: exactly one for each part that `submit` took."""

    def on_late_outcomes(self, connector: str, outcomes: Sequence[tuple[OutboundPart, Accepted | Refused]]) -> None:
        """Take answers to parts that were reported Unknown before: an id that receipts will name, or a refusal."""

    def on_deliveries(self, connector: str, deliveries: Sequence[Delivery]) -> None:
        """Take what the upstream sent; answer each after it is on disk."""

    def may_send(self) -> bool:
        """Tell whether anything may leave now; asked right before it does, for a process may have stood still."""

    def on_ready(self, connector: str) -> None:
        """Learn that the connector has room again (bound, or window free)."""


class Connector(Protocol):
    """A way upstream. One object serves those binds of one configured connector that are held here.

    Several nodes may run the same connector; each bind is then held by one of them at a time. All calls but `run` and
    `drain` return at once, and all are made on the event loop.
    """

    name: str

    @property
    def binds(self) -> int:
        """How many binds the connector has over all nodes, numbered from 0; a pair counts as one."""

    @property
    def held(self) -> frozenset[int]:
        """The binds that are held, or whose connection is not gone yet: no other node may hold them."""

    @property
    def is_bound(self) -> bool:
        """Whether at least one bind can submit now."""

    def hold(self, numbers: Collection[int]) -> None:
        """Hold these binds and no others; a new connector holds all. Before `run` or while it runs.

        A bind that was not held begins to connect. One that is held no longer takes no more parts from now on, waits
        within a bound for the outcomes still out, then unbinds, and leaves `held`. One that is to be held again before
        that is over connects behind it: a bind never has two connections. After `drain` nothing is held any more.

        Raises:
            ValueError: there is no such bind; nothing has changed.
        """

    def cut(self, reason: str) -> None:
        """Hold nothing, and drop every connection now, for another node may own the binds already.

        No byte of a part leaves after this. The parts still out end as those of a lost connection: Unknown, or NotSent
        where nothing had left. The binds leave `held` a few turns of the loop later; `hold` may be called at once.
        """

    def capacity(self) -> int:
        """Return how many parts `submit` would take now: free window slots, within the rate."""

    def submit(self, parts: Sequence[OutboundPart]) -> int:
        """Send parts, in order, and return how many were taken; the sink hears the outcome of each of those."""

    async def run(self) -> None:
        """Bind what is held, serve and bind again until cancelled or drained."""

    async def drain(self, timeout_s: float) -> None:
        """Let go of everything for ever: take no more parts, wait for the outcomes still out, then unbind."""


Tell = Callable[[str, Sequence[tuple[SentPart, Answer]]], None]
"""Hears a connector's name and the answers of one wake-up."""


@runtime_checkable
class Inquirer(Protocol):
    """What a `Connector` may offer besides: asking the upstream about parts that it took, and withdrawing them.

    Each part that was taken is answered exactly once, on the event loop and never within the call; where the answer
    comes after its time-out, it is `Unanswered` and the answer is dropped. Questions take their places in window and
    pace like parts.
    """

    @property
    def can_query(self) -> bool:
        """Whether this upstream is to be asked at all."""

    def query(self, parts: Sequence[SentPart], tell: Tell) -> int:
        """Ask how parts stand, in order, and return how many were asked about: `Found`, `Declined` or `Unanswered`.

        Raises:
            ValueError: a part has no upstream_id; nothing was sent.
        """

    def cancel(self, parts: Sequence[SentPart], tell: Tell) -> int:
        """Withdraw parts, in order, and return how many: `Cancelled`, `Declined` or `Unanswered`.

        Raises:
            ValueError: a part has no upstream_id; nothing was sent.
        """
