"""The servers that tests run on: what a cluster survives, what ends it, and how a test run shares one."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
from tests.postgres import Binaries, Cluster, Server, fresh_database, running_pid, wait_until

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith(("ALDIS_", "PYTEST_"))},
    "PYTHONPATH": str(ROOT),
    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
}


@pytest.fixture(scope="module")
def cluster(postgres_binaries: Binaries) -> Iterator[Cluster]:
    with Cluster(postgres_binaries, durable=True, settings={"work_mem": "5MB", "max_connections": 20}) as cluster:
        yield cluster


async def ask(url: str, statement: str) -> object:
    connection = await asyncpg.connect(url)
    answer = await connection.fetchval(statement)
    await connection.close()
    return answer


# A cluster


@pytest.mark.parametrize("mode", ["fast", "immediate", "killed"])
async def test_what_was_committed_is_there_after_a_restart(cluster: Cluster, mode: str) -> None:
    with fresh_database(cluster) as url:
        await ask(url, "CREATE TABLE kept AS SELECT 42 AS answer")
        before = cluster.pid
        if mode == "killed":
            os.kill(before, signal.SIGKILL)
        cluster.restart("immediate" if mode == "immediate" else "fast")
        assert cluster.pid != before
        assert await ask(url, "SELECT answer FROM kept") == 42
        assert str(cluster.port) in url


def test_settings_are_the_servers(cluster: Cluster) -> None:
    names = ("fsync", "full_page_writes", "synchronous_commit", "max_wal_size", "work_mem", "max_connections")
    shown = [cluster.fetch(f"SHOW {name}")[0][0] for name in names]
    assert shown == ["on", "on", "on", "4GB", "5MB", "20"]
    assert cluster.version == cluster.binaries.version


async def test_a_backend_can_be_found_and_killed(cluster: Cluster) -> None:
    with fresh_database(cluster) as url, fresh_database(cluster) as other_url:
        one, other = await asyncpg.connect(url), await asyncpg.connect(other_url)
        database = await one.fetchval("SELECT current_database()")
        assert cluster.backend_pids(database) == [one.get_server_pid()]
        assert cluster.backend_pids() == sorted([one.get_server_pid(), other.get_server_pid()])
        os.kill(one.get_server_pid(), signal.SIGTERM)
        with pytest.raises((asyncpg.PostgresError, OSError, asyncpg.InterfaceError)):
            await one.fetchval("SELECT pg_sleep(60)")
        wait_until(lambda: cluster.backend_pids(database) == [], "the end of the backend")
        await other.close()


def test_nothing_is_left_of_a_cluster_that_was_stopped(postgres_binaries: Binaries) -> None:
    with Cluster(postgres_binaries) as cluster:
        assert running_pid(cluster.directory) == cluster.pid
        assert cluster.fetch("SHOW fsync")[0][0] == "off"
        assert "ready to accept connections" in cluster.log
    cluster.stop()
    assert not cluster.directory.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(cluster.pid, 0)


OWNER = """
from tests.postgres import Cluster
cluster = Cluster()
print(cluster.pid, cluster.directory, flush=True)
input()
"""


@pytest.mark.usefixtures("postgres_binaries")
def test_nothing_is_left_of_a_cluster_whose_owner_was_killed() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OWNER], env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        pid, directory = owner.stdout.readline().split()
        assert running_pid(Path(directory)) == int(pid)
        owner.kill()
        wait_until(lambda: not Path(directory).exists(), "the guard has removed the cluster")
    wait_until(lambda: gone(int(pid)), "the end of the postmaster")


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


# A database for each test


NAMES: list[object] = []


@pytest.mark.parametrize("_", range(2))
async def test_each_test_has_a_database_of_its_own(postgres_url: str, empty_postgres_url: str, _: int) -> None:
    for url, first_tables in ((postgres_url, {"accounts", "messages_rest"}), (empty_postgres_url, set())):
        name = await ask(url, "SELECT current_database()")
        assert name not in NAMES
        NAMES.append(name)
        tables = await ask(url, "SELECT array_agg(tablename::text) FROM pg_tables WHERE schemaname = 'public'")
        assert set(tables or ()) >= first_tables and "mine" not in (tables or ())
        await ask(url, "CREATE TABLE mine (a int)")


async def test_a_database_is_dropped_although_somebody_is_connected(postgres: Server) -> None:
    with fresh_database(postgres) as url:
        connection = await asyncpg.connect(url)
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        await asyncpg.connect(url)
    connection.terminate()
    await asyncio.sleep(0)


async def test_a_database_can_be_a_copy(postgres: Server) -> None:
    with fresh_database(postgres) as template_url:
        await ask(template_url, "CREATE TABLE migrated AS SELECT 7 AS number")
        with fresh_database(postgres, template_url.rpartition("/")[2]) as url:
            assert await ask(url, "SELECT number FROM migrated") == 7


# A test run


def pytest_run(folder: Path, tests: str, *arguments: str, absent: bool = False) -> list[str]:
    """Write a folder of tests that has our fixtures; return the command that runs it."""
    lacking = "import tests.conftest, tests.postgres\ntests.conftest.find_binaries = tests.postgres.Missing\n"
    (folder / "conftest.py").write_text(
        f"{lacking if absent else ''}pytest_plugins = ['tests.conftest']\n", encoding="utf-8"
    )
    (folder / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    (folder / "test_it.py").write_text(tests, encoding="utf-8")
    return [sys.executable, "-m", "pytest", "-q", "-p", "xdist", *arguments, str(folder)]


def ended(command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env=ENVIRONMENT | environment, capture_output=True, text=True, check=False, timeout=120
    )


TWO_TESTS = """
def test_one(postgres_url): pass
def test_two(postgres_url): pass
def test_three(): pass
"""


def test_without_a_server_tests_are_skipped_and_the_run_says_so(tmp_path: Path) -> None:
    run = ended(pytest_run(tmp_path, TWO_TESTS, "-n0", "--color=yes", absent=True))
    assert run.returncode == 0
    assert re.search(r"\x1b\[33m.*PostgreSQL: not found, 2 tests skipped \(.*\): install it", run.stdout)


def test_without_a_server_the_run_fails_where_it_is_required(tmp_path: Path) -> None:
    run = ended(pytest_run(tmp_path, TWO_TESTS, "-n0", absent=True), ALDIS_TEST_POSTGRES_REQUIRED="1")
    assert run.returncode == 1
    assert "1 passed, 2 errors" in run.stdout
    assert "PostgreSQL: not found (" in run.stdout


def test_a_run_that_needs_no_server_starts_none(tmp_path: Path) -> None:
    run = ended(pytest_run(tmp_path, "def test_one(pytestconfig): pass", "-n0"))
    assert run.returncode == 0
    assert "PostgreSQL" not in run.stdout


def test_a_given_server_is_used_and_left_running(cluster: Cluster, tmp_path: Path) -> None:
    run = ended(pytest_run(tmp_path, TWO_TESTS, "-n0"), ALDIS_TEST_POSTGRES=cluster.url("postgres"))
    assert "3 passed" in run.stdout
    assert cluster.fetch("SELECT count(*) FROM pg_database WHERE datname LIKE 'aldis_%'")[0][0] == 0


WORKERS = """
import json, os, pytest
from tests.conftest import RUN

@pytest.mark.parametrize("number", range(6))
def test_it(postgres, postgres_url, pytestconfig, number):
    told = pytestconfig.stash[RUN].told()
    with open(os.environ["TOLD"], "a") as file:
        print(told["directory"], postgres.fetch("SELECT pg_postmaster_start_time()::text")[0][0], file=file)
    if number == 0:
        os._exit(9)
"""


@pytest.mark.usefixtures("postgres_binaries")
def test_workers_share_one_server_that_survives_them_and_ends_with_the_run(tmp_path: Path) -> None:
    told = tmp_path / "told"
    run = ended(pytest_run(tmp_path, WORKERS, "-n2"), TOLD=str(told))
    assert "1 failed, 5 passed" in run.stdout
    lines = told.read_text(encoding="utf-8").splitlines()
    assert len(lines) == 6 and len(set(lines)) == 1
    assert re.search(r"PostgreSQL: \d+[\w.]*, from ", run.stdout)
    assert not Path(lines[0].split()[0]).exists()


STUCK = """
import os, threading
from tests.conftest import RUN

def test_it(postgres_url, pytestconfig):
    run = pytestconfig.stash[RUN]
    with open(os.environ["TOLD"], "w") as file:
        print(run.told()["directory"], run.directory, file=file)
    threading.Event().wait(60)
"""


@pytest.mark.usefixtures("postgres_binaries")
def test_nothing_is_left_of_a_run_that_was_killed(tmp_path: Path) -> None:
    told = tmp_path / "told"
    os.mkfifo(told)
    with subprocess.Popen(
        pytest_run(tmp_path, STUCK, "-n1"),
        env=ENVIRONMENT | {"TOLD": str(told)},
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    ) as run:
        cluster, shared = map(Path, told.read_text(encoding="utf-8").split())
        assert running_pid(cluster)
        run.kill()
        wait_until(lambda: not cluster.exists() and not shared.exists(), "the guard has removed everything")
        os.killpg(run.pid, signal.SIGKILL)
