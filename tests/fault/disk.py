"""A05, A07, A08: the disk is full, an fsync fails, a file may not grow: nothing false is acknowledged meanwhile."""

import contextlib
import os
import random
import resource
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tests.fault.checker import Row, check, table_of
from tests.fault.dump import LEDGER
from tests.fault.kill import wind_up
from tests.fault.rig import Rig, RigError
from tests.fault.tables import Result, Table
from tests.fault.witness import read

TMPFS_MIB = 32
HOLD_S = 5.0
FSYNCS = range(1, 11)
RATE = 150.0
RED_SHARE = 0.9
"""Of the answers about health while the disk is full: now and then a small commit still finds room, and says so."""
NO_ROOM = (22, 40)
"""Codes that a customer may see while nothing can be kept."""
AFTER_FAILED_FSYNC = frozenset((22,))
"""The group whose fsync failed is answered with this: it may be on the disk or not."""
_REACTION_S = 0.3
_IDLE_S = 7.0
"""Longer than the pause between two of the server's own small writes."""
_BIG = 5_000
_FIRST_BIG = 1_000_000
_STOP_BUDGET_S = 2.0
"""A server whose ledger is broken takes the whole of it: outcomes are still to be written."""


class Watch:
    """Asks for the server's health again and again."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._done = threading.Event()
        self.seen: list[tuple[float, int]] = []
        """When asked (monotonic), and the HTTP status; 0 for none."""
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._done.wait(0.05):
            asked = time.monotonic()
            self.seen.append((asked, self._rig.health()[0]))

    def between(self, start: float, end: float) -> Counter[int]:
        """Return the statuses of a stretch of time, counted."""
        return Counter(status for at, status in self.seen if start <= at <= end)


class Case:
    """What was observed of one fault, from the first refusal to the end of the fault."""

    def __init__(self, rig: Rig, name: str) -> None:
        self._rig = rig
        self.name = name
        self.began = time.monotonic()
        self.table = Table(name, ("what", "value", ""))
        self.ok = True

    def say(self, what: str, value: object, ok: bool) -> None:
        self.table.add(what, value, "ok" if ok else "BROKEN")
        self.ok = self.ok and ok

    def refusals(self) -> list[tuple[float, int]]:
        """Return time and code of each submission that was refused for our reasons since the case began."""
        found = [(line["at"], line["code"]) for line in read(self._rig.path("client")) if line.get("kind") == "refused"]
        return [(at, code) for at, code in found if at >= self.began and code in NO_ROOM]

    def first_refusal(self, patience_s: float) -> float | None:
        """Wait for the first refusal, and return its time."""
        until = time.monotonic() + patience_s
        while time.monotonic() < until:
            if found := self.refusals():
                return found[0][0]
            time.sleep(0.05)
        return None

    def count(self, witness: str, start: float, end: float, **fields: object) -> int:
        """Count a witness's lines of a stretch of time with given fields."""
        lines = [line for line in read(self._rig.path(witness)) if start <= line["at"] <= end]
        return sum(all(line.get(name) == value for name, value in fields.items()) for line in lines)


def run(seed: int = 1) -> Result:
    """Try all three faults; what this machine cannot do is skipped, visibly."""
    began = time.monotonic()
    texts, ok, kept, skipped = [], True, "", []
    for name, trial in (("disk full", full), ("failed fsync", fsync), ("file limit", limit)):
        try:
            good, text, folder = trial(seed)
        except Skip as reason:
            skipped.append(f"{name}: {reason}")
            texts.append(f"{name}: SKIPPED, {reason}")
            continue
        texts.append(text)
        ok, kept = ok and good, kept or folder
    missing = "; ".join(skipped) if len(skipped) == len(texts) else ""
    return Result("disk", ok, "\n\n".join(texts), time.monotonic() - began, missing, kept)


class Skip(Exception):
    """This machine can't make the fault; the text says why."""


# ------------------------------------------------------------------------------------------------------ disk full


@contextlib.contextmanager
def small_disk(mib: int) -> Iterator[Path]:
    """Mount a filesystem in memory for as long as it is needed."""
    folder = Path(tempfile.mkdtemp(prefix="aldis-fault-disk-"))
    mount = shutil.which("mount")
    command = (mount or "mount", "-t", "tmpfs", "-o", f"size={mib}m", "aldis-fault", str(folder))
    made = mount is not None and not subprocess.run(command, check=False, capture_output=True).returncode
    try:
        if not made:
            raise Skip("a tmpfs can't be mounted: it takes root")
        yield folder
    finally:
        if made:
            subprocess.run(("umount", str(folder)), check=True)
        folder.rmdir()


class Ballast:
    """A file that takes all the room there is."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def fill(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                os.write(self._file, bytes(4096))

    def free(self) -> None:
        os.close(self._file)
        self._path.unlink()


def full(seed: int) -> tuple[bool, str, str]:
    """Fill the ledger's disk under load, hold, free: it recovers by itself."""
    with small_disk(TMPFS_MIB) as disk, Rig("full", seed, data=disk / "data") as rig:
        client = _under_load(rig)
        with Watch(rig) as watch:
            case = Case(rig, "disk full")
            first, freed = _fill_and_free(rig, case, disk)
            recovered = _next_ack(rig, freed)
            time.sleep(1.0)
        rig.end_client(client)
        _judge_full(case, watch, first, freed, recovered)
        rig.wait_quiet()
        rig.stop_server()  # with a fresh log there is no old room in it to write to
        rig.start_server()
        rig.wait_ready()
        _full_and_idle(rig, case, disk)
        evidence = wind_up(rig, random.Random(seed), [])
        return _conclude(rig, case, check(evidence))


def _under_load(rig: Rig) -> "subprocess.Popen[bytes]":
    rig.set_stage()
    rig.start_server()
    rig.wait_ready()
    client = rig.start_client(RATE)
    time.sleep(1.5)
    return client


def _fill_and_free(rig: Rig, case: Case, disk: Path) -> tuple[float | None, float]:
    """Return when the first submission was refused, and when there was room again."""
    ballast = Ballast(disk / "ballast")
    filler = threading.Event()

    def keep_full() -> None:
        while not filler.wait(0.02):
            ballast.fill()

    thread = threading.Thread(target=keep_full)
    thread.start()
    first = case.first_refusal(20.0)
    time.sleep(HOLD_S if first else 0.0)
    filler.set()
    thread.join()
    freed = time.monotonic()
    ballast.free()
    return first, freed


def _full_and_idle(rig: Rig, case: Case, disk: Path) -> None:
    """Fill the disk while there is nothing to do but one submission; readiness comes back without another."""
    ballast = Ballast(disk / "ballast")
    for n in range(1, 9):
        ballast.fill()
        if refused := rig.submit_to_nobody(_FIRST_BIG + n, _BIG) is None:
            break
    case.say("idle: one submission while full", "refused" if refused else "taken", refused)
    with Watch(rig) as watch:
        start = time.monotonic()
        time.sleep(_IDLE_S)
        freed = time.monotonic()
        ballast.free()
        time.sleep(_IDLE_S)
    case.say("idle: health while full", _words(watch.between(start, freed)), set(watch.between(start, freed)) == {503})
    healthy = next((at - freed for at, status in watch.seen if at > freed and status == 200), None)
    shown = f"{healthy:.2f} s" if healthy is not None else f"not in {_IDLE_S:.0f} s"
    case.say("idle: healthy again after room, without a request", shown, healthy is not None)


def _next_ack(rig: Rig, after: float) -> float | None:
    """Wait for the first submission acknowledged after a time; return how long it took."""
    until = time.monotonic() + 15.0
    while time.monotonic() < until:
        for line in read(rig.path("client")):
            if line.get("kind") == "ok" and line["at"] > after:
                return float(line["at"] - after)
        time.sleep(0.1)
    return None


def _judge_full(case: Case, watch: Watch, first: float | None, freed: float, recovered: float | None) -> None:
    case.say("refused while full", _codes(case), first is not None)
    if first is None:
        return
    health = watch.between(first + _REACTION_S, freed)
    case.say("health while full", _words(health), health[503] >= RED_SHARE * max(1, health.total()) and not health[0])
    refused_receipts = sum(
        case.count("smsc", _wall(first), _wall(freed), event="receipt", status=status) for status in (0x64, 0x08, 0x14)
    )
    taken_receipts = case.count("smsc", _wall(first), _wall(freed), event="receipt", status=0)
    case.say("receipts refused, answered ESME_ROK (kept: I7)", f"{refused_receipts}, {taken_receipts}", True)
    case.say("acknowledged while full (there: I1)", case.count("client", first, freed, kind="ok"), True)
    reads = case.count("client", first, freed, e="seen")
    case.say("reports read while full", reads, reads > 0)
    shown = f"{recovered:.2f} s" if recovered is not None else "no"
    case.say("acknowledges again after room, without a restart", shown, recovered is not None)
    healthy = next((at - freed for at, status in watch.seen if at > freed and status == 200), None)
    case.say("healthy again after room", f"{healthy:.2f} s" if healthy is not None else "no", healthy is not None)


def _wall(monotonic: float) -> int:
    """Return the epoch ms of a monotonic time, for the message centre's log."""
    return int((time.time() - time.monotonic() + monotonic) * 1000)


def _codes(case: Case) -> str:
    counts = Counter(code for _, code in case.refusals())
    return ", ".join(f"{code}: {n}" for code, n in sorted(counts.items())) or "nothing"


def _words(counts: Counter[int]) -> str:
    return ", ".join(f"{status or 'no answer'}: {n}" for status, n in sorted(counts.items())) or "not asked"


def _conclude(rig: Rig, case: Case, rows: list[Row]) -> tuple[bool, str, str]:
    ok = case.ok and all(row.ok for row in rows)
    rig.keep = not ok
    return ok, f"{case.table}\n{table_of(rows)}", str(rig.folder) if rig.keep else ""


# --------------------------------------------------------------------------------------------------- failed fsync


def fsync(seed: int) -> tuple[bool, str, str]:
    """Let the n-th fsync fail under load, for n = 1, 2, …: red until a restart, and nothing acknowledged in between."""
    strace = shutil.which("strace")
    if strace is None:
        raise Skip("there is no strace (apt install strace)")
    with Rig("fsync", seed, stop_budget_s=_STOP_BUDGET_S) as rig:
        client = _under_load(rig)
        case = Case(rig, "failed fsync")
        hits = [_fail_once(rig, case, strace, n) for n in FSYNCS]
        rig.end_client(client)
        evidence = replace(wind_up(rig, random.Random(seed), []), uncertain=AFTER_FAILED_FSYNC)
        rows = check(evidence)
        red = [hit for hit in hits if hit is not None]
        case.say("fsyncs that failed, of them the writer's", f"{len(hits)}, {len(red)}", len(red) > 0)
        case.say("refused with", _codes(case), bool(case.refusals()))
        case.say(
            "acknowledged between the failure and the restart", sum(acks for _, acks in red), not any(a for _, a in red)
        )
        case.say("health red after, s", f"max {max((s for s, _ in red), default=0):.2f}", all(s < 1.0 for s, _ in red))
        maybe = sum(1 for n in evidence.unknown if evidence.by_source.get(evidence.asks[n].source_id))
        case.say("answered 22 or not at all, and there after the restart", maybe, True)
        return _conclude(rig, case, rows)


def _fail_once(rig: Rig, case: Case, strace: str, n: int) -> tuple[float, int] | None:
    """Let each thread's n-th fsync from now on fail once; return how long health took to turn red, and later acks."""
    assert rig.server is not None
    trace = rig.folder / f"strace-{n}"
    rule = f"inject=fsync,fdatasync:error=EIO:when={n}"
    words = (
        strace,
        "-f",
        "-qq",
        "-o",
        str(trace),
        "-e",
        "trace=fsync,fdatasync",
        "-e",
        rule,
        "-p",
        str(rig.server.pid),
    )
    tracer = rig.spawn("strace", words)
    began = time.monotonic()
    red = _wait_red(rig, 6.0)
    time.sleep(0.5)
    if tracer.poll() is not None and not trace.exists():
        raise Skip("strace can't attach to a process here")
    tracer.send_signal(signal.SIGINT)
    tracer.wait(10)
    hit = None
    if red is not None:
        failed = next((at for at, code in case.refusals() if at >= began), red)
        acks = case.count("client", max(failed, red), time.monotonic(), kind="ok")
        hit = (max(0.0, red - failed), acks)
    _restart(rig, began)
    return hit


def _restart(rig: Rig, broken_at: float) -> tuple[int, float]:
    """Stop a server that can't write any more, and start another; what it knew and could not write is lost."""
    rig.log.write("kill", since=broken_at)
    stopped = rig.stop_server()
    rig.log.write("dead")
    rig.start_server()
    rig.wait_ready()
    return stopped


def _wait_red(rig: Rig, patience_s: float) -> float | None:
    until = time.monotonic() + patience_s
    while time.monotonic() < until:
        if rig.health()[0] != 200:
            return time.monotonic()
        time.sleep(0.02)
    return None


# ------------------------------------------------------------------------------------------------------ file limit


def limit(seed: int) -> tuple[bool, str, str]:
    """Forbid the live server to let its files grow, under load; it refuses, and all is there after a restart."""
    with Rig("limit", seed, stop_budget_s=_STOP_BUDGET_S) as rig:
        client = _under_load(rig)
        case = Case(rig, "file limit")
        assert rig.server is not None
        largest = max(path.stat().st_size for path in rig.data.glob(f"{LEDGER}*"))
        try:
            before = resource.prlimit(rig.server.pid, resource.RLIMIT_FSIZE, (largest + 65_536, resource.RLIM_INFINITY))
        except PermissionError:
            raise Skip("limits of another process can't be set here") from None
        first = case.first_refusal(20.0)
        if first is None:
            raise RigError("the limit was never reached")
        red = _wait_red(rig, 2.0)
        time.sleep(1.5)
        acks = case.count("client", (red or first) + _REACTION_S, time.monotonic(), kind="ok")
        case.say("refused with", _codes(case), True)
        case.say("health", "red" if red else "green", red is not None)
        case.say("acknowledged while red", acks, acks == 0)
        resource.prlimit(rig.server.pid, resource.RLIMIT_FSIZE, before)
        code, seconds = _restart(rig, first)
        case.say("stop: exit status, s", f"{code}, {seconds:.1f}", seconds < _STOP_BUDGET_S + 1)
        time.sleep(1.0)
        rig.end_client(client)
        evidence = replace(wind_up(rig, random.Random(seed), []), uncertain=AFTER_FAILED_FSYNC)
        return _conclude(rig, case, check(evidence))
