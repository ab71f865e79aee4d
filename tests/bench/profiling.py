"""Where the server's time goes during the whole flow: by py-spy if it is there, else by cProfile.

py-spy is not one of the project's tools: `pip install py-spy` puts it beside Python, or anywhere on the PATH.
"""

import pstats
import shutil
import signal
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from tests.bench.children import Child

TOP = 25
_WAITING = ("Condition.wait ", "_worker ", "Writer._gather ", "Writer._run ")
LOOP, WRITER = "loop", "ledger-writer"
_RATE = "200"


class Profiler(Protocol):
    """A way to see what the server does."""

    command: Sequence[str]
    """What starts the server in place of `aldis`; empty: nothing special."""
    note: str

    def start(self, pid: int) -> None:
        """Begin."""

    def stop(self) -> None:
        """End."""

    def read(self) -> list[str]:
        """Return the functions with the most time of their own, a line each; call when the server is gone."""


def choose(folder: Path) -> Profiler:
    """Return the best profiler that is here."""
    beside = Path(sys.executable).with_name("py-spy")
    found = str(beside) if beside.exists() else shutil.which("py-spy")
    return PySpy(found, folder / "profile.txt") if found else Deterministic(folder)


class PySpy:
    """Samples all threads from outside, only while they work."""

    command: Sequence[str] = ()
    note = (
        f"Profile: py-spy, {_RATE} samples a second, which cost some speed. Runner.run is uvloop and the kernel, its "
        "waiting included; so is a commit's in Writer._try. Other waiting is left out."
    )

    def __init__(self, program: str, path: Path) -> None:
        self._program = program
        self._path = path
        self._child: Child | None = None

    def start(self, pid: int) -> None:
        options = [
            "--pid",
            str(pid),
            "--format",
            "raw",
            "--threads",
            "--function",
            "--rate",
            _RATE,
            "--duration",
            "600",
        ]
        self._child = Child([self._program, "record", *options, "--output", self._path])

    def stop(self) -> None:
        assert self._child is not None
        self._child.stop(signal.SIGINT)

    def read(self) -> list[str]:
        own: dict[str, Counter[str]] = defaultdict(Counter)
        for line in self._path.read_text().splitlines():
            stack, _, samples = line.rpartition(" ")
            thread, *frames = stack.split(";")
            if frames and not frames[-1].startswith(_WAITING):
                own[thread.partition(":")[2].strip() or thread][frames[-1]] += int(samples)
        total = sum(sum(counts.values()) for counts in own.values())
        lines: list[str] = []
        for thread, counts in sorted(own.items(), key=lambda item: -sum(item[1].values())):
            lines.append(f"{thread}: {sum(counts.values()) / total:.0%} of the samples")
            lines += [f"  {n / total:6.1%}  {frame}" for frame, n in counts.most_common(TOP)]
        return lines


class Deterministic:
    """cProfile in the server's own process, by `launch`: the loop's thread, and before Python 3.12 the writer's."""

    note = (
        "Profile: cProfile, which makes calls look dear and the whole slow; threads wait for each other inside calls."
    )

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.command = [sys.executable, "-m", "tests.bench.launch", str(folder)]

    def start(self, pid: int) -> None:
        pass

    def stop(self) -> None:
        pass

    def read(self) -> list[str]:
        lines: list[str] = []
        for thread in (LOOP, WRITER):
            path = self._folder / f"{thread}.prof"
            if path.exists():
                lines += [thread, *_top(path)]
        return lines


def _top(path: Path) -> list[str]:
    stats = pstats.Stats(str(path))
    rows = sorted(stats.stats.items(), key=lambda item: -item[1][2])[:TOP]
    return [
        f"  {own:7.2f} s  {calls:9,} calls  {Path(file).name}:{line} {name}"
        for (file, line, name), (_, calls, own, _, _) in rows
    ]
