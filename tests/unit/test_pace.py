"""The pace of a bind: tokens, complaints, recovery."""

from math import inf

import pytest

from aldis.connectors.pace import Pace


def drain(pace, now):
    count = pace.available(now)
    pace.spend(count, now)
    return count


def test_without_a_rate_there_is_no_limit():
    pace = Pace()
    assert pace.available(0) > 1_000_000
    pace.spend(100_000, 0)
    assert not pace.is_limited
    assert pace.ready_in(0) == 0


@pytest.mark.parametrize(("rate", "burst"), [(1, 1), (5, 1), (50, 5), (1000, 100)])
def test_a_tenth_of_a_second_may_go_at_once(rate, burst):
    pace = Pace(rate)
    assert drain(pace, 1000) == burst
    assert pace.available(1000) == 0


@pytest.mark.parametrize("rate", [3, 50, 777])
def test_over_time_the_rate_is_kept(rate):
    pace = Pace(rate)
    sent = sum(drain(pace, 1000 + step / 1000) for step in range(10_001))
    assert abs(sent - 10 * rate) <= max(1, rate * 0.1) + 1


def test_a_timer_for_the_next_token_finds_it():
    pace = Pace(7)
    drain(pace, 1000)
    assert pace.available(1000 + pace.ready_in(1000)) == 1


# SMPP-26
def test_a_complaint_halves_the_rate_and_empties_the_bucket():
    pace = Pace(100)
    assert pace.throttle(1000)
    assert pace.rate == 50
    assert pace.available(1000) == 0


# SMPP-26
def test_the_complaints_of_one_window_count_once():
    pace = Pace(100)
    assert [pace.throttle(1000 + n / 100) for n in range(50)] == [True] + [False] * 49
    assert pace.rate == 50


def test_complaints_go_on_halving_down_to_one_a_second():
    pace = Pace(100)
    for at in range(20):
        pace.throttle(1000 + 1.001 * at)
    assert 1 <= pace.rate < 12


# SMPP-26
def test_the_rate_grows_back_slowly_and_not_above_what_was_set():
    pace = Pace(100)
    pace.throttle(1000)
    rates = []
    for second in range(15):
        pace.available(1000 + second)
        rates.append(pace.rate)
    assert rates[:3] == [50, 50, 55]
    assert rates == sorted(rates)
    assert rates[11:] == [100] * 4


def test_without_a_set_rate_a_complaint_halves_what_was_sent_and_success_lifts_the_limit():
    pace = Pace()
    for step in range(1000):
        pace.spend(1, 1000 + step / 500)
    pace.throttle(1002)
    assert 240 <= pace.rate <= 260
    pace.available(1010)
    assert pace.rate < inf
    for second in range(11, 60):
        pace.available(1000 + second)
    assert pace.rate == inf
