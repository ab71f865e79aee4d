"""Processes of a run: started here, watched through /proc, and gone when the run ends, however it ends."""

import ctypes
import json
import logging
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Self

import structlog

ROOT = Path(__file__).resolve().parents[2]
_TICKS = os.sysconf("SC_CLK_TCK")
_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1
_STOP_S = 15.0


class Failed(Exception):
    """A run whose figures would mean nothing: something answered wrongly, or not at all."""


def _die_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Child:
    """A process, as a context manager that ends it. Ctrl-C reaches only this program, which ends its children."""

    def __init__(self, arguments: Sequence[str | Path], stderr: IO[bytes] | None = None) -> None:
        self.name = " ".join(map(str, arguments[:3]))
        self._process = subprocess.Popen(
            [str(one) for one in arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            cwd=ROOT,
            start_new_session=True,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - this program has one thread
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def read_line(self, timeout_s: float = 20.0) -> str:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], timeout_s)
        line = self._process.stdout.readline() if ready else ""
        if not line:
            why = "ended" if ready else f"said nothing for {timeout_s:.0f} s"
            raise Failed(f"{self.name}: {why}")
        return line

    def ask(self, job: dict[str, Any], timeout_s: float = 60.0) -> dict[str, Any]:
        """Hand over a job as a line of JSON, and wait for the line with its result."""
        self.tell(job)
        return self.hear(timeout_s)

    def tell(self, job: dict[str, Any]) -> None:
        """Hand over a job."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()

    def hear(self, timeout_s: float) -> dict[str, Any]:
        """Wait for the result of a job."""
        result: dict[str, Any] = json.loads(self.read_line(timeout_s))
        if "failed" in result:
            raise Failed(f"{self.name}: {result['failed']}")
        return result

    def cpu_s(self) -> float:
        """Return the processor time used so far, user and system, all threads."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def peak_mb(self) -> float:
        """Return the largest resident size so far."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
        raise Failed(f"{self.name}: no VmHWM")

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self.is_running:
            self._process.send_signal(number)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        with suppress(BrokenPipeError):
            self._process.stdin.close()


def log_warnings() -> None:
    """Keep a worker's standard output for its results."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def worker(module: str, *arguments: str) -> Child:
    """Start a module of this folder."""
    return Child([sys.executable, "-m", f"tests.bench.{module}", *arguments])


def wait_until(what: str, is_true: Callable[[], bool], timeout_s: float, step_s: float = 0.02) -> None:
    """Wait for something that only looking can tell."""
    deadline = time.monotonic() + timeout_s
    while not is_true():
        if time.monotonic() > deadline:
            raise Failed(f"{what}: not after {timeout_s:.0f} s")
        time.sleep(step_s)
