"""Ids: 64 bits, rising, unique, and ordered by time."""

import itertools

import pytest

from aldis.model.ids import EPOCH_MS, MAX_NODE, IdMaker, id_at, time_of

NOW = 1_767_268_800_123


@pytest.mark.parametrize(("node", "sequence"), [(0, 0), (1, 0), (MAX_NODE, 4_095)])
def test_an_id_tells_its_time(node: int, sequence: int) -> None:
    assert time_of(id_at(NOW, node, sequence)) == NOW


def test_ids_fit_in_64_bits_until_the_year_2083() -> None:
    assert id_at(EPOCH_MS) == 0
    assert id_at(3_586_000_000_000, MAX_NODE, 4_095) < 1 << 63


def test_an_id_is_milliseconds_then_node_then_sequence() -> None:
    assert id_at(EPOCH_MS + 5, 3, 7) == 5 << 22 | 3 << 12 | 7
    assert id_at(NOW, MAX_NODE, 4_095) + 1 == id_at(NOW + 1)


@pytest.mark.parametrize("node", [-1, MAX_NODE + 1])
def test_a_node_number_out_of_range_is_refused(node: int) -> None:
    with pytest.raises(ValueError, match=r"not in 0\.\.1023"):
        IdMaker(node)


def test_ids_of_one_call_lie_side_by_side() -> None:
    maker = IdMaker(node=2)
    ids = maker.take(100, NOW)
    assert ids == list(range(id_at(NOW, 2), id_at(NOW, 2) + 100))
    assert maker.take(0, NOW) == []


def test_ids_run_ahead_of_the_clock_rather_than_repeat() -> None:
    maker = IdMaker(node=MAX_NODE)
    ids = maker.take(10_000, NOW)
    assert len(set(ids)) == 10_000
    assert ids == sorted(ids)
    assert [time_of(one) - NOW for one in (ids[0], ids[4_095], ids[4_096], ids[-1])] == [0, 0, 1, 2]
    assert {one >> 12 & MAX_NODE for one in ids} == {MAX_NODE}
    assert maker.take(1, NOW)[0] == ids[-1] + 1


def test_ids_rise_whatever_the_clock_does() -> None:
    maker = IdMaker()
    taken: list[int] = []
    for now in (NOW, NOW, NOW + 10, NOW - 3_600_000, NOW + 11, 0, NOW + 86_400_000, NOW):
        taken += maker.take(3_000, now)
    assert all(a < b for a, b in itertools.pairwise(taken))
    assert time_of(taken[-6_001]) < NOW + 86_400_000 == time_of(taken[-6_000])


def test_ids_start_behind_the_largest_that_exists() -> None:
    known = id_at(NOW, 5, 4_095)
    for now in (NOW, NOW - 1_000_000, NOW + 1):
        assert IdMaker(node=0, after=known).take(1, now)[0] > known


def test_two_nodes_never_make_the_same_id() -> None:
    assert not set(IdMaker(1).take(9_000, NOW)) & set(IdMaker(2).take(9_000, NOW))


def test_the_last_id_is_known() -> None:
    maker = IdMaker()
    assert maker.last == 0
    for count in (1, 5_000, 4_096, 3):
        assert maker.take(count, NOW)[-1] == maker.last
