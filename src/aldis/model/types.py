"""The nouns that cross floors. Times are epoch milliseconds UTC, money is integer milli-credits."""

from enum import IntEnum
from typing import NamedTuple, NewType

import msgspec

from aldis.model.status import Status

AccountId = NewType("AccountId", int)
BatchId = NewType("BatchId", int)
MessageId = NewType("MessageId", int)
Msisdn = NewType("Msisdn", int)
"""A subscriber number in international form: 7 to 15 digits, the first not 0, so that an integer loses nothing."""


class Dca(IntEnum):
    """How a body is to be coded: the `dca` parameter. The value is the number of bits."""

    GSM7 = 7
    BINARY = 8
    UCS2 = 16


class TestMode(IntEnum):
    """Whether a submission is only a rehearsal, and of what."""

    __test__ = False  # pytest: not a test class

    OFF = 0
    SUCCEED = 1
    FAIL = 2


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """A customer."""

    account_id: AccountId
    username: str
    password_hash: str
    credits_milli: int = 0
    daily_quota: int | None = None
    """Messages a UTC day, or None for no limit."""
    push_url: str = ""
    """Where reports go; empty for none."""
    report_header: str = ""
    """`returns`, `results`, or empty for the server's setting."""
    show_transient: bool = True
    """False: get_report shows 0, 10 or 12 in place of 40 and 60 to 64."""
    strict_latin1: bool = False
    """True: bodies are ISO-8859-1 whatever they look like."""
    accept_empty_push: bool = False
    """True: an empty 200 answer to a push is a success."""
    disabled: bool = False


class Submission(msgspec.Struct, frozen=True, kw_only=True):
    """What a customer asked for: one body for many recipients, decoded and well-formed, not yet priced."""

    msisdns: tuple[int, ...]
    """In the order given."""
    body: bytes
    """UTF-8 for GSM7 and UCS2; the octets themselves, user data header first, for BINARY."""
    dca: Dca = Dca.GSM7
    originator: str = ""
    msg_class: int = 2
    """0 flash, 1, 2 normal, 3."""
    want_report: bool = True
    source_id: str = ""
    stop_dup_id: int = 0
    """A positive number names this submission: a second with the same number does nothing. 0: none."""
    max_parts: int = 1
    """Ceiling on parts; 1 where long messages were not allowed."""
    routing_group: int = 2
    strip_duplicates: bool = False
    send_at: int | None = None
    """When to send, epoch ms; None: now."""
    test_mode: TestMode = TestMode.OFF


class Accepted(msgspec.Struct, frozen=True):
    """A submission's good answer: it is on disk."""

    batch_id: BatchId
    scheduled: bool = False


class Report(msgspec.Struct, frozen=True, gc=False):
    """The customer's view of one message: what every kind of report shows."""

    message_id: int
    msisdn: int
    status: Status
    completed_at: int | None
    price_milli: int
    seq: int
    """Version of the status, rising by one at each change."""


class BatchReport(msgspec.Struct, frozen=True):
    """A batch and its messages in the order of submission."""

    batch_id: int
    account_id: int
    created_at: int
    originator: str
    source_id: str
    dca: Dca
    body: bytes
    reports: list[Report]


class Push(msgspec.Struct, frozen=True, gc=False):
    """One report owed to a customer's URL. The bytes sent under a `push_id` never change."""

    push_id: int
    message_id: int
    batch_id: int
    account_id: int
    url: str
    msisdn: int
    status: int
    completed_at: int | None
    source_id: str
    accept_empty: bool
    attempts: int
    """Tries made so far."""
    due_at: int
    """When the next try may be made, epoch ms."""


class MessageKey(NamedTuple):
    """What names a message in every ledger: ids are unique alone, but tables may be spread by account."""

    account_id: int
    message_id: int


class PushResult(msgspec.Struct, frozen=True, gc=False):
    """How one try of a push ended."""

    push_id: int
    account_id: int
    message_id: int
    delivered: bool
    attempts: int
    next_at: int | None
    """When to try again; None after success or the last try."""
    detail: str
    """The receiver's status line or the error, for the history."""
    at: int
