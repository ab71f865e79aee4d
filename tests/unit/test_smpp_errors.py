"""Names and classes of command_status."""

import pytest

from aldis.smpp.errors import CommandStatus, Refusal, classify, name_of


@pytest.mark.parametrize(
    ("status", "name"),
    [
        (0x00, "ESME_ROK"),
        (0x08, "ESME_RSYSERR"),
        (0x14, "ESME_RMSGQFUL"),
        (0x45, "ESME_RSUBMITFAIL"),
        (0x58, "ESME_RTHROTTLED"),
        (0xC0, "ESME_RINVOPTPARSTREAM"),
        (0xFF, "ESME_RUNKNOWNERR"),
        (0x09, "0x00000009"),
        (0x450, "0x00000450"),
        (0xFFFFFFFF, "0xFFFFFFFF"),
    ],
)
def test_a_status_is_shown_by_its_name_or_as_a_number(status: int, name: str) -> None:
    assert name_of(status) == name


def test_the_standards_codes_are_all_there() -> None:
    assert len(CommandStatus) == 48
    assert all(name_of(status).startswith("ESME_R") for status in CommandStatus)


# SMPP-23
@pytest.mark.parametrize(
    ("status", "refusal"),
    [
        (CommandStatus.ESME_RTHROTTLED, Refusal.THROTTLED),
        (CommandStatus.ESME_RMSGQFUL, Refusal.THROTTLED),
        (CommandStatus.ESME_RSYSERR, Refusal.TEMPORARY),
        (CommandStatus.ESME_RX_T_APPN, Refusal.TEMPORARY),
        (CommandStatus.ESME_RINVBNDSTS, Refusal.TEMPORARY),
        (0x102, Refusal.TEMPORARY),
        (CommandStatus.ESME_RINVDSTADR, Refusal.PERMANENT),
        (CommandStatus.ESME_RSUBMITFAIL, Refusal.PERMANENT),
        (CommandStatus.ESME_RX_P_APPN, Refusal.PERMANENT),
        (CommandStatus.ESME_RX_R_APPN, Refusal.PERMANENT),
        (0x450, Refusal.PERMANENT),
    ],
)
def test_a_refusal_says_whether_to_slow_down_wait_or_give_up(status: int, refusal: Refusal) -> None:
    assert classify(status) is refusal


def test_what_is_no_refusal_has_no_class() -> None:
    with pytest.raises(ValueError, match="ESME_ROK"):
        classify(0)
