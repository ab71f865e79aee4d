"""One leg of an SMPP bind: a session after the other, what goes out on it and what comes in."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

import structlog

from aldis.connectors.addresses import Address, Turn
from aldis.connectors.base import Accepted, Delivery, NotSent, OutboundPart, Outcome, Refused, Unknown
from aldis.connectors.link_log import LinkLog
from aldis.connectors.pace import Pace
from aldis.connectors.questions import Question, Questions
from aldis.connectors.translate import to_delivery
from aldis.connectors.transport import Link
from aldis.smpp import events
from aldis.smpp.commands import BindRequest, Pdu, SubmitSmResp
from aldis.smpp.congestion import is_congested
from aldis.smpp.errors import CommandStatus, Refusal, classify, name_of
from aldis.smpp.session import EsmeSession, Limits

if TYPE_CHECKING:
    from aldis.connectors.smpp import SmppConnector

_log = structlog.get_logger("aldis.connectors")
_PACE_TICK_S = 0.01  # tokens are waited for in steps, so that they make a group


class _Answer:
    """The one answer to one delivery."""

    __slots__ = ("_leg", "_link", "_request")

    def __init__(self, leg: "SmppLeg", link: Link, request: events.Incoming) -> None:
        self._leg = leg
        self._link: Link | None = link
        self._request = request

    def __call__(self, ok: bool) -> None:
        link, self._link = self._link, None
        if link is not None:
            self._leg.answer(link, self._request, ok=ok)


class SmppLeg:
    """A `Leg` of a bind: one SMPP session after the other."""

    def __init__(self, owner: "SmppConnector", number: int, turn: Turn, request: BindRequest) -> None:
        """Prepare; nothing is connected before `serve`.

        Args:
            owner: The connector whose settings, sink and counters these are.
            number: Which of its binds this leg belongs to.
            turn: Which address that bind is at; its legs share it.
            request: What to bind with.
        """
        self.request = request
        self.pace = Pace(owner.settings.rate)
        self.unanswered = 0
        self._owner = owner
        self._turn = turn
        self._address: Address | None = None
        self._link: Link | None = None
        self._session: EsmeSession | None = None
        self._is_deaf = False
        self._refusal = ""
        self._is_leaving = False  # it ends because we want it to
        self._bound_at: float | None = None
        self._pace_timer: asyncio.TimerHandle | None = None
        self._line = LinkLog(owner.name, number, type(request).__name__.removeprefix("Bind").lower())
        self._questions = Questions(owner.name)

    @property
    def is_bound(self) -> bool:
        """Whether it is bound and not about to end."""
        return self._session is not None and self._session.is_bound

    @property
    def in_flight(self) -> int:
        """How many requests wait for their response."""
        return self._session.in_flight if self._session else 0

    @property
    def window(self) -> int:
        """How many submits it can have unanswered at all."""
        return self._session.limits.window if self._session is not None and self.slots_are_open else 0

    @property
    def slots_are_open(self) -> bool:
        """Whether it can submit as soon as window and pace allow."""
        return self.is_bound and self._link is not None and self._link.can_write

    def slots(self) -> int:
        """Return how many submits the window allows now."""
        return self._session.room() if self._session is not None and self.slots_are_open else 0

    def room(self, now: float) -> int:
        """Return how many submits window and pace allow now."""
        slots = self.slots()
        return min(slots, self.pace.available(now)) if slots else 0

    def submit(self, parts: Sequence[OutboundPart], now: float) -> None:
        """Send parts, of which the window has room for all."""
        assert self._link is not None
        assert self._session is not None
        send, to_pdu = self._session.submit, self._owner.translator.submit_sm
        for part in parts:
            try:
                send(to_pdu(part), part, now)
            except ValueError as error:
                self._owner.refuse(part, error)
        self._owner.counters.submits += len(parts)
        self.pace.spend(len(parts), now)
        self._watch_pace(now)
        self._link.wake()

    def ask(self, pdu: Pdu, question: Question, now: float) -> None:
        """Send a question, for which the window has room.

        Raises:
            ValueError: it can't be encoded; nothing was sent.
        """
        assert self._link is not None
        assert self._session is not None
        self._session.submit(pdu, question, now)
        self._questions.waiting += 1
        self.pace.spend(1, now)
        self._watch_pace(now)
        self._link.wake()

    def answer(self, link: Link, request: events.Incoming, *, ok: bool) -> None:
        """Answer a delivery on the connection that it came on, if there still is one."""
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
        """Take no more parts and unbind; see `Leg`."""
        if self._link is None or self._session is None:
            self._line.forget()
            return False
        self._is_leaving = True
        if self._session.is_bound:
            self._session.unbind(self._link.now(), drain_s)
            self._link.wake()
        else:
            self._link.abort("stopped before it was bound")
        return True

    def abort(self, reason: str) -> None:
        """Drop the connection now, if there is one."""
        self._is_leaving = True
        if self._link is not None:
            self._link.abort(reason)

    async def serve(self) -> float:
        """Connect, bind and stay; see `Leg`."""
        self._is_leaving = False
        address = self._address = self._turn.here(self._owner.settings.addresses)
        self._line.at = str(address)
        loop, settings = asyncio.get_running_loop(), self._owner.settings
        limits = Limits(
            window=settings.window,
            enquire_link_s=settings.enquire_link_s,
            response_timeout_s=settings.response_timeout_s,
        )
        session = EsmeSession(loop.time(), limits)
        link = Link(session, self._on_events, self._owner.report_ready, may_write=self._owner.sink.may_send)
        try:
            async with asyncio.timeout(settings.connect_timeout_s):
                await self._connect(link, address)
        except (OSError, TimeoutError, UnicodeError) as error:
            self._down(f"no connection: {error or 'timed out'}")
            return 0.0
        self._link, self._session, self._bound_at = link, session, None
        self.unanswered, self._is_deaf = 0, False
        return await self._stay(link, session)

    async def _connect(self, link: Link, address: Address) -> None:
        tls = self._owner.tls
        name = (self._owner.settings.tls_server_name or address.host) if tls else None
        await asyncio.get_running_loop().create_connection(lambda: link, *address, ssl=tls, server_hostname=name)

    async def _stay(self, link: Link, session: EsmeSession) -> float:
        try:
            session.bind(self.request, link.now())
            link.wake()
            await asyncio.wait([link.closed])
        finally:
            self._is_leaving = True
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
        if self._questions.waiting:
            batch = self._questions.take(batch)
        for event in batch:
            if isinstance(event, events.Accepted):
                outcomes.append((event.token, Accepted(event.message_id.decode("latin-1"))))
                if isinstance(event.pdu, SubmitSmResp) and (event.pdu.tlvs or event.pdu.is_odd):
                    self._look_at(event.pdu)
            elif isinstance(event, events.Incoming):
                deliveries.append(self._delivery(event))
            elif isinstance(event, events.LateResponse):
                if isinstance(event.token, Question):
                    continue  # told as unanswered; whoever wants to know asks again
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
            owner.sink.on_outcomes(owner.name, outcomes)
        if late:
            owner.counters.late_responses += len(late)
            owner.sink.on_late_outcomes(owner.name, late)
        if deliveries:
            owner.counters.deliveries += len(deliveries)
            self._stop_reading_if_full()
            owner.sink.on_deliveries(owner.name, deliveries)
        if outcomes:
            owner.report_ready()

    def _delivery(self, event: events.Incoming) -> Delivery:
        assert self._link is not None
        self.unanswered += 1
        answer = _Answer(self, self._link, event)
        return to_delivery(self._owner.name, event, self._owner.now_ms(), answer)

    def _stop_reading_if_full(self) -> None:
        if self._link and not self._is_deaf and self.unanswered > self._owner.settings.max_unanswered:
            self._is_deaf = True
            self._link.hold_reading()

    def _look_at(self, response: SubmitSmResp) -> None:
        """Heed what an answer says besides its id."""
        if response.tlvs and is_congested(response.tlvs):
            self._slow_down()
        if response.is_odd:
            self._owner.counters.bad_pdus += 1
            _log.warning("ill-formed id", connector=self._owner.name, octets=len(response.message_id))

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
                self._line.bound(self._bound_at)
                owner.report_ready()
            case events.BindRefused(status=status):
                self._refusal = f"bind refused: {name_of(status)}"
            case events.BadPdu(reason=reason):
                owner.counters.bad_pdus += 1
                _log.warning("bad PDU", connector=owner.name, reason=reason)
            case events.Ended(reason=reason):
                self._ended(reason)

    def _ended(self, reason: str) -> None:
        refusal, self._refusal = self._refusal, ""
        if self._is_leaving:
            self._line.left(reason)
        else:
            self._down(refusal or reason, refusal)

    def _down(self, reason: str, refusal: str = "") -> None:
        assert self._address is not None
        self._line.down(reason, asyncio.get_running_loop().time(), refusal)
        self._turn.failed(self._address, self._owner.settings.addresses)

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
