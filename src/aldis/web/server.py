"""Run uvicorn inside our own task group, on sockets bound beforehand, with the lane where it works."""

import asyncio
import contextlib
import inspect
import socket
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, cast

import structlog
import uvicorn
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from aldis.web.lane import LaneProtocol
from aldis.web.limits import HttpLimits, ReceiptGuard, send_plain
from aldis.web.metrics import Sample
from aldis.web.request import PLAIN, Answer, Handler, Request, where
from aldis.web.turn import Lane

_log = structlog.get_logger(__name__)


def bind_socket(host: str, port: int) -> socket.socket:
    """Return a TCP socket bound to an address, not yet listening; port 0 takes a free one.

    Raises:
        OSError: The address is taken or not ours.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    bound.setblocking(False)
    return bound


class HttpServer:
    """An HTTP server that runs as a task of the caller's and touches no signals."""

    def __init__(
        self,
        app: ASGIApp,
        sockets: Sequence[socket.socket],
        *,
        hot: Mapping[bytes, Handler] | None = None,
        limits: HttpLimits | None = None,
        use_lane: bool = True,
        certificate: tuple[Path, Path] | None = None,
    ) -> None:
        """Take an application and the sockets to serve it on, which the server closes at its end.

        Args:
            app: Serves every path, the hot ones too.
            sockets: Bound ones.
            hot: Handlers by exact path, for the lane; the application must answer these paths alike.
            limits: Bounds on clients.
            use_lane: False serves everything through ASGI, with weaker bounds.
            certificate: PEM files of the certificate chain and its key, for HTTPS.
        """
        self.started = asyncio.Event()
        """Set when requests are served."""
        self.lane = Lane(hot or {}, limits or HttpLimits())
        self.lane_problem: str | None = None
        """Why the lane is not used; None while it is."""
        self._app = app
        self._sockets = list(sockets)
        self._use_lane = use_lane
        self._certificate = certificate
        self._server: _Server | None = None
        self._ended = asyncio.Event()

    @property
    def connections(self) -> int:
        """Connections open now."""
        return len(self._server.server_state.connections) if self._server else 0

    def samples(self) -> Iterator[Sample]:
        """Yield the counts of connections, requests and refusals, for metrics."""
        served = self._server.server_state.total_requests if self._server else 0
        yield Sample("aldis_http_connections", "gauge", "Connections open.", {}, self.connections)
        yield Sample("aldis_http_requests_total", "counter", "Requests answered.", {}, served)
        for status, count in list(self.lane.cut.items()):
            words = "Requests refused and connections cut for going over a limit, by HTTP status; 0: none was sent."
            yield Sample("aldis_http_refusals_total", "counter", words, {"status": str(status)}, count)

    async def run(self) -> None:
        """Serve until `stop` or cancellation; then nothing is left open."""
        self.lane_problem = await find_lane_problem() if self._use_lane else "turned off"
        if self.lane_problem is not None:
            _log.warning("web.lane_unused", reason=self.lane_problem)
        self._server = server = _Server(self._configure(), self.started)
        try:
            async with asyncio.TaskGroup() as tasks:
                sweeper = tasks.create_task(self._sweep(server))
                await server.serve(self._sockets)
                sweeper.cancel()
        finally:
            self.stop_accepting()
            for connection in list(server.server_state.connections):
                cast("Any", connection).transport.abort()
            self._ended.set()

    def stop_accepting(self) -> None:
        """Take no new connections; those open are served on."""
        for listener in getattr(self._server, "servers", []):
            listener.close()
        for bound in self._sockets:
            bound.close()

    async def stop(self, budget_s: float) -> None:
        """Finish the requests that have begun, within a budget in seconds, and end `run`."""
        if self._server is None:
            return
        self._server.config.timeout_graceful_shutdown = cast("int", budget_s)
        self._server.should_exit = True
        await self._ended.wait()

    def _configure(self) -> uvicorn.Config:
        """Return uvicorn's settings; no logger of its own ever prints a URL, which may hold a password."""
        limits = self.lane.limits
        lane = self.lane_problem is None
        protocol: Any = partial(LaneProtocol, self.lane) if lane else HttpToolsProtocol
        config = uvicorn.Config(
            cast("Any", Quiet(self._app if lane else ReceiptGuard(self._app, limits))),
            http=protocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            log_level="critical",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=None if lane else limits.max_connections,
            timeout_keep_alive=max(1, round(limits.keep_alive_s)),
            ssl_certfile=self._certificate and self._certificate[0],
            ssl_keyfile=self._certificate and self._certificate[1],
        )
        config.load()
        return config

    async def _sweep(self, server: "_Server") -> None:
        """Look at the deadlines of all connections, once per sweep."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self.lane.limits.sweep_s)
            now = loop.time()
            for connection in list(server.server_state.connections):
                if isinstance(connection, LaneProtocol):
                    connection.check_deadlines(now)


class _Server(uvicorn.Server):
    """uvicorn's server without its signal handlers, telling when it is up."""

    def __init__(self, config: uvicorn.Config, up: asyncio.Event) -> None:
        super().__init__(config)
        self._up = up

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the caller."""
        yield

    async def main_loop(self) -> None:
        """Serve until told to stop."""
        await self.on_tick(0)  # sets the Date header before the first answer
        self._up.set()
        await super().main_loop()


class Quiet:
    """ASGI middleware that ends an application's faults: logged without their words, answered with a bare 500."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an application."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        started = False

        async def watched_send(message: Any) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, watched_send)
        except ClientDisconnect:
            pass
        except Exception as error:  # noqa: BLE001 - uvicorn would log the words
            _log.error("web.application_failed", error=where(error))
            if not started:
                await send_plain(send, 500, b"internal server error\n")


# --------------------------------------------------------------------------------------------------- the self-check

_NEEDED: Final[dict[type, tuple[str, ...]]] = {
    HttpToolsProtocol: (
        "connection_made",
        "connection_lost",
        "eof_received",
        "data_received",
        "on_message_begin",
        "on_url",
        "on_header",
        "on_headers_complete",
        "on_body",
        "on_message_complete",
        "on_response_complete",
        "_start_asgi_task",
        "pause_writing",
        "resume_writing",
        "shutdown",
    ),
    FlowControl: ("pause_reading", "resume_reading", "pause_writing", "resume_writing"),
    RequestResponseCycle: ("run_asgi", "send", "receive"),
}
_SIGNATURE: Final = ["config", "server_state", "app_state", "_loop"]


async def find_lane_problem() -> str | None:
    """Try the lane on the installed uvicorn, without a socket, and say what is wrong; None where it works."""
    for owner, names in _NEEDED.items():
        missing = [name for name in names if not hasattr(owner, name)]
        if missing:
            return f"uvicorn {uvicorn.__version__} has no {owner.__name__}.{missing[0]}"
    if list(inspect.signature(HttpToolsProtocol).parameters) != _SIGNATURE:
        return f"uvicorn {uvicorn.__version__} makes protocols in another way"
    try:
        return await _try_lane()
    except Exception as error:  # noqa: BLE001 - whatever breaks here would break in service
        return f"trying it failed: {where(error)}"


async def _try_lane() -> str | None:
    """Serve a hot and a cold request from memory, pipelined, and compare what comes out."""

    async def hot(request: Request) -> Answer:
        await asyncio.sleep(0)
        return Answer(request.query + request.body, PLAIN)

    async def cold(scope: Scope, receive: Receive, send: Send) -> None:
        message = await receive()
        await send_plain(send, 200, scope["query_string"] + message["body"], PLAIN[1:])

    lane = Lane({b"/hot": hot}, HttpLimits())
    config = uvicorn.Config(
        cast("Any", cold),
        lifespan="off",
        ws="none",
        interface="asgi3",
        log_config=None,
        log_level="critical",
        access_log=False,
    )
    protocol = LaneProtocol(lane, config, ServerState(), {})
    transport = _Memory(b"\r\n\r\nqb", 3)
    protocol.connection_made(transport)
    request = b"POST /%s?q HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nb"
    protocol.data_received(request % b"hot" + request % b"cold" + request % b"hot")
    async with asyncio.timeout(5):
        await transport.enough.wait()
    protocol.connection_lost(None)
    expected = lane.encode(Answer(b"qb", PLAIN), [], True)
    got = bytes(transport.written)
    cold_one = got.removeprefix(expected).removesuffix(expected)
    same = sorted(cold_one.split(b"\r\n")) == sorted(expected.split(b"\r\n"))
    return None if len(got) == 3 * len(expected) and same else "its answers differ from uvicorn's"


class _Memory(asyncio.Transport):
    """A transport that keeps what is written, and tells when something was in it often enough."""

    def __init__(self, awaited: bytes, times: int) -> None:
        super().__init__()
        self.written = bytearray()
        self.enough = asyncio.Event()
        self._awaited, self._times = awaited, times
        self._closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data
        if self.written.count(self._awaited) >= self._times:
            self.enough.set()

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        self._closing = True

    def pause_reading(self) -> None:
        """Nothing comes by itself."""

    def resume_reading(self) -> None:
        """Nothing comes by itself."""

    def get_write_buffer_size(self) -> int:
        return 0

    def can_write_eof(self) -> bool:
        return True
