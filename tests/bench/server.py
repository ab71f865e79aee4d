"""The program under test: `aldis serve` in a directory of its own, with an account."""

import json
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from tests.bench.children import Child, Failed, wait_until
from tests.bench.database import Database
from tests.bench.traffic import PASSWORD, USERNAME

ALDIS = Path(sys.executable).with_name("aldis")
CREDITS = "1000000000"
_CONFIG = """\
data_dir = "data"

[http]
listen = "127.0.0.1:0"

[ledger]
url = "{ledger_url}"

[push]
allow_private_networks = ["127.0.0.0/8"]

[[connector]]
name = "upstream"
kind = "smpp"
host = "127.0.0.1"
port = {smpp_port}
system_id = "bench"
window = 100
binds = {binds}

[[route]]
connector = "upstream"
price = "1"
"""


class Installation:
    """A configuration, its data, and an account with plenty of credits."""

    def __init__(
        self, folder: Path, smpp_port: int, push_url: str = "", *, database: Database | None = None, binds: int = 1
    ) -> None:
        """Take where files go, the network, who gets pushes, and PostgreSQL; without it the ledger is SQLite's."""
        folder.mkdir(parents=True)
        self.folder = folder
        self.config = folder / "aldis.toml"
        self.data = folder / "data"
        self.database = database
        self.url = database.new_url() if database else "sqlite"
        text = _CONFIG.format(smpp_port=smpp_port, ledger_url=self.url, binds=binds)
        self.config.write_text(text, encoding="utf-8")
        command = [ALDIS, "accounts", "add", USERNAME, "--password-stdin", "--credits", CREDITS]
        subprocess.run(
            [*command, "--push-url", push_url, "--config", self.config],
            input=PASSWORD,
            text=True,
            check=True,
            stdout=subprocess.DEVNULL,
        )


class Server:
    """A running server, as a context manager; on PostgreSQL an installation can have several, by name."""

    def __init__(
        self, installation: Installation, command: Sequence[str | Path] = (ALDIS,), name: str = "server"
    ) -> None:
        self.installation = installation
        self._command = command
        self._name = name
        self._stack = ExitStack()
        self.port = 0

    def __enter__(self) -> Self:
        log = self.installation.folder / f"{self._name}.log"
        with ExitStack() as stack:
            file = stack.enter_context(log.open("wb"))
            arguments = [*self._command, "serve", "--config", self.installation.config]
            self.process = stack.enter_context(Child(arguments, stderr=file))
            wait_until("the server", lambda: self._find_port(log) or not self.process.is_running, 20.0)
            if not self.port:
                raise Failed(f"the server did not start: {log.read_text()[-500:]}")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _find_port(self, log: Path) -> bool:
        for line in log.read_text(encoding="utf-8").splitlines():
            if line.startswith("{") and '"serving"' in line:
                self.port = json.loads(line)["port"]
        return self.port > 0
