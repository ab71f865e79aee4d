"""One request on the lane, and what all the lane's requests share."""

import asyncio
from collections.abc import Coroutine, Mapping
from http import HTTPStatus
from typing import Any, Final, Protocol

import structlog

from aldis.web.limits import HttpLimits
from aldis.web.request import Answer, Handler, Headers, Request, failure, where

_log = structlog.get_logger(__name__)


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


class _NoEvent:
    """Stands where uvicorn looks for an event to wake an application with."""

    @staticmethod
    def set() -> None:
        """Do nothing."""


_NO_EVENT: Final = _NoEvent()


class Connection(Protocol):
    """What a turn needs of its connection."""

    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport

    def write_answer(self, answer: Answer, keep_alive: bool) -> None:
        """Write an answer, and end the connection where it is the last."""
        ...

    def on_response_complete(self) -> None:
        """Give the next request its turn."""
        ...


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
        self, protocol: Connection, work: Handler | Answer, request: Request, keep_alive: bool, expects: bool
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
