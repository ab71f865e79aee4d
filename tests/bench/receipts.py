"""Receipts in bad times: in any order, again and again, ahead of their answers; and half a million at once."""

import json
import time
from contextlib import ExitStack
from typing import Any

import apsw
from tests.bench.bench import Bench
from tests.bench.children import Child, Failed, wait_until, worker
from tests.bench.database import Connection
from tests.bench.server import Server
from tests.bench.table import Figure, Section

from aldis.model.status import Status
from aldis.store.sqlite.engine import LEDGER_FILE

TARGET = 5_000.0
KEPT_TARGET = 0.5
COPIES = 3
EARLY = 0.2
BINDS = 2
CONNECTIONS = 50
_A_SUBMISSION = 100
_DEADLINE_S = 900.0
_STATUSES = {
    "DELIVRD": Status.DELIVERED,
    "UNDELIV": Status.FAILED_PHONE,
    "EXPIRED": Status.EXPIRED,
    "REJECTD": Status.REMOTELY_BLOCKED,
}
_TABLE = """
SELECT DISTINCT m.message_id, e.upstream_id, m.status, m.assumed FROM messages m
JOIN events e ON e.message_id = m.message_id WHERE e.upstream_id <> ''"""


class Site:
    """A server, its message centre, and a load generator."""

    def __init__(self, bench: Bench, stack: ExitStack, name: str, early: float, copies: int) -> None:
        self._folder = bench.folder
        self._smsc = stack.enter_context(worker("receipts_smsc", str(early), str(copies)))
        self._installation = bench.installation(name, int(self._smsc.read_line()), binds=BINDS)
        self.server = stack.enter_context(Server(self._installation))
        self.load: Child = stack.enter_context(worker("http_load"))
        self._database = bench.database

    def cpu_s(self) -> tuple[float, float | None]:
        """Return the processor time so far of the server, and of PostgreSQL if there is one."""
        return self.server.process.cpu_s(), self._database.cpu_s() if self._database else None

    def count(self) -> dict[str, Any]:
        return self._smsc.ask({"do": "count"})

    def release(self) -> dict[str, Any]:
        """Let go of the receipts; returns the counts of just before."""
        return self._smsc.ask({"do": "release"})

    def fill(self, messages: int) -> None:
        """Submit messages and wait until the network has taken them all, and was heard to have."""
        submissions = messages // _A_SUBMISSION
        job = {"kind": "submit", "recipients": _A_SUBMISSION, "count": submissions, "connections": 4}
        self.load.ask({"port": self.server.port, "deadline_s": _DEADLINE_S, **job}, _DEADLINE_S)
        self.wait_taken(messages)

    def wait_taken(self, messages: int) -> None:
        wait_until(f"{messages} messages taken", lambda: self.count()["submits"] >= messages, _DEADLINE_S, step_s=0.2)
        time.sleep(1.0)

    def wait_answered(self) -> dict[str, Any]:
        """Wait until no receipt is left; returns the counts."""
        wait_until("all receipts", lambda: self.count()["unanswered"] == 0, _DEADLINE_S, step_s=0.1)
        counts = self.count()
        if counts["refused"]:
            raise Failed(f"{counts['refused']} receipts were refused")
        return counts

    def compare(self) -> int:
        """Compare the ledger with what the message centre knows, message by message; returns how many there are."""
        path = self._folder / "truth.json"
        self._smsc.ask({"do": "truth", "path": str(path)})
        truth = {upstream_id: int(_STATUSES[state]) for upstream_id, state in json.loads(path.read_text()).items()}
        rows = self._rows()
        wrong = [row for row in rows if row[3] or truth.get(row[1]) != row[2]]
        if wrong or not len(rows) == len(truth) == len({row[0] for row in rows}) == len({row[1] for row in rows}):
            raise Failed(f"{len(truth)} messages, {len(rows)} in the ledger, {len(wrong)} wrong: {wrong[:3]}")
        return len(truth)

    def _rows(self) -> list[Any]:
        if self._database:
            with Connection(self._installation.url) as connection:
                return connection.fetch(_TABLE)
        path = self._installation.data / LEDGER_FILE
        return list(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY).execute(_TABLE))


def run(bench: Bench) -> None:
    """Measure receipts in random order, each three times, one message in five with one ahead of its answer."""
    section = bench.begin("Receipts in random order, each three times")
    messages = 10_000 if bench.is_quick else 100_000
    with ExitStack() as stack:
        site = Site(bench, stack, "receipts", EARLY, COPIES)
        site.fill(messages)
        site.wait_answered()
        cpu = site.cpu_s()
        before = site.release()
        after = site.wait_answered()
        count, spent = after["answered"] - before["answered"], after["last_at"] - before["at"]
        cpu_us = [1e6 * (now - then) / count for now, then in zip(site.cpu_s(), cpu, strict=True) if now and then]
        figure = Figure("receipts, each on disk before it is answered", count / spent, cpu_us=cpu_us[0])
        figure.database_us = cpu_us[1] if len(cpu_us) > 1 else None
        figure.target = TARGET
        bench.add(section, figure)
        compared = site.compare()
    section.notes.append(
        f"Receipts: of {compared:,} messages, each {COPIES} times and shuffled, over {BINDS} binds; for "
        f"{before['answered']:,} one had come ahead of the answer. Then every message was compared with what the "
        "network knows of it: all were right."
    )


def run_backlog(bench: Bench) -> None:
    """Measure submissions while the receipts of an outage come in all at once."""
    section = bench.begin("Submissions beside the receipts of an outage")
    backlog = 50_000 if bench.is_quick else 500_000
    with ExitStack() as stack:
        site = Site(bench, stack, "backlog", early=0.0, copies=1)
        site.fill(backlog)
        base = _submit(bench, site)
        site.wait_taken(backlog + base["total"])
        before = site.release()
        beside = _submit(bench, site)
        during = site.count()
        site.wait_taken(backlog + base["total"] + beside["total"])
        after = site.wait_answered()
        site.release()
        site.wait_answered()
        compared = site.compare()
    if not during["unanswered"]:
        raise Failed("the backlog was over before the measurement was: more messages are wanted")
    _report(bench, section, base, beside)
    rate = (after["answered"] - before["answered"]) / (after["last_at"] - before["at"])
    bench.add(section, Figure("receipts of the backlog", rate))
    section.notes.append(
        f"Outage: the receipts of {backlog:,} messages come at once, over {BINDS} binds with a window of 100 each; all "
        f"{compared:,} messages ended as the network says."
    )


def _submit(bench: Bench, site: Site) -> dict[str, Any]:
    """Submit as fast as answers come; returns the result, and how many went upstream a second meanwhile."""
    before = site.count()
    job = {"kind": "submit", "recipients": 1, "connections": CONNECTIONS, "seconds": 2 * bench.seconds}
    result = site.load.ask({"port": site.server.port, **job}, 120.0)
    after = site.count()
    return {**result, "upstream": (after["submits"] - before["submits"]) / (after["at"] - before["at"])}


def _report(bench: Bench, section: Section, base: dict[str, Any], beside: dict[str, Any]) -> None:
    for what, key in (("submissions", "rate"), ("submit_sm", "upstream")):
        bench.add(section, Figure(f"{what}, nothing else", base[key]))
        bench.add(section, Figure(f"{what} beside the backlog", beside[key]))
        bench.add(section, Figure(f"{what}: kept", beside[key] / base[key], unit="x", target=KEPT_TARGET))
