"""Routes, and who may be written to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aldis.model.status import Status
from aldis.rules.admission import Admission
from aldis.rules.routing import Route, Router

EUROPE = Router([Route("49", "de", 700), Route("4915", "mobile", 800), Route("", "world", 2_000), Route("44", "uk", 1)])


@pytest.mark.parametrize(
    ("msisdn", "connector"),
    [
        (4915112345678, "mobile"),
        (4930123456, "de"),
        (447700900123, "uk"),
        (33612345678, "world"),
        (4412345, "uk"),
        (1490000000, "world"),
    ],
)
def test_the_longest_prefix_that_fits_wins(msisdn: int, connector: str) -> None:
    found = EUROPE.find(msisdn)
    assert found is not None and found.connector == connector


def test_without_a_route_for_all_a_number_may_be_unroutable() -> None:
    router = Router([Route("49", "de", 700)])
    assert router.find(447700900123) is None
    assert Router([]).find(4915112345678) is None


def test_a_single_route_for_all_takes_everything() -> None:
    route = Route("", "world", 2_000)
    assert Router([route]).find(1) is route


def test_two_routes_of_one_prefix_are_refused() -> None:
    with pytest.raises(ValueError, match="two routes have the prefix '49'"):
        Router([Route("49", "de", 1), Route("49", "other", 2)])


@given(
    st.sets(st.from_regex(r"[1-9][0-9]{0,5}", fullmatch=True) | st.just(""), max_size=12),
    st.integers(1_000_000, 10**15 - 1),
)
def test_the_route_is_the_one_that_a_walk_through_the_table_finds(prefixes: set[str], msisdn: int) -> None:
    fitting = [prefix for prefix in prefixes if str(msisdn).startswith(prefix)]
    found = Router([Route(prefix, "any", 1) for prefix in prefixes]).find(msisdn)
    assert (found.prefix if found else None) == max(fitting, key=len, default=None)


def test_a_blocked_number_may_not_be_reached() -> None:
    admission = Admission(blocklist=[4915112345678])
    assert admission.judge_recipient(4915112345678) is Status.BLOCKED
    assert admission.judge_recipient(4915112345679) is None


@pytest.mark.parametrize(
    ("body", "verdict"),
    [
        ("Buy VIAGRA now", Status.CENSORED),
        ("in der STRASSE 7", Status.CENSORED),
        ("hello", None),
        ("via gra", None),
        ("", None),
    ],
)
def test_a_censored_word_is_found_in_any_letter_case(body: str, verdict: Status | None) -> None:
    admission = Admission(censor=["viagra", "straße", ""])
    assert admission.judge_body(body) is verdict
    assert Admission().judge_body(body) is None
