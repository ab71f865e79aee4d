"""The seam to the ledger's tables: set-based verbs, each of them one durable transaction over many items.

A verb returns only after its rows are on disk. An engine folds the calls that wait at the same time into one
transaction (group commit); one bad item never fails the others of its group.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import Enum
from typing import NamedTuple, Protocol

import msgspec

from aldis.lifecycle import Standing
from aldis.model.types import Account, BatchReport, Dca, MessageKey, Push, PushResult
from aldis.rules.matching import Candidate
from aldis.store.group import CommitStats

MessageRow = tuple[int, int, int, int, int, int, str, int | None, int | None]
"""message_id, batch_id, account_id, msisdn, status, price_milli, connector, due_at, completed_at"""


class NewBatch(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A priced and judged submission, ready to be written."""

    batch_id: int
    account_id: int
    created_at: int
    last_message_id: int
    """Messages lie between batch_id and this one, both ids this node's."""
    parts: int
    """Parts of each message."""
    dca: int
    body: bytes
    originator: str
    msg_class: int
    want_report: bool
    source_id: str
    stop_dup_id: int
    valid_until: int
    charge_milli: int
    """What the whole batch costs now."""
    counted: int
    """Messages that count against the quota."""
    messages: list[MessageRow]
    pushes: list[Push] = []
    """Reports owed at once: of recipients that were refused."""


class Verdict(Enum):
    """What became of a batch in the transaction that was to admit it."""

    ADMITTED = "admitted"
    DUPLICATE = "duplicate"
    NO_CREDITS = "no credits"
    QUOTA_EXCEEDED = "quota exceeded"
    NO_ACCOUNT = "no account"


class Admission(msgspec.Struct, frozen=True, gc=False):
    """The answer to one `NewBatch`."""

    verdict: Verdict
    batch_id: int
    """The batch on disk: for a duplicate the first one's."""


class Due(msgspec.Struct, frozen=True, gc=False):
    """A claimed message: leased to the caller, its sending intended on disk."""

    account_id: int
    message_id: int
    batch_id: int
    msisdn: int
    attempt: int
    """The claim's number, rising by one: what comes of it is told under this number."""
    parts: int
    dca: Dca
    body: bytes
    originator: str
    msg_class: int
    valid_until: int
    pending: tuple[int, ...]
    """Numbers of the parts to send: all, or on a retry those not taken yet."""


class Lease(NamedTuple):
    """A claim that its worker still holds."""

    account_id: int
    message_id: int
    attempt: int
    queue: str


class Live(msgspec.Struct, gc=False, kw_only=True):
    """A message as a transaction holds it while its news is judged; changed in place, then written."""

    message_id: int
    batch_id: int
    account_id: int
    msisdn: int
    status: int
    assumed: bool
    seq: int
    price_milli: int
    refunded_milli: int
    sent: bool
    """Whether any part was, or may have been, taken upstream."""
    attempts: int
    """Times that it was claimed."""
    fenced: int
    """Claims up to this one were called off: what their workers still say moves nothing."""
    due_at: int | None
    leased_until: int | None
    completed_at: int | None
    parts: int
    valid_until: int
    want_report: bool
    source_id: str
    push_url: str
    accept_empty_push: bool
    standings: dict[int, Standing]
    """By part number; of a message with one part this is only derived from `status`."""


class EventRow(msgspec.Struct, frozen=True, gc=False):
    """One line of a message's history."""

    account_id: int
    message_id: int
    event_id: int
    at: int
    kind: str
    status: int
    """The message's status after it."""
    part_no: int
    connector: str
    upstream_id: str
    detail: str
    """The upstream's own words, verbatim."""


class UpstreamId(msgspec.Struct, frozen=True, gc=False):
    """What an upstream calls a part."""

    connector: str
    upstream_id: str
    account_id: int
    message_id: int
    part_no: int
    attempt: int
    submitted_at: int


class Parked(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A row of the inbox: a receipt that matched nothing yet, or an inbound message."""

    inbox_id: int
    connector: str
    received_at: int
    is_receipt: bool
    upstream_id: str
    state: str
    error: str
    source: str
    destination: str
    text: str
    pdu: bytes


class InboundMessage(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A message from a subscriber."""

    inbound_id: int
    connector: str
    received_at: int
    """When its first part came, epoch ms."""
    source: str
    """The subscriber, as the upstream wrote the number."""
    destination: str
    data_coding: int
    text: str
    octets: bytes
    parts: int
    parts_got: int
    """Fewer than `parts` where the others were waited for in vain."""
    keyword: str
    """What it asks for: stop, start, or nothing."""
    account_id: int = 0
    message_id: int = 0
    """The last message that was sent from its destination to its source; 0: none is known."""


class Assembled(msgspec.Struct, frozen=True):
    """What a look at waiting parts of inbound messages has found."""

    messages: list[InboundMessage]
    used: list[int]
    """inbox_ids of the parts that are in them, or only repeat what is."""


Assemble = Callable[[Sequence[Parked], Sequence[Sequence[Parked]]], Assembled]
"""Puts messages together: takes those that stand alone, and groups of parts that belong together, each oldest first."""


class Gathered(NamedTuple):
    """What came of a look at waiting inbound messages."""

    messages: list[InboundMessage]
    rest: "Span | None"
    """What was not looked at; None: nothing is left."""


class Changes(msgspec.Struct):
    """What judging a group of news asks to be written, beside the `Live` rows that it changed."""

    events: list[EventRow] = msgspec.field(default_factory=list)
    pushes: list[Push] = msgspec.field(default_factory=list)
    upstream_ids: list[UpstreamId] = msgspec.field(default_factory=list)
    refunds: list[tuple[int, int]] = msgspec.field(default_factory=list)
    """account_id, milli-credits"""


class News(Protocol):
    """Something learnt about one message; only the ledger knows what it means."""

    @property
    def account_id(self) -> int:
        """Whose message it is about."""

    @property
    def message_id(self) -> int:
        """The message it is about."""

    @property
    def news_id(self) -> int:
        """Names it in the history, and the push that it may cause."""

    @property
    def at(self) -> int:
        """When it was learnt, epoch ms."""

    @property
    def upstream_keys(self) -> Sequence[tuple[str, str]]:
        """(connector, upstream_id) pairs that it makes known: receipts parked under them are judged with it."""


Judge = Callable[[Live, News, Changes], None]
"""Moves one message by one piece of news: changes the row in place and adds to the changes."""

Match = Callable[[Sequence[Candidate], Parked], News | None]
"""Makes news of a receipt about one of the parts that it may mean; None if it is not certain which."""


class QueueState(msgspec.Struct, frozen=True):
    """How much waits to be sent."""

    due: int
    """Messages that may be sent now."""
    oldest_due_at: int | None
    leased: int
    pushes: int
    oldest_push_at: int | None
    parked: int
    """Receipts that match nothing."""


class Span(NamedTuple):
    """Receipts of the inbox by when they came, oldest first."""

    since: int
    """Epoch ms."""
    until: int
    """Epoch ms; what came then is not in it."""
    after_id: int = 0
    """Of those that came at `since`, only those with a larger inbox_id."""


class Rematched(NamedTuple):
    """What came of another look at parked receipts."""

    found: int
    """How many have found their part."""
    rest: Span | None
    """What was not looked at; None: nothing is left."""


class Wanted(msgspec.Struct, frozen=True):
    """Which parked receipts are looked for."""

    connector: str = ""
    """Empty: of all."""
    number: str = ""
    """How the number that the message went to ends."""
    upstream_id: str = ""
    limit: int = 100


class WantedInbound(msgspec.Struct, frozen=True):
    """Which inbound messages are looked for."""

    connector: str = ""
    """Empty: of all."""
    number: str = ""
    """How the subscriber's number ends."""
    destination: str = ""
    """How the number that it was sent to ends."""
    keyword: str = ""
    """Empty: any."""
    limit: int = 100


class Submission(NamedTuple):
    """What came of handing a message to an upstream, which gave it an id."""

    account_id: int
    message_id: int
    msisdn: int
    originator: str
    connector: str
    part_no: int
    upstream_id: str
    detail: str
    """What the history says of it."""


class Unfinished(NamedTuple):
    """Messages among some old ones that are not over."""

    messages: list[MessageKey]
    position: int
    """Up to which id was looked."""


class Store(Protocol):
    """The tables, whatever engine holds them.

    Every call fails with `LedgerUnavailable` while durability can't be given.
    """

    stats: CommitStats
    """What was committed so far."""

    def admit(self, batches: Sequence[NewBatch]) -> Awaitable[Sequence[Admission]]:
        """Write batches with their messages, the charge, the quota and the duplicate check in one transaction (T1)."""

    async def claim(self, connector: str, parts: int, now: int, leased_until: int) -> Sequence[Due]:
        """Lease due messages of a connector, oldest first, up to a number of parts (T2)."""

    async def record(self, news: Sequence[News], judge: Judge, match: Match) -> None:
        """Judge news of messages in order (T3), with parked receipts that it gives a home.

        Pushes that come of it go to the engine's `on_pushes` after the commit; so in `receive`.
        """

    async def receive(self, parked: Sequence[Parked], judge: Judge, match: Match) -> None:
        """Match receipts to messages and judge them; keep what matches nothing in the inbox (T4)."""

    async def record_push_results(self, results: Sequence[PushResult], event_ids: Sequence[int]) -> None:
        """Write how pushes ended, with an event each (T5)."""

    async def due_pushes(self, now: int, limit: int) -> Sequence[Push]:
        """Return pushes that may be tried here, oldest first."""

    async def lapsed(self, now: int, limit: int) -> Sequence[Lease]:
        """Return claims whose lease ended before now, or whose worker is known to be gone."""

    async def expired(self, connector: str, now: int, limit: int) -> Sequence[MessageKey]:
        """Return messages queued for a connector whose validity ended before they could be sent."""

    async def queued_connectors(self) -> Sequence[str]:
        """Return the names of connectors that messages wait for, configured or not."""

    async def find_report(self, account_id: int, batch_id: int, msisdn: int | None) -> BatchReport | None:
        """Return a batch of an account; None for another's as for an unknown one."""

    async def history(self, account_id: int, batch_id: int, last_message_id: int | None = None) -> Sequence[EventRow]:
        """Return the events of a batch's messages, up to one of them, in order."""

    async def owner_of(self, batch_id: int) -> Account | None:
        """Return the account that submitted a batch."""

    async def queue_state(self, now: int) -> QueueState:
        """Return how much waits."""

    def recall_account(self, username: str) -> Account | None:
        """Return an account by its name from memory, at once; None says nothing."""

    async def find_account(self, username: str) -> Account | None:
        """Return an account by its name."""

    async def put_account(self, account: Account, opening_milli: int = 0, at: int = 0) -> Account:
        """Create (account_id 0) or change an account; credits are left alone. Returns it with its id.

        Args:
            account: All its fields.
            opening_milli: Credits that a new account begins with.
            at: When, for the books.

        Raises:
            ValueError: the name is taken.
        """

    async def top_up(self, account_id: int, amount_milli: int, at: int, note: str) -> int:
        """Add credits (or take, with a negative amount) and return the new credits."""

    async def list_accounts(self) -> Sequence[Account]:
        """Return all accounts by name."""

    async def credits_of(self, account_id: int) -> int:
        """Return the credits of an account in milli-credits."""

    async def rematch(self, span: Span, judge: Judge, match: Match) -> Rematched:
        """Judge the parked receipts of a span whose part can be told by now, at most some hundred."""

    async def unfinished(self, queue: str, after: int, until: int) -> Unfinished:
        """Return messages of a queue that are not over, and wait for nobody here, some at a time.

        Args:
            queue: A connector, or several in order of preference.
            after: Ids of batches and messages are larger than this one.
            until: And not larger than this one.
        """

    async def submissions(self, messages: Sequence[MessageKey]) -> Sequence[Submission]:
        """Return what came of handing messages to upstreams that may still have them, if these gave ids, in order."""

    async def standings(self, messages: Sequence[MessageKey]) -> Mapping[int, Mapping[int, Standing]]:
        """Return by message where each of its parts stands, for those that have several and were tried."""

    async def facts(self, prefix: str) -> Mapping[str, int]:
        """Return the numbers that were noted under names that begin so."""

    async def add_facts(self, numbers: Mapping[str, int]) -> None:
        """Add to numbers that were noted, or note them."""

    async def forget_facts(self, prefix: str) -> None:
        """Forget the numbers under names that begin so."""

    async def fact(self, name: str) -> int:
        """Return a number that was noted; 0 if none was."""

    async def note_fact(self, name: str, value: int) -> None:
        """Note a number under a name."""

    async def parked_receipts(self, wanted: Wanted) -> Sequence[Parked]:
        """Return receipts that belong to no message so far, the newest first."""

    async def gather(self, span: Span, assemble: Assemble) -> Gathered:
        """Put messages of subscribers together that came in a span, some hundred PDUs at a time; parts may wait."""

    async def inbound_messages(self, wanted: WantedInbound) -> Sequence[InboundMessage]:
        """Return messages of subscribers, the newest first."""

    async def tidy(self, now: int, parked_before: int = 0, inbound_before: int = 0) -> int:
        """Drop what is past its time, and prepare what will be needed; returns 0 once all is done for now.

        Args:
            now: Epoch ms.
            parked_before: Receipts that came before it, and have found no message, are dropped, too.
            inbound_before: So are messages of subscribers that came before this.
        """

    async def remember_last_id(self, last_id: int) -> None:
        """Note how far this node's ids have come."""

    async def largest_id(self) -> int:
        """Return the largest id of a batch, message or inbox row, or that was noted; 0 for none."""

    def problems(self) -> Sequence[str]:
        """Return why durability can't be given now; empty when it can."""

    def gauges(self) -> Sequence[tuple[str, str, float]]:
        """Return the engine's own numbers for /metrics: name, what it is, value."""

    def close(self) -> Awaitable[None]:
        """Finish the commit under way and close the files."""
