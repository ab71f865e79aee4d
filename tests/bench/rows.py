"""The same work on a small and on a large ledger."""

from pathlib import Path
from typing import Any

from tests.bench.bench import Bench, closed_port, measure
from tests.bench.children import worker
from tests.bench.ledger_load import RECIPIENTS
from tests.bench.server import Installation, Server
from tests.bench.table import Figure

SENT = 10


def run(bench: Bench) -> None:
    """Measure on both sizes, and set the large one beside the small one."""
    section = bench.begin("By messages in the ledger")
    small: dict[str, Figure] = {}
    for messages in bench.rows:
        for name, result in _measure(bench, messages).items():
            figure = Figure(f"{name}: {messages:,}", result["rate"], cpu_us=result["cpu_us"])
            figure.database_us = result.get("database_us")
            figure.p50_ms, figure.p99_ms = result.get("p50_ms"), result.get("p99_ms")
            if name in small:
                figure.floors = [(f"with {bench.rows[0]:,}", small[name].value)]
            small.setdefault(name, figure)
            bench.add(section, figure)
    section.figures.sort(key=lambda figure: list(small).index(figure.what.partition(": ")[0]))
    section.notes.append(
        "By messages in the ledger: batches of 100, all sent, under upstream ids that are random text. Receipts go "
        "straight into the ledger in groups of 500, with no pushes: first for the latest messages, nearly in order, "
        "then for old ones at random, which is the worst case."
    )


def _measure(bench: Bench, messages: int) -> dict[str, Any]:
    installation = bench.installation(f"rows-{messages}", closed_port())
    ids = installation.folder / "ids"
    about = {"url": installation.url, "folder": str(installation.data), "messages": messages, "seconds": bench.seconds}
    with worker("ledger_load") as ledger:
        filled = ledger.ask({"work": "fill", "ids": str(ids), **about}, 120.0)
        bench.say(f"  filled {messages:,} messages, {filled['rate']:,.0f} /s")
        results = _over_http(bench, installation, ids)
        for name, recent in (("receipts, of late", True), ("receipts, at random", False)):
            results[name] = ledger.ask({"work": "receipts", "recent": recent, **about}, 60.0)
    return results


def _over_http(bench: Bench, installation: Installation, ids: Path) -> dict[str, Any]:
    job: dict[str, Any] = {"connections": 100, "seconds": bench.seconds}
    polls = {"kind": "poll", "recipients": RECIPIENTS, "status": SENT, "ids": str(ids)}
    with worker("http_load") as load, Server(installation) as server:
        results = {
            "submissions, c=100": measure(load, server, {**job, "kind": "submit", "recipients": 1}),
            "polls of 100 rows, c=100": measure(load, server, {**job, **polls}),
        }
    return {name: {**result, "cpu_us": result["server_us"]} for name, result in results.items()}
