"""How much an endpoint bears, learnt from how tries end."""

from itertools import pairwise

import pytest

from aldis.model.types import Push
from aldis.push.endpoint import End, Endpoint, Job, PushSettings, State

PUSH = Push(1, 1, 1, 1, "http://example.com/?pass=canary", 44123123456, 11, None, "", False, 0, 0)


def endpoint(**settings: float) -> Endpoint:
    made = Endpoint((1, PUSH.url), PushSettings(**settings))  # type: ignore[arg-type]
    made.queue.extend(Job(PUSH, made, State.WAITING) for _ in range(1000))
    return made


def started(tested: Endpoint) -> int:
    """Start as many tries as it allows; return how many are in flight."""
    while tested.may_start():
        tested.in_flight += 1
    return tested.in_flight


def test_an_endpoint_never_tried_gets_one_try_at_first() -> None:
    assert started(endpoint()) == 1


def test_the_first_answer_opens_the_starting_limit() -> None:
    tested = endpoint(start_limit=8)
    tested.learn(End.ANSWERED)
    assert started(tested) == 8


def test_answers_raise_the_limit_slowly_up_to_its_bound() -> None:
    tested = endpoint(start_limit=8, max_limit=64)
    limits = []
    for _ in range(4000):
        tested.learn(End.ANSWERED)
        limits.append(int(tested.limit))
    assert max(b - a for a, b in pairwise(limits)) == 1
    assert limits[10] < 11
    assert limits[-1] == started(tested) == 64


@pytest.mark.parametrize("end", [End.PUSHED_BACK, End.SILENT])
def test_refusal_and_silence_halve_the_limit_down_to_one(end: End) -> None:
    tested = endpoint(max_limit=64, breaker_after=1000)
    tested.limit = 64.0
    limits = []
    for _ in range(8):
        tested.learn(end)
        limits.append(tested.limit)
    assert limits == [32.0, 16.0, 8.0, 4.0, 2.0, 1.0, 1.0, 1.0]


def test_silence_leaves_one_try_at_once_and_enough_of_it_breaks_the_endpoint() -> None:
    tested = endpoint(breaker_after=3)
    tested.learn(End.ANSWERED)
    for broken in (False, False, True, True):
        tested.learn(End.SILENT)
        assert tested.is_broken is broken
        assert tested.may_start()
        assert started(tested) == 1
        tested.in_flight = 0


@pytest.mark.parametrize("end", [End.ANSWERED, End.PUSHED_BACK])
def test_any_answer_mends_a_broken_endpoint(end: End) -> None:
    tested = endpoint(breaker_after=3)
    for _ in range(5):
        tested.learn(End.SILENT)
    tested.learn(end)
    assert not tested.is_broken
    assert tested.is_proven


def test_an_answered_refusal_never_breaks_an_endpoint() -> None:
    tested = endpoint(breaker_after=3)
    for _ in range(100):
        tested.learn(End.PUSHED_BACK)
    assert not tested.is_broken


def test_the_pause_before_a_probe_doubles_up_to_its_bound() -> None:
    tested = endpoint(breaker_after=2, probe_pause=1, probe_pause_max=30)
    pauses = []
    for _ in range(100):
        tested.learn(End.SILENT)
        if tested.is_broken:
            pauses.append(tested.pause_s())
    assert pauses[:7] == [1, 2, 4, 8, 16, 30, 30]
    assert set(pauses[6:]) == {30}


def test_only_the_host_of_a_url_is_kept_for_the_log() -> None:
    assert endpoint().host == "example.com"
    assert "canary" not in Endpoint((1, "ftp://canary"), PushSettings()).host
