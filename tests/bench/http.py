"""Durable submissions and polls over HTTP."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import apsw
from tests.bench import profiling
from tests.bench.bench import CONCURRENCIES, Bench, closed_port, constant_rate, measure
from tests.bench.children import Child, worker
from tests.bench.database import commits
from tests.bench.server import Server
from tests.bench.table import Figure, Section
from tests.bench.traffic import REPORT_HEAD, report_rows

ACCEPTED = "0|IN_PROGRESS|1706711638331097089\n"
SAMPLE = 200
TARGET = 15_000.0
RECIPIENTS_TARGET = 150_000.0
"""On SQLite."""
POLL_TARGETS = 15_000.0, 10_000.0
"""On SQLite, and on PostgreSQL, which has its share of the cores."""


def single_commits(folder: Path, seconds: float) -> float:
    """Return how many transactions of one row a bare SQLite makes durable in a second."""
    connection = apsw.Connection(str(folder / "commits.sqlite"))
    connection.pragma("journal_mode", "wal")
    connection.pragma("synchronous", "full")
    connection.execute("CREATE TABLE rows (id INTEGER PRIMARY KEY, body TEXT)")
    done, started_at = 0, time.perf_counter()
    while time.perf_counter() - started_at < seconds:
        connection.execute("INSERT INTO rows (body) VALUES ('Your parcel is on its way')")
        done += 1
    rate = done / (time.perf_counter() - started_at)
    connection.close()
    return rate


def commit_floors(bench: Bench) -> list[tuple[str, float]]:
    """Return what the bare engine makes durable on one connection."""
    if bench.database is not None:
        return commits(bench.database, bench.floor_seconds)
    return [("single commits", single_commits(bench.folder, bench.floor_seconds))]


def run(bench: Bench, *, submissions: bool, polls: bool) -> None:
    """Measure submissions, and polls for what they made."""
    installation = bench.installation("http", closed_port())
    with worker("http_load") as load, Server(installation) as server:
        idle_mb = server.process.peak_mb()
        seconds = bench.seconds if submissions else min(bench.seconds, 1.0)
        section = bench.begin("Durable submissions, send_sms")
        _submissions(bench, section, load, server, seconds)
        if not submissions:
            bench.sections.remove(section)
        else:
            section.notes.append(
                "Submissions are queued and not sent meanwhile: the connector's port is closed. Every answer was "
                f"checked, and {SAMPLE} batches of each line were polled and had all their recipients."
            )
            bench.add(section, memory("server's peak memory", server, idle_mb))
        if polls:
            _polls(bench, load, server)


def memory(what: str, server: Server, idle_mb: float) -> Figure:
    """Return the line about a server's memory."""
    return Figure(
        what, server.process.peak_mb(), floors=[("idle", idle_mb)], target=150.0, less_is_better=True, unit="MB"
    )


def _submissions(bench: Bench, section: Section, load: Child, server: Server, seconds: float) -> None:
    floors = commit_floors(bench)
    for recipients in (1, 100):
        for connections in CONCURRENCIES:
            line = recipients, connections
            job: dict[str, Any] = {"kind": "submit", "recipients": recipients, "connections": connections}
            ids = ids_path(bench, recipients, connections)
            with _profiled(bench, server, what=f"Submissions, c={connections}") if line == (1, 100) else nullcontext():
                result = measure(load, server, {**job, "seconds": seconds, "ids": str(ids)})
            check_sample(load, server, ids, recipients, status=0)
            constant = constant_rate(load, ACCEPTED, {**job, "seconds": bench.floor_seconds})
            bench.parts[f"submit {recipients} c={connections}"] = result["rate"]
            figure = _submission_figure(result, recipients, connections, [("constant answer", constant), *floors])
            bench.add(section, figure)
            if recipients > 1:
                each = Figure(f"c={connections}, the same in recipients", result["rate"] * recipients)
                each.target = RECIPIENTS_TARGET if connections == 100 and bench.database is None else None
                each.floors = [("constant answer", constant * recipients)]
                bench.add(section, each)


@contextmanager
def _profiled(bench: Bench, server: Server, what: str) -> Iterator[None]:
    """See where the time goes meanwhile, in the database and by py-spy, if that was asked for."""
    database = bench.database if bench.is_profiled else None
    profiler = profiling.choose(bench.folder) if bench.is_profiled else None
    if not isinstance(profiler, profiling.PySpy) or database is None:
        yield
        return
    database.forget_statements()
    profiler.start(server.process.pid)
    yield
    profiler.stop()
    bench.profile += [what, *database.statements(), *profiler.read()]


def _submission_figure(result: Any, recipients: int, connections: int, floors: list[tuple[str, float]]) -> Figure:
    return Figure(
        f"c={connections}, {recipients} recipient{'s' * (recipients > 1)} a call",
        result["rate"],
        result["p50_ms"],
        result["p99_ms"],
        result["server_us"],
        result["database_us"],
        floors,
        TARGET if (recipients, connections) == (1, 100) else None,
    )


def ids_path(bench: Bench, recipients: int, connections: int) -> Path:
    """Return where the batches of a line are written down."""
    return bench.folder / f"ids-{recipients}-{connections}"


def check_sample(load: Child, server: Server, ids: Path, recipients: int, status: int, count: int = SAMPLE) -> None:
    """Poll batches and compare every row."""
    count = min(count, ids.stat().st_size // 16)
    job = {"kind": "poll", "ids": str(ids), "recipients": recipients, "status": status, "thorough": True}
    load.ask({"port": server.port, "connections": min(10, count), "count": count, "deadline_s": 60.0, **job}, 120.0)


def _polls(bench: Bench, load: Child, server: Server) -> None:
    section = bench.begin("Polls, get_report of random batches")
    for recipients, connections in [*((1, c) for c in CONCURRENCIES), (100, 100)]:
        ids = ids_path(bench, recipients, 100)
        job: dict[str, Any] = {"kind": "poll", "recipients": recipients, "connections": connections, "ids": str(ids)}
        result = measure(load, server, {**job, "status": 0, "seconds": bench.seconds})
        body = (REPORT_HEAD + report_rows(0, recipients, 0)).decode()
        constant = constant_rate(load, body, {**job, "status": 0, "seconds": bench.floor_seconds})
        bench.parts[f"poll {recipients} c={connections}"] = result["rate"]
        figure = Figure(
            f"c={connections}, {recipients} row{'s' * (recipients > 1)} each",
            result["rate"],
            result["p50_ms"],
            result["p99_ms"],
            result["server_us"],
            result["database_us"],
            [("constant answer", constant)],
            bench.target(*POLL_TARGETS) if (recipients, connections) == (1, 100) else None,
        )
        bench.add(section, figure)
    batches = ids_path(bench, 1, 100).stat().st_size // 16
    section.notes.append(f"Polls were spread over {batches:,} batches; every answer was checked.")
