"""SIGTERM under load: the server ends by itself, in time, with nothing lost and nothing in doubt."""

import random
import time

from tests.fault.checker import UNACKNOWLEDGED, Evidence, check, facts_of, table_of
from tests.fault.kill import gather, wind_up
from tests.fault.rig import Rig
from tests.fault.tables import Result, Table, quantile
from tests.fault.witness import read

TURNS = 4
BUDGET_S = 10.0
LOAD_S = 1.5


def run(seed: int = 1, turns: int = TURNS, rate: float = 250.0) -> Result:
    """Stop and start `turns` times under load, then check as after crashes; here no message may be left at 12."""
    began = time.monotonic()
    with Rig("stop", seed, stop_budget_s=BUDGET_S) as rig:
        rig.set_stage()
        rig.start_server()
        rig.wait_ready()
        client = rig.start_client(rate)
        stops = [_stop_once(rig) for _ in range(turns)]
        rig.end_client(client)
        evidence = wind_up(rig, random.Random(seed), [])
        rows = check(evidence)
        table, stops_ok = _table(stops, evidence)
        ok = stops_ok and all(row.ok for row in rows)
        rig.keep = not ok
        text = f"{table}\n\n{table_of(rows)}\n\n{facts_of(evidence)}"
        return Result("stop", ok, text, time.monotonic() - began, kept=str(rig.folder) if rig.keep else "")


def _stop_once(rig: Rig) -> tuple[int, float, int]:
    """Return exit status, seconds, and how many submissions had been acknowledged when the stop was ordered."""
    time.sleep(LOAD_S)
    acked = len({line["n"] for line in read(rig.path("client")) if line.get("kind") == "ok"})
    code, seconds = rig.stop_server()
    in_doubt = sum(one.status == UNACKNOWLEDGED for one in gather(rig, []).dump.messages)
    rig.log.write("stopped", in_doubt=in_doubt, code=code, s=seconds)
    rig.start_server()
    rig.log.write("ready", s=round(rig.wait_ready(), 3))
    return code, seconds, acked


def _table(stops: list[tuple[int, float, int]], evidence: Evidence) -> tuple[Table, bool]:
    codes = [code for code, _, _ in stops]
    seconds = [one for _, one, _ in stops]
    in_doubt = sum(one.status == UNACKNOWLEDGED for one in evidence.dump.messages)
    silent = sum(1 for n in evidence.unknown if evidence.by_source.get(evidence.asks[n].source_id))
    table = Table("graceful stops", ("what", "value", ""))
    facts = (
        ("stops under load", len(stops), True),
        ("exit statuses", " ".join(map(str, codes)), not any(codes)),
        ("seconds to stop", f"p50 {quantile(seconds, 0.5):.2f}, max {max(seconds):.2f}", max(seconds) <= BUDGET_S),
        ("acknowledged before the last stop", stops[-1][2], stops[-1][2] > 0),
        ("messages at 12", in_doubt, in_doubt == 0),
        ("submissions taken, and never told so", silent, silent == 0),
    )
    for what, value, ok in facts:
        table.add(what, value, "ok" if ok else "BROKEN")
    return table, all(ok for _, _, ok in facts)
