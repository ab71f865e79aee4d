"""Which binds a node takes, and which it gives up, so that all nodes carry their share."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Bind(NamedTuple):
    """One bind of a connector, counted over all nodes."""

    connector: str
    number: int


class Plan(NamedTuple):
    """What a node is to do about its binds."""

    take: list[Bind]
    give: list[Bind]


def plan(owners: Mapping[Bind, int], me: int, nodes: Sequence[int]) -> Plan:
    """Decide what a node takes of what is free, and whether it gives one up.

    A free bind goes to a node below its share. Where one node has two more than another, it gives one up at a time: a
    bind that moves is drained first, so haste would cost more than it gains.

    Args:
        owners: Every bind with the epoch of the living node that owns it; 0: nobody.
        me: This node's epoch.
        nodes: The epochs of all living nodes that may own binds, this one's among them.
    """
    counts = Counter(dict.fromkeys(nodes, 0))
    counts.update(owner for owner in owners.values() if owner)
    share = -(-len(owners) // max(1, len(nodes)))
    mine = Counter(bind.connector for bind, owner in owners.items() if owner == me)
    take: list[Bind] = []
    free = sorted(bind for bind, owner in owners.items() if not owner)
    while free and counts[me] < share:
        best = min(free, key=lambda bind: (mine[bind.connector], bind))
        free.remove(best)
        take.append(best)
        mine[best.connector] += 1
        counts[me] += 1
    poorest = min(counts[node] for node in nodes) if nodes else 0
    richest = max(nodes, key=lambda node: (counts[node], -node), default=me)
    if take or free or me != richest or counts[me] < poorest + 2:
        return Plan(take, [])
    held = (bind for bind, owner in owners.items() if owner == me)
    return Plan([], [max(held, key=lambda bind: (mine[bind.connector], bind))])
