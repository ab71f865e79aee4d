"""What happens inside a write transaction: each verb over all items of a group, in as few statements as it takes."""

from collections.abc import Sequence
from itertools import chain, groupby
from typing import Any

import apsw
import msgspec

from aldis.lifecycle import Standing
from aldis.model.types import Account, PushResult
from aldis.rules.adoption import Unanswered
from aldis.store import rows
from aldis.store.base import (
    Admission,
    Changes,
    Due,
    Judge,
    Live,
    Match,
    NewBatch,
    News,
    Parked,
    Rematched,
    Span,
    Verdict,
)
from aldis.store.sqlite.context import SQL, Context, carray


def admit(context: Context, batches: list[NewBatch]) -> list[Admission]:
    """T1: write batches, messages, charge, quota and duplicate numbers; judge in order of arrival."""
    purses = _load_purses(context, {batch.account_id for batch in batches})
    touched: set[int] = set()
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
        verdict, purse = rows.pay(purses.get(batch.account_id), batch)
        answers.append(Admission(verdict, batch.batch_id))
        if verdict is Verdict.ADMITTED and purse is not None:
            purses[batch.account_id] = purse
            touched.add(batch.account_id)
            admitted.append(batch)
            if batch.stop_dup_id:
                numbered[key] = batch.batch_id
    context.write("insert_batches", [rows.batch_row(batch) for batch in admitted])
    context.write("insert_messages", list(chain.from_iterable(batch.messages for batch in admitted)))
    pushes = [push for batch in admitted for push in batch.pushes]
    context.write("put_pushes", [rows.push_row(push) for push in pushes])
    context.effects.owe(pushes)
    for (account_id, number), batch_id in numbered.items():
        context.cursor.execute(SQL["insert_duplicate"], (account_id, number, batch_id))
    for account_id in touched:
        context.cursor.execute(SQL["charge_account"], (*purses[account_id].charged, account_id))
    return answers


def _load_purses(context: Context, account_ids: set[int]) -> dict[int, rows.Purse]:
    """Return what accounts can pay with; the writer, who alone changes that, remembers it."""
    if missing := account_ids - context.purses.keys():
        found: list[Any] = context.cursor.execute(SQL["accounts_for_admission"], (carray(sorted(missing)),)).fetchall()
        context.purses.update({row[0]: rows.Purse(*row[1:]) for row in found})
    return context.purses


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
    found: list[Any] = context.cursor.execute(SQL["due_messages"], (wish.connector, wish.now, wish.parts)).fetchall()
    taken: list[Any] = []
    room = wish.parts
    for row in found:
        room -= row[5]
        if room < 0 and taken:
            break
        taken.append(row)
    if not taken:
        return []
    context.cursor.execute(SQL["lease_messages"], (wish.leased_until, carray([row[1] for row in taken])))
    retried = [row[1] for row in taken if row[5] > 1 and row[4] > 1]
    standings = _load_parts(context, retried) if retried else {}
    return [rows.due_of(row, standings.get(row[1])) for row in taken]


def _load_parts(context: Context, message_ids: list[int]) -> dict[int, dict[int, Standing]]:
    return rows.standings_of(context.cursor.execute(SQL["load_parts"], (carray(message_ids),)))


class NewsItem(msgspec.Struct, frozen=True):
    """News with the functions that know what it means."""

    news: News
    judge: Judge
    match: Match


def record(context: Context, items: list[NewsItem]) -> list[None]:
    """T3: judge news in order, then the parked receipts whose ids it made known."""
    judge, match = items[0].judge, items[0].match
    news = [item.news for item in items]
    _judge_all(context, news, judge)
    if context.parked and (waiting := _find_parked(context, news)):
        _unpark(context, waiting, _settle(context, waiting, judge, match, max(one.at for one in news)))
    return [None] * len(items)


def _find_parked(context: Context, news: list[News]) -> list[Parked]:
    """Return the parked receipts with an id that the news makes known."""
    by_connector: dict[str, set[str]] = {}
    for one in news:
        for connector, upstream_id in one.upstream_keys:
            by_connector.setdefault(connector, set()).add(upstream_id)
    found: list[Parked] = []
    for connector, ids in by_connector.items():
        parked = context.cursor.execute(SQL["parked_receipts"], (carray(sorted(ids)), connector))
        found.extend(rows.parked_of(row) for row in parked)
    return found


def _unpark(context: Context, waiting: list[Parked], left: list[Parked]) -> int:
    """Take receipts out of the inbox that found their part; returns how many did."""
    taken = sorted({one.inbox_id for one in waiting} - {one.inbox_id for one in left})
    if taken:
        context.cursor.execute(SQL["delete_inbox"], (carray(taken),))
        context.parked -= len(taken)
    return len(taken)


def _judge_all(context: Context, news: Sequence[News], judge: Judge) -> None:
    lives = _load(context, list({one.message_id for one in news}))
    judged = rows.judge_all(lives, news, judge)
    context.effects.reached += judged.reached
    _save(context, judged.lives, judged.changes)


def _load(context: Context, message_ids: list[int]) -> dict[int, Live]:
    lives: dict[int, Live] = {}
    if not message_ids:
        return lives
    found: list[Any] = context.cursor.execute(SQL["load_messages"], (carray(message_ids),)).fetchall()
    for row in found:
        lives[row[0]] = rows.live_of(row)
    long = [message_id for message_id, live in lives.items() if live.parts > 1]
    if long:
        for message_id, standings in _load_parts(context, long).items():
            lives[message_id].standings.update(standings)
    return lives


def _save(context: Context, lives: list[Live], changes: Changes) -> None:
    context.write("save_messages", [rows.message_row(live)[1:] for live in lives])
    context.write("save_parts", [part[1:] for live in lives for part in rows.part_rows(live)])
    context.write("insert_events", [rows.event_row(event)[1:] for event in changes.events])
    context.write("insert_upstream_ids", [rows.upstream_row(one)[1:] for one in changes.upstream_ids])
    newest = {push.message_id: push for push in changes.pushes}
    context.write("put_pushes", [rows.push_row(push) for push in newest.values()])
    context.effects.owe(newest.values())
    for account_id, amount in changes.refunds:
        context.purses.pop(account_id, None)
        context.cursor.execute(SQL["refund"], (amount, account_id))


class Arrival(msgspec.Struct, frozen=True):
    """Something an upstream sent, with the functions that know what it means."""

    parked: Parked
    judge: Judge
    match: Match


def receive(context: Context, arrivals: list[Arrival]) -> list[None]:
    """T4: match receipts and judge them; what matches nothing stays in the inbox."""
    judge, match = arrivals[0].judge, arrivals[0].match
    everything = [arrival.parked for arrival in arrivals]
    receipts = [one for one in everything if one.is_receipt and one.upstream_id]
    left = [one for one in everything if not (one.is_receipt and one.upstream_id)]
    latest_at = max(one.received_at for one in everything)
    left += _settle(context, receipts, judge, match, latest_at, rows.FIRST_SEARCHES)
    context.write("insert_inbox", [rows.parked_row(one) for one in left])
    context.parked += sum(one.is_receipt for one in left)
    return [None] * len(arrivals)


def _settle(
    context: Context, receipts: list[Parked], judge: Judge, match: Match, latest_at: int,
    searches: Sequence[rows.Search] = rows.SEARCHES,
) -> list[Parked]:  # fmt: skip
    """Judge the receipts whose part is certain and return the others."""
    left: list[Parked] = []
    while receipts:
        round_ = rows.assign(receipts, _match(context, receipts, latest_at // rows.DAY_MS, searches), match)
        _judge_all(context, round_.news, judge)
        left += round_.left
        receipts = round_.again
    return left


def _match(context: Context, receipts: list[Parked], today: int, searches: Sequence[rows.Search]) -> rows.Found:
    """Find the parts that the receipts' ids may mean, looking wider where none with the number is found."""
    found: rows.Found = {}
    by_connector = sorted(receipts, key=lambda one: one.connector)
    for connector, group in groupby(by_connector, key=lambda one: one.connector):
        members = list(group)
        for search in searches:
            if wanted := rows.ids_to_find(members, found, search):
                bindings = (carray(search.days(today)), carray(sorted(wanted)), connector)
                for upstream_id, *part in context.cursor.execute(SQL["match_receipts"], bindings):
                    rows.add_candidates(found, connector, wanted[str(upstream_id)], part)
    return found


class Rematch(msgspec.Struct, frozen=True):
    """A wish to look again at parked receipts."""

    span: Span
    judge: Judge
    match: Match


def rematch(context: Context, wishes: list[Rematch]) -> list[Rematched]:
    """Judge parked receipts whose part can be told by now."""
    answers = []
    for wish in wishes:
        bindings = (wish.span.since, wish.span.after_id, wish.span.until, rows.REMATCHED_AT_ONCE)
        found = context.cursor.execute(SQL["parked_since"], bindings).fetchall() if context.parked else []
        waiting = [rows.parked_of(row) for row in found]
        named = [one for one in waiting if one.upstream_id]
        left = [one for one in waiting if not one.upstream_id]
        left += _settle(context, named, wish.judge, wish.match, wish.span.until)
        left = _adopt(context, left, wish)
        answers.append(rows.rematched(_unpark(context, waiting, left), waiting, wish.span))
    return answers


def _adopt(context: Context, receipts: list[Parked], wish: Rematch) -> list[Parked]:
    """Give receipts whose ids nobody knows to parts that went without an answer; returns the others."""
    left: list[Parked] = []
    days = carray(rows.all_days(wish.span.until // rows.DAY_MS))
    for connector, group in groupby(sorted(receipts, key=lambda one: one.connector), key=lambda one: one.connector):
        members = list(group)
        parts: dict[str, list[Unanswered]] = {}
        if ids := rows.unanswered_ids(members):
            for upstream_id, *part in context.cursor.execute(SQL["unanswered_parts"], (days, carray(ids), connector)):
                parts.setdefault(str(upstream_id), []).append(Unanswered(*part))
        news, others = rows.adopt(members, parts, wish.match) if parts else ([], members)
        _judge_all(context, news, wish.judge)
        left += others
    return left


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
    row = rows.account_row(account)
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


def note_fact(context: Context, facts: list[tuple[str, int]]) -> list[None]:
    """Note numbers."""
    context.cursor.executemany(SQL["note_fact"], facts)
    return [None] * len(facts)


def add_facts(context: Context, facts: list[tuple[str, int]]) -> list[None]:
    """Add to numbers."""
    context.cursor.executemany(SQL["add_fact"], facts)
    return [None] * len(facts)


def forget_facts(context: Context, prefixes: list[str]) -> list[None]:
    """Forget numbers under names that begin so."""
    context.cursor.executemany(SQL["forget_facts"], [span_of(prefix) for prefix in prefixes])
    return [None] * len(prefixes)


def span_of(prefix: str) -> tuple[str, str]:
    """Return between which names those lie that begin so."""
    return prefix, prefix + "\U0010ffff"


def forget_upstream_ids(context: Context, before_days: list[int]) -> list[int]:
    """Drop ids of parts submitted before a day, some thousand at a time; answers how many went."""
    answers = []
    for day in before_days:
        context.cursor.execute(SQL["forget_upstream_ids"], (day,))
        answers.append(context.connection.changes())
    return answers


def forget_parked(context: Context, before: list[int]) -> list[int]:
    """Drop receipts that came before a time and found no message, some thousand at a time; answers how many went."""
    answers = []
    for at in before:
        context.cursor.execute(SQL["forget_parked"], (at,))
        answers.append(context.connection.changes())
        context.parked -= answers[-1]
    return answers
