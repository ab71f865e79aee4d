"""The processes of a scenario: the server, the message centre, the client and the receiver, in one directory."""

import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlencode

from tests.fault import dump
from tests.fault.load import BLOCKED, OPENING, PASSWORDS, ROUTES, Ask
from tests.fault.wire import CREDITS, REPORT, SEND
from tests.fault.witness import Log

ROOT = Path(__file__).parents[2]
READY_S = 30.0
QUIET_S = 60.0
PYTHON = (sys.executable, "-W", "ignore")
SERVER = (*PYTHON, "-m", "aldis")
RATES = {"fail": 0.05, "no-receipt": 0.02, "early": 0.04, "duplicate": 0.05}
"""Shares of what goes wrong in the network, for numbers without a script."""

CONFIG = """\
data_dir = "{data}"
[http]
listen = "127.0.0.1:{port}"
[push]
allow_private_networks = ["127.0.0.0/8"]
[admission]
blocklist = ["{blocked}"]
[stop]
budget_s = {stop_budget_s}
[[connector]]
name = "up"
kind = "smpp"
host = "127.0.0.1"
port = {smsc_port}
system_id = "aldis"
binds = 2
window = 10
reconnect_min_s = 0.1
{routes}"""


class RigError(Exception):
    """The stage could not be set; this says nothing about the promises."""


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("ALDIS_")}


class Rig:
    """Use as a context manager: no process is left behind, and the directory only if `keep` was set."""

    def __init__(self, name: str, seed: int = 1, data: Path | None = None, stop_budget_s: float = 20.0) -> None:
        """Take a name for the directory, the witnesses' seed, and where the ledger is to be if not there."""
        self.folder = Path(tempfile.mkdtemp(prefix=f"aldis-fault-{name}-"))
        self.data = data or self.folder / "data"
        self.config = self.folder / "aldis.toml"
        self.port = free_port()
        self.seed = seed
        self.keep = False
        self.server: subprocess.Popen[bytes] | None = None
        self.server_command: Sequence[str] = SERVER
        self.log = Log(self.folder / "supervisor.jsonl")
        self._stop_budget_s = stop_budget_s
        self._running: list[subprocess.Popen[bytes]] = []
        self._clients = 0

    def __enter__(self) -> "Rig":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._running:
            if process.poll() is None:
                process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
        self.log.close()
        if not self.keep and error is None:
            shutil.rmtree(self.folder)

    # ---------------------------------------------------------------------------------------------- processes

    def spawn(self, name: str, command: Sequence[str], *, talks: bool = False) -> subprocess.Popen[bytes]:
        """Start a process; its errors go to NAME.err."""
        with (self.folder / f"{name}.err").open("ab") as errors:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=clean_environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if talks else errors,
                stderr=errors,
            )
        self._running.append(process)
        return process

    def path(self, witness: str) -> Path:
        return self.folder / f"{witness}.jsonl"

    def set_stage(self) -> None:
        """Start the message centre and the receiver, write the configuration, open the accounts."""
        rates = [word for name, share in RATES.items() for word in (f"--{name}", str(share))]
        simulator = (*PYTHON, "-m", "aldis.connectors.simulator", "--port", "0", "--log", str(self.path("smsc")))
        habits = ("--seed", str(self.seed), "--receipt-delay-ms", "60", "--receipt-timeout-s", "2.0", *rates)
        smsc = self.spawn("smsc", (*simulator, *habits), talks=True)
        receiver = self.spawn(
            "receiver",
            (*PYTHON, "-m", "tests.fault.receiver", "--log", str(self.path("receiver")), "--seed", str(self.seed)),
            talks=True,
        )
        smsc_port = int(_first_line(smsc).rpartition(":")[2])
        receiver_port = int(_first_line(receiver))
        self.config.write_text(
            CONFIG.format(
                data=self.data,
                port=self.port,
                smsc_port=smsc_port,
                routes=ROUTES,
                blocked=BLOCKED,
                stop_budget_s=self._stop_budget_s,
            ),
            encoding="utf-8",
        )
        for name, password in PASSWORDS.items():
            url = f"http://127.0.0.1:{receiver_port}/{name}"
            self.operate(
                "add", name, "--password-stdin", "--credits", str(OPENING[name]), "--push-url", url, say=password
            )

    def operate(self, *words: str, say: str = "") -> None:
        """Run `aldis accounts`, beside the server if it runs."""
        command = (*SERVER, "accounts", *words, "--config", str(self.config))
        done = subprocess.run(
            command,
            check=False,
            cwd=ROOT,
            env=clean_environment(),
            input=f"{say}\n".encode(),
            capture_output=True,
            timeout=60,
        )
        if done.returncode:
            raise RigError(f"aldis accounts {words[0]}: {done.stderr.decode()[-500:]}")

    def start_server(self, prefix: Sequence[str] = ()) -> None:
        """Start `aldis serve`, perhaps under another program; it is not ready yet."""
        command = (*prefix, *self.server_command, "serve", "--config", str(self.config))
        self.server = self.spawn("server", command)
        self.log.write("start")

    def wait_ready(self, patience_s: float = READY_S) -> float:
        """Wait until the server takes work, and return how many seconds that took. Raises RigError."""
        began = time.monotonic()
        while time.monotonic() - began < patience_s:
            if self.is_ready():
                return time.monotonic() - began
            self._check_alive()
            time.sleep(0.01)
        raise RigError(f"the server is not ready after {patience_s:.0f} s: {self.health()}")

    def _check_alive(self) -> None:
        """Raise RigError if the server has ended though nobody here told it to."""
        assert self.server is not None
        code = self.server.poll()
        if code is not None:
            words = (self.folder / "server.err").read_text(errors="replace")[-800:]
            raise RigError(f"the server ended with {code}: {words}")

    def kill_server(self) -> None:
        """SIGKILL, and write down when."""
        assert self.server is not None
        self.log.write("kill")
        self.server.kill()
        self.server.wait()
        self.log.write("dead")

    def stop_server(self, patience_s: float = 60.0) -> tuple[int, float]:
        """SIGTERM; return the exit status and the seconds that it took."""
        assert self.server is not None
        began = time.monotonic()
        self.server.terminate()
        code = self.server.wait(patience_s)
        return code, time.monotonic() - began

    def start_client(self, rate: float, workers: int = 8, timeout_s: float = 10.0) -> subprocess.Popen[bytes]:
        """Start the client witness; each one of a rig has a seed of its own."""
        self._clients += 1
        words = ("--port", str(self.port), "--log", str(self.path("client")), "--seed", str(self.seed))
        pace = ("--rate", str(rate), "--workers", str(workers), "--timeout", str(timeout_s))
        return self.spawn("client", (*PYTHON, "-m", "tests.fault.submitter", *words, *pace))

    def end_client(self, client: subprocess.Popen[bytes], patience_s: float = 60.0) -> None:
        """Let the client repeat what got no answer, and end."""
        client.send_signal(signal.SIGTERM)
        if client.wait(patience_s):
            raise RigError(f"the client failed: {(self.folder / 'client.err').read_text()[-800:]}")

    # -------------------------------------------------------------------------------------------- questions

    def get(self, path: str, timeout_s: float = 5.0) -> tuple[int, str]:
        """Ask the server by GET; return HTTP status and body. Raises OSError."""
        return self._request("GET", path, None, timeout_s)

    def post(self, path: str, form: bytes) -> str:
        """Ask the server by POST. Raises OSError."""
        return self._request("POST", path, form, 30.0)[1]

    def _request(self, method: str, path: str, form: bytes | None, timeout_s: float) -> tuple[int, str]:
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
            return self.get("/health/ready")
        except OSError as error:
            return 0, str(error)

    def is_ready(self) -> bool:
        return self.health()[0] == 200

    def submit_to_nobody(self, n: int, count: int) -> int | None:
        """Submit, as the client does, a big batch that is sent to nobody; return its id, or None if it was refused."""
        ask = Ask(n, "alpha", "7bit", f"{n} to nobody", (BLOCKED,) * count, False, 0)
        log = Log(self.path("client"))
        log.write("intent", **ask.to_line())
        fields = self.post(SEND, ask.form()).split("|")
        batch = int(fields[2]) if fields[0] == "0" else None
        told = {"kind": "refused", "code": int(fields[0])} if batch is None else {"kind": "ok", "batch": batch}
        log.write("outcome", n=n, **told)
        log.close()
        return batch

    def rss_mib(self) -> float:
        """Return the server's resident memory."""
        assert self.server is not None
        with contextlib.suppress(OSError, StopIteration):
            lines = Path(f"/proc/{self.server.pid}/status").read_text().splitlines()
            return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024
        return 0.0

    def wait_quiet(self, patience_s: float = QUIET_S) -> float:
        """Wait until nothing is queued, on its way or due and the network is silent; return the seconds."""
        began = time.monotonic()
        silent_since, size = began, -1
        self._check_alive()
        while (now := time.monotonic()) - began < patience_s:
            grown = self.path("smsc").stat().st_size + self.path("receiver").stat().st_size
            if grown != size or dump.unfinished(self.data):
                silent_since, size = now, grown
            elif now - silent_since > 1.5:
                return silent_since - began
            time.sleep(0.1)
        return patience_s

    def ask_last(self, batches: Sequence[tuple[str, int]]) -> None:
        """Ask for reports of batches and for every account's credits, and write down the answers."""
        self._check_alive()
        for account, batch in batches:
            asked = time.monotonic()
            rows = self._ask(REPORT, account, batch_id=batch).split("\n")[2:]
            shown = [[row.split("|")[0], int(row.split("|")[1])] for row in rows if row]
            self.log.write("seen", asked=asked, batch=batch, rows=shown)
        for account in PASSWORDS:
            self.log.write("credits", account=account, shown=self._ask(CREDITS, account).strip())

    def _ask(self, path: str, account: str, **more: Any) -> str:
        form = urlencode({"username": account, "password": PASSWORDS[account], **more})
        return self.get(f"{path}?{form}", 10.0)[1]


def _first_line(process: subprocess.Popen[bytes]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline().decode()
    if not line:
        raise RigError("a witness ended before it began; see its .err file")
    return line.strip()
