"""What bad clients do to a server: each attack waits to see what becomes of it."""

import asyncio
import contextlib
import random
import re
import socket
import struct
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.fault.wire import REPORT, SEND

_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")
_HEAD = b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n" % SEND.encode()
_MIB = 1024 * 1024


@dataclass
class Seen:
    """What an attack came to: HTTP statuses, seconds until each connection was cut, and what the first answer held."""

    statuses: Counter[int] = field(default_factory=Counter)
    cut_s: list[float] = field(default_factory=list)
    never_cut: int = 0
    body: bytes = b""

    def add(self, answer: bytes, seconds: float, cut: bool) -> None:
        self.statuses.update(int(one) for one in _STATUS.findall(answer))
        self.body = self.body or answer.partition(b"\r\n\r\n")[2][:80]
        if cut:
            self.cut_s.append(seconds)
        else:
            self.never_cut += 1


Attack = Callable[[int], Awaitable[Seen]]
"""Takes the server's port."""


async def _talk(port: int, first: bytes, drip: bytes, every_s: float, patience_s: float, seen: Seen) -> None:
    """Connect, say something, then go on a byte at a time; read until the server ends it."""
    began = time.monotonic()
    answer, cut = b"", False
    dripping: asyncio.Task[None] | None = None
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(patience_s):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 24)
            writer.write(first)
            if drip:
                dripping = asyncio.ensure_future(_drip(writer, drip, every_s))
            while piece := await reader.read(1 << 16):
                answer += piece
            cut = True
    except TimeoutError:
        pass
    except OSError:
        cut = True
    finally:
        if dripping is not None:
            dripping.cancel()
        if writer is not None:
            writer.close()
    seen.add(answer, time.monotonic() - began, cut)


async def _drip(writer: asyncio.StreamWriter, piece: bytes, every_s: float) -> None:
    with contextlib.suppress(OSError):
        while True:
            await asyncio.sleep(every_s)
            writer.write(piece)
            await writer.drain()


def slowly(first: bytes, drip: bytes, every_s: float, patience_s: float, count: int) -> Attack:
    """Return an attack by many slow connections at once."""

    async def attack(port: int) -> Seen:
        seen = Seen()
        await asyncio.gather(*(_talk(port, first, drip, every_s, patience_s, seen) for _ in range(count)))
        return seen

    return attack


def at_once(*requests: bytes, patience_s: float = 20.0) -> Attack:
    """Return an attack that says one thing on a connection, for each of several things."""

    async def attack(port: int) -> Seen:
        seen = Seen()
        for request in requests:
            await _talk(port, request, b"", 0.0, patience_s, seen)
        return seen

    return attack


def unread(form: bytes, count: int, patience_s: float) -> Attack:
    """Return an attack that asks for reports on many connections and reads none of the answers."""
    request = b"GET %s?%s HTTP/1.1\r\nHost: localhost\r\n\r\n" % (REPORT.encode(), form)

    async def attack(port: int) -> Seen:
        seen = Seen()
        loop = asyncio.get_running_loop()
        holders = [socket.socket() for _ in range(count)]
        try:
            for one in holders:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                one.setblocking(False)
                await loop.sock_connect(one, ("127.0.0.1", port))
                with contextlib.suppress(BlockingIOError):
                    one.send(request * 120)
            await _watch(port, {one.getsockname()[1] for one in holders}, patience_s, seen)
        finally:
            for one in holders:
                one.close()
        return seen

    return attack


async def _watch(port: int, clients: set[int], patience_s: float, seen: Seen) -> None:
    """Wait until the server holds none of the connections any more: a peer that does not read can't tell.

    A connection that is not accepted yet looks as if it were cut; it counts from when it was held for the first time.
    """
    began = time.monotonic()
    waiting, held = set(clients), set[int]()
    while (waiting or held) and time.monotonic() - began < patience_s:
        await asyncio.sleep(0.5)
        now = _held_by_server(port)
        seen.cut_s += [time.monotonic() - began] * len(held - now)
        held = (held | waiting) & now
        waiting -= now
    seen.never_cut = len(waiting) + len(held)


def _held_by_server(port: int) -> set[int]:
    """Return the peers' ports of the server's sockets that a process still holds."""
    held = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        local, peer = (int(address.rpartition(":")[2], 16) for address in fields[1:3])
        if local == port and fields[9] != "0":
            held.add(peer)
    return held


def pipelined(count: int, connections: int) -> Attack:
    """Return an attack by many requests in one piece on each of some connections; all answers are read."""
    request = b"GET /eapi/user/get_credits/1/1.1 HTTP/1.1\r\nHost: localhost\r\n\r\n"
    return slowly(
        request * count + request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), b"", 0.0, 20.0, connections
    )


SLOW_COUNT = 200
SLOW: dict[str, tuple[Attack, float]] = {
    "silent connection": (slowly(b"", b"", 0.0, 40.0, SLOW_COUNT), 15.0),
    "dripped headers": (slowly(_HEAD, b"a", 0.5, 40.0, SLOW_COUNT), 15.0),
    "dripped body": (slowly(_HEAD + b"Content-Length: 9999\r\n\r\n", b"a", 1.0, 80.0, SLOW_COUNT), 60.0),
    "dripped chunks": (
        slowly(_HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n", 1.0, 80.0, SLOW_COUNT),
        60.0,
    ),
    "kept open, idle": (slowly(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n", b"", 0.0, 40.0, SLOW_COUNT), 15.0),
}
"""Name -> the attack, and after how many seconds it is to be cut."""


def _noise() -> list[bytes]:
    draw = random.Random(1)
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + draw.randbytes(508)
    nested = _HEAD + b"Content-Length: 100000\r\n\r\n" + b"[" * 100_000
    return [
        draw.randbytes(4096),
        hello,
        b"\x00" * 4096,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        nested.replace(b"\r\n", b"\n\n"),
    ]


_CHUNK = b"%x\r\n%s\r\n" % (_MIB, b"x" * _MIB)
QUICK: dict[str, tuple[Attack, set[int], bytes]] = {
    "body of 2 GiB announced": (at_once(_HEAD + b"Content-Length: 2147483648\r\n\r\n"), {413}, b""),
    "body of 10^30 announced": (at_once(_HEAD + b"Content-Length: 1%s\r\n\r\n" % (b"0" * 30)), {400, 413}, b""),
    "chunks without end": (at_once(_HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + _CHUNK * 8), {413}, b""),
    "URL of 70 kB": (at_once(b"GET /%s HTTP/1.1\r\nHost: x\r\n\r\n" % (b"a" * 70_000)), {414}, b""),
    "headers of 1 MB": (at_once(_HEAD + b"X: %s\r\n\r\n" % (b"a" * 1_000_000)), {431}, b""),
    "1,000 headers": (at_once(_HEAD + b"X: a\r\n" * 1_000 + b"Content-Length: 0\r\n\r\n"), {431}, b""),
    "1,000,000 parameters": (
        at_once(_HEAD + b"Connection: close\r\nContent-Length: 3999999\r\n\r\n" + b"a=b&" * 999_999 + b"a=b"),
        {200},
        b"24|",
    ),
    "noise, TLS, NULs, HTTP/2": (at_once(*_noise()), {400}, b""),
    "PUT, DELETE, PATCH": (
        at_once(
            *(
                _HEAD.replace(b"POST", method) + b"Connection: close\r\nContent-Length: 0\r\n\r\n"
                for method in (b"PUT", b"DELETE", b"PATCH")
            )
        ),
        {405},
        b"",
    ),
    "two lengths": (at_once(_HEAD + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"), {400}, b""),
    "length and chunks": (
        at_once(_HEAD + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        {400},
        b"",
    ),
}
"""Name -> the attack, the HTTP statuses that may answer it, and how the body begins."""


def reset(port: int, count: int) -> None:
    """Connect, send half a submission and reset the connection, many times."""
    for _ in range(count):
        with socket.create_connection(("127.0.0.1", port), 5.0) as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            one.sendall(_HEAD + b"Content-Length: 500\r\n\r\nusername=alpha")
