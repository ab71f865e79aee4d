"""How many parts may go now: a message's parts go together."""

from collections.abc import Sequence

from aldis.connectors.base import OutboundPart


def grant(parts: Sequence[OutboundPart], paced: int, slots: int, windows: int) -> int:
    """Return how many parts, from the first on, may go.

    A message goes with all its parts on one grant of the pace: it begins if one part may go, and what it takes beyond
    is paid for by the wait before the next one. It waits until the windows have room for all of it, unless they never
    will.

    Args:
        parts: In the order in which they are to go; those of a message stand together.
        paced: Parts that window and pace allow.
        slots: Parts that the windows alone allow, of binds whose pace allows one.
        windows: What `slots` is when nothing is in flight.
    """
    if not any(part.parts > 1 for part in parts[:paced]):
        return min(len(parts), paced)
    taken = 0
    while taken < min(paced, len(parts)):
        count = _together(parts, taken)
        if taken + count > slots:
            return taken if count <= windows else min(paced, slots)
        taken += count
    return taken


def _together(parts: Sequence[OutboundPart], start: int) -> int:
    """Return how many parts from one on are of its message."""
    first = parts[start]
    end = start + 1
    while end < len(parts) and parts[end].message_id == first.message_id and end - start < first.parts:
        end += 1
    return end - start
