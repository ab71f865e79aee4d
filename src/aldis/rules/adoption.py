"""Which message a receipt is about whose id nobody knows.

A message that was sent and not answered may have been taken; its receipt then names an id that we were never told. And
there are upstreams whose receipts name no id at all, or one that has nothing to do with the answer's. Number,
originator, time and text together make up for it, where they fit one message alone.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from aldis.model.ids import time_of
from aldis.model.status import Status
from aldis.rules.matching import is_number

_UNANSWERED = (Status.UPSTREAM_UNACKNOWLEDGED, Status.EXPIRED)
"""Where a part stands that got no answer: until a receipt says otherwise, or its time is over."""
_UNDER_WAY = (Status.DELIVERED_UPSTREAM, Status.UPSTREAM_UPDATE, Status.UPSTREAM_TRANSIENT, Status.EXPIRED)
"""Where a part stands that was answered and has no final receipt."""
_TAIL = 7
_SAME_WORDS = 12
_CLOCKS_MS = 60_000


def unanswered_id(number: str) -> str:
    """Return what stands for the id of a part that got no answer: its number's end, after a sign that no id has."""
    return f"\N{TELEPHONE SIGN}{number[-_TAIL:]}"


def answered_id(number: str) -> str:
    """Return what stands, beside its id, for a part whose upstream is known to send receipts without this."""
    return f"\N{TELEPHONE LOCATION SIGN}{number[-_TAIL:]}"


class Unanswered(NamedTuple):
    """A part that got no answer, or whose answer's id is of no use, as it was sent."""

    account_id: int
    message_id: int
    part_no: int
    msisdn: int
    status: int
    originator: str
    body: bytes
    """UTF-8, or a binary message."""


class Receipted(NamedTuple):
    """What a receipt tells of the message that it is about."""

    upstream_id: str
    source: str
    """The number that the message went to."""
    destination: str
    """The message's originator."""
    received_at: int
    text: str
    """The receipt's whole text."""


def fits(part: Unanswered, receipt: Receipted, *, is_answered: bool = False) -> bool:
    """Tell whether a receipt may be about a part that got no answer, or the answer to which is of no use."""
    return (
        part.status in (_UNDER_WAY if is_answered else _UNANSWERED)
        and is_number(part.msisdn, receipt.source)
        and _is_originator(part.originator, receipt.destination)
        and time_of(part.message_id) <= receipt.received_at + _CLOCKS_MS
        and (part.part_no > 1 or _begins_alike(part.body, receipt.text))
    )


def adopt(receipts: Sequence[Receipted], parts: Mapping[str, Iterable[Unanswered]]) -> dict[int, Unanswered]:
    """Give receipts to the parts that got no answer, where there is no doubt.

    Args:
        receipts: Of one connector.
        parts: That connector's parts by `unanswered_id` and `answered_id`.

    Returns:
        By the receipt's place: its part. A receipt that fits two messages gets none, and of a message that more ids fit
        than it has such parts nothing is known, either. Receipts without an id are for one part after the other.
    """
    fitting: dict[int, tuple[list[Unanswered], str]] = {}
    ids: dict[int, list[str]] = {}
    for at, receipt in enumerate(receipts):
        found = [part for part in parts.get(unanswered_id(receipt.source), ()) if fits(part, receipt)]
        answered = parts.get(answered_id(receipt.source), ())
        found += [part for part in answered if part not in found and fits(part, receipt, is_answered=True)]
        if len({part.message_id for part in found}) == 1:
            mine = ids.setdefault(found[0].message_id, [])
            if not receipt.upstream_id and len(mine) >= len(found):
                continue
            name = receipt.upstream_id or f"\0{at}"
            fitting[at] = sorted(found, key=lambda part: part.part_no), name
            if name not in mine:
                mine.append(name)
    chosen: dict[int, Unanswered] = {}
    for at, (found, name) in fitting.items():
        mine = ids[found[0].message_id]
        if len(mine) <= len(found):
            chosen[at] = found[mine.index(name)]
    return chosen


def _is_originator(originator: str, written: str) -> bool:
    ours, theirs = originator.removeprefix("+"), written.removeprefix("+")
    if not ours:  # the message centre put its own
        return True
    if ours.isdigit() and theirs.isdigit():
        return ours[-_TAIL:] == theirs[-_TAIL:]
    return ours.casefold() == theirs.casefold()


def _begins_alike(body: bytes, receipt: str) -> bool:
    """Compare the first letters and digits; a receipt without the message's text says nothing."""
    _, _, quoted = receipt.lower().rpartition("text:")
    theirs = _words(quoted if "text:" in receipt.lower() else "")
    ours = _words(body.decode("utf-8", "replace").lower())
    length = min(len(theirs), len(ours), _SAME_WORDS)
    return ours[:length] == theirs[:length]


def _words(text: str) -> str:
    return "".join(char for char in text if char.isascii() and char.isalnum())
