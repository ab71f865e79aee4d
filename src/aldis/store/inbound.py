"""Messages of subscribers as rows, and what both engines do alike with those that wait to be put together."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from aldis.rules.replies import conversation
from aldis.store.base import Gathered, InboundMessage, Parked, Span
from aldis.store.rows import Row, quote

GATHERED_AT_ONCE = 200
"""Waiting PDUs looked at in one transaction; each may be of a message of 255."""
SENT_AGAIN_MS = 3_600_000
"""How long after a message is there a part of it may come again."""
NOBODY = ""
"""The connector under which conversations stand in the table of upstream ids."""
Answered = Mapping[str, tuple[int, int]]
"""Conversation -> account_id and message_id of its newest message."""


def inbound_row(one: InboundMessage) -> Row:
    """Return a message as it is stored."""
    return (
        one.inbound_id,
        one.connector,
        one.received_at,
        one.source,
        one.destination,
        one.data_coding,
        quote(one.text),
        one.octets,
        one.parts,
        one.parts_got,
        one.keyword,
        one.account_id,
        one.message_id,
    )


def inbound_of(row: Sequence[Any]) -> InboundMessage:
    """Return a message from its row."""
    return InboundMessage(**dict(zip(InboundMessage.__struct_fields__, row, strict=True)))


def keys_to_find(waiting: Sequence[Parked]) -> dict[str, list[str]]:
    """Return by connector what the parts of long messages share, whose other parts are to be found."""
    keys: dict[str, set[str]] = {}
    for one in waiting:
        if one.upstream_id:
            keys.setdefault(one.connector, set()).add(one.upstream_id)
    return {connector: sorted(found) for connector, found in keys.items()}


def grouped(pieces: Sequence[Parked]) -> list[list[Parked]]:
    """Return the parts of one connector's long messages, those together that belong together, oldest first."""
    groups: dict[str, list[Parked]] = {}
    for one in sorted(pieces, key=lambda piece: piece.inbox_id):
        groups.setdefault(one.upstream_id, []).append(one)
    return list(groups.values())


def whole_key(one: InboundMessage) -> tuple[str, str, str, int, int, int]:
    """Return what finds whole messages whose parts an incomplete one may have again."""
    since = one.received_at - SENT_AGAIN_MS
    return one.connector, one.source, one.destination, one.parts, since, one.received_at


def came_again(one: InboundMessage, earlier: Sequence[Any]) -> bool:
    """Tell whether the parts of an incomplete message stand in one that was found, by rows with their octets."""
    return any(one.octets in row[0] for row in earlier)


def conversations(messages: Sequence[InboundMessage]) -> list[str]:
    """Return the conversations that messages may be part of."""
    return sorted({conversation(one.destination, one.source) for one in messages} - {""})


def newest(found: Sequence[Sequence[Any]]) -> Answered:
    """Return the newest message of each conversation, from rows as receipts' look-up returns them."""
    by_age = sorted(found, key=lambda row: int(row[2]))
    return {str(row[0]): (row[1], row[2]) for row in by_age}


def with_answered(messages: Sequence[InboundMessage], answered: Answered) -> list[InboundMessage]:
    """Return messages with what they answer."""
    told = []
    for one in messages:
        account_id, message_id = answered.get(conversation(one.destination, one.source), (0, 0))
        told.append(msgspec.structs.replace(one, account_id=account_id, message_id=message_id))
    return told


def gathered(messages: list[InboundMessage], looked_at: Sequence[Parked], span: Span) -> Gathered:
    """Return what came of a look, and where the next begins."""
    if len(looked_at) < GATHERED_AT_ONCE:
        return Gathered(messages, None)
    last = looked_at[-1]
    return Gathered(messages, Span(last.received_at, span.until, last.inbox_id))
