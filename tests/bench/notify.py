"""What it costs to wake other nodes (PostgreSQL)."""

import re
from statistics import median
from typing import Any
from urllib.request import urlopen

from tests.bench.bench import Bench, closed_port, measure
from tests.bench.children import Failed, wait_until, worker
from tests.bench.database import Connection
from tests.bench.server import Server
from tests.bench.table import Figure

TARGET = 5.0
_ROUNDS = 6
_APPEAR = """INSERT INTO nodes (node_number, epoch, roles, host, process, started_at, expires_at)
SELECT 1000, 1, 'dispatch', 'elsewhere', '', 0, (extract(epoch FROM clock_timestamp()) * 1000)::bigint + 3600000"""
_GO = "DELETE FROM nodes WHERE node_number = 1000"


def sample(server: Server, name: str) -> float:
    """Return a number of the server's own."""
    with urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=10.0) as answer:
        text = answer.read().decode()
    found = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
    if found is None:
        raise Failed(f"the server does not tell {name}")
    return float(found[1])


def run(bench: Bench) -> None:
    """Measure submissions with and without another node that must be told of them, in turn."""
    section = bench.begin("Wake-ups of other nodes, submissions over 100 connections")
    installation = bench.installation("notify", closed_port())
    job = {"kind": "submit", "recipients": 1, "connections": 100, "seconds": bench.seconds}
    results: dict[bool, list[dict[str, Any]]] = {False: [], True: []}
    rung = 0.0
    with worker("http_load") as load, Server(installation) as server, Connection(installation.url) as admin:
        measure(load, server, job)
        for n in range(4 if bench.is_quick else _ROUNDS):
            for is_on in (False, True) if n % 2 else (True, False):
                _turn(admin, server, is_on=is_on)
                before = sample(server, "aldis_notifications_total")
                results[is_on].append(measure(load, server, job))
                sent = sample(server, "aldis_notifications_total") - before
                if bool(sent) != is_on:
                    raise Failed(f"{sent:.0f} wake-ups were sent, and another node was there: {is_on}")
                rung += sent
    off, on = (_median(what, results[is_on]) for is_on, what in ((False, "nobody to wake"), (True, "with wake-ups")))
    on.floors = [("nobody to wake", off.value)]
    bench.add(section, off)
    bench.add(section, on)
    costs = [100 * (1 - one["rate"] / other["rate"]) for one, other in zip(results[True], results[False], strict=True)]
    cost = Figure("cost, the median of pairs", median(costs), unit="%", target=TARGET, less_is_better=True)
    bench.add(section, cost)
    section.notes.append(
        f"Wake-ups: {len(costs)} pairs of {bench.seconds:.0f} s, {min(costs):.1f} to {max(costs):.1f} %, with "
        f"{rung:.0f} notifications in all. The other node is a row in the table of nodes, which takes no work, so "
        "that nothing is measured but the notifications."
    )


def _median(what: str, results: list[dict[str, Any]]) -> Figure:
    def middle(key: str) -> float:
        return float(median(one[key] for one in results))

    times = middle("p50_ms"), middle("p99_ms")
    return Figure(f"{what}, medians", middle("rate"), *times, middle("server_us"), middle("database_us"))


def _turn(admin: Connection, server: Server, *, is_on: bool) -> None:
    """Let the other node appear or go, and wait until the server knows."""
    admin.fetch(_GO)
    if is_on:
        admin.fetch(_APPEAR)
    wait_until("a beat", lambda: sample(server, "aldis_nodes_living") == 1 + is_on, 20.0, step_s=0.1)
