"""Loopback receivers of pushes: real servers that behave, or misbehave, as a test says."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable

from aldis.push.client import PushClient

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1"

Make = Callable[..., PushClient]
"""Makes a client from a guard, a TLS context and limits by name."""

Behaviour = Callable[["Call"], Awaitable[None]]


class Call:
    """One request as the receiver sees it."""

    def __init__(
        self, number: int, connection: int, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.number = number
        """From 0, over all connections."""
        self.connection = connection
        """From 0."""
        self.head = head
        self.reader = reader
        self.writer = writer

    @property
    def target(self) -> str:
        return self.head.split(b" ")[1].decode()

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def close(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        self.writer.transport.abort()

    async def closed_by_peer(self) -> None:
        """Wait until the client is gone."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(4096):
                pass


class Receiver:
    """A server on a port of 127.0.0.1 that the system chose."""

    def __init__(self, behave: Behaviour) -> None:
        self.behave = behave
        self.requests: list[bytes] = []
        self.connections = 0
        self.open = 0
        self.most_open = 0
        self.arrived = asyncio.Condition()
        self.errors: list[BaseException] = []
        self.local_addresses: set[str] = set()
        self.port = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def targets(self) -> list[str]:
        return [head.split(b" ")[1].decode() for head in self.requests]

    async def count(self, n: int) -> None:
        """Wait until n requests have come."""
        async with asyncio.timeout(10), self.arrived:
            await self.arrived.wait_for(lambda: len(self.requests) >= n)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        number, self.connections = self.connections, self.connections + 1
        self.open += 1
        self.most_open = max(self.open, self.most_open)
        self.local_addresses.add(writer.get_extra_info("sockname")[0])
        try:
            await self._requests(number, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        except asyncio.CancelledError:
            pass
        except Exception as error:
            self.errors.append(error)
        finally:
            self.open -= 1
            self._tasks.discard(task)
            writer.close()
            with contextlib.suppress(Exception):
                await writer.wait_closed()

    async def _requests(self, connection: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not writer.is_closing():
            head = await reader.readuntil(b"\r\n\r\n")
            async with self.arrived:
                number = len(self.requests)
                self.requests.append(head)
                self.arrived.notify_all()
            await self.behave(Call(number, connection, head, reader, writer))

    async def stop(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def receiver(
    behave: Behaviour | bytes, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[Receiver]:
    """Run a receiver that answers every request with the same bytes, or as a function says."""
    made = Receiver(always(behave) if isinstance(behave, bytes) else behave)
    server = await asyncio.start_server(made.serve, host, port, ssl=tls, limit=1 << 20)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        await made.stop()
        await server.wait_closed()
        assert not made.errors


def always(answer: bytes) -> Behaviour:
    """Answer every request with the same bytes."""

    async def behave(call: Call) -> None:
        await call.send(answer)

    return behave


async def until(condition: Callable[[], bool]) -> None:
    """Wait, at most 10 s, until a condition that no signal tells of holds."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.002)


def http(status: str, body: bytes = b"1", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body
