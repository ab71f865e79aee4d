"""Which parts may go now."""

import msgspec
import pytest

from aldis.connectors.grant import grant
from aldis.connectors.smpp import _shares
from aldis.connectors.testing import make_parts


def messages(*counts):
    """Return the parts of messages of so many parts each."""
    parts = []
    for message_id, count in enumerate(counts, 1):
        [one] = make_parts(27820001111, 1, first_id=message_id)
        parts += [msgspec.structs.replace(one, part_no=no, parts=count) for no in range(1, count + 1)]
    return parts


# SMPP-32
@pytest.mark.parametrize(
    ("counts", "paced", "slots", "windows", "taken"),
    [
        ([1] * 10, 4, 10, 10, 4),
        ([1] * 3, 10, 10, 10, 3),
        ([3], 10, 10, 10, 3),
        ([3], 1, 10, 10, 3),
        ([3], 0, 10, 10, 0),
        ([3], 2, 2, 10, 0),
        ([1, 3], 2, 10, 10, 4),
        ([1, 3], 1, 10, 10, 1),
        ([1, 3], 3, 3, 10, 1),
        ([3, 3, 3], 10, 8, 10, 6),
        ([3, 1], 2, 2, 10, 0),
        ([12], 10, 10, 10, 10),
        ([12], 4, 10, 10, 4),
        ([2, 12], 10, 10, 10, 10),
        ([1, 12], 0, 0, 0, 0),
    ],
    ids=[
        "single parts, as many as the pace allows",
        "no more than there are",
        "one message whole",
        "one grant for all its parts",
        "no grant, no part",
        "it waits for the window",
        "the second begins on what is left",
        "the second has no grant",
        "the second waits for the window",
        "whole messages only",
        "a small one does not overtake",
        "larger than the windows: as many as they hold",
        "larger than the windows: no more than the pace allows",
        "a large one behind a small one",
        "not bound",
    ],
)
def test_a_message_goes_whole_on_one_grant(counts, paced, slots, windows, taken):
    assert grant(messages(*counts), paced, slots, windows) == taken


def test_the_rest_of_a_message_is_what_is_left_of_it():
    parts = messages(4)[1:] + make_parts(27820001111, 1, first_id=9)
    assert grant(parts, 10, 3, 10) == 3


def test_two_tries_of_one_number_are_two_messages():
    assert grant(messages(2, 2), 10, 3, 10) == 2


@pytest.mark.parametrize(
    ("count", "rooms", "slots", "shares"),
    [
        (9, [5, 5, 5], [5, 5, 5], [3, 3, 3]),
        (9, [1, 5, 5], [1, 5, 5], [1, 4, 4]),
        (3, [1, 0], [5, 0], [3, 0]),
        (6, [2, 1], [5, 3], [5, 1]),
        (0, [3, 3], [3, 3], [0, 0]),
    ],
)
def test_binds_share_evenly_and_owe_only_what_no_other_has_room_for(count, rooms, slots, shares):
    assert _shares(count, rooms, slots) == shares
