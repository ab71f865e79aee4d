"""One `aldis serve` of a scenario: its port, its configuration, its process, and what it says of itself."""

import contextlib
import http.client
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.fault.witness import Log

READY_S = 30.0
PYTHON = (sys.executable, "-W", "ignore")
SERVER = (*PYTHON, "-m", "aldis")
_EVENT = re.compile(rb'"event": ?"([^"]*)"')

Spawn = Callable[[str, Sequence[str]], "subprocess.Popen[bytes]"]
"""Starts a process; its errors go to NAME.err."""


class RigError(Exception):
    """The stage could not be set; this says nothing about the promises."""


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A server that is started, killed, stopped and asked; what is done to it goes into the supervisor's log."""

    def __init__(self, name: str, folder: Path, spawn: Spawn, log: Log) -> None:
        self.name = name
        self.port = free_port()
        self.config = folder / f"{name}.toml"
        self.command: Sequence[str] = SERVER
        self.process: subprocess.Popen[bytes] | None = None
        self._errors = folder / f"{name}.err"
        self._spawn = spawn
        self._log = log
        self._said = Counter[str]()
        self._read_to = 0

    # ---------------------------------------------------------------------------------------------- the process

    def start(self, prefix: Sequence[str] = ()) -> None:
        """Start it, perhaps under another program; it is not ready yet."""
        self.process = self._spawn(self.name, (*prefix, *self.command, "serve", "--config", str(self.config)))
        self._log.write("start", node=self.name)

    def wait_ready(self, patience_s: float = READY_S) -> float:
        """Wait until it takes work, and return how many seconds that took. Raises RigError."""
        began = time.monotonic()
        while time.monotonic() - began < patience_s:
            if self.is_ready():
                return time.monotonic() - began
            self.check_alive()
            time.sleep(0.01)
        raise RigError(f"{self.name} is not ready after {patience_s:.0f} s: {self.health()}")

    def check_alive(self) -> None:
        """Raise RigError if it has ended though nobody here told it to."""
        assert self.process is not None
        code = self.process.poll()
        if code is not None:
            words = self._errors.read_text(errors="replace")[-800:]
            raise RigError(f"{self.name} ended with {code}: {words}")

    def kill(self) -> None:
        """SIGKILL, and write down when."""
        assert self.process is not None
        self._log.write("kill", node=self.name)
        self.process.kill()
        self.process.wait()
        self._log.write("dead", node=self.name)

    def stop(self, patience_s: float = 60.0) -> tuple[int, float]:
        """SIGTERM; return the exit status and the seconds that it took."""
        assert self.process is not None
        began = time.monotonic()
        self.process.terminate()
        code = self.process.wait(patience_s)
        return code, time.monotonic() - began

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def rss_mib(self) -> float:
        """Return its resident memory."""
        assert self.process is not None
        with contextlib.suppress(OSError, StopIteration):
            lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
            return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024
        return 0.0

    # -------------------------------------------------------------------------------------------- questions

    def request(self, method: str, path: str, form: bytes | None = None, timeout_s: float = 5.0) -> tuple[int, str]:
        """Ask; return HTTP status and body. Raises OSError."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)
        try:
            connection.request(method, path, form)
            answer = connection.getresponse()
            return answer.status, answer.read().decode("latin-1")
        except http.client.HTTPException as error:
            raise OSError(str(error)) from None
        finally:
            connection.close()

    def health(self) -> tuple[int, str]:
        """Return status and words of /health/ready; 0 where nobody answers."""
        try:
            return self.request("GET", "/health/ready")
        except OSError as error:
            return 0, str(error)

    def is_ready(self) -> bool:
        return self.health()[0] == 200

    def metric(self, name: str) -> float:
        """Return a metric without labels; -1 where there is none, or nobody answers."""
        with contextlib.suppress(OSError):
            for line in self.request("GET", "/metrics")[1].splitlines():
                if line.startswith(f"{name} "):
                    return float(line.rpartition(" ")[2])
        return -1.0

    def said(self, event: str) -> int:
        """Return how often it has logged something, over all its processes."""
        with contextlib.suppress(FileNotFoundError), self._errors.open("rb") as file:
            file.seek(self._read_to)
            whole, _, _ = file.read().rpartition(b"\n")
            self._read_to += len(whole) + bool(whole)
            self._said.update(found.decode() for found in _EVENT.findall(whole))
        return self._said[event]

    def links_to(self, port: int) -> int:
        """Return how many established connections it has to a port of this machine."""
        assert self.process is not None
        mine = set()
        with contextlib.suppress(OSError):
            for entry in Path(f"/proc/{self.process.pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    mine.add(entry.readlink().name)
        return sum(f"socket:[{inode}]" in mine for inode in _established_to(port))


def _established_to(port: int) -> list[str]:
    """Return the inodes of the sockets that are connected to a local port."""
    fields = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [one[9] for one in fields if one[3] == "01" and int(one[2].rpartition(":")[2], 16) == port]
