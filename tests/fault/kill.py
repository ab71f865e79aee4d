"""A01: the server is killed at random moments under load, and three witnesses compare what they saw with the ledger."""

import random
import signal
import time
from collections.abc import Sequence

from tests.fault import dump
from tests.fault.checker import Evidence, Row, check, facts_of, table_of
from tests.fault.rig import SERVER, Rig
from tests.fault.tables import Result
from tests.fault.witness import read

SNAPSHOT_EVERY = 5
LAST_REPORTS = 500
EARLY_SHARE, STOPPING_SHARE = 0.2, 0.1
"""Shares of kills that are timed from the start of the process, and that hit a graceful stop."""
TOP_UP_EVERY, TOP_UP = 7, 3


def run(rounds: int, seed: int = 1, rate: float = 250.0, command: Sequence[str] = SERVER) -> Result:
    """Kill `rounds` times, let it drain, and check. `command`: what to run in place of aldis."""
    began = time.monotonic()
    with Rig("kill", seed) as rig:
        rig.server_command = command
        evidence = _witness(rig, rounds, rate)
        rows = check(evidence)
        ok = all(row.ok for row in rows)
        rig.keep = not ok
        text = f"{table_of(rows)}\n\n{facts_of(evidence)}"
        kept = str(rig.folder) if rig.keep else ""
    return Result("kill", ok, text, time.monotonic() - began, kept=kept)


def broken_rows(rounds: int, seed: int, command: Sequence[str]) -> list[Row]:
    """Do the same with a server that is known to be wrong; return the promises that it was seen to break."""
    with Rig("mutant", seed) as rig:
        rig.server_command = command
        return [row for row in check(_witness(rig, rounds, 150.0)) if row.broken]


def _witness(rig: Rig, rounds: int, rate: float) -> Evidence:
    draw = random.Random(rig.seed)
    rig.set_stage()
    rig.start_server()
    _note_ready(rig)
    client = rig.start_client(rate)
    snapshots = []
    for turn in range(1, rounds + 1):
        _kill_once(rig, draw, turn)
        if turn % SNAPSHOT_EVERY == 0:
            snapshots.append(dump.snapshot(rig.data, rig.folder / "snapshot"))
        rig.start_server()
    _note_ready(rig)
    rig.end_client(client)
    return wind_up(rig, draw, snapshots)


def _note_ready(rig: Rig) -> None:
    rig.log.write("ready", s=round(rig.wait_ready(), 3))


def _kill_once(rig: Rig, draw: random.Random, turn: int) -> None:
    """Kill the server a random moment after it began, or began to serve, or was told to stop."""
    kind, wait = draw.random(), draw.uniform(0.2, 1.5)
    if kind >= EARLY_SHARE:
        _note_ready(rig)
        if turn % TOP_UP_EVERY == 0:
            rig.operate("topup", "poor", str(TOP_UP))
            rig.log.write("topup", account="poor", milli=TOP_UP * 1000)
    time.sleep(wait)
    if kind > 1 - STOPPING_SHARE:
        assert rig.server is not None
        rig.server.send_signal(signal.SIGTERM)
        time.sleep(draw.uniform(0.0, 0.3))
    rig.kill_server()


def wind_up(rig: Rig, draw: random.Random, snapshots: list[dump.Snapshot]) -> Evidence:
    """Wait until all is quiet, ask for the last reports, stop the server and gather the evidence."""
    rig.wait_quiet()
    rig.log.write("quiet", wall_ms=time.time_ns() // 1_000_000)
    evidence = gather(rig, snapshots)
    batches = [(evidence.asks[n].account, batch) for n, batch in evidence.acked.items()]
    rig.ask_last(draw.sample(batches, min(LAST_REPORTS, len(batches))))
    for server in rig.servers:
        server.stop()
    return gather(rig, snapshots)


def gather(rig: Rig, snapshots: list[dump.Snapshot]) -> Evidence:
    """Read all logs and the ledger."""
    folder = rig.folder
    return Evidence(
        client=read(folder / "client.jsonl"),
        smsc=read(folder / "smsc.jsonl"),
        receiver=read(folder / "receiver.jsonl"),
        supervisor=read(folder / "supervisor.jsonl"),
        dump=rig.ledger.take(),
        snapshots=snapshots,
    )
