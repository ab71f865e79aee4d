"""A run: what was asked for, where its files are, and what was measured so far."""

import shutil
import socket
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from tests.bench.children import Child, worker
from tests.bench.database import Database
from tests.bench.server import Installation, Server
from tests.bench.table import Figure, Section

CONCURRENCIES = (1, 10, 100)


@dataclass
class Bench:
    """What the sections share."""

    seconds: float
    """Length of a measurement."""
    is_quick: bool
    flow_messages: int
    rows: tuple[int, int]
    is_profiled: bool
    folder: Path
    console: Console
    database: Database | None = None
    """PostgreSQL; without it ledgers are SQLite's."""
    sections: list[Section] = field(default_factory=list)
    parts: dict[str, float] = field(default_factory=dict)
    """Figures that later sections use as floors."""
    about: list[str] = field(default_factory=list)
    profile: list[str] = field(default_factory=list)

    @property
    def floor_seconds(self) -> float:
        return min(self.seconds, 2.0)

    def installation(self, name: str, smpp_port: int, push_url: str = "", *, binds: int = 1) -> Installation:
        """Make a ledger with its configuration."""
        return Installation(self.folder / name, smpp_port, push_url, database=self.database, binds=binds)

    def target(self, sqlite: float, postgres: float) -> float:
        """Return the target of the ledger that is measured."""
        return sqlite if self.database is None else postgres

    def say(self, text: str) -> None:
        """Show progress."""
        self.console.print(f"[dim]{text}[/dim]", highlight=False)

    def begin(self, title: str) -> Section:
        self.say(f"{title} ...")
        section = Section(title)
        self.sections.append(section)
        return section

    def add(self, section: Section, figure: Figure) -> None:
        self.say(f"  {figure.what}: {figure.value:,.0f} {figure.unit or '/s'}")
        section.figures.append(figure)


@contextmanager
def folder_for(parent: Path | None, *, keep: bool) -> Iterator[Path]:
    """Make a directory, and take it away at the end unless it is to be kept."""
    folder = Path(tempfile.mkdtemp(prefix="aldis-bench-", dir=parent))
    try:
        yield folder
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


def closed_port() -> int:
    """Return a port where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def measure(load: Child, server: Server, job: dict[str, Any]) -> dict[str, Any]:
    """Run a job against a server; adds the processor time of server and database for each request."""
    return measure_all([load], [server], job)


def measure_all(loads: Sequence[Child], servers: Sequence[Server], job: dict[str, Any]) -> dict[str, Any]:
    """Run a job against several servers of one ledger at once, each with a load of its own, and add up."""
    database = servers[0].installation.database
    before = sum(server.process.cpu_s() for server in servers)
    database_before = database.cpu_s() if database else 0.0
    for load, server in zip(loads, servers, strict=True):
        load.tell({"port": server.port, "warmup_s": 0.3, **job})
    results = [load.hear(job.get("seconds", 60.0) + 60.0) for load in loads]
    total = sum(one["total"] for one in results)
    return {
        "total": total,
        "rate": sum(one["rate"] for one in results),
        "p50_ms": sum(one["p50_ms"] for one in results) / len(results),
        "p99_ms": max(one["p99_ms"] for one in results),
        "server_us": 1e6 * (sum(server.process.cpu_s() for server in servers) - before) / total,
        "database_us": 1e6 * (database.cpu_s() - database_before) / total if database else None,
    }


def constant_rate(load: Child, body: str, job: dict[str, Any]) -> float:
    """Return the rate of the same load against a server that always says the same."""
    with worker("answerers", "constant", body) as server:
        port = int(server.read_line())
        return float(load.ask({"port": port, "warmup_s": 0.2, "constant": True, **job})["rate"])
