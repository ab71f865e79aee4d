"""A node goes, for good or for a while, and the other takes over what it had."""

import signal
import time
from collections.abc import Callable, Sequence

from tests.fault.checker import Evidence, Row, check, facts_of, table_of
from tests.fault.plain import PLAIN
from tests.fault.server import SERVER, Server
from tests.fault.shared import BINDS, Progress, SharedRig, folder_of, shared_rig, wait_for_load, witness
from tests.fault.tables import Result, Table, quantile, say
from tests.fault.witness import Line

TAKEOVER_LIMIT_S = 15.0
RATE = 100.0
EARLY_SHARE, STOPPING_SHARE = 0.25, 0.15
"""Of the kills that nobody waits after: those timed from the start, and those of a node that stops gracefully."""
LINGER_S = 1.0
"""A stopped node goes on at most so long after the other has taken over."""
SNAPSHOT_EVERY = 5
TOP_UP_EVERY, TOP_UP = 7, 3

_HELD_BY_THE_DEAD = """
SELECT count(*) FROM queue WHERE leased_until IS NOT NULL AND NOT EXISTS (SELECT FROM nodes WHERE epoch = holder)
"""


def run_kill(rounds: int, seed: int = 1, rate: float = RATE, command: Sequence[str] = SERVER) -> Result:
    """Kill a random node `rounds` times; after a third of the kills and more, wait until the other has its binds."""
    return _run("node-kill", seed, rate, command, lambda rig: _kill_all(rig, rounds))


def run_zombie(rounds: int, seed: int = 1, rate: float = RATE, command: Sequence[str] = SERVER) -> Result:
    """Stop a node until the other has taken over, let it go on, and see that it completes nothing."""

    def act(rig: SharedRig) -> None:
        _stop_all(rig, rounds)

    return _run("zombie", seed, rate, command, act, PLAIN if command is SERVER else command)


def kill_evidence(rounds: int, seed: int, command: Sequence[str]) -> list[Row]:
    """Do it with nodes that are known to be wrong; return the promises."""
    with shared_rig("mutant", seed, command) as rig:
        return check(witness(rig, RATE, lambda rig: _kill_all(rig, rounds)))


def zombie_evidence(rounds: int, seed: int, command: Sequence[str]) -> list[Row]:
    """Do it with nodes that are known to be wrong; return the promises."""
    with shared_rig("mutant", seed, command) as rig:
        return check(witness(rig, RATE, lambda rig: _stop_all(rig, rounds)))


def _run(
    name: str,
    seed: int,
    rate: float,
    command: Sequence[str],
    act: Callable[[SharedRig], None],
    second: Sequence[str] | None = None,
) -> Result:
    began = time.monotonic()
    with shared_rig(name, seed, command) as rig:
        rig.servers[1].command = second or command
        rig.keep = True
        evidence = witness(rig, rate, act)
        rows = check(evidence)
        table, in_time = _table(evidence)
        ok = in_time and all(row.ok for row in rows)
        rig.keep = not ok
        text = f"{table}\n\n{table_of(rows)}\n\n{facts_of(evidence)}"
        return Result(name, ok, text, time.monotonic() - began, kept=folder_of(rig))


def _kill_all(rig: SharedRig, rounds: int) -> None:
    progress = Progress(rounds, say)
    for turn in range(1, rounds + 1):
        victim = rig.draw.choice(rig.servers)
        words = ""
        if turn % 5 in (1, 3):
            words = f"takeover after {_kill_and_wait(rig, victim):.1f} s"
        else:
            _kill_at_random(rig, victim)
        if turn % TOP_UP_EVERY == 0:
            rig.operate("topup", "poor", str(TOP_UP))
            rig.log.write("topup", account="poor", milli=TOP_UP * 1000)
        if turn % SNAPSHOT_EVERY == 0:
            rig.snapshots.append(rig.shared.snapshot())
        victim.start()
        progress.note(turn, words)


def _kill_and_wait(rig: SharedRig, victim: Server) -> float:
    """Kill a node that owns binds, and wait until the other has bound them; return how long that took."""
    _wait_until_working(rig, victim)
    time.sleep(rig.draw.uniform(0.0, 1.0))
    missing = rig.owned().get(victim.name, 0)
    survivor = rig.other_than(victim)
    bound = survivor.said("bound")
    victim.kill()
    return _wait_taken_over(rig, survivor, bound + missing)


def _wait_until_working(rig: SharedRig, victim: Server) -> None:
    for server in rig.servers:
        rig.log.write("ready", s=round(server.wait_ready(), 3), node=server.name)
    rig.wait_until(lambda: rig.owned().get(victim.name) and _is_settled(rig), f"{victim.name} owns binds")
    wait_for_load(rig)


def _is_settled(rig: SharedRig) -> bool:
    """Tell whether every bind has its owner, which is connected."""
    owned = rig.owned()
    return sum(owned.values()) == BINDS and all(
        server.links_to(rig.smsc_port) == owned.get(server.name, 0) for server in rig.servers
    )


def _wait_taken_over(rig: SharedRig, survivor: Server, bound: int) -> float:
    """Wait until the survivor has bound everything, with so many binds in its log; write down the seconds."""

    def done() -> bool:
        return survivor.said("bound") >= bound and survivor.links_to(rig.smsc_port) == BINDS

    seconds = rig.wait_until(done, f"{survivor.name} has bound what the other had")
    rig.log.write("taken over", s=round(seconds, 3), node=survivor.name)
    return seconds


def _kill_at_random(rig: SharedRig, victim: Server) -> None:
    """Kill a node a random moment after it began, or began to serve, or was told to stop."""
    kind = rig.draw.random()
    if kind >= EARLY_SHARE:
        rig.log.write("ready", s=round(victim.wait_ready(), 3), node=victim.name)
    time.sleep(rig.draw.uniform(0.1, 1.5))
    if kind > 1 - STOPPING_SHARE:
        victim.signal(signal.SIGTERM)
        time.sleep(rig.draw.uniform(0.0, 0.5))
    victim.kill()


def _stop_all(rig: SharedRig, rounds: int) -> None:
    progress = Progress(rounds, say)
    for turn in range(1, rounds + 1):
        seconds = _stop_once(rig, rig.draw.choice(rig.servers), is_long=turn % 2 == 0)
        progress.note(turn, f"takeover after {seconds:.1f} s")


def _stop_once(rig: SharedRig, victim: Server, *, is_long: bool) -> float:
    """Stop a node until the other has its binds, or until its claims were called off too; then let it go on.

    Returns once it has begun a new life.
    """
    _wait_until_working(rig, victim)
    time.sleep(rig.draw.uniform(0.0, 1.0))
    missing = rig.owned().get(victim.name, 0)
    survivor = rig.other_than(victim)
    bound, lives = survivor.said("bound"), victim.said("serving")
    rig.log.write("kill", node=victim.name)
    victim.signal(signal.SIGSTOP)
    try:
        seconds = _wait_taken_over(rig, survivor, bound + missing)
        if is_long:
            rig.wait_until(lambda: not rig.shared.fetch(_HELD_BY_THE_DEAD)[0][0], "the claims were called off")
        time.sleep(rig.draw.uniform(0.0, LINGER_S))
    finally:
        victim.signal(signal.SIGCONT)
        rig.log.write("dead", node=victim.name)
    again = rig.wait_until(lambda: victim.said("serving") > lives and victim.is_ready(), "the zombie lives again")
    rig.log.write("rejoined", s=round(again, 3), node=victim.name)
    return seconds


def _table(evidence: Evidence) -> tuple[Table, bool]:
    table = Table("takeover", ("what", "count", "p50, s", "p99, s", "max, s", ""))
    taken = _seconds(evidence.supervisor, "taken over")
    ok = bool(taken) and max(taken) <= TAKEOVER_LIMIT_S
    word = f"ok: limit {TAKEOVER_LIMIT_S:.0f}" if ok else "BROKEN"
    for what, event, verdict in (
        ("until the other has bound all", "taken over", word),
        ("until a zombie lives again", "rejoined", ""),
    ):
        found = _seconds(evidence.supervisor, event)
        if found or verdict:
            table.add(what, len(found), *(f"{quantile(found, q):.2f}" for q in (0.5, 0.99, 1.0)), verdict)
    return table, ok


def _seconds(lines: Sequence[Line], event: str) -> list[float]:
    return [line["s"] for line in lines if line["e"] == event]
