"""A fast lane in uvicorn's own HTTP protocol, and the limits that uvicorn lacks.

Hot paths are answered without an ASGI scope, a cycle of messages or a task; all others go on to ASGI. Requests of one
connection are answered one after the other, in order. `HttpToolsProtocol` is importable but no promised API: `server`
tries this file out at start, and falls back to plain ASGI.
"""

import asyncio
import math
from enum import Enum
from typing import Any, Final, cast

import httptools
import structlog
from uvicorn._types import ASGI3Application
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from aldis.web.request import Answer, Request, refusal, where
from aldis.web.turn import Lane, Turn

_log = structlog.get_logger(__name__)
_LOW_WATER: Final = 16 * 1024
_IN_A_ROW: Final = 16
"""Requests of one connection that are answered before others get their turn."""
_CHUNK_MARKS: Final = 8
"""Bytes on the wire for a byte of body, at the worst."""


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
        self._is_mixed = False
        """True: a request ended in the piece that is being parsed."""
        self._announced = self._body_bytes = self._held_bytes = 0
        self._active: Turn | RequestResponseCycle | None = None
        """The request that is being answered, or the last one that was."""
        self._deaf = False
        """True: whatever comes in is dropped."""
        self._refused = False
        self._in_turn = False
        self._left_in_row = _IN_A_ROW
        self._yields = False
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
        self._left_in_row = _IN_A_ROW
        self._chunk, self._is_mixed = len(data), False
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._end_input()
        except httptools.HttpParserError as error:
            cause = error.__context__
            if cause is not None and not isinstance(cause, httptools.HttpParserError):
                _log.error("web.protocol_failed", error=where(cause))
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
        self._head_bytes = -self._chunk if self._is_mixed else 0
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
        if self._head_bytes + self._chunk > limits.max_head and self._measure_head() > limits.max_head:
            return 431
        if self._announced > limits.max_body:
            return 413
        return 503 if len(self.pipeline) >= limits.max_pipelined else 0

    def _measure_head(self) -> int:
        """Return the size of a head that may have come in one piece with what follows it."""
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers)

    def _is_odd(self) -> bool:
        """Say whether the request has something that only ASGI is to judge."""
        return self.parser.should_upgrade() or b"#" in self.url

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
        if pending or self.flow.write_paused or not self._left_in_row:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))
            self._yield_turn()
        else:
            self._left_in_row -= 1
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
        self._is_mixed = True
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
        while self.pipeline and self._left_in_row and not self.transport.is_closing() and not self.flow.write_paused:
            self._left_in_row -= 1
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
            if not cycle.response_complete:
                break
        self._in_turn = False
        self._yield_turn()
        if not self.pipeline and not self._deaf and not self.flow.write_paused and not self.transport.is_closing():
            self.flow.resume_reading()
            if self._phase is _Phase.REST and self.cycle.response_complete:
                self._rest()

    def _yield_turn(self) -> None:
        """Let other connections go on before this one's next requests, if it has had its share."""
        if self.pipeline and not self._left_in_row and not self._yields:
            self._yields = True
            self.loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        self._yields, self._left_in_row = False, _IN_A_ROW
        if self._active is None or self._active.response_complete:
            self._take_turns()

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
