"""submit_sm through our connector to our message centre, each in its own process."""

import sys

from tests.bench.bench import Bench
from tests.bench.children import Child, worker
from tests.bench.table import Figure

TARGET = 60_000.0


def simulator(receipt_delay_ms: int) -> Child:
    """Start the message centre; its first line of output ends with the port."""
    command = [sys.executable, "-m", "aldis.connectors.simulator", "--port", "0"]
    return Child([*command, "--receipt-delay-ms", str(receipt_delay_ms)])


def port_of(simulator: Child) -> int:
    """Return where the message centre listens."""
    return int(simulator.read_line().rpartition(":")[2])


def run(bench: Bench) -> None:
    """Measure the connector."""
    section = bench.begin("SMPP, one bind over loopback")
    with simulator(receipt_delay_ms=10) as smsc, worker("smpp_load") as load:
        port = port_of(smsc)
        codec = float(load.ask({"codec_s": bench.floor_seconds})["rate"])
        for window in (1, 10, 100):
            result = load.ask({"port": port, "window": window, "seconds": bench.seconds, "receipts": False})
            figure = Figure(f"submit_sm, window {window}", result["rate"], cpu_us=result["cpu_us"])
            figure.floors = [("codec alone", codec)]
            figure.target = TARGET if window == 100 else None
            bench.add(section, figure)
        result = load.ask({"port": port, "window": 100, "seconds": bench.seconds, "receipts": True})
        bench.parts["smpp with receipt"] = result["rate"]
        figure = Figure("submit_sm and receipt, window 100", result["rate"], cpu_us=result["cpu_us"])
        figure.floors = [("codec alone", codec)]
        bench.add(section, figure)
    section.notes.append("SMPP: the floor builds and encodes a submit_sm and decodes its answer, on one core.")
