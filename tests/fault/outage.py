"""The database goes: all of it for a moment, or one of its processes for some seconds."""

import contextlib
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence

from tests.fault.checker import Evidence, Row, check, facts_of, table_of
from tests.fault.server import SERVER
from tests.fault.shared import DATABASE, Progress, SharedRig, folder_of, shared_rig, wait_for_load, witness
from tests.fault.tables import Result, Table, quantile, say
from tests.fault.witness import Line

RATE = 100.0
SNAPSHOT_EVERY = 5
STOP_S = (2.0, 6.0)
LONG_EVERY, LONG_S = 10, 17.0
"""Some processes are stopped for longer than any deadline of ours."""
_TURNED_AWAY = frozenset((22, 40))


def run_restart(rounds: int, seed: int = 1, rate: float = RATE, command: Sequence[str] = SERVER) -> Result:
    """Crash the database `rounds` times under load."""
    return _run("pg-restart", seed, rate, command, lambda rig: _restart_all(rig, rounds))


def run_stop(rounds: int, seed: int = 1, rate: float = RATE, command: Sequence[str] = SERVER) -> Result:
    """Let one process of the database stand still, `rounds` times."""
    return _run("backend-stop", seed, rate, command, lambda rig: _stop_all(rig, rounds))


def restart_evidence(rounds: int, seed: int, command: Sequence[str]) -> list[Row]:
    """Do it with nodes that are known to be wrong; return the promises."""
    with shared_rig("mutant", seed, command) as rig:
        return check(witness(rig, RATE, lambda rig: _restart_all(rig, rounds)))


def _run(name: str, seed: int, rate: float, command: Sequence[str], act: Callable[[SharedRig], None]) -> Result:
    began = time.monotonic()
    with shared_rig(name, seed, command) as rig:
        rig.keep = True
        evidence = witness(rig, rate, act)
        rows = check(evidence)
        ok = all(row.ok for row in rows)
        rig.keep = not ok
        text = f"{_table(evidence)}\n\n{table_of(rows)}\n\n{facts_of(evidence)}"
        return Result(name, ok, text, time.monotonic() - began, kept=folder_of(rig))


def _restart_all(rig: SharedRig, rounds: int) -> None:
    progress = Progress(rounds, say)
    for turn in range(1, rounds + 1):
        time.sleep(rig.draw.uniform(0.3, 2.0))
        rig.log.write("kill", of="database")
        rig.cluster.restart("immediate")
        rig.log.write("dead", of="database")
        _wait_until_well(rig)
        if turn % SNAPSHOT_EVERY == 0:
            rig.snapshots.append(rig.shared.snapshot())
        progress.note(turn)


def _wait_until_well(rig: SharedRig) -> None:
    for server in rig.servers:
        rig.log.write("ready", s=round(server.wait_ready(), 3), node=server.name)
    wait_for_load(rig)


def _stop_all(rig: SharedRig, rounds: int) -> None:
    progress = Progress(rounds, say)
    for turn in range(1, rounds + 1):
        time.sleep(rig.draw.uniform(0.2, 1.0))
        seconds = LONG_S if turn % LONG_EVERY == 0 else rig.draw.uniform(*STOP_S)
        name = _stop_once(rig, seconds)
        _wait_until_well(rig)
        if turn % SNAPSHOT_EVERY == 0:
            rig.snapshots.append(rig.shared.snapshot())
        progress.note(turn, f"{name} for {seconds:.0f} s")
    [row] = rig.shared.fetch("SELECT deadlocks FROM pg_stat_database WHERE datname = $1", DATABASE)
    rig.log.write("deadlocks", count=row[0])


def _stop_once(rig: SharedRig, seconds: float) -> str:
    """Stop a process of the database that serves a node, for some seconds; return what it is for."""
    rows = rig.shared.fetch(
        "SELECT pid, application_name FROM pg_stat_activity WHERE datname = $1 AND application_name LIKE 'aldis %' "
        "ORDER BY application_name, pid",
        DATABASE,
    )
    pids: dict[str, list[int]] = {}
    for pid, name in rows:
        pids.setdefault(name.rpartition(" ")[0], []).append(pid)
    name = rig.draw.choice(sorted(pids))
    pid = rig.draw.choice(pids[name])
    rig.log.write("kill", of=name, s=round(seconds, 1))
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(seconds)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    rig.log.write("dead", of=name)
    return str(name)


# ------------------------------------------------------------------------------------------------- the figures


def error_seconds(client: Sequence[Line], faults: Sequence[float]) -> list[tuple[float, float, int]]:
    """Return for each fault the seconds from the first failed submission to the first good one that was made after
    it, those to the last failed one, and how many failed. Strangers are left out: they are turned away at any time.

    Args:
        client: The client's log.
        faults: When each began.
    """
    strangers = {line["n"] for line in client if line["e"] == "intent" and line["means"] == "stranger"}
    outcomes = [line for line in client if line["e"] == "outcome" and line["n"] not in strangers]
    found = []
    for begin, end in zip(faults, [*faults[1:], float("inf")], strict=True):
        mine = [line for line in outcomes if begin <= line["at"] < end]
        failed = [line["at"] for line in mine if is_failure(line)]
        if not failed:
            found.append((0.0, 0.0, 0))
            continue
        first = min(failed)
        good = [line["at"] for line in mine if line["kind"] == "ok" and line["at"] - line["ms"] / 1000 >= first]
        found.append((min(good, default=max(failed)) - first, max(failed) - first, len(failed)))
    return found


def is_failure(line: Line) -> bool:
    """Tell whether a submission failed for a reason of ours."""
    return line["kind"] == "unknown" or (
        line["kind"] == "refused" and (line["code"] in _TURNED_AWAY or line["code"] < 0)
    )


def _table(evidence: Evidence) -> Table:
    faults = [line for line in evidence.supervisor if line["e"] == "kill"]
    found = error_seconds(evidence.client, [line["at"] for line in faults])
    table = Table("the client", ("what", "p50", "p99", "max"))
    gone = [line["at"] for line in evidence.supervisor if line["e"] == "dead"]
    table.add(
        "seconds of the fault itself", *_quantiles([end - line["at"] for line, end in zip(faults, gone, strict=True)])
    )
    first, last = [one[0] for one in found], [one[1] for one in found]
    table.add("seconds until a submission is good again", *_quantiles(first))
    table.add("seconds until the last failure", *_quantiles(last))
    table.add("failed submissions a fault", *_quantiles([one[2] for one in found]))
    slowest = [line.get("ms", line.get("waited_ms", 0)) / 1000 for line in evidence.client if line["e"] == "outcome"]
    table.add("seconds for an answer", *_quantiles(slowest))
    if kinds := Counter(line["of"] for line in faults if "s" in line):
        table.title += "; stopped: " + ", ".join(f"{name} {n}" for name, n in sorted(kinds.items()))
    for line in evidence.supervisor:
        if line["e"] == "deadlocks":
            table.title += f"; deadlocks: {line['count']}"
    return table


def _quantiles(values: Sequence[float]) -> tuple[str, str, str]:
    return f"{quantile(values, 0.5):.2f}", f"{quantile(values, 0.99):.2f}", f"{max(values, default=0.0):.2f}"
