"""Which message a receipt is about."""

from collections.abc import Sequence

import msgspec

from aldis.rules.spelling import Spelling


class Candidate(msgspec.Struct, frozen=True, gc=False):
    """A part that an upstream knows by the id in a receipt."""

    account_id: int
    message_id: int
    part_no: int
    msisdn: int
    is_final: bool
    """Whether nothing more is expected of this part."""
    spelling: Spelling = Spelling.SAME
    """How the receipt's id differs from the one that the upstream gave."""
    is_adopted: bool = False
    """Whether the upstream's id is new to us: the answer that told it never came."""


def is_number(msisdn: int, written: str) -> bool:
    """Tell whether an upstream's spelling of a number means this one: the last seven digits decide."""
    return bool(written) and str(msisdn).endswith(written[-7:])


def choose(candidates: Sequence[Candidate], destination: str, habit: Spelling = Spelling.SAME) -> Candidate | None:
    """Return the part that a receipt is about, or None where that is not certain.

    An id may have been given twice (a restarted SMSC, a wrapped counter), and another id may look like it: the number
    decides, then the id in the spelling that is the link's habit goes before the very id, and this before any other
    spelling; then a part that still waits before one that is done, then the newest.

    Args:
        candidates: All parts with the receipt's id on its connector, and those with one that it may stand for.
        destination: The number in the receipt as the upstream wrote it. A part whose id is spelt as is not the link's
            habit must have it. Upstreams that swap or cut it are believed where a single part has the id and still
            waits: of one that is done, a receipt for another number is news of a later message with the same id.
        habit: How the link's receipts are known to spell ids.
    """
    if same_number := [one for one in candidates if is_number(one.msisdn, destination)]:
        return _best(same_number, habit)
    certain = _spelt(candidates, habit)
    if len(certain) == 1:
        [only] = certain
        return None if only.is_final and destination else only
    return _best(certain, habit)


def _spelt(pool: Sequence[Candidate], habit: Spelling) -> list[Candidate]:
    """Return the candidates with the id in the link's habitual spelling, else those with the very id."""
    for spelling in (habit, Spelling.SAME):
        if found := [one for one in pool if one.spelling is spelling]:
            return found
    return []


def _best(pool: Sequence[Candidate], habit: Spelling) -> Candidate | None:
    certain = _spelt(pool, habit)
    if len({one.msisdn for one in certain}) > 1:
        return None
    likely = certain or [one for one in pool if not one.is_final] or pool
    if len({one.spelling for one in likely}) > 1 and len({one.message_id for one in likely}) > 1:
        return None
    return min(likely, key=lambda one: (one.is_final, -one.message_id, one.part_no), default=None)
