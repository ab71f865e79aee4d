"""What one client may take: time, memory, connections, and tries at a password."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, MutableMapping
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class HttpLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds on what a client may do before it is cut off. Times in seconds, sizes in bytes."""

    header_s: float = 15
    """From the connection, or a later request's first byte, to the end of the headers."""
    body_s: float = 60
    """From the end of the headers to the end of the body."""
    keep_alive_s: float = 15
    """How long a connection may rest between requests."""
    write_s: float = 60
    """How long the client may leave its answers unread."""
    linger_s: float = 2
    """How long a connection is kept to let a refused client read why."""
    sweep_s: float = 1
    """How often the deadlines are looked at."""
    max_url: int = 64 * 1024
    max_head: int = 128 * 1024
    """The URL and all headers, counted as received."""
    max_headers: int = 100
    max_body: int = 4 * 1024 * 1024
    max_buffered: int = 64 * 1024 * 1024
    """Bodies in memory, all connections together."""
    max_connections: int = 10_000
    max_pipelined: int = 128
    """Requests on one connection that wait for the one before."""


class RateLimiter:
    """Token buckets by key, the longest unused forgotten first.

    A forgotten bucket comes back full: `keys` bounds memory at the price of mercy to an attacker with that many keys.
    """

    def __init__(self, per_second: float, burst: float, monotonic: Callable[[], float], keys: int = 10_000) -> None:
        """Take how fast a bucket fills, how much it holds, a clock in seconds, and how many buckets to remember."""
        self._per_second = per_second
        self._burst = burst
        self._monotonic = monotonic
        self._keys = keys
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key: str) -> bool:
        """Take a token and say whether there was one."""
        now = self._monotonic()
        level, then = self._buckets.get(key, (self._burst, now))
        level = min(self._burst, level + (now - then) * self._per_second)
        allowed = level >= 1
        self._put(key, level - 1 if allowed else level, now)
        return allowed

    def give_back(self, key: str) -> None:
        """Return a token that was taken for something harmless."""
        if key in self._buckets:
            level, then = self._buckets[key]
            self._put(key, min(self._burst, level + 1), then)

    def _put(self, key: str, level: float, at: float) -> None:
        self._buckets[key] = (level, at)
        self._buckets.move_to_end(key)
        if len(self._buckets) > self._keys:
            self._buckets.popitem(last=False)


class ReceiptGuard:
    """ASGI middleware that bounds a request's body in time and size.

    It is the second best, for where the lane cannot run: nothing above the protocol can bound the headers.
    """

    def __init__(self, app: ASGIApp, limits: HttpLimits) -> None:
        """Wrap an application."""
        self._app = app
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        receipt = _Receipt(receive, send, self._limits)
        await self._app(scope, receipt.receive, receipt.send)


class _Receipt:
    """One request's body on its way in. Over a limit, the application sees the client gone."""

    def __init__(self, receive: Receive, send: Send, limits: HttpLimits) -> None:
        self._receive, self._send = receive, send
        self._deadline = asyncio.get_running_loop().time() + limits.body_s
        self._room = limits.max_body
        self._whole = self._started = self._refused = False

    async def send(self, message: Message) -> None:
        """Pass a message on, unless the answer is out already."""
        if not self._refused:
            self._started = True
            await self._send(message)

    async def receive(self) -> Message:
        """Return the next piece of the body, in time and within the size."""
        if self._whole:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError:
            return await self._refuse(408)
        self._room -= len(message.get("body", b""))
        self._whole = not message.get("more_body", False)
        return message if self._room >= 0 else await self._refuse(413)

    async def _refuse(self, status: int) -> Message:
        """Answer in the application's place, and tell it that there is nobody left."""
        if not self._started and not self._refused:
            phrase = HTTPStatus(status).phrase.lower().encode()
            await send_plain(self._send, status, phrase + b"\n", ((b"connection", b"close"),))
        self._refused = self._whole = True
        return {"type": "http.disconnect"}


async def send_plain(send: Send, status: int, body: bytes, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
    """Send a whole plain-text response."""
    start: MutableMapping[str, Any] = {
        "type": "http.response.start",
        "status": status,
        "headers": [
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", b"%d" % len(body)),
            *headers,
        ],
    }
    await send(start)
    await send({"type": "http.response.body", "body": body})
