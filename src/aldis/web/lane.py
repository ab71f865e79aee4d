"""A fast lane in uvicorn's own HTTP protocol, and the limits that uvicorn lacks.

Hot paths are answered without an ASGI scope, a cycle of messages or a task; all others go on to ASGI. Requests of one
connection are answered one after the other, in order. `HttpToolsProtocol` is importable but no promised API: `server`
tries this file out at start, and falls back to plain ASGI.
"""

import asyncio
import math
from collections.abc import Coroutine, Mapping
from enum import Enum
from http import HTTPStatus
from typing import Any, Final, cast

import httptools
import structlog
from uvicorn._types import ASGI3Application
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from aldis.web.limits import HttpLimits
from aldis.web.request import PLAIN, Answer, Handler, Headers, Request, where

_log = structlog.get_logger(__name__)
_LOW_WATER: Final = 16 * 1024
_CHUNK_MARKS: Final = 8
"""Bytes on the wire for a byte of body, at the worst."""


class Lane:
    """What all connections of a server share: hot paths, limits, counts."""

    def __init__(self, hot: Mapping[bytes, Handler], limits: HttpLimits) -> None:
        """Take the handlers by exact path, for GET and POST."""
        self.hot = hot
        self.limits = limits
        self.buffered = 0
        """Bytes of bodies in memory."""
        self.cut: dict[int, int] = {}
        """Requests refused or connections cut, by HTTP status; 0 where no answer was possible."""
        self._common: list[tuple[bytes, bytes]] = []
        self._heads: dict[tuple[int, Headers], bytes] = {}

    def encode(self, answer: Answer, common: list[tuple[bytes, bytes]], keep_alive: bool) -> bytes:
        """Return an answer's bytes, as uvicorn would send them.

        Args:
            answer: What to send.
            common: Headers of every answer; a new list whenever they change.
            keep_alive: Whether the connection stays open.
        """
        if common is not self._common:
            self._common = common
            self._heads.clear()
        key = (answer.status, answer.headers)
        head = self._heads.get(key)
        if head is None:
            head = self._heads[key] = _encode_head(answer, common)
        end = b"\r\n\r\n" if keep_alive else b"\r\nconnection: close\r\n\r\n"
        return b"%s%d%s%s" % (head, len(answer.body), end, answer.body)

    def count_cut(self, status: int) -> None:
        """Count a refusal."""
        self.cut[status] = self.cut.get(status, 0) + 1


def _encode_head(answer: Answer, common: list[tuple[bytes, bytes]]) -> bytes:
    """Return status line and headers up to the number of content-length."""
    status = HTTPStatus(answer.status)
    lines = [b"HTTP/1.1 %d %s" % (status, status.phrase.encode())]
    lines += [b"%s: %s" % header for header in (*common, *answer.headers)]
    return b"\r\n".join([*lines, b"content-length: "])


def refusal(status: int) -> Answer:
    """Return the answer to a request that HTTP itself does not let through."""
    return Answer(HTTPStatus(status).phrase.lower().encode() + b"\n", PLAIN, status)


def failure() -> Answer:
    """Return the answer where a handler broke."""
    return refusal(500)


class _NoEvent:
    """Stands where uvicorn looks for an event to wake an application with."""

    @staticmethod
    def set() -> None:
        """Do nothing."""


_NO_EVENT: Final = _NoEvent()


class Turn:
    """One hot request from its headers to its answer.

    It has the attributes of uvicorn's `RequestResponseCycle` that the protocol looks at, and takes its place there.
    """

    __slots__ = (
        "_body",
        "_coroutine",
        "_request",
        "_work",
        "disconnected",
        "expects",
        "keep_alive",
        "message_event",
        "more_body",
        "protocol",
        "response_complete",
        "response_started",
        "started",
    )

    def __init__(
        self, protocol: "LaneProtocol", work: Handler | Answer, request: Request, keep_alive: bool, expects: bool
    ) -> None:
        """Take the handler, or the answer where there is nothing to ask."""
        self.protocol = protocol
        self.keep_alive = keep_alive
        self.expects = expects
        self._body: bytes | bytearray = b""
        self.more_body = type(work) is not Answer
        self.started = self.response_started = self.response_complete = self.disconnected = False
        self.message_event = _NO_EVENT
        self._work = work
        self._request = request
        self._coroutine: Coroutine[Any, Any, Answer] | None = None

    def start(self) -> None:
        """Begin: it is this request's turn on the connection."""
        self.started = True
        if self.expects:
            self.protocol.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if not self.more_body:
            self.run()

    def add_body(self, piece: bytes) -> None:
        """Take in a piece of the body."""
        if not self._body:
            self._body = piece
            return
        if isinstance(self._body, bytes):
            self._body = bytearray(self._body)
        self._body += piece

    def complete_body(self) -> None:
        """Take note that the request is wholly there."""
        self.more_body = False
        if self.started:
            self.run()

    def run(self) -> None:
        """Call the handler; one that does not wait has answered on return."""
        work = self._work
        if isinstance(work, Answer):
            self._finish(work)
            return
        self._request.body = bytes(self._body)
        self._coroutine = work(self._request)
        self._step()

    def _step(self, waited: "asyncio.Future[Any] | None" = None) -> None:
        """Drive the handler to its next wait or its end, as a task would."""
        assert self._coroutine is not None
        try:
            awaited = self._coroutine.send(None)
        except StopIteration as stop:
            self._finish(stop.value)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - the one place where a handler's fault ends
            _log.error("web.handler_failed", error=where(error))
            self._finish(failure())
        else:
            if awaited is None:
                self.protocol.loop.call_soon(self._step)
            else:
                awaited._asyncio_future_blocking = False
                awaited.add_done_callback(self._step)

    def _finish(self, answer: Answer) -> None:
        """Write the answer and let the next one have its turn."""
        self.response_complete = True
        self._coroutine = None
        self.protocol.write_answer(answer, self.keep_alive)
        self.protocol.on_response_complete()


class _Phase(Enum):
    """What a connection is receiving."""

    REST = 0
    HEAD = 1
    BODY = 2
    LINGER = 3
    """Nothing any more; the client is left time to read why."""


class LaneProtocol(HttpToolsProtocol):
    """uvicorn's protocol with the fast lane, deadlines and bounds."""

    def __init__(
        self,
        lane: Lane,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        """Take what uvicorn passes, and before it the shared lane."""
        super().__init__(config, server_state, app_state, _loop)
        self.lane = lane
        self._limits = lane.limits
        self._client = ""
        self._now = 0.0
        self._phase = _Phase.HEAD
        self._deadline = math.inf
        self._chunk = self._head_bytes = self._wire_bytes = 0
        self._announced = self._body_bytes = self._held_bytes = 0
        self._active: Turn | RequestResponseCycle | None = None
        """The request that is being answered, or the last one that was."""
        self._deaf = False
        """True: whatever comes in is dropped."""
        self._refused = False
        self._in_turn = False
        self._unread_since: float | None = None
        self._unread = 0
        self._closing_since: float | None = None

    # ------------------------------------------------------------------------------------------ the connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock of a new connection; one too many is turned away."""
        super().connection_made(transport)
        self._client = self.client[0] if self.client else ""
        self._deadline = self.loop.time() + self._limits.header_s
        if len(self.connections) > self._limits.max_connections:
            self.refuse(503)

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of what waits."""
        self._deaf = True
        self.pipeline.clear()
        self._release_body()
        if self._active is not None:
            self._active.disconnected = True
            self._active.message_event.set()
        super().connection_lost(exc)

    def eof_received(self) -> bool:  # type: ignore[override]
        """Keep a half-closed connection until the pending answer is out, where the transport can."""
        pending = self.cycle is not None and not self.cycle.response_complete
        if not pending or self._phase is not _Phase.REST or not self.transport.can_write_eof():
            return False
        self._deaf = True
        self.cycle.keep_alive = False
        return True

    def data_received(self, data: bytes) -> None:
        """Parse what came in, within the bounds."""
        if self._deaf:
            return
        self._now = self.loop.time()
        self._chunk = len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._end_input()
        except httptools.HttpParserError as error:
            if isinstance(error, httptools.HttpParserCallbackError) and error.__context__ is not None:
                _log.error("web.protocol_failed", error=where(error.__context__))
            self.refuse(400)
        if self._phase is _Phase.HEAD:
            self._head_bytes += self._chunk
            if self._head_bytes > self._limits.max_head:
                self.refuse(431)
        elif self._phase is _Phase.BODY:
            self._wire_bytes += self._chunk
            if self._wire_bytes > self._limits.max_head + _CHUNK_MARKS * self._limits.max_body:
                self.refuse(413)

    def _end_input(self) -> None:
        """Take no more requests: the client asked for a protocol that is not spoken here."""
        self._deaf = True
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False
        else:
            self.transport.close()

    # ------------------------------------------------------------------------------------ the parser's callbacks

    def on_message_begin(self) -> None:
        """Note a request's first byte."""
        if self._deaf:
            return
        if self._phase is _Phase.REST:
            self._phase = _Phase.HEAD
            self._deadline = self._now + self._limits.header_s
        self._head_bytes = -self._chunk  # the piece that it begins in may hold much of the requests before
        self._wire_bytes = self._announced = self._body_bytes = 0
        self.url = b""
        self.headers = []
        self.expect_100_continue = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a header; trailers are dropped."""
        if self._phase is not _Phase.HEAD or self._deaf:
            return
        name = name.lower()
        if name in _WATCHED:
            self._note_header(name, value)
        self.headers.append((name, value))

    def _note_header(self, name: bytes, value: bytes) -> None:
        """Look at a header that says how the body comes."""
        if name == b"content-length":
            self._announced = int(value) if len(value) < 19 else self._limits.max_body + 1
        elif value.lower() == b"100-continue":
            self.expect_100_continue = True

    def on_headers_complete(self) -> None:
        """Send the request down the lane or on to ASGI."""
        if self._deaf:
            return
        if problem := self._find_problem():
            self.refuse(problem)
            return
        self._phase = _Phase.BODY
        self._deadline = self._now + self._limits.body_s
        if self.transport.is_closing():
            self._deaf = True
            return
        method = self.parser.get_method()
        path, _, query = self.url.partition(b"?")
        handler = self.lane.hot.get(path)
        if handler is None or method not in _HOT_METHODS or self._is_odd():
            self._pass_on()
            return
        request = Request(method, path.decode(), query, self.headers, b"", self._client)
        keep_alive = self.parser.get_http_version() != "1.0" and self.parser.should_keep_alive()
        self._queue(Turn(self, handler, request, keep_alive, self.expect_100_continue))

    def _find_problem(self) -> int:
        """Return the HTTP status of a request whose head is over a limit, or 0."""
        limits = self._limits
        if len(self.url) > limits.max_url:
            return 414
        if len(self.headers) > limits.max_headers:
            return 431
        if self._announced > limits.max_body:
            return 413
        return 503 if len(self.pipeline) >= limits.max_pipelined else 0

    def _is_odd(self) -> bool:
        """Say whether the request has something that only ASGI is to judge."""
        return self.parser.should_upgrade() or b"#" in self.url or not self.url.isascii()

    def _pass_on(self) -> None:
        """Let uvicorn have the request as if the lane had never been."""
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers.extend(headers)
        super().on_headers_complete()

    def _queue(self, turn: Turn) -> None:
        """Start a turn, or let it wait for those before it or for a client that does not read."""
        pending = self.cycle is not None and not self.cycle.response_complete
        self.cycle = cast("RequestResponseCycle", turn)
        if pending or self.flow.write_paused:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))
        else:
            self._active = turn
            turn.start()

    def _hot_turn(self) -> Turn | None:
        """Return the latest request if it is hot."""
        turn = cast("Any", self.cycle)
        return turn if isinstance(turn, Turn) else None

    def on_body(self, body: bytes) -> None:
        """Collect a piece of the body."""
        if self._deaf:
            return
        lane, size = self.lane, len(body)
        self._body_bytes += size
        self._held_bytes += size
        lane.buffered += size
        if self._body_bytes > self._limits.max_body:
            self.refuse(413)
        elif lane.buffered > self._limits.max_buffered:
            self.refuse(503)
        elif turn := self._hot_turn():
            turn.add_body(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Take note of a whole request."""
        if self._deaf:
            return
        self._phase = _Phase.REST
        self._deadline = math.inf
        if turn := self._hot_turn():
            turn.complete_body()
        elif self.cycle.response_complete:
            self._rest()
        else:
            super().on_message_complete()

    # -------------------------------------------------------------------------------------------------- answers

    def write_answer(self, answer: Answer, keep_alive: bool) -> None:
        """Write an answer, and end the connection where it is the last."""
        transport = self.transport
        if transport.is_closing():
            return
        transport.write(self.lane.encode(answer, self.server_state.default_headers, keep_alive))
        if not keep_alive:
            if self._refused:
                self._linger()
            else:
                transport.close()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        """Start what is next, hot or cold."""
        self._active = cycle
        if isinstance(turn := cast("Any", cycle), Turn):
            turn.start()
        else:
            super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """Give the next request its turn; called by hot and cold ones alike."""
        self.server_state.total_requests += 1
        self._release_body()
        self._take_turns()

    def _take_turns(self) -> None:
        """Start what waits, until one takes its time or the client does not read."""
        if self._in_turn:
            return
        self._in_turn = True
        while self.pipeline and not self.transport.is_closing() and not self.flow.write_paused:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
            if not cycle.response_complete:
                break
        self._in_turn = False
        if not self.pipeline and not self._deaf and not self.flow.write_paused and not self.transport.is_closing():
            self.flow.resume_reading()
            if self._phase is _Phase.REST and self.cycle.response_complete:
                self._rest()

    def _rest(self) -> None:
        """Wait for the next request."""
        self._deadline = self.loop.time() + self._limits.keep_alive_s

    def _release_body(self) -> None:
        """Give back the room that this connection's bodies took."""
        self.lane.buffered -= self._held_bytes
        self._held_bytes = 0

    def pause_writing(self) -> None:
        """Take in nothing more from a client that does not read."""
        super().pause_writing()
        self._unread_since = self.loop.time()
        self._unread = self.transport.get_write_buffer_size()
        if not self.transport.is_closing():
            self.flow.pause_reading()

    def resume_writing(self) -> None:
        """Go on where the client's not reading held things up."""
        super().resume_writing()
        self._unread_since = None
        if self._active is None or self._active.response_complete:
            self._take_turns()

    # ------------------------------------------------------------------------------------------------- refusals

    def refuse(self, status: int) -> None:
        """Answer with an HTTP error when it is its turn, then end the connection; no more input is looked at."""
        if self._deaf:
            return
        self._deaf = self._refused = True
        self.lane.count_cut(status)
        current, receiving = self.cycle, self._phase is _Phase.BODY
        last = Turn(self, refusal(status), Request(b"", ""), False, False)
        self.cycle = cast("RequestResponseCycle", last)
        if current is None or (current.response_complete and not receiving):
            last.start()
        elif current.response_complete:
            self._linger()
        elif receiving and not (self.pipeline and self.pipeline[0][0] is current):
            self._interrupt(current, last)
        else:
            if receiving:
                self.pipeline.popleft()
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))

    def _interrupt(self, current: RequestResponseCycle, last: Turn) -> None:
        """Take the turn of a request whose body is still coming in."""
        current.disconnected = True
        current.message_event.set()
        if current.response_started:
            self.transport.close()
        else:
            last.start()

    def _linger(self) -> None:
        """Close our side, and leave the client time to read before an unread byte of its own resets the connection."""
        self._phase = _Phase.LINGER
        self._deadline = self.loop.time() + self._limits.linger_s
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.transport.close()

    # ---------------------------------------------------------------------------------------------- the deadlines

    def check_deadlines(self, now: float) -> None:
        """Cut the connection if its client is late; called for each about once a second.

        Args:
            now: The loop's time.
        """
        if self.transport.is_closing():
            self._check_closing(now)
        elif self._unread_since is not None:
            self._check_unread(now)
        elif self.flow.read_paused and self._phase is not _Phase.LINGER:
            self._deadline = max(self._deadline, now + self._limits.header_s)
        elif now > self._deadline:
            self._cut()

    def _check_closing(self, now: float) -> None:
        """Give up on a client that does not even read the end."""
        if self._closing_since is None:
            self._closing_since = now
        elif now - self._closing_since > self._limits.linger_s:
            self.transport.abort()

    def _check_unread(self, now: float) -> None:
        """Cut a client that does not read on."""
        assert self._unread_since is not None
        unread = self.transport.get_write_buffer_size()
        if unread <= self._unread - _LOW_WATER:
            self._unread, self._unread_since = unread, now
        elif now - self._unread_since > self._limits.write_s:
            self.lane.count_cut(0)
            self.transport.abort()

    def _cut(self) -> None:
        """End a connection whose time is up, saying why where the client has begun to ask."""
        if self._phase is _Phase.LINGER:
            self.transport.abort()
        elif self._phase is _Phase.REST or self.headers is None:
            self.transport.close()
        else:
            self.refuse(408)


_WATCHED: Final = frozenset((b"content-length", b"expect"))
_HOT_METHODS: Final = frozenset((b"GET", b"POST"))
