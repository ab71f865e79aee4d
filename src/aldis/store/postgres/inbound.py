"""Messages of subscribers in the shared engine. What another node has in hand is passed over: it is looked at again."""

import msgspec

from aldis.store import inbound
from aldis.store.base import Assemble, Gathered, InboundMessage, Parked, Span
from aldis.store.postgres.connection import columns
from aldis.store.postgres.lane import Tx
from aldis.store.rows import DAY_MS, all_days, parked_of


class Gather(msgspec.Struct, frozen=True):
    """A wish to put waiting messages together."""

    span: Span
    assemble: Assemble


async def gather(tx: Tx, wishes: list[Gather]) -> list[Gathered]:
    """Put messages together whose parts are all there, or were waited for long enough."""
    answers = []
    for wish in wishes:
        bindings = (wish.span.since, wish.span.after_id, wish.span.until, inbound.GATHERED_AT_ONCE)
        waiting = [parked_of(tuple(row)) for row in await tx.fetch("waiting_inbound", *bindings)]
        groups = await _groups(tx, waiting)
        assembled = wish.assemble([one for one in waiting if not one.upstream_id], groups)
        fresh = [one for one in assembled.messages if not await _came_again(tx, one)]
        messages = await _answering(tx, fresh, wish.span.until)
        if messages:
            await tx.run("insert_inbound", *columns([inbound.inbound_row(one) for one in messages]))
        if assembled.used:
            await tx.run("delete_inbox", assembled.used)
        answers.append(inbound.gathered(messages, waiting, wish.span))
    return answers


async def _groups(tx: Tx, waiting: list[Parked]) -> list[list[Parked]]:
    groups: list[list[Parked]] = []
    for connector, keys in inbound.keys_to_find(waiting).items():
        found = await tx.fetch("pieces_of_inbound", connector, keys)
        there = {row[0]: row[1] for row in await tx.fetch("count_pieces_of_inbound", connector, keys)}
        ours = inbound.grouped([parked_of(tuple(row)) for row in found])
        groups += [group for group in ours if len(group) == there[group[0].upstream_id]]
    return groups


async def _came_again(tx: Tx, one: InboundMessage) -> bool:
    if one.parts_got == one.parts:
        return False
    return inbound.came_again(one, await tx.fetch("earlier_inbound", *inbound.whole_key(one)))


async def _answering(tx: Tx, messages: list[InboundMessage], now: int) -> list[InboundMessage]:
    keys = inbound.conversations(messages)
    if not keys:
        return messages
    found = await tx.fetch("match_receipts", inbound.NOBODY, keys, all_days(now // DAY_MS))
    return inbound.with_answered(messages, inbound.newest([tuple(row) for row in found]))
