"""What happens inside a write transaction: each verb over all items of a group, a statement a table."""

from collections.abc import Iterable, Sequence
from itertools import chain, groupby
from typing import Any

import asyncpg
import msgspec

from aldis.lifecycle import Standing
from aldis.model.ids import id_at, time_of
from aldis.model.status import Status
from aldis.model.types import Account, Push, PushResult
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
from aldis.store.postgres.connection import Connection, columns
from aldis.store.postgres.lane import SQL, Shortcut, Tx
from aldis.store.rows import quote

_BATCH_SPAN_MS = 3_600_000
"""More than the time between a batch's id and its last message's."""
_MESSAGE_COLUMNS, _SAVED_COLUMNS, _EVENT_COLUMNS, _UPSTREAM_COLUMNS, _PUSH_COLUMNS = 10, 11, 10, 7, 12
_QUEUED = (int(Status.IN_PROGRESS), int(Status.RETRY_QUEUED))
"""A message has a row in the queue only while it stands here: a part of it is not upstream yet."""


def bounds(message_ids: Sequence[int]) -> tuple[int, int]:
    """Return the smallest and the largest id: which partitions to look into."""
    return min(message_ids), max(message_ids)


# T1


async def admit(tx: Tx, batches: list[NewBatch]) -> list[Admission]:
    """T1: write batches, messages, charge, quota and duplicate numbers; judge in order of arrival."""
    for batch in batches:
        _check(batch)
    purses = await _lock_purses(tx, {batch.account_id for batch in batches})
    numbered = await _find_duplicates(tx, batches)
    answers: list[Admission] = []
    admitted: list[NewBatch] = []
    for batch in batches:
        key = (batch.account_id, batch.stop_dup_id)
        if batch.stop_dup_id and key in numbered:
            answers.append(Admission(Verdict.DUPLICATE, numbered[key]))
            continue
        verdict, purse = rows.pay(purses.get(batch.account_id), batch)
        answers.append(Admission(verdict, batch.batch_id))
        if verdict is Verdict.ADMITTED and purse is not None:
            purses[batch.account_id] = purse
            admitted.append(batch)
            if batch.stop_dup_id:
                numbered[key] = batch.batch_id
    if admitted:
        paying = {batch.account_id for batch in admitted}
        await _write_batches(tx, admitted, [(i, *purses[i].charged) for i in sorted(paying)])
    return answers


def fits_at_once(batches: Sequence[NewBatch]) -> bool:
    """Tell whether a call's batches can be admitted with one statement.

    Those with a number or pushes can't; of one account and day, all of them are admitted or none is.
    """
    first = batches[0]
    return not any(
        batch.stop_dup_id or batch.pushes or batch.account_id != first.account_id or _day(batch) != _day(first)
        for batch in batches
    )


def _day(batch: NewBatch) -> int:
    return batch.created_at // rows.DAY_MS


async def admit_at_once(tx: Tx, batches: list[NewBatch]) -> list[Admission | None]:
    """T1 with one statement: write the batches of all accounts that can pay for the whole of theirs.

    An account that can't pay for all, or would go over its quota, is left to `admit`, which judges one by one.
    """
    day = _day(batches[0])
    charges: dict[int, list[int]] = {}
    for batch in batches:
        if _day(batch) != day:
            return [None] * len(batches)
        _check(batch)
        charge = charges.setdefault(batch.account_id, [batch.account_id, 0, 0])
        charge[1] += batch.charge_milli
        charge[2] += batch.counted
    paying = columns([(*charges[account_id],) for account_id in sorted(charges)])
    found = await tx.write("admit_at_once", *_new_columns(batches), *paying, day)
    paid = {row[1] for row in found}
    return [Admission(Verdict.ADMITTED, one.batch_id) if one.account_id in paid else None for one in batches]


async def recall_admitted(connection: Connection, batches: list[NewBatch]) -> list[Admission | None]:
    """Answer for batches whose answers were lost: those that are there were admitted."""
    keys = columns([(batch.account_id, batch.batch_id) for batch in batches])
    there = {row[0] for row in await connection.fetch(SQL["batches_there"], *keys)}
    return [Admission(Verdict.ADMITTED, one.batch_id) if one.batch_id in there else None for one in batches]


ADMIT_AT_ONCE = Shortcut(admit, fits_at_once, admit_at_once, recall_admitted)


def _check(batch: NewBatch) -> None:
    """Refuse what no row of two tables may say together: one is over, or it waits."""
    for row in batch.messages:
        if row[7] is not None and row[8] is not None:
            raise ValueError(f"message {row[0]} is completed and due at once")


async def _lock_purses(tx: Tx, account_ids: set[int]) -> dict[int, rows.Purse]:
    found = await tx.fetch("lock_purses", list(account_ids))
    return {row[0]: rows.Purse(*row[1:]) for row in map(tuple, found)}


async def _find_duplicates(tx: Tx, batches: list[NewBatch]) -> dict[tuple[int, int], int]:
    keys = {(batch.account_id, batch.stop_dup_id) for batch in batches if batch.stop_dup_id}
    if not keys:
        return {}
    found = await tx.fetch("find_duplicates", *columns(list(keys)))
    return {(row[0], row[1]): row[2] for row in found}


async def _write_batches(tx: Tx, batches: list[NewBatch], charges: list[rows.Row]) -> None:
    await tx.write("admit", *_new_columns(batches), *columns(charges))
    await _put_pushes(tx, list(chain.from_iterable(batch.pushes for batch in batches)))
    numbers = [(one.account_id, one.stop_dup_id, one.batch_id) for one in batches if one.stop_dup_id]
    if numbers:
        await tx.run("insert_duplicates", *columns(numbers))


def _new_columns(batches: list[NewBatch]) -> list[list[Any]]:
    """Return the columns of new batches, then those of their messages."""
    messages = [(*row, batch.parts) for batch in batches for row in batch.messages]
    return columns([_batch_row(batch) for batch in batches]) + columns(messages, _MESSAGE_COLUMNS)


def _batch_row(batch: NewBatch) -> rows.Row:
    row = rows.batch_row(batch)
    return (*row[:7], quote(row[7]), *row[8:10], quote(row[10]), *row[11:])


async def _put_pushes(tx: Tx, pushes: list[Push]) -> None:
    """Owe pushes."""
    if pushes:
        newest = {push.message_id: push for push in pushes}
        written = [_push_row(newest[message_id]) for message_id in sorted(newest)]
        _owe(tx, newest, await tx.fetch("put_pushes", *columns(written), tx.seat.push_owner))


def _owe(tx: Tx, newest: dict[int, Push], owners: Iterable[Any]) -> None:
    """Note pushes that are this node's, which go out after the commit, and have others told of theirs."""
    for message_id, owner in owners:
        if owner == tx.seat.epoch and tx.seat.pushes:
            tx.effects.owe([newest[message_id]])
        else:
            tx.rings.add("pushes")


def _push_row(push: Push) -> rows.Row:
    row = rows.push_row(push)
    return (*row[:8], quote(row[8]), *row[9:])


# T2


class Claim(msgspec.Struct, frozen=True):
    """A wish to send."""

    connector: str
    parts: int
    since: int
    """The low-water mark: nothing is looked for that was due before it."""
    now: int
    leased_until: int


class Claimed(msgspec.Struct, frozen=True):
    """What a claim got."""

    dues: list[Due]
    due_at: int
    """When the last of them was due."""


async def claim(tx: Tx, claims: list[Claim]) -> list[Claimed]:
    """T2: lease due messages, oldest first, up to a number of parts each."""
    return [await _claim_one(tx, one) for one in claims]


async def _claim_one(tx: Tx, wish: Claim) -> Claimed:
    bindings = (wish.connector, wish.since, wish.now, wish.parts, wish.leased_until, tx.seat.epoch)
    found = [tuple(row)[1:] for row in await tx.write("claim", *bindings)]
    found.sort(key=lambda row: (row[0], row[2]))
    retried = [(row[1], row[2]) for row in found if row[6] > 1 and row[5] > 1]
    standings = await _load_parts(tx, retried) if retried else {}
    dues = [rows.due_of(row[1:], standings.get(row[2])) for row in found]
    return Claimed(dues, found[-1][0] if found else 0)


async def _load_parts(tx: Tx, keys: list[tuple[int, int]]) -> dict[int, dict[int, Standing]]:
    return rows.standings_of(await tx.fetch("load_parts", *columns(keys), *bounds([key[1] for key in keys])))


# T3


class NewsItem(msgspec.Struct, frozen=True):
    """News with the functions that know what it means."""

    news: News
    judge: Judge
    match: Match


async def record(tx: Tx, items: list[NewsItem]) -> list[None]:
    """T3: judge news in order, then the parked receipts whose ids it made known."""
    judge, match = items[0].judge, items[0].match
    news = [item.news for item in items]
    await _judge_all(tx, news, judge)
    if waiting := await _find_parked(tx, news):
        await _unpark(tx, waiting, await _settle(tx, waiting, judge, match, max(one.at for one in news)))
    return [None] * len(items)


async def _find_parked(tx: Tx, news: list[News]) -> list[Parked]:
    """Return the parked receipts with an id that the news makes known."""
    by_connector: dict[str, set[str]] = {}
    for one in news:
        for connector, upstream_id in one.upstream_keys:
            by_connector.setdefault(connector, set()).add(quote(upstream_id))
    found: list[Parked] = []
    for connector, ids in by_connector.items():
        found.extend(_parked(await tx.fetch("parked_receipts", connector, sorted(ids))))
    return found


def _parked(found: list[asyncpg.Record]) -> list[Parked]:
    return [rows.parked_of(tuple(row)) for row in found]


async def _unpark(tx: Tx, waiting: list[Parked], left: list[Parked]) -> int:
    """Take receipts out of the inbox that found their part; returns how many did."""
    taken = sorted({one.inbox_id for one in waiting} - {one.inbox_id for one in left})
    if taken:
        await tx.run("delete_inbox", taken)
    return len(taken)


async def _judge_all(tx: Tx, news: Sequence[News], judge: Judge) -> None:
    if not news:
        return
    lives = await _load(tx, sorted({(one.message_id, one.account_id) for one in news}))
    queued = {message_id for message_id, live in lives.items() if _is_queued(live)}
    judged = rows.judge_all(lives, news, judge)
    tx.effects.reached += judged.reached
    await _save(tx, judged.lives, queued, judged.changes)


def _is_queued(live: Live) -> bool:
    return live.due_at is not None or live.leased_until is not None


async def _load(tx: Tx, keys: list[tuple[int, int]]) -> dict[int, Live]:
    message_ids, account_ids = columns(keys)
    low, high = bounds(message_ids)
    oldest_batch = id_at(time_of(low) - _BATCH_SPAN_MS)
    found = await tx.fetch("lock_messages", account_ids, message_ids, low, high, oldest_batch)
    lives = {row[0]: rows.live_of(row) for row in map(tuple, found)}
    waiting = [(live.account_id, live.message_id) for live in lives.values() if live.status in _QUEUED]
    if waiting:
        for message_id, due_at, leased_until, attempts in await tx.fetch("lock_queued", *columns(waiting)):
            live = lives[message_id]
            live.due_at, live.leased_until, live.attempts = due_at, leased_until, attempts
    long = [(live.account_id, live.message_id) for live in lives.values() if live.parts > 1]
    if long:
        for message_id, standings in (await _load_parts(tx, long)).items():
            lives[message_id].standings.update(standings)
    return lives


async def _save(tx: Tx, lives: list[Live], queued: set[int], changes: Changes) -> None:
    if lives:
        await _save_messages(tx, lives, queued, changes)
        await _keep_queued(tx, lives)
    elif changes.events or changes.upstream_ids:
        await _save_messages(tx, lives, queued, changes)
    if parts := [part for live in lives for part in rows.part_rows(live)]:
        await tx.run("save_parts", *columns(parts))
    for account_id, milli in changes.refunds:
        tx.refunds[account_id] += milli


def _message_row(live: Live) -> rows.Row:
    return (
        live.account_id,
        live.message_id,
        int(live.status),
        int(live.assumed),
        live.seq,
        int(live.sent),
        live.refunded_milli,
        live.fenced,
        live.attempts,
        live.completed_at,
        live.price_milli,
    )


async def _save_messages(tx: Tx, lives: list[Live], queued: set[int], changes: Changes) -> None:
    """Write what most news changes, with one statement: each would be a round trip."""
    over = [live for live in lives if not _is_queued(live)]
    leaving = [(live.account_id, live.message_id) for live in over if live.message_id in queued]
    newest = {push.message_id: push for push in changes.pushes}
    [(_, pushed, owners)] = await tx.write(
        "save",
        *columns([_message_row(live) for live in lives], _SAVED_COLUMNS),
        *columns(leaving, 2),
        *columns([_event_row(event) for event in changes.events], _EVENT_COLUMNS),
        *columns([_upstream_row(one) for one in changes.upstream_ids], _UPSTREAM_COLUMNS),
        *columns([_push_row(newest[message_id]) for message_id in sorted(newest)], _PUSH_COLUMNS),
        tx.seat.push_owner,
    )
    _owe(tx, newest, zip(pushed or (), owners or (), strict=True))


async def _keep_queued(tx: Tx, lives: list[Live]) -> None:
    staying = [
        (live.account_id, live.message_id, live.parts, live.due_at, live.leased_until, live.attempts)
        for live in lives
        if _is_queued(live)
    ]
    if staying:
        await tx.run("keep_queued", *columns(staying), *bounds([live.message_id for live in lives]))


def _event_row(event: Any) -> rows.Row:
    row = rows.event_row(event)
    return (*row[:8], quote(row[8]), quote(row[9]))


def _upstream_row(one: Any) -> rows.Row:
    row = rows.upstream_row(one)
    return (*row[:3], quote(row[3]), *row[4:])


# T4


class Arrival(msgspec.Struct, frozen=True):
    """Something an upstream sent, with the functions that know what it means."""

    parked: Parked
    judge: Judge
    match: Match


async def receive(tx: Tx, arrivals: list[Arrival]) -> list[None]:
    """T4: match receipts and judge them; what matches nothing stays in the inbox."""
    judge, match = arrivals[0].judge, arrivals[0].match
    everything = [_quoted(arrival.parked) for arrival in arrivals]
    receipts = [one for one in everything if one.is_receipt and one.upstream_id]
    left = [one for one in everything if not (one.is_receipt and one.upstream_id)]
    latest_at = max(one.received_at for one in everything)
    left += await _settle(tx, receipts, judge, match, latest_at, rows.FIRST_SEARCHES)
    if left:
        await tx.run("insert_inbox", *columns([rows.parked_row(one) for one in left]))
    return [None] * len(arrivals)


def _quoted(one: Parked) -> Parked:
    texts = ("upstream_id", "state", "error", "source", "destination", "text")
    return msgspec.structs.replace(one, **{name: quote(getattr(one, name)) for name in texts})


async def _settle(
    tx: Tx, receipts: list[Parked], judge: Judge, match: Match, latest_at: int,
    searches: Sequence[rows.Search] = rows.SEARCHES,
) -> list[Parked]:  # fmt: skip
    """Judge the receipts whose part is certain and return the others."""
    left: list[Parked] = []
    while receipts:
        round_ = rows.assign(receipts, await _match(tx, receipts, latest_at // rows.DAY_MS, searches), match)
        await _judge_all(tx, round_.news, judge)
        left += round_.left
        receipts = round_.again
    return left


async def _match(tx: Tx, receipts: list[Parked], today: int, searches: Sequence[rows.Search]) -> rows.Found:
    """Find the parts that the receipts' ids may mean, looking wider where none with the number is found."""
    found: rows.Found = {}
    by_connector = sorted(receipts, key=lambda one: one.connector)
    for connector, group in groupby(by_connector, key=lambda one: one.connector):
        members = list(group)
        for search in searches:
            if wanted := rows.ids_to_find(members, found, search):
                bindings = (connector, sorted(wanted), search.days(today))
                for upstream_id, *part in map(tuple, await tx.fetch("match_receipts", *bindings)):
                    rows.add_candidates(found, connector, wanted[upstream_id], part)
    return found


class Rematch(msgspec.Struct, frozen=True):
    """A wish to look again at parked receipts."""

    span: Span
    judge: Judge
    match: Match


async def rematch(tx: Tx, wishes: list[Rematch]) -> list[Rematched]:
    """Judge parked receipts whose part can be told by now, or whose id was written while they were parked."""
    answers = []
    for wish in wishes:
        bindings = (wish.span.since, wish.span.after_id, wish.span.until, rows.REMATCHED_AT_ONCE)
        waiting = _parked(await tx.fetch("parked_since", *bindings))
        named = [one for one in waiting if one.upstream_id]
        left = [one for one in waiting if not one.upstream_id]
        left += await _settle(tx, named, wish.judge, wish.match, wish.span.until)
        left = await _adopt(tx, left, wish)
        answers.append(rows.rematched(await _unpark(tx, waiting, left), waiting, wish.span))
    return answers


async def _adopt(tx: Tx, receipts: list[Parked], wish: Rematch) -> list[Parked]:
    """Give receipts whose ids nobody knows to parts that went without an answer; returns the others."""
    left: list[Parked] = []
    days = rows.all_days(wish.span.until // rows.DAY_MS)
    for connector, group in groupby(sorted(receipts, key=lambda one: one.connector), key=lambda one: one.connector):
        members = list(group)
        parts: dict[str, list[Unanswered]] = {}
        if ids := rows.unanswered_ids(members):
            for upstream_id, *part in map(tuple, await tx.fetch("unanswered_parts", connector, ids, days)):
                parts.setdefault(upstream_id, []).append(Unanswered(*part))
        news, others = rows.adopt(members, parts, wish.match) if parts else ([], members)
        await _judge_all(tx, news, wish.judge)
        left += others
    return left


# T5


async def push_results(tx: Tx, items: list[tuple[PushResult, int]]) -> list[None]:
    """T5: forget pushes that were delivered, reschedule the others; the history keeps both."""
    done = [(one.push_id, one.account_id, one.message_id) for one, _ in items if one.delivered]
    failed = {
        one.push_id: (one.push_id, one.account_id, one.message_id, one.attempts, one.next_at, quote(one.detail))
        for one, _ in items
        if not one.delivered
    }
    if failed:
        await tx.run("reschedule_pushes", *columns(list(failed.values())), tx.seat.epoch)
    events = [
        (
            one.account_id,
            one.message_id,
            event_id,
            one.at,
            "pushed" if one.delivered else "push failed",
            quote(one.detail),
        )
        for one, event_id in items
    ]
    limits = bounds([event[1] for event in events])
    await tx.write("end_pushes", *columns(done, 3), tx.seat.epoch, *columns(events), *limits)
    return [None] * len(items)


class DuePushes(msgspec.Struct, frozen=True):
    """A wish for pushes to send."""

    now: int
    limit: int


async def due_pushes(tx: Tx, wishes: list[DuePushes]) -> list[list[Push]]:
    """Take due pushes that are nobody's, and answer those that are this node's."""
    answers = []
    for wish in wishes:
        if tx.seat.epoch:
            await tx.run("adopt_pushes", tx.seat.epoch, wish.now, wish.limit)
        found = await tx.fetch("due_pushes", tx.seat.epoch, wish.now, wish.limit)
        answers.append([rows.push_of(tuple(row)) for row in found])
    return answers


# Accounts


class PutAccount(msgspec.Struct, frozen=True):
    """An account as it shall be."""

    account: Account
    opening_milli: int
    at: int


async def put_account(tx: Tx, wishes: list[PutAccount]) -> list[Account]:
    """Create or change accounts; a new one gets its opening credits at once."""
    answers = []
    for wish in wishes:
        stored = await _put_one(tx, wish.account)
        if wish.opening_milli and not wish.account.account_id:
            await top_up(tx, [TopUp(stored.account_id, wish.opening_milli, wish.at, "opening credits")])
        answers.append(stored)
    tx.rings.add("accounts")
    return answers


async def _put_one(tx: Tx, account: Account) -> Account:
    row = rows.account_row(account)
    try:
        if account.account_id:
            await tx.run("update_account", *row, account.account_id)
            return account
        await tx.run("lock_account_numbers")
        [made] = await tx.fetch("insert_account", *row)
    except asyncpg.UniqueViolationError:
        raise ValueError(f"there is an account named {account.username!r} already") from None
    return msgspec.structs.replace(account, account_id=made[0])


class TopUp(msgspec.Struct, frozen=True):
    """Credits given by hand."""

    account_id: int
    amount_milli: int
    at: int
    note: str


async def top_up(tx: Tx, items: list[TopUp]) -> list[int]:
    """Add credits and write down that it was done; answers the new credits."""
    answers = [0] * len(items)
    for index in sorted(range(len(items)), key=lambda index: items[index].account_id):  # the order of all locks on them
        item = items[index]
        try:
            [now] = await tx.fetch("give_credits", item.account_id, item.amount_milli)
        except (asyncpg.CheckViolationError, asyncpg.NumericValueOutOfRangeError):
            raise ValueError("credits can't go below zero, nor above what 64 bits hold") from None
        await tx.run("insert_top_up", item.account_id, item.at, item.amount_milli, quote(item.note))
        answers[index] = int(now[0])
    return answers


class NotedId(msgspec.Struct, frozen=True):
    """How far a node number's ids have come."""

    node_number: int
    last_id: int


async def remember_last_id(tx: Tx, noted: list[NotedId]) -> list[None]:
    """Note how far ids have come."""
    for one in noted:
        await tx.run("remember_last_id", one.node_number, one.last_id)
    return [None] * len(noted)
