"""A relay between a connector and its message centre, which can lose all that passes without closing anything."""

import asyncio
import socket
from contextlib import asynccontextmanager, suppress


class Relay:
    """Passes bytes both ways, until it is frozen: then nothing passes, and nobody is told."""

    def __init__(self, port):
        self.port = 0
        self.accepted = 0
        self._to = port
        self._frozen = set()
        self._pairs = []

    def freeze(self):
        """Let nothing pass any more on the connections that there are; new ones work."""
        for pair in self._pairs:
            for transport in pair:
                self._frozen.add(transport)
                if not transport.is_closing():
                    transport.pause_reading()

    async def accept(self, reader, writer):
        self.accepted += 1
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._to)
        self._pairs.append((writer.transport, there_writer.transport))
        with suppress(asyncio.CancelledError):  # the end of the loop, if it was frozen
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass(reader, there_writer, writer.transport))
                group.create_task(self._pass(there_reader, writer, there_writer.transport))

    async def _pass(self, reader, writer, came_on):
        with suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                if came_on in self._frozen:
                    return
                writer.write(data)
                await writer.drain()
        if came_on not in self._frozen:
            writer.close()


@asynccontextmanager
async def relay_to(port):
    """Yield a relay to a port."""
    relay = Relay(port)
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    server = await asyncio.start_server(relay.accept, sock=listening)
    relay.port = listening.getsockname()[1]
    try:
        yield relay
    finally:
        server.close()
        for pair in relay._pairs:
            for transport in pair:
                transport.abort()
