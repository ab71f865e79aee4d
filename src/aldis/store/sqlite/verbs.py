"""What happens inside a write transaction: each verb over all items of a group, in as few statements as it takes."""

from collections.abc import Sequence
from itertools import chain, groupby
from typing import Any

import apsw
import msgspec

from aldis.lifecycle import START, Standing, is_final
from aldis.model.status import STATUS, Status
from aldis.model.types import Account, Dca, Push, PushResult
from aldis.rules.matching import Candidate, choose, is_number
from aldis.store.base import (
    Admission,
    AsNews,
    Changes,
    Due,
    EventRow,
    Judge,
    Live,
    NewBatch,
    News,
    Parked,
    UpstreamId,
    Verdict,
)
from aldis.store.sqlite.context import SQL, Context, carray

DAY_MS = 86_400_000
KEEP_UPSTREAM_IDS_DAYS = 15


def admit(context: Context, batches: list[NewBatch]) -> list[Admission]:
    """T1: write batches, messages, charge, quota and duplicate numbers; judge in order of arrival."""
    purse = _Purse(context, {batch.account_id for batch in batches})
    answers: list[Admission] = []
    admitted: list[NewBatch] = []
    numbered: dict[tuple[int, int], int] = {}
    for batch in batches:
        key = (batch.account_id, batch.stop_dup_id)
        first = None
        if batch.stop_dup_id:
            first = numbered.get(key) or context.one(SQL["find_duplicate"], key)
        if first is not None:
            answers.append(Admission(Verdict.DUPLICATE, first))
            continue
        verdict = purse.pay(batch)
        answers.append(Admission(verdict, batch.batch_id))
        if verdict is Verdict.ADMITTED:
            admitted.append(batch)
            if batch.stop_dup_id:
                numbered[key] = batch.batch_id
    context.write("insert_batches", [_batch_row(batch) for batch in admitted])
    context.write("insert_messages", list(chain.from_iterable(batch.messages for batch in admitted)))
    pushes = [push for batch in admitted for push in batch.pushes]
    context.write("put_pushes", [_push_row(push) for push in pushes])
    context.owe(pushes)
    for (account_id, number), batch_id in numbered.items():
        context.cursor.execute(SQL["insert_duplicate"], (account_id, number, batch_id))
    purse.save()
    return answers


class _Purse:
    """Credits and quotas of the accounts in a group; the writer, who alone changes them, remembers them."""

    def __init__(self, context: Context, account_ids: set[int]) -> None:
        self._context = context
        self._accounts = context.purses
        self._touched: set[int] = set()
        if missing := account_ids - self._accounts.keys():
            rows: list[Any] = context.cursor.execute(
                SQL["accounts_for_admission"], (carray(sorted(missing)),)
            ).fetchall()
            self._accounts.update({row[0]: list(row[1:]) for row in rows})

    def pay(self, batch: NewBatch) -> Verdict:
        account = self._accounts.get(batch.account_id)
        if account is None:
            return Verdict.NO_ACCOUNT
        credits_milli, quota, day, used = account
        today = batch.created_at // DAY_MS
        if day != today:
            used = 0
        if credits_milli < batch.charge_milli:
            return Verdict.NO_CREDITS
        if quota is not None and used + batch.counted > quota:
            return Verdict.QUOTA_EXCEEDED
        self._accounts[batch.account_id] = [
            credits_milli - batch.charge_milli,
            quota,
            today,
            used + batch.counted,
        ]
        self._touched.add(batch.account_id)
        return Verdict.ADMITTED

    def save(self) -> None:
        for account_id in self._touched:
            credits_milli, _, day, used = self._accounts[account_id]
            self._context.cursor.execute(SQL["charge_account"], (credits_milli, day, used, account_id))


def _batch_row(batch: NewBatch) -> tuple[Any, ...]:
    return (
        batch.batch_id,
        batch.account_id,
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


class Claim(msgspec.Struct, frozen=True):
    """A wish to send."""

    connector: str
    parts: int
    now: int
    leased_until: int


def claim(context: Context, claims: list[Claim]) -> list[list[Due]]:
    """T2: lease due messages, oldest first, up to a number of parts each."""
    return [_claim_one(context, one) for one in claims]


def _claim_one(context: Context, wish: Claim) -> list[Due]:
    rows: list[Any] = context.cursor.execute(SQL["due_messages"], (wish.connector, wish.now, wish.parts)).fetchall()
    taken: list[Any] = []
    room = wish.parts
    for row in rows:
        room -= row[4]
        if room < 0 and taken:
            break
        taken.append(row)
    if not taken:
        return []
    context.cursor.execute(SQL["lease_messages"], (wish.leased_until, carray([row[0] for row in taken])))
    retried = [row[0] for row in taken if row[4] > 1 and row[3] > 1]
    standings = _load_parts(context, retried) if retried else {}
    return [_due(row, standings.get(row[0])) for row in taken]


def _due(row: Any, standings: dict[int, Standing] | None) -> Due:
    message_id, batch_id, msisdn, attempt, parts, dca, body, originator, msg_class, valid_until = row
    if parts == 1:
        pending: tuple[int, ...] = (1,)
    else:
        known = standings or {}
        waiting = (Status.IN_PROGRESS, Status.RETRY_QUEUED)
        pending = tuple(n for n in range(1, parts + 1) if n not in known or known[n].status in waiting)
    return Due(
        message_id, batch_id, msisdn, attempt, parts, Dca(dca), body, originator, msg_class, valid_until, pending
    )


def _load_parts(context: Context, message_ids: list[int]) -> dict[int, dict[int, Standing]]:
    found: dict[int, dict[int, Standing]] = {}
    for message_id, part_no, status, assumed in context.cursor.execute(SQL["load_parts"], (carray(message_ids),)):
        found.setdefault(message_id, {})[part_no] = Standing(STATUS[status], bool(assumed))
    return found


class NewsItem(msgspec.Struct, frozen=True):
    """News with the functions that know what it means."""

    news: News
    judge: Judge
    as_news: AsNews


def record(context: Context, items: list[NewsItem]) -> list[None]:
    """T3: judge news in order, then the parked receipts whose ids it made known."""
    judge, as_news = items[0].judge, items[0].as_news
    news = [item.news for item in items]
    _judge_all(context, news, judge)
    if context.parked and (waiting := _find_parked(context, news)):
        left = _settle(context, waiting, judge, as_news, max(one.at for one in news))
        taken = sorted({one.inbox_id for one in waiting} - {one.inbox_id for one in left})
        if taken:
            context.cursor.execute(SQL["delete_inbox"], (carray(taken),))
            context.parked -= len(taken)
    return [None] * len(items)


def _find_parked(context: Context, news: list[News]) -> list[Parked]:
    """Return the parked receipts with an id that the news makes known."""
    by_connector: dict[str, set[str]] = {}
    for one in news:
        for connector, upstream_id in one.upstream_keys:
            by_connector.setdefault(connector, set()).add(upstream_id)
    found: list[Parked] = []
    for connector, ids in by_connector.items():
        rows = context.cursor.execute(SQL["parked_receipts"], (carray(sorted(ids)), connector))
        found.extend(_parked(row) for row in rows)
    return found


def _parked(row: Any) -> Parked:
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


def _judge_all(context: Context, news: Sequence[News], judge: Judge) -> None:
    lives = _load(context, list({one.message_id for one in news}))
    changes = Changes()
    for one in news:
        live = lives.get(one.message_id)
        if live is not None:
            before = live.status
            judge(live, one, changes)
            if live.status != before:
                context.reached.append(int(live.status))
    _save(context, [live for live in lives.values() if live.touched], changes)


def _load(context: Context, message_ids: list[int]) -> dict[int, Live]:
    lives: dict[int, Live] = {}
    if not message_ids:
        return lives
    rows: list[Any] = context.cursor.execute(SQL["load_messages"], (carray(message_ids),)).fetchall()
    for row in rows:
        lives[row[0]] = _live(row)
    long = [message_id for message_id, live in lives.items() if live.parts > 1]
    if long:
        for message_id, standings in _load_parts(context, long).items():
            lives[message_id].standings.update(standings)
    return lives


def _live(row: Any) -> Live:
    parts = row[14]
    start = Standing(STATUS[row[4]], bool(row[5]))
    unheard = start if is_final(start.status) else START
    standings = {1: start} if parts == 1 else dict.fromkeys(range(1, parts + 1), unheard)
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
        due_at=row[11],
        leased_until=row[12],
        completed_at=row[13],
        parts=parts,
        valid_until=row[15],
        want_report=bool(row[16]),
        source_id=row[17],
        push_url=row[18],
        accept_empty_push=bool(row[19]),
        standings=standings,
    )


def _save(context: Context, lives: list[Live], changes: Changes) -> None:
    context.write("save_messages", [_saved_row(live) for live in lives])
    parts = [
        (live.message_id, part_no, int(standing.status), int(standing.assumed))
        for live in lives
        if live.parts > 1
        for part_no, standing in live.standings.items()
    ]
    context.write("save_parts", parts)
    context.write("insert_events", [_event_row(event) for event in changes.events])
    context.write("insert_upstream_ids", [_upstream_row(one) for one in changes.upstream_ids])
    newest = {push.message_id: push for push in changes.pushes}
    context.write("put_pushes", [_push_row(push) for push in newest.values()])
    context.owe(newest.values())
    for account_id, amount in changes.refunds:
        context.purses.pop(account_id, None)
        context.cursor.execute(SQL["refund"], (amount, account_id))


def _saved_row(live: Live) -> tuple[Any, ...]:
    return (
        live.message_id,
        int(live.status),
        int(live.assumed),
        live.seq,
        int(live.sent),
        live.refunded_milli,
        live.due_at,
        live.leased_until,
        live.completed_at,
    )


def _event_row(event: EventRow) -> tuple[Any, ...]:
    return (
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


def _upstream_row(one: UpstreamId) -> tuple[Any, ...]:
    return (one.submitted_at // DAY_MS, one.connector, one.upstream_id, one.message_id, one.part_no, one.attempt)


def _push_row(push: Push) -> tuple[Any, ...]:
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


class Arrival(msgspec.Struct, frozen=True):
    """Something an upstream sent, with the functions that know what it means."""

    parked: Parked
    judge: Judge
    as_news: AsNews


def receive(context: Context, arrivals: list[Arrival]) -> list[None]:
    """T4: match receipts and judge them; what matches nothing stays in the inbox."""
    judge, as_news = arrivals[0].judge, arrivals[0].as_news
    everything = [arrival.parked for arrival in arrivals]
    receipts = [one for one in everything if one.is_receipt and one.upstream_id]
    left = [one for one in everything if not (one.is_receipt and one.upstream_id)]
    left += _settle(context, receipts, judge, as_news, max(one.received_at for one in everything))
    context.write("insert_inbox", [_inbox_row(one) for one in left])
    context.parked += sum(one.is_receipt for one in left)
    return [None] * len(arrivals)


def _settle(context: Context, receipts: list[Parked], judge: Judge, as_news: AsNews, latest_at: int) -> list[Parked]:
    """Judge the receipts whose part is certain and return the others.

    Where one id stands for several parts, each receipt must find them as the one before it left them: one a round.
    """
    left: list[Parked] = []
    while receipts:
        found = _match(context, receipts, latest_at // DAY_MS)
        news: list[News] = []
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
            chosen = choose(candidates, one.source)
            if chosen is None:
                left.append(one)
            else:
                news.append(as_news(chosen.message_id, chosen.part_no, one))
        _judge_all(context, news, judge)
        receipts = again
    return left


def _match(context: Context, receipts: list[Parked], today: int) -> dict[tuple[str, str], list[Candidate]]:
    """Find the parts with the receipts' ids: of two days first, then of all, where none with the number is found."""
    found: dict[tuple[str, str], list[Candidate]] = {}
    by_connector = sorted(receipts, key=lambda one: one.connector)
    for connector, group in groupby(by_connector, key=lambda one: one.connector):
        members = list(group)
        for days in ([today, today - 1], [today - n for n in range(-1, KEEP_UPSTREAM_IDS_DAYS) if n not in (0, 1)]):
            missing = {one.upstream_id for one in members if _is_open(found.get((connector, one.upstream_id)), one)}
            if missing:
                bindings = (carray(days), carray(sorted(missing)), connector)
                for upstream_id, message_id, part_no, msisdn, status in context.cursor.execute(
                    SQL["match_receipts"], bindings
                ):
                    candidate = Candidate(message_id, part_no, msisdn, is_final(STATUS[status]))
                    found.setdefault((connector, upstream_id), []).append(candidate)
    return found


def _is_open(candidates: list[Candidate] | None, receipt: Parked) -> bool:
    if not candidates:
        return True
    return bool(receipt.source) and not any(is_number(one.msisdn, receipt.source) for one in candidates)


def _inbox_row(one: Parked) -> tuple[Any, ...]:
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


def push_results(context: Context, items: list[tuple[PushResult, int]]) -> list[None]:
    """T5: forget pushes that were delivered, reschedule the others; the history keeps both."""
    done = [(result.message_id, result.push_id) for result, _ in items if result.delivered]
    context.cursor.executemany(SQL["delete_push"], done)
    for result, _ in items:
        if not result.delivered:
            context.cursor.execute(
                SQL["reschedule_push"],
                (result.attempts, result.next_at, result.detail, result.message_id, result.push_id),
            )
    events = [
        (result.message_id, event_id, result.at, "pushed" if result.delivered else "push failed", result.detail)
        for result, event_id in items
    ]
    context.write("push_events", events)
    return [None] * len(items)


class PutAccount(msgspec.Struct, frozen=True):
    """An account as it shall be."""

    account: Account
    opening_milli: int
    at: int


def put_account(context: Context, wishes: list[PutAccount]) -> list[Account]:
    """Create or change accounts; a new one gets its opening credits at once."""
    answers = []
    context.purses.clear()
    for wish in wishes:
        stored = _put_one(context, wish.account)
        if wish.opening_milli and not wish.account.account_id:
            top_up(context, [TopUp(stored.account_id, wish.opening_milli, wish.at, "opening credits")])
        answers.append(stored)
    return answers


def _put_one(context: Context, account: Account) -> Account:
    row = (
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
    try:
        if account.account_id:
            context.cursor.execute(SQL["update_account"], (*row, account.account_id))
            return account
        context.cursor.execute(SQL["insert_account"], row)
    except apsw.ConstraintError:
        raise ValueError(f"there is an account named {account.username!r} already") from None
    return msgspec.structs.replace(account, account_id=context.connection.last_insert_rowid())


class TopUp(msgspec.Struct, frozen=True):
    """Credits given by hand."""

    account_id: int
    amount_milli: int
    at: int
    note: str


def top_up(context: Context, items: list[TopUp]) -> list[int]:
    """Add credits and write down that it was done; answers the new credits."""
    answers = []
    for item in items:
        context.purses.pop(item.account_id, None)
        try:
            context.cursor.execute(SQL["refund"], (item.amount_milli, item.account_id))
        except apsw.ConstraintError:
            raise ValueError("credits can't go below zero, nor above what 64 bits hold") from None
        context.cursor.execute(SQL["insert_top_up"], (item.account_id, item.at, item.amount_milli, item.note))
        answers.append(int(context.one(SQL["credits_of"], (item.account_id,))))
    return answers


def remember_last_id(context: Context, ids: list[int]) -> list[None]:
    """Note how far this node's ids have come."""
    context.cursor.execute(SQL["remember_last_id"], (max(ids),))
    return [None] * len(ids)


def forget_upstream_ids(context: Context, before_days: list[int]) -> list[int]:
    """Drop ids of parts submitted before a day, some thousand at a time; answers how many went."""
    answers = []
    for day in before_days:
        context.cursor.execute(SQL["forget_upstream_ids"], (day,))
        answers.append(context.connection.changes())
    return answers
