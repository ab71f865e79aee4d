"""F09, F10: bad clients by the hundred, while a good one goes on submitting."""

import asyncio
import random
import time
from urllib.parse import urlencode

from tests.fault import attacks
from tests.fault.attacks import QUICK, SLOW, SLOW_COUNT, Seen
from tests.fault.checker import check, table_of
from tests.fault.kill import wind_up
from tests.fault.load import PASSWORDS
from tests.fault.rig import Rig
from tests.fault.tables import Result, Table, quantile
from tests.fault.witness import read

RATE = 60.0
ALONE_S = 4.0
SLACK_S = 5.0
"""On top of a deadline: the server looks about once a second, and lets a refused client read why for two."""
UNREAD_S = 60.0
QUICK_S = 2.0
RSS_LIMIT_MIB = 100.0
FLOOD_P99_MS = 1_000.0
"""While hundreds of requests in one piece are answered, others wait for their turn."""
SLOW_P99_MS = 100.0
"""While clients are only slow."""
FLOODS_S = 25.0
"""From the first attack until the floods are over; then only slow clients are left."""
REPORT_ROWS, UNREAD_COUNT = 4_000, 15
"""Answers that are more than the kernel keeps for a client that does not read."""
_FIRST = 2_000_000
_SETTLE_S = 3.0


class Stand:
    """What is watched while the attacks run."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self.table = Table("bad clients", ("attack", "count", "cut after, s", "answered", ""))
        self.ok = True
        self.rss_before = rig.rss_mib()
        self.rss_peak = self.rss_before

    def say(self, name: str, count: int, seen: Seen, ok: bool) -> None:
        cut = f"{min(seen.cut_s):.1f} to {max(seen.cut_s):.1f}" if seen.cut_s else "-"
        cut += f", {seen.never_cut} never" if seen.never_cut else ""
        words = ", ".join(f"{status}: {n}" for status, n in sorted(seen.statuses.items()))
        self.table.add(name, count, cut, words or "-", "ok" if ok else "BROKEN")
        self.ok = self.ok and ok

    async def watch_memory(self) -> None:
        while True:
            self.rss_peak = max(self.rss_peak, self._rig.rss_mib())
            await asyncio.sleep(0.1)


def run(seed: int = 1) -> Result:
    """Attack in all ways at once; each is to be cut, memory bounded, and the good client served."""
    began = time.monotonic()
    with Rig("clients", seed) as rig:
        rig.set_stage()
        rig.start_server()
        rig.wait_ready()
        batch = rig.submit_to_nobody(_FIRST, REPORT_ROWS)
        client = rig.start_client(RATE)
        time.sleep(ALONE_S)
        attacked = time.monotonic()
        stand = Stand(rig)
        asyncio.run(_attack(rig, stand, batch or 0))
        ended = time.monotonic()
        rig.end_client(client)
        rows = check(wind_up(rig, random.Random(seed), []))
        good, good_ok = _good_client(rig, stand, attacked, ended)
        ok = stand.ok and good_ok and all(row.ok for row in rows)
        rig.keep = not ok
        text = f"{stand.table}\n\n{good}\n\n{table_of(rows)}"
        return Result("clients", ok, text, time.monotonic() - began, kept=str(rig.folder) if rig.keep else "")


async def _attack(rig: Rig, stand: Stand, batch: int) -> None:
    memory = asyncio.ensure_future(stand.watch_memory())
    async with asyncio.TaskGroup() as tasks:
        for name, (attack, limit_s) in SLOW.items():
            tasks.create_task(_slow(rig, stand, name, attack, limit_s))
        tasks.create_task(_unread(rig, stand, batch))
        tasks.create_task(_quick(rig, stand))
    memory.cancel()


async def _slow(rig: Rig, stand: Stand, name: str, attack: attacks.Attack, limit_s: float) -> None:
    seen = await attack(rig.port)
    ok = not seen.never_cut and max(seen.cut_s) <= limit_s + SLACK_S and set(seen.statuses) <= {200, 408}
    stand.say(f"{name} (limit {limit_s:.0f} s)", SLOW_COUNT, seen, ok)


async def _unread(rig: Rig, stand: Stand, batch: int) -> None:
    form = urlencode({"username": "alpha", "password": PASSWORDS["alpha"], "batch_id": batch}).encode()
    seen = await attacks.unread(form, UNREAD_COUNT, UNREAD_S + 4 * SLACK_S)(rig.port)
    ok = not seen.never_cut and max(seen.cut_s) <= UNREAD_S + 2 * SLACK_S
    stand.say(f"answers never read (limit {UNREAD_S:.0f} s)", UNREAD_COUNT, seen, ok)


async def _quick(rig: Rig, stand: Stand) -> None:
    await asyncio.sleep(_SETTLE_S)
    for name, (attack, statuses, body) in QUICK.items():
        began = time.monotonic()
        seen = await attack(rig.port)
        each_s = (time.monotonic() - began) / max(1, len(seen.cut_s))
        ok = set(seen.statuses) <= statuses and bool(seen.statuses) and seen.body.startswith(body)
        stand.say(name, len(seen.cut_s), seen, ok and not seen.never_cut and each_s <= QUICK_S + SLACK_S)
    await asyncio.to_thread(attacks.reset, rig.port, 500)
    seen = await attacks.pipelined(100, 20)(rig.port)
    stand.say("100 requests in one piece", 20, seen, seen.statuses[200] == 20 * 101)
    seen = await attacks.pipelined(2_000, 20)(rig.port)
    stand.say("2,000 requests in one piece", 20, seen, not seen.never_cut and set(seen.statuses) <= {200, 503})


def _good_client(rig: Rig, stand: Stand, attacked: float, ended: float) -> tuple[Table, bool]:
    outcomes = [line for line in read(rig.path("client")) if line["e"] == "outcome"]
    alone = [line["ms"] for line in outcomes if "ms" in line and line["at"] < attacked]
    beside = [line["ms"] for line in outcomes if "ms" in line and attacked <= line["at"] <= ended]
    strangers = {
        line["n"] for line in read(rig.path("client")) if line["e"] == "intent" and line["means"] == "stranger"
    }
    mine = [line for line in outcomes if line["n"] not in strangers]
    lost = sum(line["kind"] == "unknown" for line in mine)
    turned_away = sum(line.get("code", 0) in (22, 40) or line.get("code", 0) < 0 for line in mine)
    grown = stand.rss_peak - stand.rss_before
    table = Table("the good client", ("what", "alone", "attacked", ""))
    table.add("submissions", len(alone), len(beside), "")
    table.add("p50, ms", f"{quantile(alone, 0.5):.1f}", f"{quantile(beside, 0.5):.1f}", "")
    later = [line["ms"] for line in outcomes if "ms" in line and attacked + FLOODS_S <= line["at"] <= ended]
    flood, slow = quantile(beside, 0.99), quantile(later, 0.99)
    checks = (flood <= FLOOD_P99_MS, slow <= SLOW_P99_MS, not lost and not turned_away, grown <= RSS_LIMIT_MIB)
    words = ["ok" if one else "BROKEN" for one in checks]
    table.add("p99, max, ms: all attacks", _two(alone), _two(beside), words[0])
    table.add("p99, max, ms: slow clients", "", _two(later), words[1])
    table.add("answers lost, turned away", "", f"{lost}, {turned_away}", words[2])
    table.add("server's memory, MiB", f"{stand.rss_before:.0f}", f"+{grown:.0f}", words[3])
    return table, all(checks)


def _two(values: list[float]) -> str:
    return f"{quantile(values, 0.99):.1f}, {max(values, default=0.0):.1f}"
