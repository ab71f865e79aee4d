"""Several nodes for the demo: one network for all of them, and a process for each but the first."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aldis.connectors.simulator import Smsc, SmscSettings
from aldis.model.errors import SettingsError
from aldis.model.status import Status
from aldis.service.node import wall_clock_ms

BINDS_A_NODE = 2
_START_S = 20.0

_CONFIG = """\
# Made by `aldis demo --nodes`. docs/howto/postgresql.md explains it.
[http]
listen = "127.0.0.1:{port}"

[push]
allow_private_networks = ["127.0.0.0/8"]   # the demo's receiver is on this machine

[[connector]]
name = "network"
kind = "smpp"
host = "127.0.0.1"
port = {smsc_port}
system_id = "demo"
binds = {binds}
errors = {{ {errors} }}

[[route]]
prefix = ""          # every number
connector = "network"
price = "1"
"""


def write_config(folder: Path, port: int, smsc_port: int, nodes: int) -> Path:
    """Write the configuration that all nodes share; only where they listen differs."""
    folder.mkdir(parents=True, exist_ok=True)
    errors = ", ".join(f'"{status:03d}" = {status}' for status in Status)
    path = folder / "nodes.toml"
    text = _CONFIG.format(port=port, smsc_port=smsc_port, binds=BINDS_A_NODE * nodes, errors=errors)
    path.write_text(text, encoding="utf-8")
    return path


@asynccontextmanager
async def network() -> AsyncIterator[int]:
    """Run a message centre for all nodes; yields its port."""
    async with Smsc(SmscSettings(), wall_clock_ms) as smsc:
        yield smsc.port


class OtherNode:
    """An `aldis serve` of its own, on a port that the system chooses."""

    def __init__(self, config: Path, ledger_url: str) -> None:
        """Take what it shares with the others."""
        self._arguments = (sys.executable, "-m", "aldis", "serve", "--config", str(config))
        self._environment = os.environ | {"ALDIS_HTTP_LISTEN": "127.0.0.1:0", "ALDIS_LEDGER_URL": ledger_url}
        self._process: asyncio.subprocess.Process | None = None
        self._log: asyncio.Task[None] | None = None
        self.base = ""
        """The address of its API."""

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process is not None
        return self._process.pid

    async def __aenter__(self) -> "OtherNode":
        """Start it and wait until it serves.

        Raises:
            SettingsError: it did not.
        """
        self._process = await asyncio.create_subprocess_exec(
            *self._arguments, env=self._environment, stderr=asyncio.subprocess.PIPE
        )
        assert self._process.stderr is not None
        try:
            async with asyncio.timeout(_START_S):
                await self._wait_serving(self._process.stderr)
        except TimeoutError:
            await self.__aexit__()
            raise SettingsError("another node of the demo did not start in time") from None
        self._log = asyncio.get_running_loop().create_task(_discard(self._process.stderr))
        return self

    async def _wait_serving(self, log: asyncio.StreamReader) -> None:
        last = ""
        while line := (await log.readline()).decode():
            last = line.strip()
            if last.startswith("{") and json.loads(last).get("event") == "serving":
                self.base = f"http://127.0.0.1:{json.loads(last)['port']}"
                return
        raise SettingsError(f"another node of the demo did not start: {last}")

    async def __aexit__(self, *_: object) -> None:
        """Stop it."""
        assert self._process is not None
        if self._process.returncode is None:
            self._process.terminate()
        await self._process.wait()
        if self._log is not None:
            await self._log


async def _discard(log: asyncio.StreamReader) -> None:
    while await log.readline():
        pass
