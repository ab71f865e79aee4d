"""submit_sm through our connector to our message centre, each in its own process; and through another's beside it."""

import sys

from tests.bench.bench import Bench
from tests.bench.children import Child, worker
from tests.bench.table import Figure

TARGET = 60_000.0
AHEAD_OF_PEER = 5.0
WINDOWS = (1, 10, 100)
WIDEST = WINDOWS[-1]


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
    peer = _peer(bench)
    bare = worker("accepting")
    with simulator(receipt_delay_ms=10) as smsc, bare, worker("smpp_load") as load:
        codec = float(load.ask({"codec_s": bench.floor_seconds})["rate"])
        job = {"seconds": bench.seconds, "receipts": False}
        ports = {"": port_of(smsc), ", accepted and no more": int(bare.read_line())}
        for what, port in ports.items():
            for window in WINDOWS:
                result = load.ask({"port": port, "window": window, **job})
                figure = Figure(f"submit_sm{what}, window {window}", result["rate"], cpu_us=result["cpu_us"])
                figure.floors = [("codec alone", codec)] if port == ports[""] else [("smpp34", peer[window])]
                figure.target = TARGET if window == WIDEST and port == ports[""] else None
                bench.add(section, figure)
        ratio = figure.value / peer[WIDEST]
        bench.add(section, Figure("the last one to smpp34's", ratio, unit="x", target=AHEAD_OF_PEER))
        result = load.ask({"port": ports[""], "window": WIDEST, "seconds": bench.seconds, "receipts": True})
        bench.parts["smpp with receipt"] = result["rate"]
        figure = Figure(f"submit_sm and receipt, window {WIDEST}", result["rate"], cpu_us=result["cpu_us"])
        figure.floors = [("codec alone", codec)]
        bench.add(section, figure)
    section.notes.append(
        "SMPP: the codec alone builds and encodes a submit_sm and decodes its answer, on one core. The message centre "
        "is the simulator, or one on the same session layer that only accepts. smpp34 is a client and a message "
        "centre in Rust with a Python face: as many tasks submit as its window has places, and all is accepted."
    )


def _peer(bench: Bench) -> dict[int, float]:
    """Measure the same with another implementation; returns its rate by window."""
    with worker("peer_smpp", "server") as smsc, worker("peer_smpp", "client") as load:
        port = int(smsc.read_line())
        jobs = {window: {"port": port, "window": window, "seconds": bench.floor_seconds} for window in WINDOWS}
        return {window: float(load.ask(job)["rate"]) for window, job in jobs.items()}
