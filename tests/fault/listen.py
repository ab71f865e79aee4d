"""Wake-ups from node to node are lost: work is found by polling, and starts within its interval."""

import time
from collections.abc import Sequence

from tests.fault.checker import Evidence, check, facts_of, table_of
from tests.fault.load import BLOCKED
from tests.fault.shared import DATABASE, Progress, SharedRig, folder_of, shared_rig, witness
from tests.fault.tables import Result, Table, quantile, say

RATE = 6.0
"""Low, for with much to do the node that sends is awake anyway."""
EACH_S = 2.0
AGAIN_S = 0.1
POLL_S = 0.5
"""How often due messages are looked for, from the documents."""
SLACK_S = 0.25
SETTLE_S = 1.5
"""Until the bell is back."""
ROLES = (("web",), ("dispatch", "push"))


def run(rounds: int, seed: int = 1, rate: float = RATE) -> Result:
    """Cut the nodes' LISTEN connections again and again, for a while in each round, and let them be for as long."""
    began = time.monotonic()
    with shared_rig("listen-cut", seed, roles=ROLES) as rig:
        rig.keep = True
        evidence = witness(rig, rate, lambda rig: _cut_all(rig, rounds))
        rows = check(evidence)
        table, in_time = _table(evidence)
        ok = in_time and all(row.ok for row in rows)
        rig.keep = not ok
        text = f"{table}\n\n{table_of(rows)}\n\n{facts_of(evidence)}"
        return Result("listen-cut", ok, text, time.monotonic() - began, kept=folder_of(rig))


def _cut_all(rig: SharedRig, rounds: int) -> None:
    progress = Progress(rounds, say)
    for turn in range(1, rounds + 1):
        time.sleep(SETTLE_S)
        rig.log.write("window", kind="with", until=time.monotonic() + EACH_S)
        time.sleep(EACH_S)
        began = time.monotonic()
        rig.log.write("kill", of="bells")
        cut = 0
        while time.monotonic() - began < EACH_S:
            cut += len(
                rig.cluster.fetch(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = $1 AND application_name LIKE 'aldis bell %'",
                    DATABASE,
                )
            )
            time.sleep(AGAIN_S)
        rig.log.write("dead", of="bells")
        rig.log.write("window", kind="without", since=began, until=time.monotonic(), cut=cut)
        progress.note(turn)


def pickups(evidence: Evidence) -> list[tuple[float, float]]:
    """Return for each acknowledged submission when it was acknowledged, and after how many seconds the network saw it.

    Submissions that nothing was sent of are left out.
    """
    [clock] = [line for line in evidence.supervisor if line["e"] == "quiet"]
    offset = clock["wall_ms"] / 1000 - clock["at"]
    seen: dict[str, float] = {}
    for line in evidence.smsc:
        if line["event"] == "submit":
            seen.setdefault(line["destination"], line["at"] / 1000 - offset)
    told: dict[int, float] = {}
    for line in evidence.client:
        if line["e"] == "outcome" and line["kind"] == "ok":
            told.setdefault(line["n"], line["at"])
    found = []
    for n, at in told.items():
        sent = [seen[number] for number in evidence.asks[n].msisdns if number != BLOCKED and number in seen]
        if sent:
            found.append((at, max(0.0, min(sent) - at)))
    return found


def _table(evidence: Evidence) -> tuple[Table, bool]:
    table = Table("pickup: from the acknowledgement to the network", ("wake-ups", "count", "p50, ms", "p99, ms", ""))
    found = pickups(evidence)
    windows = [line for line in evidence.supervisor if line["e"] == "window"]
    verdict = True
    for kind in ("with", "without"):
        spans = [(line.get("since", line["at"]), line["until"]) for line in windows if line["kind"] == kind]
        waits = [wait for at, wait in found if _is_inside(at, spans)]
        p50, p99 = (quantile(waits, q) for q in (0.5, 0.99))
        ok = bool(waits) and p99 <= POLL_S + SLACK_S
        verdict = verdict and ok
        table.add(kind, len(waits), f"{p50 * 1000:.0f}", f"{p99 * 1000:.0f}", "ok" if ok else "BROKEN")
    table.add("connections cut", sum(line.get("cut", 0) for line in windows), "", "", "")
    return table, verdict


def _is_inside(at: float, spans: Sequence[tuple[float, float]]) -> bool:
    return any(since <= at < until for since, until in spans)
