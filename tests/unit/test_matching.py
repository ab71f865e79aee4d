"""Which message a receipt is about: certain, or none."""

import itertools

import pytest

from aldis.rules.matching import Candidate, choose, is_number

ADA, BEA = 4915112345678, 4915187654321
OLD = Candidate(7, 1, 1, ADA, is_final=False)
NEW = Candidate(7, 2, 1, ADA, is_final=False)
DONE = Candidate(7, 3, 1, ADA, is_final=True)
OTHER = Candidate(7, 4, 1, BEA, is_final=False)
SECOND_PART = Candidate(7, 2, 2, ADA, is_final=False)
FIRST_PART_DONE = Candidate(7, 2, 1, ADA, is_final=True)


@pytest.mark.parametrize(
    ("candidates", "number", "chosen"),
    [
        ([], str(ADA), None),
        ([OLD], str(ADA), OLD),
        ([OLD], "", OLD),
        ([OLD], str(BEA), OLD),
        ([DONE], str(ADA), DONE),
        ([DONE], "", DONE),
        ([DONE], str(BEA), None),
        ([OLD, OTHER], str(BEA), OTHER),
        ([OLD, OTHER], str(ADA), OLD),
        ([OLD, OTHER], "", None),
        ([OLD, OTHER], "4912340000000", None),
        ([OLD, NEW], str(ADA), NEW),
        ([OLD, NEW], "", NEW),
        ([OLD, DONE], str(ADA), OLD),
        ([OLD, NEW, DONE, OTHER], str(ADA), NEW),
        ([NEW, SECOND_PART], str(ADA), NEW),
        ([FIRST_PART_DONE, SECOND_PART], str(ADA), SECOND_PART),
        ([DONE, OTHER], str(ADA), DONE),
    ],
    ids=[
        "none", "one", "one, no number", "one, another number", "one, done", "one, done, no number",
        "one, done, another number", "number decides", "number decides back",
        "no number", "a third number", "newest", "newest without number", "waiting before done", "all together",
        "first part", "part that waits", "number before waiting",
    ],
)  # fmt: skip
def test_the_part_that_is_meant_is_chosen_whatever_the_order(
    candidates: list[Candidate], number: str, chosen: Candidate | None
) -> None:
    for order in itertools.permutations(candidates):
        assert choose(order, number) is chosen


@pytest.mark.parametrize(
    ("written", "same"),
    [
        ("4915112345678", True),
        ("+4915112345678", True),
        ("004915112345678", True),
        ("015112345678", True),
        ("2345678", True),
        ("4915112345679", False),
        ("9915112345678", True),
        ("", False),
        ("Aldis", False),
    ],
)
def test_the_last_seven_digits_make_a_number(written: str, same: bool) -> None:
    assert is_number(ADA, written) is same
