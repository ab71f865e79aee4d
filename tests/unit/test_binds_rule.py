"""Which binds a node takes and gives up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aldis.rules.binds import Bind, Plan, plan

A, B, C = 101, 102, 103


def binds(*owners: int, connector: str = "up") -> dict[Bind, int]:
    return {Bind(connector, number): owner for number, owner in enumerate(owners)}


@pytest.mark.parametrize(
    ("owners", "nodes", "take", "give"),
    [
        ((0, 0, 0), [A], [0, 1, 2], []),
        ((0, 0, 0), [A, B], [0, 1], []),
        ((A, B, 0), [A, B], [2], []),
        ((A, A), [A, B], [], [1]),
        ((A, A, 0), [A, B], [], []),
        ((A, A, B), [A, B], [], []),
        ((A, A, A, B), [A, B], [], [2]),
        ((A,), [A, B], [], []),
        ((B, B, B, B), [A, B], [], []),
        ((A, A, B, B, 0), [A, B, C], [], []),
        ((), [A], [], []),
    ],
    ids=["alone", "half", "last", "rich", "one is free", "even", "richest", "one", "poor", "share is full", "none"],
)
def test_a_node_takes_its_share_and_gives_up_what_is_more(
    owners: tuple[int, ...], nodes: list[int], take: list[int], give: list[int]
) -> None:
    got = plan(binds(*owners), A, nodes)
    assert [bind.number for bind in got.take] == take
    assert [bind.number for bind in got.give] == give


def test_a_node_takes_binds_of_connectors_that_it_has_fewest_of() -> None:
    owners = binds(A, A, 0, B, B, B, connector="north") | binds(0, B, connector="south")
    assert plan(owners, A, [A, B]) == Plan([Bind("south", 0), Bind("north", 2)], [])


OWNERS = st.dictionaries(
    st.builds(Bind, st.sampled_from(["n", "s", "w"]), st.integers(0, 5)), st.sampled_from([0, A, B, C]), max_size=18
)


@given(OWNERS, st.permutations([A, B, C]))
def test_turn_by_turn_all_binds_are_owned_and_no_node_has_two_more_than_another(
    owners: dict[Bind, int], order: list[int]
) -> None:
    for _ in range(len(owners) + 2):
        for node in order:
            wish = plan(owners, node, [A, B, C])
            assert len(wish.give) <= 1
            owners |= dict.fromkeys(wish.take, node)
            owners |= dict.fromkeys(wish.give, 0)
    counts = [list(owners.values()).count(node) for node in (A, B, C)]
    assert sum(counts) == len(owners)
    assert max(counts) - min(counts) <= 1
    assert all(plan(owners, node, [A, B, C]) == Plan([], []) for node in (A, B, C))
