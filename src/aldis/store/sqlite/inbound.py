"""Messages of subscribers in the embedded engine."""

from typing import Any

import msgspec

from aldis.store import inbound
from aldis.store.base import Assemble, Gathered, InboundMessage, Parked, Span
from aldis.store.rows import DAY_MS, all_days, parked_of
from aldis.store.sqlite.context import SQL, Context, carray


class Gather(msgspec.Struct, frozen=True):
    """A wish to put waiting messages together."""

    span: Span
    assemble: Assemble


def gather(context: Context, wishes: list[Gather]) -> list[Gathered]:
    """Put messages together whose parts are all there, or were waited for long enough."""
    answers = []
    for wish in wishes:
        bindings = (wish.span.since, wish.span.after_id, wish.span.until, inbound.GATHERED_AT_ONCE)
        waiting = [parked_of(row) for row in context.cursor.execute(SQL["waiting_inbound"], bindings)]
        groups = _groups(context, waiting)
        assembled = wish.assemble([one for one in waiting if not one.upstream_id], groups)
        fresh = [one for one in assembled.messages if not _came_again(context, one)]
        messages = _answering(context, fresh, wish.span.until)
        context.write("insert_inbound", [inbound.inbound_row(one) for one in messages])
        if assembled.used:
            context.cursor.execute(SQL["delete_inbox"], (carray(assembled.used),))
        answers.append(inbound.gathered(messages, waiting, wish.span))
    return answers


def _groups(context: Context, waiting: list[Parked]) -> list[list[Parked]]:
    groups: list[list[Parked]] = []
    for connector, keys in inbound.keys_to_find(waiting).items():
        found = context.cursor.execute(SQL["pieces_of_inbound"], (carray(keys), connector))
        groups += inbound.grouped([parked_of(row) for row in found])
    return groups


def _came_again(context: Context, one: InboundMessage) -> bool:
    if one.parts_got == one.parts:
        return False
    earlier: list[Any] = context.cursor.execute(SQL["earlier_inbound"], inbound.whole_key(one)).fetchall()
    return inbound.came_again(one, earlier)


def _answering(context: Context, messages: list[InboundMessage], now: int) -> list[InboundMessage]:
    keys = inbound.conversations(messages)
    if not keys:
        return messages
    bindings = (carray(all_days(now // DAY_MS)), carray(keys), inbound.NOBODY)
    found: list[Any] = context.cursor.execute(SQL["match_receipts"], bindings).fetchall()
    return inbound.with_answered(messages, inbound.newest(found))


def forget_inbound(context: Context, before: list[int]) -> list[int]:
    """Drop messages that came before a time, some thousand at a time; answers how many went."""
    answers = []
    for at in before:
        context.cursor.execute(SQL["forget_inbound"], (at,))
        answers.append(context.connection.changes())
    return answers
