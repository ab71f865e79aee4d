"""Money: exact to a thousandth of a credit, shown with two decimals."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aldis.model.money import format_credits, parse_credits


@pytest.mark.parametrize(
    ("text", "milli"),
    [
        ("0", 0), ("1", 1_000), ("12.5", 12_500), ("0.001", 1), ("-3.25", -3_250), ("+7", 7_000), ("1e3", 1_000_000),
        (" 2.5 ", 2_500), ("1.5000", 1_500), ("9223372036854775.807", (1 << 63) - 1),
        ("-9223372036854775.807", 1 - (1 << 63)), ("-0", 0),
    ],
)  # fmt: skip
def test_a_number_of_credits_is_read_exactly(text: str, milli: int) -> None:
    assert parse_credits(text) == milli


@pytest.mark.parametrize(
    "text",
    [
        "",
        "abc",
        "1,5",
        "1.2.3",
        "0x10",
        "nan",
        "sNaN",
        "inf",
        "-Infinity",
        "1e999999",
        "1e9999999999",
        "9" * 40,
        "9223372036854775.808",
        "-9223372036854775.808",
    ],
)
def test_what_is_no_number_of_credits_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="credit"):
        parse_credits(text)


@pytest.mark.parametrize("text", ["0.0001", "1.2345", "1e-4", "-0.0009", "1234567890123456789012345.0001"])
def test_what_is_finer_than_a_thousandth_is_refused_and_not_rounded(text: str) -> None:
    with pytest.raises(ValueError, match="credit"):
        parse_credits(text)


@pytest.mark.parametrize(
    ("milli", "text"),
    [(0, "0.00"), (1_000, "1.00"), (12_345, "12.34"), (12_355, "12.36"), (12_346, "12.35"), (5, "0.00"), (15, "0.02"),
     (-2_500, "-2.50"), (9_007_199_254_740_993_000, "9007199254740993.00")],
)  # fmt: skip
def test_credits_are_shown_with_two_decimals_half_a_cent_to_the_even(milli: int, text: str) -> None:
    assert format_credits(milli) == text


@given(st.integers(-(10**12), 10**12))
def test_what_is_written_in_thousandths_is_read_back(milli: int) -> None:
    sign, whole = ("-" if milli < 0 else ""), abs(milli)
    assert parse_credits(f"{sign}{whole // 1_000}.{whole % 1_000:03}") == milli
    assert abs(parse_credits(format_credits(milli)) - milli) <= 5
