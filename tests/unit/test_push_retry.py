"""When pushes and refused messages are tried again."""

import pytest

from aldis.model.ids import id_at
from aldis.rules.retry import SUBMIT_DELAYS_MS, THROTTLED_DELAYS_MS, next_push_at, next_submit_at

MINUTE, HOUR = 60_000, 3_600_000
NOW = 1_700_000_000_000


# EAPI-63
@pytest.mark.parametrize(
    ("attempts", "wait"),
    [(1, 60 * MINUTE), (2, 3 * HOUR), (3, 12 * HOUR)],
    ids=["after the first", "after the second", "after the third"],
)
def test_a_failed_push_waits_by_the_schedule(attempts: int, wait: int) -> None:
    assert next_push_at(attempts, NOW) == NOW + wait


# EAPI-63
@pytest.mark.parametrize("attempts", [4, 5, 100])
def test_the_fourth_failed_try_is_the_last(attempts: int) -> None:
    assert next_push_at(attempts, NOW) is None


def test_the_push_schedule_takes_sixteen_hours_in_all() -> None:
    at, attempts = NOW, 0
    while (later := next_push_at(attempts := attempts + 1, at)) is not None:
        at = later
    assert (attempts, at - NOW) == (4, 16 * HOUR)


# SMPP-25
@pytest.mark.parametrize(("throttled", "delays"), [(False, SUBMIT_DELAYS_MS), (True, THROTTLED_DELAYS_MS)])
def test_a_refused_message_waits_its_delay_and_at_most_a_fifth_more(throttled: bool, delays: tuple[int, ...]) -> None:
    for attempt in range(1, 30):
        delay = delays[min(attempt, len(delays)) - 1]
        for message_id in range(id_at(NOW), id_at(NOW) + 50):
            wait = next_submit_at(attempt, NOW, throttled, message_id) - NOW
            assert delay <= wait < delay * 1.2


def test_a_refused_message_is_offered_hourly_in_the_end() -> None:
    assert next_submit_at(50, NOW, False, 0) - NOW == HOUR


def test_a_throttled_message_never_waits_longer_than_a_minute_and_a_fifth() -> None:
    assert max(next_submit_at(n, NOW, True, n) - NOW for n in range(1, 200)) < 72_000


# SMPP-25
def test_messages_refused_together_come_back_spread_and_each_always_at_its_place() -> None:
    first = id_at(NOW)
    times = [next_submit_at(1, NOW, False, first + n) for n in range(100)]
    assert len({at // 10 for at in times}) > 50
    assert times == [next_submit_at(1, NOW, False, first + n) for n in range(100)]
