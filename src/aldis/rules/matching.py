"""Which message a receipt is about."""

from collections.abc import Sequence

import msgspec


class Candidate(msgspec.Struct, frozen=True, gc=False):
    """A part that an upstream knows by the id in a receipt."""

    account_id: int
    message_id: int
    part_no: int
    msisdn: int
    is_final: bool
    """Whether nothing more is expected of this part."""


def is_number(msisdn: int, written: str) -> bool:
    """Tell whether an upstream's spelling of a number means this one: the last seven digits decide."""
    return bool(written) and str(msisdn).endswith(written[-7:])


def choose(candidates: Sequence[Candidate], destination: str) -> Candidate | None:
    """Return the part that a receipt is about, or None where that is not certain.

    An id may have been given twice (a restarted SMSC, a wrapped counter): the number decides, then a part that still
    waits goes before one that is done, then the newest.

    Args:
        candidates: All parts with the receipt's id on its connector.
        destination: The number in the receipt as the upstream wrote it; upstreams that swap or cut it are believed
            where a single part has the id and still waits. Of one that is done, a receipt for another number is news of
            a later message with the same id.
    """
    if len(candidates) == 1:
        [only] = candidates
        return None if only.is_final and destination and not is_number(only.msisdn, destination) else only
    same_number = [one for one in candidates if is_number(one.msisdn, destination)]
    pool = same_number or candidates
    if len({one.msisdn for one in pool}) > 1:
        return None
    return min(pool, key=lambda one: (one.is_final, -one.message_id, one.part_no), default=None)
