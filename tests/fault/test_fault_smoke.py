"""The fault scenarios in small: three crashes, and one stop under load."""

import pytest
from tests.fault import kill, stop


@pytest.mark.e2e
def test_every_promise_holds_when_the_server_is_killed_again_and_again() -> None:
    result = kill.run(rounds=3, seed=2)
    assert result.ok, result.text


@pytest.mark.e2e
def test_a_graceful_stop_under_load_leaves_nothing_lost_and_nothing_in_doubt() -> None:
    result = stop.run(seed=2, turns=1)
    assert result.ok, result.text
