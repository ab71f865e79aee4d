"""Fetch push URLs: a keep-alive HTTP/1.1 client for answers of which only the status line and the length matter.

It asks by GET, follows no redirect, knows no proxy, decompresses nothing and keeps no byte of a body. Every step has a
deadline and every size a limit, for the receivers belong to strangers.
"""

import asyncio
import os
import re
import socket
import ssl
from collections import deque
from typing import Final, cast

import httptools
import msgspec

from aldis.push.guard import EgressDenied, EgressGuard, SockAddr
from aldis.push.request import InvalidUrl, PushUrl, parse_url, stem

_HEAD_END: Final = b"\r\n\r\n"
_FRAMED: Final = re.compile(rb"\r\n(content-length|transfer-encoding)[ \t]*:", re.IGNORECASE)
_MAX_REASON: Final = 80
_MAX_ADDRESSES: Final = 4
_MAX_ROUTES: Final = 4_096
_FAILURE_FRESH_S: Final = 1.0


class PushFailed(Exception):
    """No answer came of a request; the message says why and names no URL."""


class _Stale(Exception):
    """The peer closed a kept connection before the first byte of an answer."""


class Answer(msgspec.Struct, frozen=True, gc=False):
    """What a receiver said."""

    status: int
    body_len: int
    """Bytes of body, up to the limit and what came with it."""
    reason: str
    """The words of the status line, printable ASCII, at most 80 characters."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How long to wait, in seconds, and how much to take."""

    total_s: float = 20.0
    """The whole exchange, from the call to the last byte."""
    dns_s: float = 5.0
    names_s: float = 5.0
    """How long the addresses found for a name serve further connections."""
    connect_s: float = 5.0
    """For each address tried."""
    tls_s: float = 5.0
    idle_s: float = 30.0
    """How long an unused connection is kept."""
    max_age_s: float = 300.0
    """After this a connection is not kept, so that a moved name is noticed."""
    per_host: int = 64
    """Connections to one scheme, host and port."""
    connections: int = 512
    """Connections in all."""
    head_bytes: int = 32_768
    """Status line and headers, those of interim answers included."""
    body_bytes: int = 65_536
    """A longer body ends the connection; the answer counts."""


class _Pool:
    """The connections to one scheme, host and port."""

    __slots__ = ("addresses", "failure", "fresh_until", "idle", "lookup", "size", "url", "waiters")

    def __init__(self, url: PushUrl) -> None:
        self.url = url
        self.idle: list[_Connection] = []
        self.size = 0
        self.waiters: deque[asyncio.Future[None]] = deque()
        self.lookup = asyncio.Lock()
        self.addresses: list[tuple[int, SockAddr]] = []
        self.failure = ""
        self.fresh_until = 0.0


class _Route:
    """A URL made ready: its pool, and the request's bytes around the query."""

    __slots__ = ("bare", "pool", "start", "tail")

    def __init__(self, url: PushUrl, pool: _Pool) -> None:
        authorization = f"Authorization: {url.authorization}\r\n" if url.authorization else ""
        self.pool = pool
        self.bare = f"GET {url.resource}"
        self.start = f"GET {stem(url.resource)}"
        self.tail = f" HTTP/1.1\r\nHost: {url.authority}\r\nUser-Agent: Aldis\r\nAccept: */*\r\n{authorization}\r\n"

    def request(self, query: str) -> bytes:
        """Return the whole request. Raises PushFailed for a query that is not encoded."""
        if not query:
            return f"{self.bare}{self.tail}".encode("ascii")
        if not query.isascii() or not query.isprintable() or " " in query:
            raise PushFailed("the query is not encoded")
        return f"{self.start}{query}{self.tail}".encode("ascii")


class PushClient:
    """Fetches URLs over kept connections. Make it on the running event loop, and close it there."""

    def __init__(self, guard: EgressGuard, limits: Limits | None = None, tls: ssl.SSLContext | None = None) -> None:
        """Take what may be dialled, how far to go, and how to verify (by default the system's authorities)."""
        self.resent = 0
        """Requests sent a second time because a kept connection had died."""
        self._limits = limits or Limits()
        self._guard = guard
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._routes: dict[str, _Route] = {}
        self._pools: dict[tuple[bool, str, int], _Pool] = {}
        self._room: deque[asyncio.Future[None]] = deque()
        self._connections: set[_Connection] = set()
        self._dialling = 0
        self._busy: set[_Connection] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._reaper: asyncio.TimerHandle | None = None
        self._closed = False

    @property
    def open_connections(self) -> int:
        """How many connections are open or being made."""
        return len(self._connections) + self._dialling

    async def get(self, url: str, query: str) -> Answer:
        """Send one GET and return the final answer, whatever its status.

        When a kept connection turns out to be dead before the first byte of an answer, the request is sent once more on
        a new one: a receiver may then see it twice.

        Args:
            url: http or https; may carry userinfo and a query of its own.
            query: Form-encoded, without the question mark; may be empty.

        Raises:
            PushFailed: The URL is unusable, its address denied, or no whole answer came in time.
        """
        route = self._routes.get(url) or self._route(url)
        request = route.request(query)
        deadline = self._loop.time() + self._limits.total_s
        pool = route.pool
        connection = pool.idle.pop() if pool.idle else await self._acquire(pool, deadline, fresh=False)
        try:
            return await self._exchange(connection, request, deadline)
        except _Stale:
            self.resent += 1
        connection = await self._acquire(pool, deadline, fresh=True)
        return await self._exchange(connection, request, deadline)

    async def aclose(self) -> None:
        """Cut every connection and wait until all are gone. Requests under way fail."""
        self._closed = True
        for timer in (self._timer, self._reaper):
            if timer is not None:
                timer.cancel()
        gone = [connection.gone for connection in self._connections]
        for connection in list(self._connections):
            connection.cut("the server is stopping")
        if gone:
            await asyncio.wait(gone)
        await asyncio.sleep(0)  # what was cut just before closes in the loop's next round

    def _route(self, url: str) -> _Route:
        try:
            parsed = parse_url(url)
        except InvalidUrl as invalid:
            raise PushFailed(f"unusable URL: {invalid}") from None
        if len(self._routes) >= _MAX_ROUTES:
            self._routes.clear()
            self._pools = {key: pool for key, pool in self._pools.items() if pool.size or pool.waiters}
        key = (parsed.tls, parsed.host, parsed.port)
        pool = self._pools.get(key)
        if pool is None:
            pool = self._pools[key] = _Pool(parsed)
        route = self._routes[url] = _Route(parsed, pool)
        return route

    async def _exchange(self, connection: "_Connection", request: bytes, deadline: float) -> Answer:
        self._busy.add(connection)
        if self._timer is None or deadline < self._timer_at:
            self._set_timer(deadline)
        waiter = connection.ask(request, deadline)
        try:
            return await waiter
        except asyncio.CancelledError:
            connection.abandon(waiter)
            raise

    def _set_timer(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = self._loop.call_at(at, self._expire)

    def _expire(self) -> None:
        """Cut every connection whose deadline has passed, and wake up again for the next."""
        self._timer = None
        now = self._loop.time()
        for connection in [c for c in self._busy if c.deadline <= now]:
            connection.cut(f"no answer within {self._limits.total_s:g} s")
        if self._busy:
            self._set_timer(min(c.deadline for c in self._busy))

    async def _acquire(self, pool: _Pool, deadline: float, *, fresh: bool) -> "_Connection":
        """Return a connection of the pool: an idle one unless a fresh one is asked for, or a new one when it may be."""
        try:
            async with asyncio.timeout_at(deadline):
                while True:
                    if self._closed:
                        raise PushFailed("the server is stopping")
                    if pool.idle and not fresh:
                        return pool.idle.pop()
                    if self._make_room(pool):
                        return await self._connect(pool)
                    await self._wait(pool.waiters if pool.size else self._room)
        except TimeoutError:
            raise PushFailed(f"no connection within {self._limits.total_s:g} s") from None

    def _make_room(self, pool: _Pool) -> bool:
        """Tell whether one more connection may be made, giving up the idle one that stands in the way."""
        if pool.size >= self._limits.per_host:
            return self._give_up(pool)
        if self.open_connections < self._limits.connections:
            return True
        idle = [p for p in self._pools.values() if p.idle]
        return bool(idle) and self._give_up(min(idle, key=lambda p: p.idle[0].idle_since))

    def _give_up(self, pool: _Pool) -> bool:
        if not pool.idle:
            return False
        pool.idle[0].cut("not needed")
        return True

    async def _wait(self, line: "deque[asyncio.Future[None]]") -> None:
        """Wait in a line until something changed; a wake-up that comes too late is passed on."""
        waiter = self._loop.create_future()
        line.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled():
                _wake(line)
            elif waiter in line:
                line.remove(waiter)
            raise

    async def _connect(self, pool: _Pool) -> "_Connection":
        pool.size += 1
        self._dialling += 1
        try:
            connection = await self._dial(pool)
        except BaseException:
            self._dialling -= 1
            self._vacate(pool)
            raise
        self._dialling -= 1
        self._connections.add(connection)
        if self._closed or connection.gone.done():
            connection.cut("closed without an answer")
        return connection

    async def _dial(self, pool: _Pool) -> "_Connection":
        failure = "no address"
        for family, address in (await self._addresses(pool))[:_MAX_ADDRESSES]:
            try:
                async with asyncio.timeout(self._limits.connect_s):
                    sock = await self._connect_socket(family, address)
            except TimeoutError:
                failure = f"not connected within {self._limits.connect_s:g} s"
            except OSError as error:
                failure = _words(error)
            else:
                return await self._start(pool, sock)
        raise PushFailed(failure)

    async def _addresses(self, pool: _Pool) -> list[tuple[int, SockAddr]]:
        """Look the pool's host up: one look-up at a time, its result shared by whoever waited for it."""
        async with pool.lookup:
            if self._loop.time() >= pool.fresh_until:
                pool.failure = ""
                try:
                    async with asyncio.timeout(self._limits.dns_s):
                        pool.addresses = await self._guard.resolve(pool.url.host, pool.url.port)
                except EgressDenied as denied:
                    pool.failure = f"address not allowed: {denied.reason}"
                except TimeoutError:
                    pool.failure = f"host not looked up within {self._limits.dns_s:g} s"
                except (OSError, UnicodeError) as error:
                    pool.failure = f"host not found: {_words(error)}"
                pool.fresh_until = self._loop.time() + (_FAILURE_FRESH_S if pool.failure else self._limits.names_s)
        if pool.failure:
            raise PushFailed(pool.failure)
        return pool.addresses

    async def _connect_socket(self, family: int, address: SockAddr) -> socket.socket:
        """Dial exactly the socket address that passed the guard."""
        sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            sock.setblocking(False)
            await self._loop.sock_connect(sock, address)
        except BaseException:
            sock.close()
            raise
        return sock

    async def _start(self, pool: _Pool, sock: socket.socket) -> "_Connection":
        connection = _Connection(self, pool, self._limits, self._loop)
        tls = self._context() if pool.url.tls else None
        name = pool.url.host.rstrip(".") if pool.url.tls else None
        try:
            async with asyncio.timeout(self._limits.tls_s):
                await self._loop.create_connection(lambda: connection, sock=sock, ssl=tls, server_hostname=name)
        except TimeoutError:
            raise PushFailed(f"TLS not agreed within {self._limits.tls_s:g} s") from None
        except (OSError, ssl.CertificateError) as error:
            raise PushFailed(f"TLS: {_words(error)}") from None
        except BaseException:
            connection.cut("cancelled")
            raise
        return connection

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context()
            self._tls.set_alpn_protocols(["http/1.1"])
        return self._tls

    def answered(self, connection: "_Connection", keep: bool) -> None:
        """Take a connection back after an answer."""
        self._busy.discard(connection)
        now = connection.idle_since = self._loop.time()
        if not keep or now - connection.opened_at > self._limits.max_age_s:
            connection.cut("not kept")
            return
        connection.pool.idle.append(connection)
        self._announce(connection.pool)
        if self._reaper is None:
            self._reaper = self._loop.call_later(self._limits.idle_s, self._reap)

    def lost(self, connection: "_Connection") -> None:
        """Forget a connection that is gone, or on its way out."""
        self._busy.discard(connection)
        if connection not in self._connections:
            return
        self._connections.remove(connection)
        if connection in connection.pool.idle:
            connection.pool.idle.remove(connection)
        self._vacate(connection.pool)

    def _vacate(self, pool: _Pool) -> None:
        pool.size -= 1
        self._announce(pool)
        if not pool.size:
            while pool.waiters:
                _wake(pool.waiters)

    def _announce(self, pool: _Pool) -> None:
        if pool.waiters:
            _wake(pool.waiters)
        elif self._room:
            _wake(self._room)

    def _reap(self) -> None:
        """Cut connections that nobody has used for long."""
        self._reaper = None
        since = self._loop.time() - self._limits.idle_s
        idle = [c for pool in self._pools.values() for c in pool.idle]
        for connection in [c for c in idle if c.idle_since <= since]:
            connection.cut("idle")
        kept = [c.idle_since for c in idle if c.idle_since > since]
        if kept:
            self._reaper = self._loop.call_at(min(kept) + self._limits.idle_s, self._reap)


class _Connection(asyncio.Protocol):
    """One connection: a request out, an answer in, never two at once."""

    __slots__ = (
        "_answered",
        "_body_len",
        "_client",
        "_head",
        "_head_at",
        "_head_done",
        "_keep",
        "_limits",
        "_loop",
        "_parser",
        "_reason",
        "_status",
        "_transport",
        "_used",
        "_waiter",
        "deadline",
        "gone",
        "idle_since",
        "opened_at",
        "pool",
    )

    def __init__(self, client: PushClient, pool: _Pool, limits: Limits, loop: asyncio.AbstractEventLoop) -> None:
        self.pool = pool
        self.deadline = self.idle_since = 0.0
        self.opened_at = loop.time()
        self.gone: asyncio.Future[None] = loop.create_future()
        self._client = client
        self._limits = limits
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._waiter: asyncio.Future[Answer] | None = None
        self._used = False
        self._begin()

    def _begin(self) -> None:
        self._head = b""
        self._head_at = 0
        self._head_done = self._answered = self._keep = False
        self._status = self._body_len = 0
        self._reason = b""

    def ask(self, request: bytes, deadline: float) -> "asyncio.Future[Answer]":
        """Send a request; the future ends with an Answer, PushFailed or _Stale."""
        self._begin()
        self.deadline = deadline
        self._waiter = waiter = self._loop.create_future()
        if self._transport is None:
            self._judge_end(None)
        else:
            self._transport.write(request)
        return waiter

    def abandon(self, waiter: "asyncio.Future[Answer]") -> None:
        """Close at once if this request is still under way: its answer must not meet another request."""
        if self._waiter is waiter:
            self.cut("cancelled")

    def cut(self, why: str) -> None:
        """Close at once; a request under way fails with the reason."""
        self._client.lost(self)
        if self._transport is not None:
            self._transport.abort()
        self._fail(PushFailed(why))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Feed the parser and see how far the answer is."""
        if self._waiter is None:
            self.cut("an answer that nobody asked for")
            return
        if not self._head_done:
            self._head = self._head + data if self._head else data
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._keep = False
            if not self._answered:
                self.cut("HTTP 101" if self._status == 101 else "not an HTTP/1 answer")
                return
        if self._answered or self._body_len > self._limits.body_bytes:
            self._succeed()
        elif not self._head_done and len(self._head) > self._limits.head_bytes:
            self.cut("the answer's headers are too long")

    def connection_lost(self, exc: Exception | None) -> None:
        """Judge what came before the end."""
        self._transport = None
        self._client.lost(self)
        self.gone.set_result(None)
        if self._waiter is not None:
            self._judge_end(exc)

    def _judge_end(self, exc: Exception | None) -> None:
        if exc is None and self._head_done and not self._is_framed():
            self._succeed()
        elif self._head:
            self._fail(PushFailed("closed within the answer"))
        else:
            self._fail(_Stale() if self._used else PushFailed("closed without an answer"))

    def _is_framed(self) -> bool:
        """Tell whether the head announces where the body ends, so that a close before is a loss."""
        return _FRAMED.search(self._head, self._head_at, self._head.find(_HEAD_END, self._head_at)) is not None

    def _succeed(self) -> None:
        waiter, self._waiter = self._waiter, None
        self._used = True
        if waiter is None or waiter.done():
            self.cut("cancelled")
            return
        waiter.set_result(Answer(self._status, self._body_len, _printable(self._reason)))
        self._client.answered(self, self._keep)

    def _fail(self, error: Exception) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_exception(error)

    def on_message_begin(self) -> None:
        """Refuse a second answer to one request."""
        if self._answered:
            raise ValueError("a second answer")
        self._reason = b""

    def on_status(self, reason: bytes) -> None:
        """Collect the status line's words."""
        self._reason += reason

    def on_headers_complete(self) -> None:
        """Note the status; an interim one does not end the head."""
        self._status = self._parser.get_status_code()
        self._head_done = self._status >= 200

    def on_body(self, body: bytes) -> None:
        """Count."""
        self._body_len += len(body)

    def on_message_complete(self) -> None:
        """End the answer, or go on to the next after an interim one."""
        if self._head_done:
            self._answered = True
            self._keep = self._parser.should_keep_alive()
        else:
            self._head_at = self._head.find(_HEAD_END, self._head_at) + len(_HEAD_END)


def _wake(line: "deque[asyncio.Future[None]]") -> None:
    while line:
        waiter = line.popleft()
        if not waiter.done():
            waiter.set_result(None)
            return


def _printable(reason: bytes) -> str:
    if reason == b"OK":
        return "OK"
    text = reason[:_MAX_REASON].decode("ascii", "replace").replace("\ufffd", "?")
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def _words(error: Exception) -> str:
    """Return what went wrong without the address in it, as some loops put it there."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError):
        return error.reason or "handshake failed"
    if isinstance(error, socket.gaierror):
        return str(error.args[-1])
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return type(error).__name__
