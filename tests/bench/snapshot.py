"""What an old snapshot costs, which keeps every dead row where it is (PostgreSQL)."""

from typing import Any

from tests.bench.bench import Bench, closed_port
from tests.bench.children import Failed, worker
from tests.bench.table import Figure, Section

RATE = 2_000
TARGET = 2.0


def run(bench: Bench) -> None:
    """Measure claims in a steady flow, before, while and after a snapshot is held."""
    section = bench.begin(f"Claims at {RATE:,} messages a second, and an old snapshot")
    url = bench.installation("snapshot", closed_port()).url
    baseline_s, held_s = (10.0, 10.0) if bench.is_quick else (30.0, 60.0)
    phases = [("warming up", 3.0), ("baseline", baseline_s), ("snapshot", held_s), ("after it", 10.0)]
    with worker("shared_load") as node:
        timeout_s = sum(seconds for _, seconds in phases) + 60.0
        result = node.ask({"work": "flow", "url": url, "rate": RATE, "phases": phases}, timeout_s)
    if result["claimed"] != result["admitted"]:
        raise Failed(f"{result['admitted']} messages admitted, {result['claimed']} claimed")
    _report(bench, section, {phase["name"]: phase["slices"] for phase in result["phases"]})
    section.notes.append(
        "Snapshot: messages are admitted 20 at a time every 10 ms, claimed up to 100 at a time as they come, and "
        "recorded as taken by the network. The snapshot is REPEATABLE READ. A line is of 10 s; lines count "
        "messages and time claims. If they show less than the rate, the machine was too busy to tell."
    )


def _report(bench: Bench, section: Section, phases: dict[str, list[dict[str, Any]]]) -> None:
    for name in ("baseline", "snapshot", "after it"):
        for one in phases[name]:
            claim, seconds = one["claim"], one["to_s"] - one["from_s"]
            title = f"{name}, {one['from_s']:.0f} to {one['to_s']:.0f} s"
            bench.add(section, Figure(title, claim["messages"] / seconds, claim["p50_ms"], claim["p99_ms"]))
    for verb in ("claim", "admit", "record"):
        base, held = _p99(phases["baseline"], verb), _p99(phases["snapshot"], verb)
        figure = Figure(f"p99 of {verb} ({held:.1f} ms) to the baseline's", held / base, unit="x", less_is_better=True)
        figure.target = TARGET if verb == "claim" else None
        figure.floors = [("baseline, ms", base)]
        bench.add(section, figure)


def _p99(slices: list[dict[str, Any]], verb: str) -> float:
    """Return the mean of the slices' p99s, weighted by how much was done in each."""
    total = sum(one[verb]["count"] for one in slices)
    return float(sum(one[verb]["p99_ms"] * one[verb]["count"] for one in slices) / max(1, total))
