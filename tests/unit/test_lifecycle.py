"""The table of statuses, and what each kind of news speaks for."""

import pytest

from aldis.lifecycle import (
    EXPIRED_UNSEEN,
    RECEIPT_STATES,
    START,
    SUBMIT_REFUSALS,
    TABLE,
    Refund,
    Standing,
    advance,
    contradict,
    diagram,
    hear_receipt,
    hear_refusal,
    owes_refund,
    roll_up,
)
from aldis.model.status import STATUS, Phase, Status

S = Status
DELIVERED, UPSTREAM, MOVING, RETRY = map(
    Standing, (S.DELIVERED, S.DELIVERED_UPSTREAM, S.UPSTREAM_UPDATE, S.RETRY_QUEUED)
)
PHONE, NETWORK, UNKNOWN = map(Standing, (S.FAILED_PHONE, S.FAILED_NETWORK, S.UPSTREAM_UNACKNOWLEDGED))


def test_the_codes_are_those_of_the_legacy_interface() -> None:
    assert sorted(STATUS) == [
        0, 10, 11, 12, 22, 23, 24, 25, 26, 27, 28, 29, 31, 32, 33, 40, 50, 51, 52, 53, 54, 55, 56, 57, 60, 61, 62, 63,
        64, 70,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("state", "status"),
    [
        ("DELIVRD", 11), ("ACCEPTD", 10), ("ENROUTE", 61), ("SCHEDULED", 61), ("UNDELIV", 51), ("EXPIRED", 53),
        ("REJECTD", 55), ("DELETED", 50), ("SKIPPED", 50), ("UNKNOWN", 70), ("GARBLED", 70), ("", 70), ("delivrd", 70),
    ],
)  # fmt: skip
def test_a_receipt_s_word_speaks_for_a_status(state: str, status: int) -> None:
    assert hear_receipt(state, "000", {}) == Standing(S(status))


ERRORS = {"1": S.HANDSET_FAULT, "2": S.RETRY_QUEUED_HANDSET, "3": S.DELIVERED, "4": S.NO_CREDITS, "5": S.IN_PROGRESS}


@pytest.mark.parametrize(
    ("state", "error", "status"),
    [
        ("UNDELIV", "1", 57), ("UNDELIV", "9", 51), ("UNDELIV", "2", 51), ("UNDELIV", "3", 51), ("REJECTD", "4", 25),
        ("ENROUTE", "2", 64), ("ENROUTE", "1", 61), ("ENROUTE", "3", 61), ("DELIVRD", "1", 11), ("DELIVRD", "2", 11),
        ("GARBLED", "1", 70), ("GARBLED", "2", 64), ("UNDELIV", "", 51), ("UNDELIV", "01", 51),
    ],
)  # fmt: skip
def test_an_error_refines_the_reason_and_never_the_phase(state: str, error: str, status: int) -> None:
    assert hear_receipt(state, error, ERRORS) == Standing(S(status))


@pytest.mark.parametrize(
    ("command_status", "status"),
    [(0x01, 24), (0x0A, 24), (0x0B, 31), (0x0E, 23), (0x0F, 23), (0x45, 52), (0x08, 52), (0x400, 52), (0xFFFFFFFF, 52)],
)
def test_a_permanent_refusal_speaks_for_a_status(command_status: int, status: int) -> None:
    assert hear_refusal(command_status) == Standing(S(status))


def test_every_refusal_is_final_and_every_word_has_its_phase() -> None:
    assert all(TABLE[status].phase is Phase.FAILED for status in SUBMIT_REFUSALS.values())
    final = {"DELIVRD", "UNDELIV", "EXPIRED", "REJECTD", "DELETED", "SKIPPED"}
    assert {state for state, status in RECEIPT_STATES.items() if TABLE[status].final} == final


@pytest.mark.parametrize(
    ("current", "heard", "after"),
    [
        (START, RETRY, RETRY),
        (RETRY, UPSTREAM, UPSTREAM),
        (UNKNOWN, UPSTREAM, UPSTREAM),
        (UPSTREAM, UNKNOWN, UPSTREAM),
        (UPSTREAM, MOVING, MOVING),
        (MOVING, UPSTREAM, MOVING),
        (MOVING, DELIVERED, DELIVERED),
        (DELIVERED, MOVING, DELIVERED),
        (DELIVERED, PHONE, DELIVERED),
        (PHONE, DELIVERED, DELIVERED),
        (PHONE, MOVING, PHONE),
        (MOVING, EXPIRED_UNSEEN, EXPIRED_UNSEEN),
        (EXPIRED_UNSEEN, MOVING, EXPIRED_UNSEEN),
        (EXPIRED_UNSEEN, DELIVERED, DELIVERED),
        (EXPIRED_UNSEEN, PHONE, PHONE),
        (EXPIRED_UNSEEN, Standing(S.EXPIRED), Standing(S.EXPIRED)),
        (Standing(S.EXPIRED), EXPIRED_UNSEEN, Standing(S.EXPIRED)),
    ],
)
def test_the_stronger_word_stays(current: Standing, heard: Standing, after: Standing) -> None:
    assert advance(current, heard) == after


@pytest.mark.parametrize(
    ("parts", "whole"),
    [
        ([START], START),
        ([DELIVERED], DELIVERED),
        ([DELIVERED, DELIVERED], DELIVERED),
        ([DELIVERED, UPSTREAM], UPSTREAM),
        ([DELIVERED, MOVING, UPSTREAM], UPSTREAM),
        ([UPSTREAM, START], START),
        ([UPSTREAM, RETRY, UNKNOWN], RETRY),
        ([DELIVERED, PHONE, DELIVERED], PHONE),
        ([START, NETWORK, PHONE], NETWORK),
        ([PHONE, NETWORK], PHONE),
        ([DELIVERED, EXPIRED_UNSEEN], EXPIRED_UNSEEN),
    ],
)
def test_a_message_follows_from_its_parts(parts: list[Standing], whole: Standing) -> None:
    assert roll_up(parts) == whole


@pytest.mark.parametrize(
    ("status", "sent", "owed"),
    [
        (S.UNROUTABLE, False, True),
        (S.UNROUTABLE, True, True),
        (S.FAILED_NETWORK, False, True),
        (S.FAILED_NETWORK, True, False),
        (S.EXPIRED, False, True),
        (S.EXPIRED, True, False),
        (S.FAILED_PHONE, True, False),
        (S.DELIVERED, False, False),
        (S.IN_PROGRESS, False, False),
        (S.UPSTREAM_UNACKNOWLEDGED, False, False),
    ],
)
def test_what_never_left_is_given_back(status: Status, sent: bool, owed: bool) -> None:
    assert owes_refund(status, sent) is owed


def test_what_we_refuse_ourselves_is_always_given_back() -> None:
    ours = [status for status in S if 22 <= status <= 33]
    assert all(TABLE[status].refund is Refund.YES for status in ours)


def test_the_diagram_draws_each_status_once_in_its_phase() -> None:
    lines = diagram().splitlines()
    assert lines[0] == "stateDiagram-v2"
    for status, row in TABLE.items():
        assert sum(line.strip() == f"s{status.value}: {status.value} {row.meaning}" for line in lines) == 1
    start, end = lines.index("    state failed {"), lines.index("    }", lines.index("    state failed {"))
    inside = {line.split(":")[0].strip() for line in lines[start + 1 : end]}
    assert inside == {f"s{status.value}" for status, row in TABLE.items() if row.phase is Phase.FAILED}
    assert "    s0 --> s63" in lines and lines[-1].startswith("    failed --> delivered")


def test_every_row_says_what_it_means_and_what_leads_to_it() -> None:
    meanings = [row.meaning for row in TABLE.values()]
    assert len(set(meanings)) == len(meanings)
    assert all(row.meaning and row.led_by for row in TABLE.values())


# RULE-h
@pytest.mark.parametrize(
    ("before", "heard", "is_so"),
    [
        (Standing(Status.DELIVERED), Standing(Status.FAILED_PHONE), True),
        (Standing(Status.EXPIRED), Standing(Status.DELIVERED), True),
        (Standing(Status.EXPIRED, assumed=True), Standing(Status.DELIVERED), False),
        (Standing(Status.FAILED_PHONE), Standing(Status.EXPIRED), False),
        (Standing(Status.DELIVERED), Standing(Status.UPSTREAM_UPDATE), False),
        (Standing(Status.DELIVERED_UPSTREAM), Standing(Status.DELIVERED), False),
    ],
)
def test_only_final_words_that_were_said_contradict_each_other(before: Standing, heard: Standing, is_so: bool) -> None:
    assert contradict(before, heard) is is_so
