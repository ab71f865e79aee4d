"""Identifiers: 64-bit integers made by the application, ordered by time."""

EPOCH_MS = 1_388_534_400_000
"""2014-01-01T00:00:00Z, the epoch of the ids, in milliseconds of the Unix epoch."""

SEQUENCE_BITS = 12
NODE_BITS = 10
MAX_NODE = (1 << NODE_BITS) - 1
_PER_MS = 1 << SEQUENCE_BITS


def id_at(at_ms: int, node: int = 0, sequence: int = 0) -> int:
    """Return the id that a node makes at a time: milliseconds, then node, then sequence."""
    return ((at_ms - EPOCH_MS) << (NODE_BITS + SEQUENCE_BITS)) | (node << SEQUENCE_BITS) | sequence


def time_of(an_id: int) -> int:
    """Return the time in an id, in epoch milliseconds."""
    return (an_id >> (NODE_BITS + SEQUENCE_BITS)) + EPOCH_MS


class IdMaker:
    """Hands out the ids of one node, always rising, however the clock jumps.

    Ids run ahead of the clock when more than 4,096 are asked for in a millisecond. Not safe to share between
    threads.
    """

    def __init__(self, node: int = 0, after: int = 0) -> None:
        """Start behind an id that exists already.

        Args:
            node: This node's number, 0 to 1023; no two running nodes may share one.
            after: The largest id in the ledger, or 0.
        """
        if not 0 <= node <= MAX_NODE:
            raise ValueError(f"node number {node} is not in 0..{MAX_NODE}")
        self._node = node
        self._next_ms = time_of(after) + 1 if after else 0
        self._sequence = 0

    @property
    def last(self) -> int:
        """The largest id made so far; 0 for none."""
        return id_at(self._next_ms, self._node, self._sequence - 1) if self._sequence else 0

    def take(self, count: int, now_ms: int) -> list[int]:
        """Return `count` rising ids; between the first and the last of them this node makes no other."""
        if now_ms > self._next_ms:
            self._next_ms, self._sequence = now_ms, 0
        if self._sequence + count <= _PER_MS:
            first = id_at(self._next_ms, self._node, self._sequence)
            self._sequence += count
            return list(range(first, first + count))
        ids: list[int] = []
        while len(ids) < count:
            if self._sequence == _PER_MS:
                self._next_ms, self._sequence = self._next_ms + 1, 0
            step = min(count - len(ids), _PER_MS - self._sequence)
            first = id_at(self._next_ms, self._node, self._sequence)
            ids.extend(range(first, first + step))
            self._sequence += step
        return ids
