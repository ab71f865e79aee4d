"""A network between a store and its database that can fail at the worst moment."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Literal
from urllib.parse import urlsplit

COMMIT = b"Q\x00\x00\x00\x0bCOMMIT\x00"
SINGLE = b"WITH paid AS"
"""How the statement begins that commits itself."""

Fate = Literal["pass", "reply lost", "never sent", "held"]


def name_of_parsed(chunk: bytes) -> bytes:
    """Return the name, with the byte that ends it, under which a Parse message has a statement kept."""
    assert chunk.startswith(b"P"), "statements are parsed before they are bound, one by one"
    return chunk[5 : chunk.index(b"\x00", 5) + 1]


def commits(chunk: bytes, single: bytes) -> bool:
    """Tell whether what is sent commits: a COMMIT, or a Bind of the statement of a name, to no portal's name."""
    return chunk.endswith(COMMIT) or (bool(single) and chunk.startswith(b"B") and chunk.startswith(single, 6))


class Proxy:
    """Passes bytes on; `fate` is what becomes of the next commit, and the connection that it came on is cut.

    A commit is a COMMIT, or the run of a statement that commits itself.
    """

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self._server: asyncio.Server
        self._tasks: set[asyncio.Task[None]] = set()
        self.url = ""
        self.fate: Fate = "pass"
        self.hit = asyncio.Event()
        """Set once a commit has met its fate."""
        self.may_commit = asyncio.Event()
        """Lets a commit that is held go on to the server, whose client is gone."""
        self.open_to_new = True
        self.cut_at = b""
        """The next connection on which this is sent is cut before it has arrived."""

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.url = self._target._replace(netloc=f"postgres@127.0.0.1:{port}").geturl()

    async def close(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            if self.open_to_new:
                await self._relay(reader, writer)
        finally:
            writer.transport.abort()
            self._tasks.discard(task)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert self._target.hostname is not None
        upstream_reader, upstream = await asyncio.open_connection(self._target.hostname, self._target.port)
        answers = asyncio.ensure_future(_pass_on(upstream_reader, writer))
        single = b""
        try:
            while chunk := await reader.read(1 << 16):
                if self.cut_at and self.cut_at in chunk:
                    self.cut_at = b""
                    return
                if SINGLE in chunk:
                    single = name_of_parsed(chunk)
                if self.fate != "pass" and commits(chunk, single):
                    fate, self.fate = self.fate, "pass"
                    answers.cancel()
                    await self._meet(fate, chunk, upstream_reader, upstream, writer)
                    return
                upstream.write(chunk)
                await upstream.drain()
        finally:
            answers.cancel()
            upstream.transport.abort()

    async def _meet(
        self,
        fate: Fate,
        chunk: bytes,
        upstream_reader: asyncio.StreamReader,
        upstream: asyncio.StreamWriter,
        writer: asyncio.StreamWriter,
    ) -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(0)
        if fate == "held":
            writer.transport.abort()
            self.hit.set()
            await self.may_commit.wait()
        if fate != "never sent":
            upstream.write(chunk)
            await upstream_reader.read(1 << 16)
        self.hit.set()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while chunk := await reader.read(1 << 16):
            writer.write(chunk)
            await writer.drain()
    writer.transport.abort()


@asynccontextmanager
async def proxy(url: str) -> AsyncIterator[Proxy]:
    made = Proxy(url)
    await made.start()
    try:
        yield made
    finally:
        await made.close()
