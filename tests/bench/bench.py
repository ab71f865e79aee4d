"""A run: what was asked for, where its files are, and what was measured so far."""

import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from tests.bench.children import Child, worker
from tests.bench.server import Server
from tests.bench.table import Figure, Section

CONCURRENCIES = (1, 10, 100)


@dataclass
class Bench:
    """What the sections share."""

    seconds: float
    """Length of a measurement."""
    flow_messages: int
    rows: tuple[int, int]
    is_profiled: bool
    folder: Path
    console: Console
    sections: list[Section] = field(default_factory=list)
    parts: dict[str, float] = field(default_factory=dict)
    """Figures that later sections use as floors."""
    about: list[str] = field(default_factory=list)
    profile: list[str] = field(default_factory=list)

    @property
    def floor_seconds(self) -> float:
        return min(self.seconds, 2.0)

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
    """Run a job against a server; adds the server's processor time for each request."""
    before = server.process.cpu_s()
    result = load.ask({"port": server.port, "warmup_s": 0.3, **job}, job.get("seconds", 60.0) + 60.0)
    result["server_us"] = 1e6 * (server.process.cpu_s() - before) / result["total"]
    return result


def constant_rate(load: Child, body: str, job: dict[str, Any]) -> float:
    """Return the rate of the same load against a server that always says the same."""
    with worker("answerers", "constant", body) as server:
        port = int(server.read_line())
        return float(load.ask({"port": port, "warmup_s": 0.2, "constant": True, **job})["rate"])
