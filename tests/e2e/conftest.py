"""The real program as a subprocess, in a folder of its own."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ALDIS = [sys.executable, "-m", "aldis"]


def environment(**changes: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("ALDIS_")}
    return kept | changes


def wait_for(what: Callable[[], object], why: str, budget_s: float = 20) -> object:
    """Return the first true answer; polling is fair here, for the other side is another process."""
    deadline = time.monotonic() + budget_s
    while time.monotonic() < deadline:
        if answer := what():
            return answer
        time.sleep(0.02)
    raise AssertionError(f"not within {budget_s} s: {why}")


class Program:
    """A running process with its output in a file."""

    def __init__(self, command: list[str], folder: Path, outputs: Path, **changes: str) -> None:
        self.output = outputs / f"output-{time.monotonic_ns()}.txt"
        with self.output.open("wb") as sink:
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                env=environment(**changes),
                stdout=sink,
                stderr=sink,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    @property
    def text(self) -> str:
        return self.output.read_text(encoding="utf-8")

    def wait_for_text(self, word: str, budget_s: float = 20) -> str:
        def look() -> str | None:
            if word in self.text:
                return self.text
            if self.process.poll() is not None:
                raise AssertionError(f"ended with {self.process.returncode}: {self.text}")
            return None

        return str(wait_for(look, f"{word!r} in the output", budget_s))

    def stop(self) -> int:
        os.killpg(self.process.pid, signal.SIGTERM)
        return self.process.wait(30)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Program]]:
    running: list[Program] = []

    def run(command: list[str], folder: Path = tmp_path, **changes: str) -> Program:
        program = Program(command, folder, tmp_path, **changes)
        running.append(program)
        return program

    yield run
    for program in running:
        if program.process.poll() is None:
            os.killpg(program.process.pid, signal.SIGKILL)
            program.process.wait()


def aldis(folder: Path, *arguments: str, given: str = "", **changes: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*ALDIS, *arguments],
        cwd=folder,
        env=environment(**changes),
        input=given,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
