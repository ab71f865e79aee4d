"""A message centre that does as the test says, octet by octet, and the connector that is bound to it."""

import asyncio
from contextlib import asynccontextmanager, suppress

from smsc_site import now_ms

from aldis.connectors.smpp import SmppConnector, SmppSettings
from aldis.smpp.commands import RESPONSE, Raw
from aldis.smpp.pdu import Framer, decode, encode


class Centre:
    """One connection after the other; the last one is talked to."""

    def __init__(self):
        self.connections = 0
        self._reader = self._writer = None
        self._framer = Framer()
        self._read = []
        self._writers = []

    async def serve(self, reader, writer):
        self.connections += 1
        self._writers.append(writer)
        self._reader, self._writer, self._framer, self._read = reader, writer, Framer(), []
        header, _ = await self.read()
        self.send(encode(Raw(header.command_id | RESPONSE, b"centre\0"), header.sequence))

    def send(self, octets):
        """Send octets as they are."""
        self._writer.write(octets)

    async def read(self):
        """Return header and PDU of the next frame."""
        async with asyncio.timeout(10):
            while not self._read:
                data = await self._reader.read(1 << 16)
                assert data, "the connector closed the connection"
                self._read += self._framer.feed(data)
        return decode(self._read.pop(0))

    async def answer_submits(self, make):
        """Read a submit_sm and answer it with what `make` makes of its sequence number; return the submit_sm."""
        header, pdu = await self.read()
        self.send(make(header.sequence))
        return pdu

    def cut(self):
        self._writer.transport.abort()

    async def is_closed_by_the_peer(self):
        async with asyncio.timeout(10):
            while await self._reader.read(1 << 16):
                pass
        return True

    async def close(self):
        for writer in self._writers:
            writer.transport.abort()
            with suppress(ConnectionError):
                await writer.wait_closed()


@asynccontextmanager
async def scripted(sink, **changes):
    """Yield a scripted message centre and the connector bound to it."""
    centre = Centre()
    server = await asyncio.start_server(centre.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    plain = {"name": "s", "host": "127.0.0.1", "port": port, "system_id": "id", "reconnect_min_s": 0.01}
    connector = SmppConnector(SmppSettings(**plain | changes), sink, now_ms, rng=lambda: 0.0)
    try:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(connector.run())
            await sink.until(lambda: connector.counters.binds > 0)
            yield centre, connector
            task.cancel()
    finally:
        server.close()
        await centre.close()
