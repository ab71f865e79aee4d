"""Which connector takes a message, and what a refusal is about."""

import pytest

from aldis.connectors.base import Accepted, NotSent, Refused, Unknown
from aldis.dispatch import _may_move
from aldis.rules.failover import Blame, Way, blame, choose, connectors_of, queue_of
from aldis.smpp.errors import CommandStatus

UP, JUST_DOWN, DOWN = Way(True, 0.0), Way(False, 5.0), Way(False, 5.1)


# SMPP-35
@pytest.mark.parametrize(
    ("ways", "chosen"),
    [
        ([UP], 0),
        ([UP, UP], 0),
        ([JUST_DOWN, UP], None),
        ([DOWN, UP], 1),
        ([DOWN, DOWN, UP], 2),
        ([DOWN, JUST_DOWN, UP], None),
        ([DOWN, DOWN], None),
        ([], None),
    ],
    ids=["one", "the first", "patience", "the next", "the third", "patience with the second", "all down", "none"],
)
def test_the_first_that_is_bound_takes_it_once_those_before_were_down_long_enough(ways, chosen):
    assert choose(ways, 5.0) == chosen


UPSTREAM = {
    *("RINVCMDID", "RINVBNDSTS", "RALYBND", "RSYSERR", "RBINDFAIL", "RINVPASWD", "RINVSYSID", "RINVSERTYP"),
    *("RSUBMITFAIL", "RINVSYSTYP", "RX_T_APPN", "RX_P_APPN", "RX_R_APPN", "RDELIVERYFAILURE", "RUNKNOWNERR"),
}


# SMPP-35
@pytest.mark.parametrize("status", CommandStatus, ids=lambda status: status.name)
def test_each_status_is_about_one_thing(status):
    named = status.name.removeprefix("ESME_")
    expected = Blame.UPSTREAM if named in UPSTREAM else Blame.MESSAGE
    assert blame(status) is (Blame.PACE if named in ("RTHROTTLED", "RMSGQFUL") else expected)


@pytest.mark.parametrize(
    ("status", "about"),
    [(0x100, Blame.UPSTREAM), (0x101, Blame.UPSTREAM), (0x102, Blame.UPSTREAM), (0x450, Blame.MESSAGE)],
)
def test_a_status_of_5_0_and_a_vendors_own(status, about):
    assert blame(status) is about


SICK, WRONG, FAST = Refused(0x45, retryable=False), Refused(0x0B, retryable=False), Refused(0x58, retryable=True)


# SMPP-35
@pytest.mark.parametrize(
    ("outcomes", "may"),
    [
        ([SICK], True),
        ([SICK, SICK, NotSent("cut")], True),
        ([WRONG], False),
        ([SICK, WRONG], False),
        ([FAST], False),
        ([NotSent("cut")], False),
        ([Accepted("1"), SICK], False),
        ([Unknown("cut")], False),
        ([Unknown("cut"), SICK], False),
    ],
    ids=lambda value: "+".join(type(one).__name__ for one in value) if isinstance(value, list) else "",
)
def test_a_message_moves_only_if_no_part_can_have_been_taken(outcomes, may):
    assert _may_move(tuple(enumerate(outcomes, 1))) is may


def test_a_queue_is_named_after_its_connectors():
    assert queue_of(["a"]) == "a"
    assert connectors_of(queue_of(["a", "b", "c"])) == ("a", "b", "c")
