"""The asyncio shell of an SMPP session: a socket on one side, a session on the other, and no decision in between."""

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from math import inf
from typing import cast

from aldis.smpp.events import Event
from aldis.smpp.session import Session

_TIMER_SLACK_S = 0.001  # a deadline that moved forward by less is not worth a new timer
_LINGER_S = 5.0  # how long the peer may take to read our last words


class Link(asyncio.Protocol):
    """One connection: feeds a session, hands its events on, writes what it says once per wake-up.

    `on_events` hears each batch of events, on the event loop; the last ends with `Ended`. `on_room` is called when
    the socket takes bytes again after it had not.
    """

    def __init__(
        self,
        session: Session,
        on_events: Callable[[list[Event]], None],
        on_room: Callable[[], None] = lambda: None,
        *,
        read_while_stuck: bool = True,
        may_write: Callable[[], bool] = lambda: True,
    ) -> None:
        """Wait for a connection.

        Args:
            session: A fresh session.
            on_events: Hears what happens.
            on_room: Hears that writing is possible again.
            read_while_stuck: Whether to read on while the peer takes no bytes. One of two peers must, or they can
                stop each other for ever.
            may_write: Asked right before bytes leave; the connection is dropped in their place if they may not.
        """
        self._loop = asyncio.get_running_loop()
        self._on_events = on_events
        self._on_room = on_room
        self._read_while_stuck = read_while_stuck
        self._may_write = may_write
        self._transport: asyncio.Transport | None = None
        self._flush_is_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = inf
        self._holds = 0  # reasons not to read
        self._ends: tuple[object, object] | None = None  # our address and the peer's
        self.session = session
        self.can_write = False
        self.closed: asyncio.Future[None] = self._loop.create_future()
        """Done when the connection is gone and its last event was handed on."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport, self.can_write = cast("asyncio.Transport", transport), True  # uvloop's is no subclass
        raw = transport.get_extra_info("socket")
        if raw is not None and raw.family in (socket.AF_INET, socket.AF_INET6):
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._ends = transport.get_extra_info("sockname"), transport.get_extra_info("peername")
        self.wake()

    def data_received(self, data: bytes) -> None:
        """Feed the session."""
        self._hand_on(self.session.feed(data, self._loop.time()))
        self.wake()

    def eof_received(self) -> bool:
        """Treat the end of the peer's stream as the end of the connection."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the session, once, that all is over."""
        self._transport = None
        self._finish(str(exc) if exc else "the peer closed the connection")

    def pause_writing(self) -> None:
        """Keep bytes in the session while the peer doesn't take them."""
        self.can_write = False
        if not self._read_while_stuck:
            self.hold_reading()

    def resume_writing(self) -> None:
        """Write on."""
        self.can_write = True
        if not self._read_while_stuck:
            self.release_reading()
        self.wake()
        self._on_room()

    def hold_reading(self) -> None:
        """Read no more until `release_reading` was called as often."""
        self._holds += 1
        if self._holds == 1 and self._transport and not self._transport.is_closing():
            self.session.pause(self._loop.time())
            self._transport.pause_reading()

    def release_reading(self) -> None:
        """Take back one `hold_reading`."""
        self._holds -= 1
        if self._holds == 0 and self._transport and not self._transport.is_closing():
            self.session.resume(self._loop.time())
            self._transport.resume_reading()
            self.wake()

    def now(self) -> float:
        """Return the time of the session's clock."""
        return self._loop.time()

    def wake(self) -> None:
        """Write what the session has to say, and look at its deadlines, at the end of this wake-up."""
        if not self._flush_is_due:
            self._flush_is_due = True
            self._loop.call_soon(self._flush)

    def abort(self, reason: str) -> None:
        """Drop the connection now: no more bytes leave, and the events of its end are handed on before this returns."""
        self._finish(reason)
        if self._transport:
            self._mute(self._transport)
            self._transport.abort()

    def _mute(self, transport: asyncio.Transport) -> None:
        """Let the kernel take no more bytes: uvloop writes on what it has buffered for a while after `abort`."""
        raw = transport.get_extra_info("socket")
        if raw is None or self._ends is None:
            return
        with suppress(OSError), socket.fromfd(raw.fileno(), raw.family, raw.type) as twin:
            if (twin.getsockname(), twin.getpeername()) == self._ends:  # uvloop may still name a number closed already
                twin.shutdown(socket.SHUT_WR)

    def _flush(self) -> None:
        self._flush_is_due = False
        if self._transport is None or self.closed.done():
            return
        if self.session.has_output and self.can_write:
            if not self._may_write():
                self.abort("nothing may leave any more")
                return
            self._transport.write(self.session.take_output())
        if not self.session.is_over:
            self._set_timer(self.session.next_deadline())
        elif not self.can_write:  # it takes no bytes any more: our last words would only keep us from connecting again
            self._transport.abort()
        elif not self._transport.is_closing():
            self._close(self._transport)

    def _close(self, transport: asyncio.Transport) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = self._loop.call_later(_LINGER_S, transport.abort)
        transport.close()

    def _set_timer(self, deadline: float) -> None:
        if deadline >= self._timer_at - _TIMER_SLACK_S:
            return
        if self._timer:
            self._timer.cancel()
        self._timer_at = deadline
        self._timer = self._loop.call_at(deadline, self._poll)

    def _poll(self) -> None:
        self._timer, self._timer_at = None, inf
        self._hand_on(self.session.poll(self._loop.time()))
        self.wake()

    def _hand_on(self, events: list[Event]) -> None:
        if events:
            self._on_events(events)

    def _finish(self, reason: str) -> None:
        if self.closed.done():
            return
        self.can_write = False
        if self._timer:
            self._timer.cancel()
        self._hand_on(self.session.lost(reason))
        self.closed.set_result(None)
