"""The fault scenarios in small: crashes, one stop under load, and a database that crashes."""

import pytest
from tests.fault import kill, outage, stop
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
def test_every_promise_holds_when_the_database_of_two_nodes_crashes(postgres_binaries: Binaries) -> None:
    """PROMISE-17 and all the others. A killed node would take half a minute: its claims are called off on time."""
    result = outage.run_restart(rounds=2, seed=2, rate=60.0)
    assert result.ok, result.text
