"""A relay that records a session's bytes, and the capture file that is made of them for a dissector."""

import asyncio
import struct
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import count, pairwise
from pathlib import Path
from typing import NamedTuple

ESME, SMSC = 0, 1
SMSC_PORT = 2775
"""The port that a capture tells, wherever the session really ran."""
_ESME_PORT = 40_000
_SEGMENT = 1_400
_ETHERNET, _IPV4, _TCP = 1, 0x0800, 6
_SYN, _ACK, _PSH_ACK = 0x02, 0x10, 0x18


class Chunk(NamedTuple):
    """What one side of a connection wrote, in one piece."""

    connection: int
    sender: int
    """ESME or SMSC"""
    data: bytes


class Relay:
    """Stands between an ESME and a message centre, and keeps what both say."""

    def __init__(self, port: int) -> None:
        self.chunks: list[Chunk] = []
        self.port = 0
        """Where the ESME is to connect."""
        self._smsc_port = port
        self._numbers = count()

    def said(self, sender: int) -> bytes:
        """Return all that one side has said, if there was but one connection."""
        assert {chunk.connection for chunk in self.chunks} == {0}
        return b"".join(chunk.data for chunk in self.chunks if chunk.sender == sender)

    def heard(self, command: int) -> bool:
        """Return whether one side has said a command, at the beginning of a piece; good while they still talk."""
        return any(chunk.data[4:8] == command.to_bytes(4, "big") for chunk in self.chunks)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = next(self._numbers)
        upstream = await asyncio.open_connection("127.0.0.1", self._smsc_port)
        with suppress(OSError, asyncio.CancelledError):
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass_on(number, ESME, reader, upstream[1]))
                group.create_task(self._pass_on(number, SMSC, upstream[0], writer))
        for end in (writer, upstream[1]):
            end.close()
            with suppress(OSError):
                await end.wait_closed()

    async def _pass_on(
        self, number: int, sender: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while data := await reader.read(65_536):
            self.chunks.append(Chunk(number, sender, data))
            writer.write(data)
            await writer.drain()
        writer.write_eof()


@asynccontextmanager
async def relayed(port: int) -> AsyncIterator[Relay]:
    """Yield a relay to a message centre on loopback."""
    relay = Relay(port)
    server = await asyncio.start_server(relay.serve, "127.0.0.1", 0)
    relay.port = server.sockets[0].getsockname()[1]
    async with server:
        yield relay


def cut(data: bytes) -> list[bytes]:
    """Cut a stream into PDUs by nothing but command_length: what a dissector is compared with must not be ours."""
    starts = [0]
    while starts[-1] < len(data):
        starts.append(starts[-1] + int.from_bytes(data[starts[-1] : starts[-1] + 4], "big"))
    assert starts[-1] == len(data)
    return [data[start:end] for start, end in pairwise(starts)]


def write_pcap(path: Path, chunks: Sequence[Chunk]) -> None:
    """Write a capture of well-formed TCP connections, to port 2775 of 10.0.0.2 from 10.0.0.1."""
    with path.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65_535, _ETHERNET))
        for at, packet in enumerate(_packets(chunks)):
            file.write(struct.pack("<IIII", at // 1_000, at % 1_000 * 1_000, len(packet), len(packet)) + packet)


def _packets(chunks: Sequence[Chunk]) -> Iterator[bytes]:
    sequences: dict[int, list[int]] = {}
    for chunk in chunks:
        if chunk.connection not in sequences:
            sequences[chunk.connection] = [1, 1]
            yield _packet(chunk.connection, ESME, _SYN, 0, 0)
            yield _packet(chunk.connection, SMSC, _SYN | _ACK, 0, 1)
            yield _packet(chunk.connection, ESME, _ACK, 1, 1)
        next_sequence = sequences[chunk.connection]
        sender, receiver = chunk.sender, 1 - chunk.sender
        for start in range(0, len(chunk.data), _SEGMENT):
            piece = chunk.data[start : start + _SEGMENT]
            yield _packet(chunk.connection, sender, _PSH_ACK, next_sequence[sender], next_sequence[receiver], piece)
            next_sequence[sender] += len(piece)


def _packet(connection: int, sender: int, flags: int, sequence: int, acknowledged: int, payload: bytes = b"") -> bytes:
    addresses = (b"\x0a\0\0\1", b"\x0a\0\0\2")
    ports = (_ESME_PORT + connection, SMSC_PORT)
    to = 1 - sender
    tcp = struct.pack(">HHIIBBHHH", ports[sender], ports[to], sequence, acknowledged, 5 << 4, flags, 65_535, 0, 0)
    length = 20 + len(tcp) + len(payload)
    ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, length, 0, 0x4000, 64, _TCP, 0, addresses[sender], addresses[to])
    ip = ip[:10] + _checksum(ip) + ip[12:]
    return bytes(12) + struct.pack(">H", _IPV4) + ip + tcp + payload


def _checksum(header: bytes) -> bytes:
    total = sum(struct.unpack(f">{len(header) // 2}H", header))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack(">H", total ^ 0xFFFF)
