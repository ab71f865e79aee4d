"""What both engines write and read alike: values as rows, and the decisions between two statements of a verb.

Rows begin with account_id where a table may be spread by account; the embedded engine leaves it out.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from aldis.lifecycle import START, Standing, is_final
from aldis.model.status import STATUS, Status
from aldis.model.types import Account, AccountId, Dca, Push
from aldis.rules.adoption import Receipted, Unanswered, answered_id, unanswered_id
from aldis.rules.adoption import adopt as adopted
from aldis.rules.matching import Candidate, is_number
from aldis.rules.spelling import Spelling, origins
from aldis.store.base import (
    Changes,
    Due,
    EventRow,
    Judge,
    Live,
    Match,
    NewBatch,
    News,
    Parked,
    Rematched,
    Span,
    UpstreamId,
    Verdict,
)

Row = tuple[Any, ...]
DAY_MS = 86_400_000
KEEP_UPSTREAM_IDS_DAYS = 15
FINAL = sorted(int(status) for status in Status if is_final(status))
NOT_TO_ASK_ABOUT = [code for code in FINAL if code != Status.CANCELLED]
"""Statuses of what no upstream has any more; of a cancelled message another part may still be out."""
_WAITING = (Status.IN_PROGRESS, Status.RETRY_QUEUED)

# Values as rows


def quote(text: str) -> str:
    """Return a text as every engine can hold it: PostgreSQL's columns take no NUL, which some upstreams send."""
    return text.replace("\0", "\u2400") if "\0" in text else text


def batch_row(batch: NewBatch) -> Row:
    """Return a batch as it is stored."""
    return (
        batch.account_id,
        batch.batch_id,
        batch.created_at,
        batch.last_message_id,
        batch.parts,
        batch.dca,
        batch.body,
        batch.originator,
        batch.msg_class,
        int(batch.want_report),
        batch.source_id,
        batch.valid_until,
        batch.charge_milli,
    )


def message_row(live: Live) -> Row:
    """Return what judging may have changed of a message."""
    return (
        live.account_id,
        live.message_id,
        int(live.status),
        int(live.assumed),
        live.seq,
        int(live.sent),
        live.refunded_milli,
        live.fenced,
        live.due_at,
        live.leased_until,
        live.completed_at,
    )


def part_rows(live: Live) -> Iterator[Row]:
    """Yield the standings of a message's parts; one that has a single part stands for it."""
    if live.parts > 1:
        for part_no, standing in live.standings.items():
            yield live.account_id, live.message_id, part_no, int(standing.status), int(standing.assumed)


def event_row(event: EventRow) -> Row:
    """Return a line of the history."""
    return (
        event.account_id,
        event.message_id,
        event.event_id,
        event.at,
        event.kind,
        int(event.status),
        event.part_no,
        event.connector,
        event.upstream_id,
        event.detail,
    )


def upstream_row(one: UpstreamId) -> Row:
    """Return what an upstream calls a part, by the day of its submission."""
    day = one.submitted_at // DAY_MS
    return one.account_id, day, one.connector, one.upstream_id, one.message_id, one.part_no, one.attempt


def push_row(push: Push) -> Row:
    """Return a push."""
    return (
        push.push_id,
        push.message_id,
        push.batch_id,
        push.account_id,
        push.url,
        push.msisdn,
        int(push.status),
        push.completed_at,
        push.source_id,
        int(push.accept_empty),
        push.attempts,
        push.due_at,
    )


def parked_row(one: Parked) -> Row:
    """Return a row of the inbox."""
    return (
        one.inbox_id,
        one.connector,
        one.received_at,
        int(one.is_receipt),
        one.upstream_id,
        one.state,
        one.error,
        one.source,
        one.destination,
        one.text,
        one.pdu,
    )


def account_row(account: Account) -> Row:
    """Return an account's fields, its id and credits aside."""
    return (
        account.username,
        account.password_hash,
        account.daily_quota,
        account.push_url,
        account.report_header,
        int(account.show_transient),
        int(account.strict_latin1),
        int(account.accept_empty_push),
        int(account.disabled),
    )


# Rows as values


def parked_of(row: Sequence[Any]) -> Parked:
    """Read a row of the inbox."""
    return Parked(
        inbox_id=row[0],
        connector=row[1],
        received_at=row[2],
        is_receipt=bool(row[3]),
        upstream_id=row[4],
        state=row[5],
        error=row[6],
        source=row[7],
        destination=row[8],
        text=row[9],
        pdu=row[10],
    )


def account_of(row: Sequence[Any]) -> Account:
    """Read an account."""
    return Account(
        account_id=AccountId(row[0]),
        username=row[1],
        password_hash=row[2],
        credits_milli=row[3],
        daily_quota=row[4],
        push_url=row[5],
        report_header=row[6],
        show_transient=bool(row[7]),
        strict_latin1=bool(row[8]),
        accept_empty_push=bool(row[9]),
        disabled=bool(row[10]),
    )


def push_of(row: Sequence[Any]) -> Push:
    """Read a push."""
    push_id, message_id, batch_id, account_id, url, msisdn, status, at, source_id, accept_empty, attempts, due_at = row
    return Push(
        push_id, message_id, batch_id, account_id, url, msisdn, status, at, source_id, bool(accept_empty), attempts,
        due_at,
    )  # fmt: skip


def live_of(row: Sequence[Any]) -> Live:
    """Read a message with what judging needs of its batch and account; standings of several parts come later."""
    parts = row[15]
    start = Standing(STATUS[row[4]], bool(row[5]))
    unheard = start if is_final(start.status) else START
    return Live(
        message_id=row[0],
        batch_id=row[1],
        account_id=row[2],
        msisdn=row[3],
        status=row[4],
        assumed=bool(row[5]),
        seq=row[6],
        price_milli=row[7],
        refunded_milli=row[8],
        sent=bool(row[9]),
        attempts=row[10],
        fenced=row[11],
        due_at=row[12],
        leased_until=row[13],
        completed_at=row[14],
        parts=parts,
        valid_until=row[16],
        want_report=bool(row[17]),
        source_id=row[18],
        push_url=row[19],
        accept_empty_push=bool(row[20]),
        standings={1: start} if parts == 1 else dict.fromkeys(range(1, parts + 1), unheard),
    )


def standings_of(found: Iterable[Iterable[Any]]) -> dict[int, dict[int, Standing]]:
    """Read the parts of messages that have several."""
    by_message: dict[int, dict[int, Standing]] = {}
    for message_id, part_no, status, assumed in found:
        by_message.setdefault(message_id, {})[part_no] = Standing(STATUS[status], bool(assumed))
    return by_message


def due_of(row: Sequence[Any], standings: Mapping[int, Standing] | None) -> Due:
    """Read a claimed message; `standings` are those of its parts, where it has several and was tried before."""
    account_id, message_id, batch_id, msisdn, attempt, parts, dca, body, originator, msg_class, valid_until = row
    pending: tuple[int, ...] = (1,)
    if parts > 1:
        known = standings or {}
        pending = tuple(n for n in range(1, parts + 1) if n not in known or known[n].status in _WAITING)
    return Due(
        account_id, message_id, batch_id, msisdn, attempt, parts, Dca(dca), body, originator, msg_class, valid_until,
        pending,
    )  # fmt: skip


# Decisions between two statements


class Purse(NamedTuple):
    """What an account can pay with, as the open transaction sees it."""

    credits_milli: int
    daily_quota: int | None
    quota_day: int
    quota_used: int

    @property
    def charged(self) -> tuple[int, int, int]:
        """What a charge changes: credits, the quota's day and what was used of it."""
        return self.credits_milli, self.quota_day, self.quota_used


def pay(purse: Purse | None, batch: NewBatch) -> tuple[Verdict, Purse | None]:
    """Judge whether an account can pay for a batch; returns what it has afterwards."""
    if purse is None:
        return Verdict.NO_ACCOUNT, None
    credits_milli, quota, day, used = purse
    today = batch.created_at // DAY_MS
    if day != today:
        used = 0
    if credits_milli < batch.charge_milli:
        return Verdict.NO_CREDITS, purse
    if quota is not None and used + batch.counted > quota:
        return Verdict.QUOTA_EXCEEDED, purse
    return Verdict.ADMITTED, Purse(credits_milli - batch.charge_milli, quota, today, used + batch.counted)


class Judged(NamedTuple):
    """What came of news."""

    lives: list[Live]
    """The messages that it changed: a receipt that comes again changes none."""
    changes: Changes
    reached: list[int]
    """Statuses that messages came to."""


def judge_all(lives: Mapping[int, Live], news: Sequence[News], judge: Judge) -> Judged:
    """Judge news in order over the messages that were loaded."""
    changes, reached = Changes(), []
    before = {message_id: _stored(live) for message_id, live in lives.items()}
    for one in news:
        live = lives.get(one.message_id)
        if live is not None:
            status = live.status
            judge(live, one, changes)
            if live.status != status:
                reached.append(int(live.status))
    return Judged([live for message_id, live in lives.items() if _stored(live) != before[message_id]], changes, reached)


def _stored(live: Live) -> tuple[Row, ...]:
    return message_row(live), *part_rows(live)


Found = dict[tuple[str, str], list[Candidate]]
"""(connector, upstream_id) -> the parts that it may mean."""
_RECENT_DAYS = (0, 1)
_OLDER_DAYS = tuple(n for n in range(-1, KEEP_UPSTREAM_IDS_DAYS) if n not in _RECENT_DAYS)


class Search(NamedTuple):
    """A look for the parts of receipts, wider than the one before it."""

    days_ago: tuple[int, ...]
    """Days of submission; -1 is tomorrow, by the clock of another node."""
    respelt: bool
    """Whether the ids are looked for that the receipts' may stand for, in place of these."""

    def days(self, today: int) -> list[int]:
        """Return the days to look at."""
        return [today - n for n in self.days_ago]


def all_days(today: int) -> list[int]:
    """Return all days of submission whose ids are kept."""
    return Search(_RECENT_DAYS + _OLDER_DAYS, False).days(today)


SEARCHES = tuple(Search(days, respelt) for respelt in (False, True) for days in (_RECENT_DAYS, _OLDER_DAYS))
"""Nearly all receipts name an id as it was given, within the last two days: the others are looked for then."""
FIRST_SEARCHES = SEARCHES[:3]
"""When a receipt comes: most that are found by none of these are ahead of their answers, and are looked for again."""


def ids_to_find(receipts: Sequence[Parked], found: Found, search: Search) -> dict[str, dict[str, Spelling]]:
    """Return the ids to look for, and for each the receipts' ids that it may be, and how they are spelt."""
    wanted: dict[str, dict[str, Spelling]] = {}
    for one in receipts:
        if _is_open(found.get((one.connector, one.upstream_id)), one):
            likely = origins(one.upstream_id) if search.respelt else {one.upstream_id: Spelling.SAME}
            for upstream_id, spelling in likely.items():
                wanted.setdefault(upstream_id, {})[one.upstream_id] = spelling
    return wanted


def _is_open(candidates: list[Candidate] | None, receipt: Parked) -> bool:
    if not candidates:
        return True
    return bool(receipt.source) and not any(is_number(one.msisdn, receipt.source) for one in candidates)


def add_candidates(found: Found, connector: str, likely: Mapping[str, Spelling], part: Sequence[Any]) -> None:
    """Note a part under the receipts' ids that it was found for: account, message, part, number and status."""
    account_id, message_id, part_no, msisdn, status = part
    for upstream_id, spelling in likely.items():
        candidate = Candidate(account_id, message_id, part_no, msisdn, is_final(STATUS[status]), spelling)
        found.setdefault((connector, upstream_id), []).append(candidate)


REMATCHED_AT_ONCE = 200
"""Parked receipts looked at in one transaction: each is searched for under all ids that its own may stand for."""


def rematched(found: int, looked_at: Sequence[Parked], span: Span) -> Rematched:
    """Return what came of a look at parked receipts, and where the next begins."""
    if len(looked_at) < REMATCHED_AT_ONCE:
        return Rematched(found, None)
    last = looked_at[-1]
    return Rematched(found, Span(last.received_at, span.until, last.inbox_id))


def receipted(one: Parked) -> Receipted:
    """Return what a parked receipt tells of its message."""
    return Receipted(one.upstream_id, one.source, one.destination, one.received_at, one.text)


def unanswered_ids(receipts: Sequence[Parked]) -> list[str]:
    """Return what stands for the ids of parts that got no answer and that receipts may be about, sorted."""
    numbers = {one.source for one in receipts if one.source}
    return sorted({id_ for number in numbers for id_ in (unanswered_id(number), answered_id(number))})


def adopt(
    receipts: Sequence[Parked], parts: Mapping[str, Sequence[Unanswered]], match: Match
) -> tuple[list[News], list[Parked]]:
    """Give receipts of one connector whose ids nobody knows to parts that got no answer; returns the others, too."""
    chosen = adopted([receipted(one) for one in receipts], parts)
    news: list[News] = []
    left: list[Parked] = []
    for at, receipt in enumerate(receipts):
        found = match([_adopted(chosen[at])], receipt) if at in chosen else None
        if found is None:
            left.append(receipt)
        else:
            news.append(found)
    return news, left


def _adopted(part: Unanswered) -> Candidate:
    return Candidate(part.account_id, part.message_id, part.part_no, part.msisdn, False, is_adopted=True)


class Assigned(NamedTuple):
    """What became of a round of receipts."""

    news: list[News]
    left: list[Parked]
    """No part is certain for these."""
    again: list[Parked]
    """Where one id stands for several parts, each receipt must find them as the one before it left them."""


def assign(receipts: Sequence[Parked], found: Found, match: Match) -> Assigned:
    """Give each receipt its part, where that is certain."""
    news: list[News] = []
    left: list[Parked] = []
    again: list[Parked] = []
    shared: set[tuple[str, str]] = set()
    for one in receipts:
        key = (one.connector, one.upstream_id)
        candidates = found.get(key, [])
        if key in shared:
            again.append(one)
            continue
        if len(candidates) > 1:
            shared.add(key)
        found_news = match(candidates, one)
        if found_news is None:
            left.append(one)
        else:
            news.append(found_news)
    return Assigned(news, left, again)
