"""PostgreSQL for the tests that ask for it: one server for a run and all its workers, one database for a test.

The process that directs the run has a file locked, and ends the server. The first worker that needs a server starts it;
if the director is killed, the lock goes with it, and the server's guard ends it. Databases of tests are copies of one
with a ledger's tables.
"""

import asyncio
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import structlog
from tests.interop import peers
from tests.postgres import GIVEN, Binaries, Cluster, Missing, Server, find_binaries, fresh_database, remove
from tests.stores import ENGINES, Engine, Postgres, Sqlite, postgres_opener

REQUIRED = "ALDIS_TEST_POSTGRES_REQUIRED"
NOT_FOUND = "PostgreSQL: not found"


class Run:
    """What the processes of one test run share: a directory."""

    held: BinaryIO

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.owner = directory / "owner"
        self.record = directory / "server.json"

    @classmethod
    def begin(cls) -> "Run":
        run = cls(Path(tempfile.mkdtemp(prefix="aldis-tests-")))
        run.held = run.owner.open("wb")
        fcntl.flock(run.held, fcntl.LOCK_EX)
        return run

    def end(self) -> None:
        self.drop_template()
        if told := self.told():
            remove(Path(told["directory"]))
        shutil.rmtree(self.directory)
        self.held.close()

    def told(self) -> dict[str, str] | None:
        """Return what is known of the run's server, once somebody has started it."""
        if not self.record.exists():
            return None
        told: dict[str, str] = json.loads(self.record.read_text(encoding="utf-8"))
        return told

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Let one worker after the other do what is done once for all."""
        with (self.directory / "turn").open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def server(self, binaries: Binaries) -> Server:
        """Start the run's server, or connect to it if another worker has."""
        with self.turn():
            if told := self.told():
                return Server(told["url"])
            cluster = Cluster(binaries, owner=self.owner)
            told = {"url": cluster.url("postgres"), "directory": str(cluster.directory)}
            self.record.write_text(json.dumps(told), encoding="utf-8")
            return cluster

    def template(self, server: Server) -> str:
        """Make the database that tests' are copies of, if no other worker has, and return its name."""
        name = f"aldis_template_{self.directory.name.rpartition('-')[2]}"
        made = self.directory / "template.json"
        with self.turn():
            if not made.exists():
                server.create_database(name)
                make_tables(server.url(name))
                made.write_text(json.dumps({"server": server.url("postgres"), "name": name}), encoding="utf-8")
        return name

    def drop_template(self) -> None:
        """Leave nothing on a server that was there before the run and stays."""
        made = self.directory / "template.json"
        if made.exists() and self.told() is None:
            told = json.loads(made.read_text(encoding="utf-8"))
            server = Server(told["server"])
            server.drop_database(told["name"])
            server.close()


def make_tables(url: str) -> None:
    """Bring a database up to date, on a thread of its own: the caller may have a loop that runs."""

    async def make() -> None:
        store = await postgres_opener(url)(lambda _: None)
        await store.close()

    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, make()).result()


RUN = pytest.StashKey[Run]()


def needed(found: Binaries | Missing) -> Binaries:
    """Skip the test, or fail it where PostgreSQL is required, if there is none."""
    if isinstance(found, Missing):
        (pytest.fail if os.environ.get(REQUIRED) == "1" else pytest.skip)(str(found))
    return found


def described() -> str:
    if GIVEN in os.environ:
        return f"PostgreSQL: the server of {GIVEN}"
    found = find_binaries()
    return str(found) if isinstance(found, Missing) else f"PostgreSQL: {found.version}, from {found.origin}"


def pytest_configure(config: pytest.Config) -> None:
    # A traceback with the values of all variables takes a second to write, and nobody reads those of tests that pass.
    structlog.configure(
        processors=[
            *structlog.get_config()["processors"][:-1],
            structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
        ]
    )
    shared: str | None = getattr(config, "workerinput", {}).get("aldis_run")
    config.stash[RUN] = Run(Path(shared)) if shared else Run.begin()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    node.workerinput["aldis_run"] = str(node.config.stash[RUN].directory)


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        config.stash[RUN].end()


def pytest_report_header() -> str:
    return described()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say how many tests had no server or peer; or which they had, for the header is not shown with -q."""
    _tell_of_peers(terminalreporter)
    lacking = [one for one in terminalreporter.stats.get("skipped", ()) if NOT_FOUND in str(one.longrepr)]
    if lacking:
        said = str(find_binaries()).replace(NOT_FOUND, f"{NOT_FOUND}, {len(lacking)} tests skipped")
        terminalreporter.write_line(said, yellow=True, bold=True)
    elif config.stash[RUN].told():
        terminalreporter.write_line(described())


def _tell_of_peers(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [one for outcome in ("passed", "failed") for one in terminalreporter.stats.get(outcome, ())]
    for line in peers.lacking(str(one.longrepr) for one in terminalreporter.stats.get("skipped", ())):
        terminalreporter.write_line(line, yellow=True, bold=True)
    if any("interop" in one.keywords for one in reports):
        terminalreporter.write_line(peers.described())


@pytest.fixture(scope="session")
def postgres_binaries() -> Binaries:
    """The programs of a server, for a `Cluster` of one's own."""
    return needed(find_binaries())


@pytest.fixture(scope="session")
def postgres(request: pytest.FixtureRequest) -> Iterator[Server]:
    """The run's server. Other tests use it at the same time: to restart or kill one, make a `Cluster`."""
    if url := os.environ.get(GIVEN):
        server = Server(url)
    else:
        server = request.config.stash[RUN].server(request.getfixturevalue("postgres_binaries"))
    yield server
    server.close()


@pytest.fixture(scope="session")
def postgres_template(request: pytest.FixtureRequest, postgres: Server) -> str:
    """The database that each test's is a copy of: a ledger's tables, with partitions for the benches' time."""
    return request.config.stash[RUN].template(postgres)


@pytest.fixture
def postgres_url(postgres: Server, postgres_template: str) -> Iterator[str]:
    """The URL of a new ledger without rows that is dropped after the test."""
    with fresh_database(postgres, postgres_template) as url:
        yield url


@pytest.fixture
def empty_postgres_url(postgres: Server) -> Iterator[str]:
    """The URL of a new database without tables that is dropped after the test."""
    with fresh_database(postgres) as url:
        yield url


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Each engine with a place for its rows: what is promised of any store is tested on both."""
    made: Engine
    if request.param == "sqlite":
        made = Sqlite(request.getfixturevalue("tmp_path") / "ledgers")
    else:
        made = Postgres(request.getfixturevalue("postgres_url"))
    yield made
    made.close()
