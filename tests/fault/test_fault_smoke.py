"""The fault scenarios in small: crashes, one stop under load, and one node that takes over from another."""

import pytest
from tests.fault import kill, stop, takeover
from tests.postgres import Binaries


@pytest.mark.e2e
def test_every_promise_holds_when_the_server_is_killed_again_and_again() -> None:
    result = kill.run(rounds=3, seed=2)
    assert result.ok, result.text


@pytest.mark.e2e
def test_a_graceful_stop_under_load_leaves_nothing_lost_and_nothing_in_doubt() -> None:
    result = stop.run(seed=2, turns=1)
    assert result.ok, result.text


@pytest.mark.e2e
def test_every_promise_holds_when_one_of_two_nodes_is_killed(postgres_binaries: Binaries) -> None:
    """PROMISE-17, and all the others on PostgreSQL."""
    result = takeover.run_kill(rounds=1, seed=2, rate=40.0)
    assert result.ok, result.text
