"""The whole flow: submission, SMPP, receipt, push."""

import time
from array import array
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.bench import profiling
from tests.bench.bench import Bench
from tests.bench.children import Child, Failed, wait_until, worker
from tests.bench.http import check_sample, memory
from tests.bench.server import Installation, Server
from tests.bench.smpp import port_of, simulator
from tests.bench.table import Figure, Section
from tests.bench.traffic import number

CONNECTIONS = 50
TARGET = 4_000.0
_WARMUP = 100
_RECEIPT_DELAY_MS = 10
_DEADLINE_S = 90.0
_LINGER_S = 1.0
DELIVERED = 11


class Flow:
    """The five processes: load generator, server, message centre, the customer's web server, and this one."""

    def __init__(self, bench: Bench, stack: ExitStack) -> None:
        self._bench = bench
        self._ids = bench.folder / "ids-flow"
        self.sink = stack.enter_context(worker("answerers", "sink"))
        self.smsc = stack.enter_context(simulator(_RECEIPT_DELAY_MS))
        push_url = f"http://127.0.0.1:{int(self.sink.read_line())}/push"
        installation = Installation(bench.folder / "flow", port_of(self.smsc), push_url)
        self.profiler = profiling.choose(bench.folder) if bench.is_profiled else None
        command = self.profiler.command if self.profiler else ()
        self.server = stack.enter_context(Server(installation, command) if command else Server(installation))
        self.load = stack.enter_context(worker("http_load"))
        self.idle_mb = self.server.process.peak_mb()
        self._expected = 0

    @property
    def others(self) -> dict[str, Child]:
        return {"message centre": self.smsc, "push receiver": self.sink, "load generator": self.load}

    def send(self, count: int) -> float:
        """Send messages and wait for the last push; return how long both took."""
        job = {"kind": "submit", "recipients": 1, "connections": CONNECTIONS, "count": count, "first": self._expected}
        self._expected += count
        asked = {"port": self.server.port, "ids": str(self._ids), "deadline_s": _DEADLINE_S, **job}
        started_at = self.load.ask(asked, _DEADLINE_S + 60.0)["started_at"]
        wait_until(
            f"{self._expected} pushes", lambda: self.sink.ask({})["pushes"] >= self._expected, _DEADLINE_S, step_s=0.1
        )
        return float(self.sink.ask({})["last_at"]) - started_at

    def check(self, count: int) -> None:
        """Compare the pushes with the submissions, and poll every message of the last `send`."""
        time.sleep(_LINGER_S)
        path = self._bench.folder / "pushes"
        said = self.sink.ask({"path": str(path)})
        if said["pushes"] != self._expected or said["statuses"] != {str(DELIVERED): self._expected}:
            raise Failed(f"{self._expected} messages, but the pushes were {said}")
        pushed = set(_pairs(path))
        missing = {(batch, number(n)) for batch, n in _pairs(self._ids)} - pushed
        if missing or len(pushed) != self._expected:
            raise Failed(f"{len(missing)} messages without a push of their own")
        check_sample(self.load, self.server, self._ids, 1, DELIVERED, count)


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
        count = bench.flow_messages
        processes = {"server": flow.server.process, **flow.others}
        before = {name: child.cpu_s() for name, child in processes.items()}
        spent = flow.send(count)
        cpu = {name: 1e6 * (child.cpu_s() - before[name]) / count for name, child in processes.items()}
        if flow.profiler:
            flow.profiler.stop()
        flow.check(count)
        _report(bench, section, flow, count / spent, cpu)
    if flow.profiler:
        bench.profile = flow.profiler.read()
        section.notes.append(flow.profiler.note)


def _report(bench: Bench, section: Section, flow: Flow, rate: float, cpu: dict[str, float]) -> None:
    figure = Figure(f"messages, c={CONNECTIONS}", rate, cpu_us=cpu["server"], target=TARGET)
    parts = [bench.parts.get("submit 1 c=100"), bench.parts.get("smpp with receipt")]
    if all(parts):
        figure.floors = [("sum of parts", 1 / sum(1 / part for part in parts if part))]
        section.notes.append("Whole flow: the sum of parts is one submission and one submit_sm with its receipt.")
    bench.add(section, figure)
    bench.add(section, memory("server's peak memory", flow.server, flow.idle_mb))
    others = ", ".join(f"{name} {us:.0f}" for name, us in cpu.items() if name != "server")
    section.notes.append(
        f"Whole flow: {bench.flow_messages:,} messages, timed from the first submission to the last push; every one "
        f"ended in 11, and every push came once. CPU us a message of the others: {others}."
    )
