"""The whole flow: submission, SMPP, receipt, push."""

import time
from array import array
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.bench import profiling
from tests.bench.bench import Bench
from tests.bench.children import Failed, wait_until, worker
from tests.bench.http import check_sample, memory
from tests.bench.server import Server
from tests.bench.smpp import port_of, simulator
from tests.bench.table import Figure, Section
from tests.bench.traffic import number

CONNECTIONS = 50
TARGETS = 4_000.0, 2_500.0
"""On SQLite, and on PostgreSQL."""
_WARMUP = 100
_RECEIPT_DELAY_MS = 10
_DEADLINE_S = 90.0
_LINGER_S = 1.0
DELIVERED = 11


class Flow:
    """The processes: load generator, server, message centre, the customer's web server, and this one.

    On PostgreSQL there may be several servers, each with a bind and a load generator of its own.
    """

    def __init__(self, bench: Bench, stack: ExitStack, name: str = "flow", *, nodes: int = 1, binds: int = 1) -> None:
        self._bench = bench
        self._ids = bench.folder / f"ids-{name}"
        self.sink = stack.enter_context(worker("answerers", "sink"))
        self.smsc = stack.enter_context(simulator(_RECEIPT_DELAY_MS))
        push_url = f"http://127.0.0.1:{int(self.sink.read_line())}/push"
        installation = bench.installation(name, port_of(self.smsc), push_url, binds=binds)
        self.profiler = profiling.choose(bench.folder) if bench.is_profiled else None
        command = self.profiler.command if self.profiler else ()
        self.server = stack.enter_context(Server(installation, command) if command else Server(installation))
        self.servers = [self.server]
        self.servers += [stack.enter_context(Server(installation, name=f"node {n}")) for n in range(1, nodes)]
        self.loads = [stack.enter_context(worker("http_load")) for _ in self.servers]
        self.idle_mb = self.server.process.peak_mb()
        self._expected = 0

    def cpu_s(self) -> dict[str, float]:
        """Return everybody's processor time so far."""
        database = self._bench.database
        spent = {
            "server": sum(server.process.cpu_s() for server in self.servers),
            "message centre": self.smsc.cpu_s(),
            "push receiver": self.sink.cpu_s(),
            "load generator": sum(load.cpu_s() for load in self.loads),
        }
        return spent | ({"PostgreSQL": database.cpu_s()} if database else {})

    def send(self, count: int) -> float:
        """Send messages and wait for the last push; return how long both took."""
        share = count // len(self.servers)
        job = {"kind": "submit", "recipients": 1, "count": share, "connections": CONNECTIONS // len(self.servers)}
        for n, (load, server) in enumerate(zip(self.loads, self.servers, strict=True)):
            first, ids = self._expected + n * share, f"{self._ids}-{n}"
            load.tell({"port": server.port, "ids": ids, "first": first, "deadline_s": _DEADLINE_S, **job})
        self._expected += share * len(self.servers)
        started_at = min(load.hear(_DEADLINE_S + 60.0)["started_at"] for load in self.loads)
        wait_until(
            f"{self._expected} pushes", lambda: self.sink.ask({})["pushes"] >= self._expected, _DEADLINE_S, step_s=0.1
        )
        return float(self.sink.ask({})["last_at"]) - started_at

    def measure(self, count: int) -> tuple[float, dict[str, float]]:
        """Send messages; return how long it took, and everybody's processor time for each, us."""
        before = self.cpu_s()
        spent = self.send(count)
        return spent, {name: 1e6 * (now - before[name]) / count for name, now in self.cpu_s().items()}

    def check(self, count: int) -> None:
        """Compare the pushes with the submissions, and poll every message of the last `send`."""
        time.sleep(_LINGER_S)
        path = self._bench.folder / "pushes"
        said = self.sink.ask({"path": str(path)})
        if said["pushes"] != self._expected or said["statuses"] != {str(DELIVERED): self._expected}:
            raise Failed(f"{self._expected} messages, but the pushes were {said}")
        pushed = set(_pairs(path))
        for n, (load, server) in enumerate(zip(self.loads, self.servers, strict=True)):
            ids = Path(f"{self._ids}-{n}")
            missing = {(batch, number(n)) for batch, n in _pairs(ids)} - pushed
            if missing or len(pushed) != self._expected:
                raise Failed(f"{len(missing)} messages without a push of their own")
            check_sample(load, server, ids, 1, DELIVERED, count)


def _pairs(path: Path) -> Any:
    flat = array("q")
    flat.frombytes(path.read_bytes())
    return zip(flat[0::2], flat[1::2], strict=True)


def run(bench: Bench) -> None:
    """Measure the whole flow."""
    section = bench.begin("Whole flow, a push for each message")
    with ExitStack() as stack:
        flow = Flow(bench, stack)
        flow.send(_WARMUP)
        if flow.profiler:
            flow.profiler.start(flow.server.process.pid)
        if bench.database:
            bench.database.forget_statements()
        count = bench.flow_messages
        spent, cpu = flow.measure(count)
        if flow.profiler:
            flow.profiler.stop()
        if flow.profiler and bench.database:
            bench.profile += ["Whole flow", *bench.database.statements()]
        flow.check(count)
        _report(bench, section, flow, count / spent, cpu)
    if flow.profiler:
        bench.profile += ["Whole flow", *flow.profiler.read()]
        section.notes.append(flow.profiler.note)


def _report(bench: Bench, section: Section, flow: Flow, rate: float, cpu: dict[str, float]) -> None:
    figure = Figure(f"messages, c={CONNECTIONS}", rate, cpu_us=cpu["server"], database_us=cpu.get("PostgreSQL"))
    figure.target = bench.target(*TARGETS)
    parts = [bench.parts.get("submit 1 c=100"), bench.parts.get("smpp with receipt")]
    if all(parts):
        figure.floors = [("sum of parts", 1 / sum(1 / part for part in parts if part))]
        section.notes.append("Whole flow: the sum of parts is one submission and one submit_sm with its receipt.")
    bench.add(section, figure)
    bench.add(section, memory("server's peak memory", flow.server, flow.idle_mb))
    others = ", ".join(f"{name} {us:.0f}" for name, us in cpu.items() if name not in ("server", "PostgreSQL"))
    section.notes.append(
        f"Whole flow: {bench.flow_messages:,} messages, timed from the first submission to the last push; every one "
        f"ended in 11, and every push came once. CPU us a message of the others: {others}."
    )
