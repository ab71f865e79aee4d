"""Claims from a long queue, by one node and by two at once (PostgreSQL)."""

from typing import Any

from tests.bench.bench import Bench, closed_port
from tests.bench.children import Child, Failed, worker
from tests.bench.table import Figure, Section

TARGET = 50_000.0
GROUPS = (100, 500)
_TIMEOUT_S = 120.0


def run(bench: Bench) -> None:
    """Measure how fast due messages are leased; every claim is a transaction of its own."""
    assert bench.database is not None
    section = bench.begin("Claims of due messages, in groups")
    messages = 50_000 if bench.is_quick else 200_000
    with worker("shared_load") as first, worker("shared_load") as second:
        for nodes in ([first], [first, second]):
            for parts in GROUPS:
                _measure(bench, section, nodes, parts, messages)
    section.notes.append(
        f"Claims: of {messages:,} due messages until none is left, each time in a new database; every message was "
        "claimed once. CPU is of the claiming processes, and of PostgreSQL."
    )


def _measure(bench: Bench, section: Section, nodes: list[Child], parts: int, messages: int) -> None:
    assert bench.database is not None
    url = bench.installation(f"claims-{len(nodes)}-{parts}", closed_port()).url
    nodes[0].ask({"work": "fill", "url": url, "messages": messages}, _TIMEOUT_S)
    before = bench.database.cpu_s()
    for node in nodes:
        node.tell({"work": "claims", "url": url, "parts": parts, "messages": messages})
    results = [node.hear(_TIMEOUT_S) for node in nodes]
    spent = bench.database.cpu_s() - before
    if sum(one["claimed"] for one in results) != messages:
        raise Failed(f"{messages} messages were due, and {[one['claimed'] for one in results]} claimed")
    bench.add(section, _figure(results, parts, messages, spent))


def _figure(results: list[dict[str, Any]], parts: int, messages: int, database_s: float) -> Figure:
    took = max(one["ended_at"] for one in results) - min(one["started_at"] for one in results)
    return Figure(
        f"messages, {parts} a claim, {len(results)} node{'s' * (len(results) > 1)}",
        messages / took,
        max(one["p50_ms"] for one in results),
        max(one["p99_ms"] for one in results),
        sum(one["cpu_us"] * one["claimed"] for one in results) / messages,
        1e6 * database_s / messages,
        target=TARGET,
    )
