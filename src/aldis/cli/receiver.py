"""A web server that takes pushes, for demonstrations: the least that a customer needs."""

import asyncio
import urllib.parse
from collections.abc import Callable
from types import TracebackType

_MAX_HEAD = 64 * 1024


class Receiver:
    """Listens on loopback, answers every push with `1`, and remembers the latest status of each number."""

    def __init__(self, port: int) -> None:
        """Take the port to try first; where it is taken, a free one serves."""
        self.latest: dict[int, int] = {}
        self.count = 0
        self.on_push: Callable[[dict[str, str]], None] = lambda parameters: None
        self._port = port
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """Where to push to."""
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/report"

    async def __aenter__(self) -> "Receiver":
        """Start to listen."""
        try:
            self._server = await self._listen(self._port)
        except OSError:
            self._server = await self._listen(0)
        return self

    async def _listen(self, port: int) -> asyncio.Server:
        return await asyncio.start_server(self._serve, "127.0.0.1", port, limit=_MAX_HEAD)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop listening."""
        assert self._server is not None
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self._take(head.split(b" ", 2)[1].decode("ascii"))
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 1\r\n\r\n1")
                await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError, ValueError, IndexError):
            pass
        finally:
            writer.close()

    def _take(self, target: str) -> None:
        query = urllib.parse.urlsplit(target).query
        parameters = dict(urllib.parse.parse_qsl(query, encoding="latin-1"))
        self.count += 1
        self.latest[int(parameters["msisdn"])] = int(parameters["status"])
        self.on_push(parameters)
