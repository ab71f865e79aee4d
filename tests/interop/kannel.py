"""Kannel as a customer: its bearerbox binds to a message centre, its smsbox takes messages and reports over HTTP."""

import asyncio
import socket
import urllib.parse
import urllib.request
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from tests.interop.peers import KANNEL, need, program
from tests.postgres import free_port

PATIENCE_S = 30.0
CONFIGURATION = """
group = core
admin-port = {admin}
admin-interface = 127.0.0.1
admin-password = secret
smsbox-port = {smsbox}
smsbox-interface = 127.0.0.1
log-file = {folder}/bearerbox.log
log-level = 0
dlr-storage = internal

group = smsc
smsc = smpp
smsc-id = aldis
host = 127.0.0.1
port = {smsc}
transceiver-mode = true
smsc-username = kannel
smsc-password = secret
system-type = VMA
interface-version = 34
enquire-link-interval = 1
connect-allow-ip = 127.0.0.1

group = smsbox
bearerbox-host = 127.0.0.1
bearerbox-port = {smsbox}
sendsms-port = {sendsms}
sendsms-interface = 127.0.0.1
log-file = {folder}/smsbox.log
log-level = 0

group = sendsms-user
username = tester
password = secret
max-messages = 10
concatenation = true

group = sms-service
keyword = default
catch-all = true
max-messages = 0
get-url = "http://127.0.0.1:{http}/message?from=%p&to=%P&text=%b"
"""


class Callbacks:
    """A web server that keeps the query of each request and answers 200."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, dict[str, str]]] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        url = urllib.parse.urlsplit(head.split()[1].decode())
        self.heard.append((url.path, dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    def of(self, path: str) -> list[dict[str, str]]:
        """Return the queries of the requests to a path."""
        return [query for heard, query in self.heard if heard == path]


class Kannel:
    """A bearerbox and a smsbox that run."""

    def __init__(self, folder: Path, sendsms: int, callbacks: Callbacks) -> None:
        self.callbacks = callbacks
        self._folder = folder
        self._sendsms = sendsms

    async def send(self, to: str, text: str, *, coding: int = 0) -> str:
        """Submit a message with reports of every kind to /report, and return smsbox's answer."""
        report = f"http://127.0.0.1:{self.callbacks.port}/report?to={to}&type=%d&said=%A"
        query = {
            "username": "tester", "password": "secret", "from": "Shop", "to": to, "text": text, "coding": str(coding),
            "charset": "UTF-8", "dlr-mask": "31", "dlr-url": report,
        }  # fmt: skip
        url = f"http://127.0.0.1:{self._sendsms}/cgi-bin/sendsms?{urllib.parse.urlencode(query)}"
        return await asyncio.to_thread(_get, url)

    def reports(self, to: str) -> list[int]:
        """Return the types of the reports about messages to a number: 8 accepted, 16 refused, 1 delivered, 2 failed."""
        return [int(query["type"]) for query in self.callbacks.of("/report") if query["to"] == to]

    async def until(self, condition: Callable[[], object], why: str) -> None:
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not condition():
                    await asyncio.sleep(0.02)
        except TimeoutError:
            log = (self._folder / "bearerbox.log").read_text(errors="replace")
            raise AssertionError(f"{why}; {self.callbacks.heard}; {log[-3_000:]}") from None


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=PATIENCE_S) as response:
        body: bytes = response.read()
        return body.decode()


@asynccontextmanager
async def running(folder: Path, smsc_port: int) -> AsyncIterator[Kannel]:
    """Yield a Kannel that binds to a message centre; at the end it stops in its own way."""
    need(KANNEL)
    callbacks = Callbacks()
    server = await asyncio.start_server(callbacks.serve, "127.0.0.1", 0)
    callbacks.port = server.sockets[0].getsockname()[1]
    ports = {name: free_port() for name in ("admin", "smsbox", "sendsms")}
    configuration = folder / "kannel.conf"
    told = CONFIGURATION.format(**ports, smsc=smsc_port, http=callbacks.port, folder=folder)
    configuration.write_text(told, encoding="utf-8")
    async with (
        server,
        _started("bearerbox", configuration, ports["smsbox"]),
        _started("smsbox", configuration, ports["sendsms"]),
    ):
        yield Kannel(folder, ports["sendsms"], callbacks)


@asynccontextmanager
async def _started(name: str, configuration: Path, port: int) -> AsyncIterator[Process]:
    path = program(name)
    assert path is not None
    process = await asyncio.create_subprocess_exec(path, configuration, stdout=DEVNULL, stderr=DEVNULL)
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not _listens(port):
                assert process.returncode is None, f"{name} ended with {process.returncode}"
                await asyncio.sleep(0.02)
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
