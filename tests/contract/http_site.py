"""A small site for the tests of the HTTP server, and ways to talk to it."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator

from starlette.requests import Request as PageRequest
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from uvicorn.config import Config
from uvicorn.server import ServerState

from aldis.web import app as web_app
from aldis.web.app import WebApp
from aldis.web.lane import LaneProtocol
from aldis.web.limits import HttpLimits
from aldis.web.request import PLAIN, Answer, Request
from aldis.web.server import HttpServer, bind_socket
from aldis.web.turn import Lane

PATIENCE = 10
DATE = re.compile(rb"date: [^\r]+\r\n")


class Site:
    """Handlers that show what they were given, now or later, and a page that only ASGI serves."""

    def __init__(self) -> None:
        self.calls: list[bytes] = []
        self.gate = asyncio.Event()

    async def now(self, request: Request) -> Answer:
        self.calls.append(request.query)
        kind = request.find_header(b"content-type") or b"-"
        shown = b"|".join([request.method, request.path.encode(), request.query, kind, request.body])
        return Answer(shown + b"\n", PLAIN, 201 if request.query == b"201" else 200)

    async def later(self, request: Request) -> Answer:
        await asyncio.sleep(0)
        await asyncio.get_running_loop().run_in_executor(None, int)
        return await self.now(request)

    async def held(self, request: Request) -> Answer:
        self.calls.append(b"held")
        await self.gate.wait()
        return Answer(b"let go\n", PLAIN)

    async def big(self, request: Request) -> Answer:
        self.calls.append(b"big")
        return Answer(b"x" * 1_000_000, PLAIN)

    async def broken(self, request: Request) -> Answer:
        raise ValueError("canary-" + request.query.decode())

    async def cold(self, request: PageRequest) -> PlainTextResponse:
        self.calls.append(b"cold")
        return PlainTextResponse(b"cold %s\n" % await request.body())

    async def cold_broken(self, request: PageRequest) -> PlainTextResponse:
        raise ValueError("canary-" + str(request.url))

    async def cold_hasty(self, request: PageRequest) -> PlainTextResponse:
        return PlainTextResponse("hasty\n")

    async def cold_waits(self, request: PageRequest) -> PlainTextResponse:
        self.calls.append(b"waits")
        while (await request.receive())["type"] != "http.disconnect":
            pass
        self.calls.append(b"left")
        return PlainTextResponse("nobody reads this\n")

    def problems(self) -> list[str]:
        return []

    def build(self) -> WebApp:
        handlers = {
            "/now": self.now,
            "/later": self.later,
            "/held": self.held,
            "/big": self.big,
            "/broken": self.broken,
        }
        pages = [
            Route("/cold", self.cold, methods=["GET", "POST"]),
            Route("/cold/broken", self.cold_broken),
            Route("/cold/waits", self.cold_waits),
            Route("/cold/hasty", self.cold_hasty, methods=["POST"]),
        ]
        return web_app.build(handlers, self, pages=pages)


@contextlib.asynccontextmanager
async def serving(
    site: Site, *, hot: bool = True, use_lane: bool = True, **limits: float
) -> AsyncIterator[tuple[HttpServer, int]]:
    web = site.build()
    bound = bind_socket("127.0.0.1", 0)
    port = bound.getsockname()[1]
    server = HttpServer(
        web.app, [bound], hot=web.hot if hot else {}, use_lane=use_lane, limits=HttpLimits(**{"sweep_s": 0.02} | limits)
    )
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(server.run())
        async with asyncio.timeout(PATIENCE):
            await server.started.wait()
        try:
            yield server, port
        finally:
            running.cancel()


async def talk(port: int, *pieces: bytes) -> bytes:
    """Send pieces and return all that comes back until the server closes."""
    async with asyncio.timeout(PATIENCE):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            return await reader.read()
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


def undated(answers: bytes) -> bytes:
    return DATE.sub(b"", answers)


def get(target: str, *headers: str, method: str = "GET", version: str = "1.1") -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/{version}", "Host: a", *headers, "", ""]).encode()


def post(target: str, body: bytes, *headers: str) -> bytes:
    return get(target, f"Content-Length: {len(body)}", *headers, method="POST") + body


def chunked(target: str, *chunks: bytes, extra: bytes = b"") -> bytes:
    marked = b"".join(b"%x%s\r\n%s\r\n" % (len(chunk), extra, chunk) for chunk in chunks)
    return get(target, "Transfer-Encoding: chunked", method="POST") + marked + b"0\r\n\r\n"


LAST = get("/now?last", "Connection: close")
FORM = "Content-Type: application/x-www-form-urlencoded"


class Wire(asyncio.Transport):
    """A transport in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = bytearray()
        self.closing = self.half_closed = self.paused = self.aborted = False
        self.unread = 0

    def write(self, data: bytes) -> None:
        self.sent += data

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = self.aborted = True

    def write_eof(self) -> None:
        self.half_closed = True

    def can_write_eof(self) -> bool:
        return True

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def get_write_buffer_size(self) -> int:
        return self.unread


def connect(site: Site, **limits: float) -> tuple[LaneProtocol, Wire]:
    web = site.build()
    config = Config(web.app, lifespan="off", ws="none", interface="asgi3", log_config=None, access_log=False)
    protocol = LaneProtocol(Lane(web.hot, HttpLimits(**limits)), config, ServerState(), {})
    wire = Wire()
    protocol.connection_made(wire)
    return protocol, wire
