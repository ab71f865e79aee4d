"""The SMPP connector: one or more binds to a message centre, kept up for ever."""

import asyncio
import random
import ssl
from collections.abc import Callable, Collection, Sequence
from typing import ClassVar, Literal

import msgspec
import structlog

from aldis.connectors.base import Accepted, Delivery, NotSent, OutboundPart, Outcome, Refused, Sink, Unknown
from aldis.connectors.bind import LET_GO_S, Bind
from aldis.connectors.pace import Pace
from aldis.connectors.translate import Addressing, Translator, to_delivery
from aldis.connectors.transport import Link
from aldis.smpp import events
from aldis.smpp.commands import BindReceiver, BindRequest, BindTransceiver, BindTransmitter
from aldis.smpp.errors import CommandStatus, Refusal, classify, name_of
from aldis.smpp.pdu import encode
from aldis.smpp.session import EsmeSession, Limits, can_submit

_log = structlog.get_logger("aldis.connectors")
_PACE_TICK_S = 0.01  # tokens are waited for in steps, so that they make a group


LONGEST_RESPONSE_S = 600.0  # well below the lease of a message that is being sent


class SmppSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an SMPP connector needs to know."""

    name: str
    host: str
    port: int = 2775
    system_id: str
    password: str = ""
    system_type: str = ""
    bind: Literal["transceiver", "pair"] = "transceiver"
    """`pair`: a transmitter and a receiver in place of each transceiver."""
    binds: int = 1
    """How many transceivers or pairs, over all nodes."""
    window: int = 10
    """Submits a bind may have unanswered."""
    rate: float = 0.0
    """Submits a second and bind; 0: as many as the window allows."""
    enquire_link_s: float = 30.0
    response_timeout_s: float = 60.0
    connect_timeout_s: float = 10.0
    reconnect_min_s: float = 0.5
    reconnect_max_s: float = 30.0
    max_unanswered: int = 5_000
    """Deliveries that may wait for their answer on a bind; above it, the bind isn't read from."""
    tls: bool = False
    service_type: str = ""
    addressing: Addressing = Addressing()

    def __post_init__(self) -> None:
        """Refuse what could never bind."""
        if self.binds < 1 or self.window < 1 or self.max_unanswered < 1:
            raise ValueError("binds, window and max_unanswered are at least 1")
        if self.response_timeout_s > LONGEST_RESPONSE_S:
            raise ValueError(f"response_timeout_s is at most {LONGEST_RESPONSE_S:.0f}")
        if self.rate < 0 or self.response_timeout_s <= 0 or self.reconnect_min_s <= 0:
            raise ValueError("rate is not negative, response_timeout_s and reconnect_min_s are above 0")
        if len(self.service_type) > 5:
            raise ValueError("service_type has at most 5 characters")
        encode(self.bind_request(BindTransceiver), 1)

    def __repr__(self) -> str:
        """Show which connector this is, and no credential."""
        return f"SmppSettings({self.name!r}, {self.host}:{self.port})"

    def bind_request(self, kind: type[BindReceiver | BindTransmitter | BindTransceiver]) -> BindRequest:
        """Return the PDU that asks for a bind of a kind."""
        return kind(self.system_id.encode(), self.password.encode(), self.system_type.encode())

    def bind_requests(self) -> list[BindRequest]:
        """Return the PDU of each connection that one bind is made of."""
        kinds = (BindTransceiver,) if self.bind == "transceiver" else (BindTransmitter, BindReceiver)
        return [self.bind_request(kind) for kind in kinds]


class Counters:
    """What a connector has done since the start of the process."""

    def __init__(self) -> None:
        """Begin at zero."""
        self.submits = 0
        self.accepted = 0
        self.refusals = 0
        self.throttles = 0
        """Refusals among `refusals` that asked for a slower pace."""
        self.unknowns = 0
        self.not_sent = 0
        self.late_responses = 0
        self.deliveries = 0
        self.deliveries_refused = 0
        """Deliveries whose answer asked the upstream to send them again."""
        self.binds = 0
        self.reconnects = 0
        """Connections tried again after a failure or loss."""
        self.bad_pdus = 0


class SmppConnector:
    """A `Connector` that speaks SMPP 3.4 as an ESME.

    Outcomes and deliveries that arrive in one wake-up reach the sink as one list each. A bind that is lost is made
    again, for ever, with growing and jittered pauses.
    """

    settings_type: ClassVar[type[SmppSettings]] = SmppSettings

    def __init__(
        self,
        settings: SmppSettings,
        sink: Sink,
        now_ms: Callable[[], int],
        *,
        rng: Callable[[], float] = random.random,
        tls_context: ssl.SSLContext | None = None,
    ) -> None:
        """Prepare; nothing is connected before `run`.

        Args:
            settings: Where and how to bind.
            sink: Who hears outcomes and deliveries.
            now_ms: The clock for `Delivery.received_at`, epoch ms.
            rng: A source of numbers from 0 up to 1, for the jitter of pauses.
            tls_context: In place of the default one, where `settings.tls` is set.
        """
        self.name = settings.name
        self.settings = settings
        self.counters = Counters()
        self._sink = sink
        self._now_ms = now_ms
        self._rng = rng
        self._tls = (tls_context or ssl.create_default_context()) if settings.tls else None
        self._translator = Translator(settings.addressing, settings.service_type)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._own_outcomes: list[tuple[OutboundPart, Outcome]] = []
        requests = settings.bind_requests()
        by_bind = [[_SmppLeg(self, request) for request in requests] for _ in range(settings.binds)]
        self._binds = [Bind(self.name, number, legs, self._pause) for number, legs in enumerate(by_bind)]
        self._legs = [leg for legs in by_bind for leg in legs]
        self._submitters = [leg for leg in self._legs if can_submit(leg.request.command_id)]

    @property
    def binds(self) -> int:
        """How many binds the connector has over all nodes."""
        return self.settings.binds

    @property
    def held(self) -> frozenset[int]:
        """The binds that are held, or whose connection is not gone yet."""
        return frozenset(at for at, bind in enumerate(self._binds) if bind.is_held or not bind.gone.is_set())

    @property
    def is_bound(self) -> bool:
        """Whether at least one bind can submit now."""
        return any(leg.is_bound for leg in self._submitters)

    @property
    def in_flight(self) -> int:
        """How many parts wait for their submit_sm_resp."""
        return sum(leg.in_flight for leg in self._submitters)

    @property
    def unanswered(self) -> int:
        """How many deliveries wait for their answer."""
        return sum(leg.unanswered for leg in self._legs)

    @property
    def rate(self) -> float:
        """The submits a second that the binds held may make together now; infinity for no limit."""
        held = zip(self._binds, self._submitters, strict=True)  # each bind has one leg that submits
        return sum(leg.pace.rate for bind, leg in held if bind.is_held)

    def move_to(self, host: str, port: int) -> None:
        """Connect to another address from the next connection on."""
        self.settings = msgspec.structs.replace(self.settings, host=host, port=port)

    def hold(self, numbers: Collection[int]) -> None:
        """Hold these binds and no others; see `Connector.hold`."""
        if not set(numbers) <= set(range(self.binds)):
            raise ValueError(f"{self.name} has binds 0 to {self.binds - 1}, not {sorted(numbers)}")
        for number, bind in enumerate(self._binds):
            if number in numbers:
                bind.hold()
            else:
                bind.let_go(LET_GO_S)

    def cut(self, reason: str) -> None:
        """Hold nothing, and drop every connection now; see `Connector.cut`."""
        self.hold(())  # first of all, so that what the sink hears of one bind can't make it submit on the next
        for bind in self._binds:
            bind.abort(reason)

    def capacity(self) -> int:
        """Return how many parts `submit` would take now."""
        if self._loop is None:
            return 0
        now = self._loop.time()
        return sum(leg.room(now) for leg in self._submitters)

    def submit(self, parts: Sequence[OutboundPart]) -> int:
        """Send parts, in order, spread over the binds; return how many were taken.

        A part that can't be put into a submit_sm is taken, and its outcome is a `Refused` that is not retryable.
        """
        if self._loop is None:
            return 0
        now = self._loop.time()
        rooms = sorted(((leg.room(now), at) for at, leg in enumerate(self._submitters)))
        taken = 0
        for left, (room, at) in zip(range(len(rooms), 0, -1), rooms, strict=True):
            share = min(room, -(-(len(parts) - taken) // left))
            if share:
                self._submitters[at].submit(parts[taken : taken + share], now)
                taken += share
        return taken

    async def run(self) -> None:
        """Bind what is held, serve and bind again until cancelled or drained."""
        self._loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            for bind in self._binds:
                group.create_task(bind.run())

    async def drain(self, timeout_s: float) -> None:
        """Take no more parts, wait up to `timeout_s` for the outcomes still out, then unbind; `run` returns."""
        for bind in self._binds:
            bind.stop(timeout_s)
        for bind in self._binds:
            await bind.gone.wait()

    def refuse(self, part: OutboundPart, error: ValueError) -> None:
        """Report, from the next turn of the loop, a part that fits into no submit_sm."""
        assert self._loop is not None
        _log.warning("part refused here", connector=self.name, message_id=part.message_id, reason=str(error))
        self.counters.refusals += 1
        if not self._own_outcomes:
            self._loop.call_soon(self._report_own)
        self._own_outcomes.append((part, Refused(CommandStatus.ESME_RINVPARLEN, retryable=False)))

    def report_ready(self) -> None:
        """Tell the sink that there is room, if there is."""
        if self.capacity() > 0:
            self._sink.on_ready(self.name)

    async def _pause(self, failures: int) -> None:
        settings = self.settings
        longest = min(settings.reconnect_max_s, settings.reconnect_min_s * 2 ** min(failures - 1, 20))
        await asyncio.sleep(longest * (0.5 + self._rng() / 2))
        self.counters.reconnects += 1

    def _report_own(self) -> None:
        outcomes, self._own_outcomes = self._own_outcomes, []
        if outcomes:
            self._sink.on_outcomes(self.name, outcomes)


class _Answer:
    """The one answer to one delivery."""

    __slots__ = ("_leg", "_link", "_request")

    def __init__(self, leg: "_SmppLeg", link: Link, request: events.Incoming) -> None:
        self._leg = leg
        self._link: Link | None = link
        self._request = request

    def __call__(self, ok: bool) -> None:
        link, self._link = self._link, None
        if link is not None:
            self._leg.answer(link, self._request, ok=ok)


class _SmppLeg:
    """A `Leg` of a bind: one SMPP session after the other."""

    def __init__(self, owner: SmppConnector, request: BindRequest) -> None:
        self.request = request
        self.pace = Pace(owner.settings.rate)
        self.unanswered = 0
        self._owner = owner
        self._link: Link | None = None
        self._session: EsmeSession | None = None
        self._is_deaf = False
        self._bound_at: float | None = None
        self._pace_timer: asyncio.TimerHandle | None = None

    @property
    def is_bound(self) -> bool:
        return self._session is not None and self._session.is_bound

    @property
    def in_flight(self) -> int:
        return self._session.in_flight if self._session else 0

    def room(self, now: float) -> int:
        if self._link is None or self._session is None or not self._link.can_write:
            return 0
        room = self._session.room()
        return min(room, self.pace.available(now)) if room else 0

    def submit(self, parts: Sequence[OutboundPart], now: float) -> None:
        assert self._link is not None
        assert self._session is not None
        send, to_pdu = self._session.submit, self._owner._translator.submit_sm
        for part in parts:
            try:
                send(to_pdu(part), part, now)
            except ValueError as error:
                self._owner.refuse(part, error)
        self._owner.counters.submits += len(parts)
        self.pace.spend(len(parts), now)
        self._watch_pace(now)
        self._link.wake()

    def answer(self, link: Link, request: events.Incoming, *, ok: bool) -> None:
        if not ok:
            self._owner.counters.deliveries_refused += 1
        if not link.session.answer(request, CommandStatus.ESME_ROK if ok else CommandStatus.ESME_RX_T_APPN):
            return
        link.wake()
        if link is self._link:
            self.unanswered -= 1
            if self._is_deaf and self.unanswered <= self._owner.settings.max_unanswered // 2:
                self._is_deaf = False
                link.release_reading()

    def unbind(self, drain_s: float) -> bool:
        if self._link is None or self._session is None:
            return False
        if self._session.is_bound:
            self._session.unbind(self._link.now(), drain_s)
            self._link.wake()
        else:
            self._link.abort("stopped before it was bound")
        return True

    def abort(self, reason: str) -> None:
        if self._link is not None:
            self._link.abort(reason)

    async def serve(self) -> float:
        loop, settings = asyncio.get_running_loop(), self._owner.settings
        limits = Limits(
            window=settings.window,
            enquire_link_s=settings.enquire_link_s,
            response_timeout_s=settings.response_timeout_s,
        )
        session = EsmeSession(loop.time(), limits)
        link = Link(session, self._on_events, self._owner.report_ready, may_write=self._owner._sink.may_send)
        try:
            async with asyncio.timeout(settings.connect_timeout_s):
                await loop.create_connection(lambda: link, settings.host, settings.port, ssl=self._owner._tls)
        except (OSError, TimeoutError, UnicodeError) as error:
            _log.warning("no connection", connector=self._owner.name, reason=str(error) or "timed out")
            return 0.0
        self._link, self._session, self._bound_at = link, session, None
        self.unanswered, self._is_deaf = 0, False
        return await self._stay(link, session)

    async def _stay(self, link: Link, session: EsmeSession) -> float:
        try:
            session.bind(self.request, link.now())
            link.wake()
            await asyncio.wait([link.closed])
        finally:
            link.abort("stopped")
            self._link = self._session = None
            if self._pace_timer:
                self._pace_timer.cancel()
                self._pace_timer = None
        return link.now() - self._bound_at if self._bound_at is not None else 0.0

    def _on_events(self, batch: list[events.Event]) -> None:
        outcomes: list[tuple[OutboundPart, Outcome]] = []
        late: list[tuple[OutboundPart, Accepted | Refused]] = []
        deliveries: list[Delivery] = []
        for event in batch:
            if isinstance(event, events.Accepted):
                outcomes.append((event.token, Accepted(event.message_id.decode("latin-1"))))
            elif isinstance(event, events.Incoming):
                deliveries.append(self._delivery(event))
            elif isinstance(event, events.LateResponse):
                late.append((event.token, self._late_outcome(event)))
            elif isinstance(event, events.Refused | events.Unknown | events.NotSent):
                outcomes.append((event.token, self._bad_outcome(event)))
            else:
                self._note(event)
        self._report(outcomes, late, deliveries)

    def _report(
        self,
        outcomes: list[tuple[OutboundPart, Outcome]],
        late: list[tuple[OutboundPart, Accepted | Refused]],
        deliveries: list[Delivery],
    ) -> None:
        owner = self._owner
        if outcomes:
            owner.counters.accepted += sum(isinstance(outcome, Accepted) for _, outcome in outcomes)
            owner._sink.on_outcomes(owner.name, outcomes)
        if late:
            owner.counters.late_responses += len(late)
            owner._sink.on_late_outcomes(owner.name, late)
        if deliveries:
            owner.counters.deliveries += len(deliveries)
            self._stop_reading_if_full()
            owner._sink.on_deliveries(owner.name, deliveries)
        if outcomes:
            owner.report_ready()

    def _delivery(self, event: events.Incoming) -> Delivery:
        assert self._link is not None
        self.unanswered += 1
        answer = _Answer(self, self._link, event)
        return to_delivery(self._owner.name, event, self._owner._now_ms(), answer)

    def _stop_reading_if_full(self) -> None:
        if self._link and not self._is_deaf and self.unanswered > self._owner.settings.max_unanswered:
            self._is_deaf = True
            self._link.hold_reading()

    def _bad_outcome(self, event: events.Refused | events.Unknown | events.NotSent) -> Outcome:
        counters = self._owner.counters
        if isinstance(event, events.Unknown):
            counters.unknowns += 1
            return Unknown(event.reason)
        if isinstance(event, events.NotSent):
            counters.not_sent += 1
            return NotSent(event.reason)
        counters.refusals += 1
        outcome = _refused(event.status)
        if outcome.throttled:
            counters.throttles += 1
            self._slow_down()
        return outcome

    def _late_outcome(self, event: events.LateResponse) -> Accepted | Refused:
        return _refused(event.status) if event.status else Accepted(event.message_id.decode("latin-1"))

    def _note(self, event: events.Event) -> None:
        owner = self._owner
        match event:
            case events.Bound():
                assert self._link is not None
                self._bound_at = self._link.now()
                owner.counters.binds += 1
                _log.info("bound", connector=owner.name)
                owner.report_ready()
            case events.BindRefused(status=status):
                _log.warning("bind refused", connector=owner.name, status=name_of(status))
            case events.BadPdu(reason=reason):
                owner.counters.bad_pdus += 1
                _log.warning("bad PDU", connector=owner.name, reason=reason)
            case events.Ended(reason=reason, clean=clean):
                _log.log(20 if clean else 30, "connection ended", connector=owner.name, reason=reason)

    def _slow_down(self) -> None:
        assert self._link is not None
        now = self._link.now()
        if self.pace.throttle(now):
            _log.warning("throttled", connector=self._owner.name, rate=round(self.pace.rate, 1))
        self._watch_pace(now)

    def _watch_pace(self, now: float) -> None:
        if self._link and self._pace_timer is None and self.pace.is_limited and self.pace.available(now) < 1:
            delay = max(self.pace.ready_in(now), _PACE_TICK_S)
            self._pace_timer = asyncio.get_running_loop().call_later(delay, self._pace_ready)

    def _pace_ready(self) -> None:
        self._pace_timer = None
        self._owner.report_ready()
        if self._link:
            self._watch_pace(self._link.now())


def _refused(status: int) -> Refused:
    kind = classify(status)
    return Refused(status, retryable=kind is not Refusal.PERMANENT, throttled=kind is Refusal.THROTTLED)
