"""The processes of a scenario: servers, the message centre, the client and the receiver, in one directory."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlencode

from tests.fault.dump import FileLedger, Ledger
from tests.fault.load import BLOCKED, OPENING, PASSWORDS, ROUTES, Ask
from tests.fault.server import PYTHON, READY_S, SERVER, RigError, Server
from tests.fault.wire import CREDITS, REPORT, SEND
from tests.fault.witness import Log

ROOT = Path(__file__).parents[2]
QUIET_S = 60.0
RATES = {"fail": 0.05, "no-receipt": 0.02, "early": 0.04, "duplicate": 0.05}
"""Shares of what goes wrong in the network, for numbers without a script."""

CONFIG = """\
data_dir = "{data}"
[ledger]
url = "{ledger}"
[node]
roles = {roles}
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
binds = {binds}
window = 10
reconnect_min_s = 0.1
{routes}"""


def clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("ALDIS_")}


class Rig:
    """Use as a context manager: no process is left behind, and the directory only if `keep` was set."""

    def __init__(self, name: str, seed: int = 1, data: Path | None = None, stop_budget_s: float = 20.0) -> None:
        """Take a name for the directory, the witnesses' seed, and where the ledger is to be if not there."""
        self.folder = Path(tempfile.mkdtemp(prefix=f"aldis-fault-{name}-"))
        self.data = data or self.folder / "data"
        self.ledger: Ledger = FileLedger(self.data)
        self.seed = seed
        self.keep = False
        self.log = Log(self.folder / "supervisor.jsonl")
        self.servers = [self.add_server("server")]
        self.binds = 2
        self.smsc_port = 0
        self._stop_budget_s = stop_budget_s
        self._running: list[subprocess.Popen[bytes]] = []
        self._clients = 0

    def add_server(self, name: str) -> Server:
        return Server(name, self.folder, self.spawn, self.log)

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
        self.smsc_port = int(_first_line(smsc).rpartition(":")[2])
        receiver_port = int(_first_line(receiver))
        for server in self.servers:
            server.config.write_text(self.configuration(server), encoding="utf-8")
        for name, password in PASSWORDS.items():
            url = f"http://127.0.0.1:{receiver_port}/{name}"
            self.operate(
                "add", name, "--password-stdin", "--credits", str(OPENING[name]), "--push-url", url, say=password
            )

    def configuration(self, server: Server) -> str:
        """Return what a server's configuration file holds."""
        return CONFIG.format(
            data=self.data,
            ledger=self.ledger.url_for(server.name),
            roles=list(self.roles_of(server)),
            port=server.port,
            smsc_port=self.smsc_port,
            binds=self.binds,
            routes=ROUTES,
            blocked=BLOCKED,
            stop_budget_s=self._stop_budget_s,
        )

    def roles_of(self, server: Server) -> Sequence[str]:
        """Return what a server does."""
        return ("web", "dispatch", "push")

    def operate(self, *words: str, say: str = "") -> None:
        """Run `aldis accounts`, beside the server if it runs."""
        command = (*SERVER, "accounts", *words, "--config", str(self.servers[0].config))
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

    # The only server, or the first

    @property
    def server(self) -> subprocess.Popen[bytes] | None:
        return self.servers[0].process

    @property
    def server_command(self) -> Sequence[str]:
        return self.servers[0].command

    @server_command.setter
    def server_command(self, command: Sequence[str]) -> None:
        for server in self.servers:
            server.command = command

    @property
    def port(self) -> int:
        return self.servers[0].port

    def start_server(self, prefix: Sequence[str] = ()) -> None:
        self.servers[0].start(prefix)

    def wait_ready(self, patience_s: float = READY_S) -> float:
        return self.servers[0].wait_ready(patience_s)

    def kill_server(self) -> None:
        self.servers[0].kill()

    def stop_server(self, patience_s: float = 60.0) -> tuple[int, float]:
        return self.servers[0].stop(patience_s)

    def start_client(self, rate: float, workers: int = 8, timeout_s: float = 10.0) -> subprocess.Popen[bytes]:
        """Start the client witness; each one of a rig has a seed of its own."""
        self._clients += 1
        ports = [str(server.port) for server in self.servers if "web" in self.roles_of(server)]
        words = ("--port", *ports, "--log", str(self.path("client")), "--seed", str(self.seed))
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
        return self.servers[0].request("GET", path, None, timeout_s)

    def post(self, path: str, form: bytes) -> str:
        """Ask the server by POST. Raises OSError."""
        return self.servers[0].request("POST", path, form, 30.0)[1]

    def health(self) -> tuple[int, str]:
        return self.servers[0].health()

    def is_ready(self) -> bool:
        return self.servers[0].is_ready()

    def rss_mib(self) -> float:
        return self.servers[0].rss_mib()

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

    def wait_quiet(self, patience_s: float = QUIET_S) -> float:
        """Wait until nothing is queued, on its way or due and the network is silent; return the seconds."""
        began = time.monotonic()
        silent_since, size = began, -1
        self.check_alive()
        while (now := time.monotonic()) - began < patience_s:
            grown = self.path("smsc").stat().st_size + self.path("receiver").stat().st_size
            if grown != size or self.ledger.unfinished():
                silent_since, size = now, grown
            elif now - silent_since > 1.5:
                return silent_since - began
            time.sleep(0.1)
        return patience_s

    def check_alive(self) -> None:
        """Raise RigError if a server has ended though nobody here told it to."""
        for server in self.servers:
            server.check_alive()

    def ask_last(self, batches: Sequence[tuple[str, int]]) -> None:
        """Ask for reports of batches and for every account's credits, and write down the answers."""
        self.check_alive()
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
