"""One SMPP connection as values: bytes and times in, events and bytes out. No socket, no clock.

A session takes what the peer sent (`feed`), the passing of time (`poll`) and the connection's end (`lost`), and returns
events. What it has to say collects in a buffer (`take_output`), so that a shell writes once per wake-up. Times are
seconds of any steady clock, always the same one.

Each request that `submit` took ends in exactly one of `Accepted`, `Refused`, `Unknown`, `NotSent`. A message from the
peer (`Incoming`) is answered by nobody but the caller, with `answer`.
"""

from enum import Enum
from math import inf
from typing import Final

import msgspec

from aldis.smpp.commands import (
    RESPONSE,
    BindReceiver,
    BindReceiverResp,
    BindRequest,
    BindResponse,
    BindTransceiver,
    BindTransceiverResp,
    BindTransmitter,
    BindTransmitterResp,
    Command,
    DataSmResp,
    EnquireLink,
    EnquireLinkResp,
    GenericNack,
    Pdu,
    QuerySmResp,
    SubmitMultiResp,
    SubmitSmResp,
    Unbind,
    UnbindResp,
)
from aldis.smpp.errors import CommandStatus
from aldis.smpp.events import (
    Accepted,
    BadPdu,
    BindRefused,
    BindRequested,
    Bound,
    Ended,
    Event,
    Incoming,
    LateResponse,
    NotSent,
    Refused,
    Unknown,
)
from aldis.smpp.pdu import FrameError, Framer, Header, PduError, decode, encode, response_to

MAX_SEQUENCE: Final = 0x7FFFFFFF
FIRST_WITH_TLVS: Final = 0x34
"""The first interface_version whose PDUs may carry TLVs."""
_MAX_LATE: Final = 10_000
_MAX_HELD: Final = 1_000


class State(Enum):
    """How far a session has come."""

    OPEN = "open"
    BINDING = "binding"
    BOUND = "bound"
    DRAINING = "draining"
    """Nothing new is submitted; unbind follows the last response."""
    UNBINDING = "unbinding"
    CLOSED = "closed"


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """A session's window and times, in seconds."""

    window: int = 10
    """Requests that may wait for their response at once."""
    enquire_link_s: float = 30.0
    """Silence after which the peer is asked whether it is there; 0: never asked."""
    response_timeout_s: float = 60.0
    bind_timeout_s: float = 5.0
    """How long a message centre waits for a bind."""


_COMMANDS: Final = frozenset(int(command) for command in Command)
_UNANSWERABLE: Final = frozenset({int(Command.OUTBIND), int(Command.ALERT_NOTIFICATION)})
_BINDS: Final = frozenset({int(Command.BIND_RECEIVER), int(Command.BIND_TRANSMITTER), int(Command.BIND_TRANSCEIVER)})
_BIND_RESPONSES: Final[dict[int, type[BindReceiverResp | BindTransmitterResp | BindTransceiverResp]]] = {
    int(Command.BIND_RECEIVER): BindReceiverResp,
    int(Command.BIND_TRANSMITTER): BindTransmitterResp,
    int(Command.BIND_TRANSCEIVER): BindTransceiverResp,
}
_TRANSMITTER_COMMANDS: Final = frozenset(
    {
        int(Command.SUBMIT_SM),
        int(Command.SUBMIT_MULTI),
        int(Command.DATA_SM),
        int(Command.QUERY_SM),
        int(Command.CANCEL_SM),
        int(Command.REPLACE_SM),
    }
)
_RECEIVER_COMMANDS: Final = frozenset({int(Command.DELIVER_SM), int(Command.DATA_SM)})
_NOTHING: Final[frozenset[int]] = frozenset()


def can_submit(bind_command: int) -> bool:
    """Return whether a bind of this command_id lets the ESME submit."""
    return bind_command != Command.BIND_RECEIVER


def can_receive(bind_command: int) -> bool:
    """Return whether a bind of this command_id lets the ESME receive."""
    return bind_command != Command.BIND_TRANSMITTER


class Session:
    """What both sides share: framing, the window, response time-outs, enquire_link, unbind.

    Time in which the shell doesn't read (`pause` to `resume`) counts for no time-out: answers may be waiting unread.
    """

    def __init__(self, now: float, limits: Limits) -> None:
        """Begin with a connection that was just made."""
        self.limits = limits
        self.state = State.OPEN
        self.bind_command = 0
        """The command_id of the bind, 0 before."""
        self.version = 0x34
        """The interface_version that the ESME bound with."""
        self._framer = Framer()
        self._out: list[bytes] = []
        self._unsent = 0  # requests at the end of _pending whose bytes are still in _out
        self._sequence = 1
        self._pending: dict[int, tuple[float, object, int]] = {}  # sequence: deadline, token, command_id of response
        self._late: dict[int, object] = {}
        self._may_submit = False
        self._takes = _NOTHING
        self._deaf_s = 0.0
        self._deaf_since: float | None = None
        self._heard_at = now
        self._enquired_until = inf  # when an unanswered enquire_link means that nobody is there
        self._phase_until = inf  # when the current state has lasted too long

    @property
    def in_flight(self) -> int:
        """How many requests wait for their response."""
        return len(self._pending)

    @property
    def has_output(self) -> bool:
        """Whether `take_output` has something."""
        return bool(self._out)

    @property
    def is_bound(self) -> bool:
        """Whether the session is bound and not about to end."""
        return self.state is State.BOUND

    @property
    def is_over(self) -> bool:
        """Whether the session has ended; nothing more comes of it."""
        return self.state is State.CLOSED

    def room(self) -> int:
        """Return how many requests `submit` would take now."""
        return self.limits.window - len(self._pending) if self._may_submit else 0

    def submit(self, pdu: Pdu, token: object, now: float) -> None:
        """Send a request whose end is reported with `token`.

        Raises:
            ValueError: the window is full, the bind doesn't allow it, or the PDU can't be encoded or has TLVs, which
                SMPP 3.3 does not know. Nothing was sent.
        """
        if not self._may_submit:
            raise ValueError("this bind can't submit" if self.state is State.BOUND else "not bound")
        if len(self._pending) >= self.limits.window:
            raise ValueError("the window is full")
        if self.version < FIRST_WITH_TLVS and getattr(pdu, "tlvs", None):
            raise ValueError("SMPP 3.3 knows no TLVs")
        sequence = self._sequence
        self._out.append(encode(pdu, sequence))
        self._sequence = sequence + 1 if sequence < MAX_SEQUENCE else 1
        self._pending[sequence] = (
            self._clock(now) + self.limits.response_timeout_s,
            token,
            pdu.command_id | RESPONSE,
        )
        self._unsent += 1

    def answer(self, request: Incoming, status: int = 0, message_id: bytes = b"") -> bool:
        """Answer a message from the peer; False if the session is over and the answer can't go out."""
        return self.reply(request, _response_to(request.pdu.command_id, message_id), status)

    def reply(self, request: Incoming, pdu: Pdu, status: int = 0) -> bool:
        """Answer a message from the peer with a response of one's own making; False if the session is over."""
        if self.is_over:
            return False
        self._out.append(encode(pdu, request.sequence, status))
        return True

    def take_output(self) -> bytes:
        """Return the bytes to write, once. Requests among them count as sent from here on."""
        data = b"".join(self._out)
        self._out.clear()
        self._unsent = 0
        return data

    def feed(self, data: bytes, now: float) -> list[Event]:
        """Take bytes from the peer, however they are cut."""
        events: list[Event] = []
        if self.is_over:
            return events
        self._heard_at = self._clock(now)
        self._enquired_until = inf
        broken = None
        try:
            frames = self._framer.feed(data)
        except FrameError as error:
            frames, broken = error.frames, error
        self._take(frames, events)
        if broken and not self.is_over:
            self._nack(0, CommandStatus.ESME_RINVCMDLEN)
            self._end(f"bad length: {broken}", events)
        else:
            self._unbind_if_drained(self._heard_at)
        return events

    def poll(self, now: float) -> list[Event]:
        """Do what is due: time-outs, enquire_link, the end of a drain."""
        events: list[Event] = []
        if self.is_over or self._deaf_since is not None:
            return events
        clock = self._clock(now)
        self._sweep(clock, events)
        if clock >= self._phase_until:
            self._phase_over(clock, events)
        elif self.state in (State.BOUND, State.DRAINING):
            self._check_link(clock, events)
            self._unbind_if_drained(clock)
        return events

    def next_deadline(self) -> float:
        """Return when `poll` has something to do next; infinity for never."""
        if self.is_over or self._deaf_since is not None:
            return inf
        due = min(self._phase_until, self._enquired_until)
        if self._enquired_until == inf and self.limits.enquire_link_s and self.state in (State.BOUND, State.DRAINING):
            due = min(due, self._heard_at + self.limits.enquire_link_s)
        if self._pending:
            due = min(due, self._pending[next(iter(self._pending))][0])
        return due + self._deaf_s

    def pause(self, now: float) -> None:
        """Learn that the shell stopped reading."""
        if self._deaf_since is None:
            self._deaf_since = now

    def resume(self, now: float) -> None:
        """Learn that the shell reads again."""
        if self._deaf_since is not None:
            self._deaf_s += now - self._deaf_since
            self._deaf_since = None

    def unbind(self, now: float, drain_s: float) -> None:
        """Submit no more, wait up to `drain_s` for the responses still out, then unbind; `Ended` comes last."""
        if self.state is not State.BOUND:
            return
        self.state, self._may_submit = State.DRAINING, False
        clock = self._clock(now)
        self._phase_until = clock + drain_s
        self._unbind_if_drained(clock)

    def lost(self, reason: str) -> list[Event]:
        """Learn that the connection is gone. What was sent and not answered is Unknown now."""
        events: list[Event] = []
        if not self.is_over:
            not_sent = self._unsent
            self._out.clear()
            self._end(reason, events, not_sent=not_sent)
        return events

    def _clock(self, now: float) -> float:
        return (now if self._deaf_since is None else self._deaf_since) - self._deaf_s

    def _take(self, frames: list[bytes], events: list[Event]) -> None:
        for frame in frames:
            if self.state is State.CLOSED:
                return
            try:
                header, pdu = decode(frame)
            except PduError as error:
                self._bad_pdu(error, events)
                continue
            if header.command_id & RESPONSE:
                self._response(header, pdu, events)
            else:
                self._request(header, pdu, frame, events)

    def _response(self, header: Header, pdu: Pdu | None, events: list[Event]) -> None:
        _, command, status, sequence = header
        waiting = self._pending.get(sequence)
        if waiting is None:
            self._other_response(header, pdu, events)
        elif command == waiting[2]:
            del self._pending[sequence]
            if status:
                events.append(Refused(waiting[1], status))
            else:
                events.append(Accepted(waiting[1], _message_id(pdu), pdu))
        elif command == Command.GENERIC_NACK:
            del self._pending[sequence]
            events.append(Refused(waiting[1], status or CommandStatus.ESME_RUNKNOWNERR))
        else:
            events.append(BadPdu(status, f"response 0x{command:08X} to another kind of request"))

    def _other_response(self, header: Header, pdu: Pdu | None, events: list[Event]) -> None:
        if header.sequence in self._late:
            status = header.command_status
            if header.command_id == Command.GENERIC_NACK:
                status = status or CommandStatus.ESME_RUNKNOWNERR
            events.append(LateResponse(self._late.pop(header.sequence), status, _message_id(pdu)))
        elif header.command_id == Command.UNBIND_RESP and self.state is State.UNBINDING:
            self._end("unbound", events, clean=True)
        elif header.command_id not in (Command.ENQUIRE_LINK_RESP, Command.UNBIND_RESP):
            events.append(BadPdu(header.command_status, f"response 0x{header.command_id:08X} to no request"))

    def _request(self, header: Header, pdu: Pdu, frame: bytes, events: list[Event]) -> None:
        command = header.command_id
        if command in self._takes:
            events.append(Incoming(header.sequence, pdu, frame))
        elif self._bind_request(header, pdu, events) or command in _UNANSWERABLE:
            return
        elif command not in _COMMANDS:
            self._nack(header.sequence, CommandStatus.ESME_RINVCMDID)
            events.append(BadPdu(CommandStatus.ESME_RINVCMDID, f"unknown command 0x{command:08X}"))
        elif self.state in (State.OPEN, State.BINDING):
            self._refuse(header, CommandStatus.ESME_RINVBNDSTS, events)
        elif command == Command.ENQUIRE_LINK:
            self._out.append(encode(EnquireLinkResp(), header.sequence))
        elif command == Command.UNBIND:
            self._out.append(encode(UnbindResp(), header.sequence))
            self._end("the peer unbound", events, clean=True)
        else:
            self._refuse(header, CommandStatus.ESME_RINVBNDSTS, events)

    def _bind_request(self, header: Header, pdu: Pdu, events: list[Event]) -> bool:
        """Deal with a request that concerns binding; True if it was one."""
        return False

    def _refuse(self, header: Header, status: int, events: list[Event]) -> None:
        self._out.append(encode(response_to(header.command_id), header.sequence, status))
        events.append(BadPdu(status, f"command 0x{header.command_id:08X} out of place"))

    def _nack(self, sequence: int, status: int) -> None:
        self._out.append(encode(GenericNack(), sequence, status))

    def _bad_pdu(self, error: PduError, events: list[Event]) -> None:
        header = error.header
        events.append(BadPdu(error.command_status, str(error)))
        if header.command_id & RESPONSE:
            self._response(header, None, events)
        elif header.command_id not in _COMMANDS:
            self._nack(header.sequence, error.command_status)
        elif header.command_id not in _UNANSWERABLE:
            self._out.append(encode(response_to(header.command_id), header.sequence, error.command_status))

    def _sweep(self, clock: float, events: list[Event]) -> None:
        pending, late = self._pending, self._late
        while pending:
            sequence = next(iter(pending))
            deadline, token, _ = pending[sequence]
            if deadline > clock:
                break
            del pending[sequence]
            late[sequence] = token
            events.append(Unknown(token, "no response in time"))
        while len(late) > _MAX_LATE:
            del late[next(iter(late))]
        self._unsent = min(self._unsent, len(pending))

    def _check_link(self, clock: float, events: list[Event]) -> None:
        every = self.limits.enquire_link_s
        if clock >= self._enquired_until:
            self._end("no answer to enquire_link", events)
        elif every and self._enquired_until == inf and clock >= self._heard_at + every:
            self._control(EnquireLink())
            self._enquired_until = clock + min(every, self.limits.response_timeout_s)

    def _control(self, pdu: Pdu) -> None:
        self._out.append(encode(pdu, self._sequence))
        self._sequence = self._sequence + 1 if self._sequence < MAX_SEQUENCE else 1

    def _phase_over(self, clock: float, events: list[Event]) -> None:
        if self.state is State.DRAINING:
            self._send_unbind(clock)
        elif self.state is State.UNBINDING:
            self._end("no answer to unbind", events)
        else:
            self._end("not bound in time", events)

    def _unbind_if_drained(self, clock: float) -> None:
        if self.state is State.DRAINING and not self._pending:
            self._send_unbind(clock)

    def _send_unbind(self, clock: float) -> None:
        self.state = State.UNBINDING
        self._control(Unbind())
        self._phase_until = clock + self.limits.response_timeout_s

    def _bound(self, bind_command: int, *, may_submit: bool, takes: frozenset[int]) -> None:
        self.state, self.bind_command = State.BOUND, bind_command
        self._may_submit, self._takes = may_submit, takes
        self._phase_until = inf

    def _end(self, reason: str, events: list[Event], *, clean: bool = False, not_sent: int = 0) -> None:
        self.state, self._may_submit, self._takes = State.CLOSED, False, _NOTHING
        tokens = [token for _, token, _ in self._pending.values()]
        sent = len(tokens) - not_sent
        events.extend(Unknown(token, reason) for token in tokens[:sent])
        events.extend(NotSent(token, reason) for token in tokens[sent:])
        events.append(Ended(reason, clean))
        self._pending.clear()
        self._late.clear()


_WITH_ID: Final = (SubmitSmResp, DataSmResp, SubmitMultiResp, QuerySmResp)


_SUBMIT_SM: Final = int(Command.SUBMIT_SM)


def _response_to(command: int, message_id: bytes) -> Pdu:
    if command == _SUBMIT_SM:
        return SubmitSmResp(message_id)
    response = response_to(command)
    if message_id and isinstance(response, _WITH_ID):
        response.message_id = message_id
    return response


def _message_id(pdu: Pdu | None) -> bytes:
    return pdu.message_id if isinstance(pdu, _WITH_ID) else b""


class EsmeSession(Session):
    """The side that binds and submits."""

    _bind_sequence = 0

    def bind(self, pdu: BindRequest, now: float) -> None:
        """Ask to be bound; `Bound`, or `BindRefused` and `Ended`, follows."""
        if self.state is not State.OPEN:
            raise ValueError("bound already")
        self.bind_command, self.version = pdu.command_id, pdu.interface_version
        self._bind_sequence = self._sequence
        self._control(pdu)
        self.state = State.BINDING
        self._phase_until = self._clock(now) + self.limits.response_timeout_s

    def _other_response(self, header: Header, pdu: Pdu | None, events: list[Event]) -> None:
        if self.state is not State.BINDING or header.sequence != self._bind_sequence:
            super()._other_response(header, pdu, events)
        elif header.command_id == self.bind_command | RESPONSE and not header.command_status:
            takes = _RECEIVER_COMMANDS if can_receive(self.bind_command) else _NOTHING
            self._bound(self.bind_command, may_submit=can_submit(self.bind_command), takes=takes)
            events.append(Bound(pdu if isinstance(pdu, BindResponse) else None))
        else:
            status = header.command_status or CommandStatus.ESME_RBINDFAIL
            events.append(BindRefused(status))
            self._end("bind refused", events)


class SmscSession(Session):
    """The side that is bound to. It looks at nothing before the bind is answered, and waits for one only so long."""

    def __init__(self, now: float, limits: Limits) -> None:
        """Begin with a connection that was just accepted."""
        super().__init__(now, limits)
        self._phase_until = now + limits.bind_timeout_s
        self._asked: tuple[int, int] | None = None  # sequence and command_id of the bind in question
        self._held: list[bytes] = []

    def answer_bind(self, status: int, system_id: bytes, now: float) -> list[Event]:
        """Answer the bind in question; 0 lets the ESME in. Returns what came right behind the bind request."""
        events: list[Event] = []
        if self._asked is None or self.is_over:
            return events
        (sequence, command), self._asked = self._asked, None
        if status:
            self._out.append(encode(response_to(command), sequence, status))
            self.state = State.OPEN
        else:
            self._out.append(encode(_BIND_RESPONSES[command](system_id), sequence))
            takes = _TRANSMITTER_COMMANDS if can_submit(command) else _NOTHING
            self._bound(command, may_submit=can_receive(command), takes=takes)
            self._heard_at = self._clock(now)
        held, self._held = self._held, []
        self._take(held, events)
        return events

    def _take(self, frames: list[bytes], events: list[Event]) -> None:
        if self.bind_command:
            super()._take(frames, events)
            return
        for at, frame in enumerate(frames):
            if self._asked is not None:
                self._hold(frames[at:], events)
                return
            super()._take([frame], events)

    def _hold(self, frames: list[bytes], events: list[Event]) -> None:
        self._held += frames
        if len(self._held) > _MAX_HELD:
            self._end("too much sent before the bind was answered", events)

    def _bind_request(self, header: Header, pdu: Pdu, events: list[Event]) -> bool:
        if not isinstance(pdu, BindReceiver | BindTransmitter | BindTransceiver):
            return False
        if self.state is not State.OPEN:
            self._refuse(header, CommandStatus.ESME_RALYBND, events)
        else:
            self._asked = (header.sequence, header.command_id)
            self.version = pdu.interface_version
            self.state = State.BINDING
            events.append(BindRequested(header.sequence, pdu))
        return True
