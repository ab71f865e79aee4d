"""A message centre for tests, demonstrations and benchmarks: real SMPP on a real socket, outcomes chosen by number.

See `aldis.connectors.outcomes` for the numbers. Receipts are kept, within a bound, until an ESME answered them with
ESME_ROK: what is refused, not answered or cut off comes again.
"""

import asyncio
import random
import ssl
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import ClassVar, Protocol

import msgspec

from aldis.connectors.agenda import Agenda
from aldis.connectors.base import OutboundPart, SentPart, Sink, Tell
from aldis.connectors.counters import Counters
from aldis.connectors.habits import as_of_version
from aldis.connectors.manners import Manners, reply
from aldis.connectors.outcomes import DELIVERED, OUTCOMES, Answer, Script, Step
from aldis.connectors.pace import Pace
from aldis.connectors.simulator_memory import DELETED, Known, Memory
from aldis.connectors.simulator_settings import SimulatorRates, SmscSettings
from aldis.connectors.smpp import SmppConnector, SmppSettings
from aldis.connectors.transport import Link
from aldis.smpp import events
from aldis.smpp.commands import (
    BindRequest,
    BindTransceiver,
    CancelSm,
    Command,
    DataSm,
    DeliverSm,
    Pdu,
    QuerySm,
    RegisteredDelivery,
    SubmitSm,
    SubmitSmResp,
    Tlv,
)
from aldis.smpp.errors import CommandStatus
from aldis.smpp.session import FIRST_WITH_TLVS, Limits, SmscSession

__all__ = ["Observer", "SimulatorConnector", "SimulatorRates", "SimulatorSettings", "Smsc", "SmscSettings"]

_REMEMBERED_NUMBERS = 100_000
_FIRST_WITH_CONGESTION = 0x50
_NOT_SUPPORTED = {
    int(Command.REPLACE_SM): CommandStatus.ESME_RREPLACEFAIL,
}


class Observer(Protocol):
    """A witness of what the message centre saw."""

    def on_submit(self, system_id: str, pdu: SubmitSm, message_id: str) -> None:
        """See a submit_sm before it is answered; no message_id if it was refused."""

    def on_receipt_answered(self, message_id: str, status: int) -> None:
        """See the ESME's answer to a receipt."""


class _Outgoing:
    """One deliver_sm or data_sm on its way."""

    __slots__ = ("account", "make", "message_id", "not_on")

    def __init__(
        self,
        account: "_Account",
        message_id: str,
        make: Callable[[], DeliverSm | DataSm],
        not_on: "_Connection | None" = None,
    ) -> None:
        self.account = account
        self.message_id = message_id
        self.make = make
        self.not_on = not_on


class _Account:
    """What belongs to a system_id and outlives its connections."""

    def __init__(self, system_id: str, max_rate: float) -> None:
        self.system_id = system_id
        self.pace = Pace(max_rate)
        self.binds: list[_Connection] = []
        self.ready: deque[_Outgoing] = deque()
        self.turns: OrderedDict[bytes, int] = OrderedDict()
        """By number: how often the script's trouble was made already."""


class Smsc:
    """A message centre. Use as an async context manager, or `start` and `close`."""

    def __init__(
        self,
        settings: SmscSettings,
        now_ms: Callable[[], int],
        observer: Observer | None = None,
        tls_context: ssl.SSLContext | None = None,
    ) -> None:
        """Prepare; nothing listens before `start`.

        Args:
            settings: How to behave.
            now_ms: The clock for the dates in receipts, epoch ms; message ids begin with its first value.
            observer: Who sees each submit and each answered receipt.
            tls_context: The server's side of TLS; None: plain TCP.
        """
        self.settings = settings
        self.rates = settings.rates
        """May be replaced at any time."""
        self.congestion = settings.congestion
        """Likewise."""
        self.refuse = settings.refuse
        """Likewise."""
        self.port = 0
        self.connects = 0
        """Connections made, those that are gone too."""
        self.submits = 0
        self.receipts_answered = 0
        self.receipts_dropped = 0
        self.receipts_kept = 0
        """Receipts that were not answered with ESME_ROK yet."""
        self.connections: set[_Connection] = set()
        self._now_ms = now_ms
        self._observer = observer
        self._tls = tls_context
        self._accounts: dict[str, _Account] = {}
        self._memory = Memory()
        self._random = random.Random(settings.rates.seed)  # noqa: S311 (a simulation)
        self._manners = Manners(as_of_version(settings.habits, settings.version), now_ms() * 1000)
        self._to_pump: set[_Account] = set()

    async def start(self) -> None:
        """Listen; `port` is known from here on."""
        self._loop = asyncio.get_running_loop()
        self._agenda = Agenda()
        host, port = self.settings.host, self.settings.port
        self._server = await self._loop.create_server(self._connect, host, port, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Cut all connections and listen no more. Receipts that were not answered are lost."""
        self._server.close()
        self._agenda.stop()
        self.cut()
        await self._server.wait_closed()

    async def __aenter__(self) -> "Smsc":
        """Start."""
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close."""
        await self.close()

    @property
    def bound(self) -> int:
        """How many connections are bound now."""
        return sum(len(account.binds) for account in self._accounts.values())

    def cut(self) -> None:
        """Cut all connections without a word."""
        for connection in list(self.connections):
            connection.link.abort("cut")

    def freeze(self) -> None:
        """Leave all connections open, and read and answer nothing on them any more."""
        for connection in self.connections:
            connection.link.hold_reading()
            connection.link.can_write = False

    def thaw(self) -> None:
        """Take back `freeze`."""
        for connection in self.connections:
            connection.link.can_write = True
            connection.link.release_reading()

    def deliver(self, system_id: str, pdu: DeliverSm) -> None:
        """Send a message from a subscriber, as soon as the ESME can receive, until it is answered."""
        self._offer(_Outgoing(self._account(system_id), "", lambda: pdu), keep=True)

    def _connect(self) -> Link:
        self.connects += 1
        return _Connection(self).link

    def _account(self, system_id: str) -> _Account:
        account = self._accounts.get(system_id)
        if account is None:
            account = self._accounts[system_id] = _Account(system_id, self.settings.max_rate)
        return account

    def _admit(self, pdu: BindRequest) -> tuple[int, _Account]:
        system_id = pdu.system_id.decode("latin-1")
        passwords = self.settings.passwords
        account = self._account(system_id) if passwords is None or system_id in passwords else _Account(system_id, 0)
        if passwords is not None and passwords.get(system_id) != pdu.password.decode("latin-1"):
            return CommandStatus.ESME_RINVPASWD, account
        if self.settings.version == "3.3" and isinstance(pdu, BindTransceiver):
            return CommandStatus.ESME_RINVCMDID, account
        if 0 < self.settings.max_binds <= len(account.binds):
            return CommandStatus.ESME_RBINDFAIL, account
        return CommandStatus.ESME_ROK, account

    def _submit(self, connection: "_Connection", account: _Account, request: events.Incoming, pdu: SubmitSm) -> None:
        self.submits += 1
        if excess := self._excess(connection, account):
            self._see_submit(account, pdu, "")
            connection.answer(request, excess)
            return
        script = OUTCOMES.get(pdu.destination_addr[-4:].decode("latin-1")) or self._by_rates()
        if refusal := self._refusal(account, script, pdu) or self._manners.refusal(pdu):
            self._see_submit(account, pdu, "")
            connection.answer(request, refusal)
            return
        number = self._manners.next_number(account.system_id, pdu)
        message_id = self._manners.spell(number)
        known = Known(message_id, number, account.system_id, pdu, self._now_ms())
        self._memory.remember(known)
        self._see_submit(account, pdu, message_id)
        self._plan_receipts(connection, account, script, known)
        self._respond(connection, account, script, request, message_id)

    def _excess(self, connection: "_Connection", account: _Account) -> int:
        """Return what to refuse a submit with that is more than the ESME may have; 0: nothing."""
        settings = self.settings
        if 0 < settings.max_window < connection.unanswered:
            return CommandStatus.ESME_RMSGQFUL
        if settings.max_rate:
            now = self._loop.time()
            if not account.pace.available(now):
                return CommandStatus.ESME_RTHROTTLED
            account.pace.spend(1, now)
        return 0

    def _respond(
        self, connection: "_Connection", account: _Account, script: Script, request: events.Incoming, message_id: str
    ) -> None:
        assert isinstance(request.pdu, SubmitSm)
        settings = self.settings
        delay_ms = settings.slow_response_ms * script.slow + settings.early_gap_ms * script.receipt_first
        if script.answer is Answer.SWALLOW:
            return
        if script.answer is Answer.CUT and self._take_turn(account, request.pdu.destination_addr, 1, again=False):
            connection.link.abort("cut by script")
        else:
            say = partial(connection.answer, request, 0, message_id.encode())
            self._manners.answer(request.pdu, partial(self._agenda.after, delay_ms, say) if delay_ms else say)

    def _by_rates(self) -> Script:
        rates, draw = self.rates, self._random.random
        if rates == _NO_RATES:
            return DELIVERED
        if draw() < rates.throttle:
            return _THROTTLED
        receipts = _FAILED if draw() < rates.fail else DELIVERED.receipts
        if draw() < rates.no_receipt:
            receipts = ()
        return Script(
            shows=DELIVERED.shows,
            what="",
            receipts=receipts,
            receipt_first=draw() < rates.early,
            copies=1 + (draw() < rates.duplicate),
        )

    def _refusal(self, account: _Account, script: Script, pdu: SubmitSm) -> int:
        if not script.refusal:
            return self.refuse
        if script.refusals and not self._take_turn(account, pdu.destination_addr, script.refusals, again=True):
            return 0
        return script.refusal

    def _take_turn(self, account: _Account, number: bytes, turns: int, *, again: bool) -> bool:
        """Return whether it's the number's turn for trouble: `turns` times in a row, then once not, then `again`."""
        made = account.turns.pop(number, 0)
        if made < turns:
            account.turns[number] = made + 1
        elif not again:
            account.turns[number] = made
        while len(account.turns) > _REMEMBERED_NUMBERS:
            account.turns.popitem(last=False)
        return made < turns

    def _see_submit(self, account: _Account, pdu: SubmitSm, message_id: str) -> None:
        if self._observer:
            self._observer.on_submit(account.system_id, pdu, message_id)

    def _plan_receipts(self, connection: "_Connection", account: _Account, script: Script, known: Known) -> None:
        settings = self.settings
        delay_ms = settings.late_delay_ms if script.late else 0 if script.receipt_first else settings.receipt_delay_ms
        not_on = connection if settings.habits.other_bind else None
        for step in self._manners.steps(script.receipts, known.pdu) * script.copies:
            self._plan(account, known, step, delay_ms, not_on)
        if script.asked:
            self._agenda.after(delay_ms, partial(known.reach, script.asked))
        for pdu in reply(known.pdu, script.reply):
            self._agenda.after(2 * delay_ms, partial(self.deliver, account.system_id, pdu))

    def _plan(
        self, account: _Account, known: Known, step: Step, delay_ms: int, not_on: "_Connection | None" = None
    ) -> None:
        reach = partial(self._reach, account, known, step, not_on)
        if delay_ms:
            self._agenda.after(delay_ms, reach)
        else:
            reach()

    def _reach(self, account: _Account, known: Known, step: Step, not_on: "_Connection | None") -> None:
        """Let a message come to a step, and send the receipt if one was asked for."""
        if known.reach(step) and known.pdu.registered_delivery & RegisteredDelivery.RECEIPT:
            self._offer(_Outgoing(account, known.message_id, partial(self._receipt, known, step), not_on), keep=True)

    def _receipt(self, known: Known, step: Step) -> DeliverSm | DataSm:
        return self._manners.receipt(known, step, self._now_ms())

    def _query(self, connection: "_Connection", account: _Account, request: events.Incoming, pdu: QuerySm) -> None:
        known = self._memory.find(pdu.message_id, account.system_id, pdu.source_addr)
        if known is None:
            connection.answer(request, CommandStatus.ESME_RQUERYFAIL)
        else:
            connection.reply(request, known.told())

    def _cancel(self, connection: "_Connection", account: _Account, request: events.Incoming, pdu: CancelSm) -> None:
        known = self._memory.find(pdu.message_id, account.system_id, pdu.source_addr)
        if known is None or not known.withdraw():
            connection.answer(request, CommandStatus.ESME_RCANCELFAIL)
            return
        connection.answer(request, 0)
        self._plan(account, known, DELETED, self.settings.receipt_delay_ms)

    def _offer(self, outgoing: _Outgoing, *, keep: bool = False) -> None:
        """Queue a deliver_sm for the account's binds; `keep`: it is new, and counts."""
        if keep and self.receipts_kept >= self.settings.max_receipts:
            self.receipts_dropped += 1
            return
        self.receipts_kept += keep
        outgoing.account.ready.append(outgoing)
        self._pump_soon(outgoing.account)

    def _pump_soon(self, account: _Account) -> None:
        if not self._to_pump:
            self._loop.call_soon(self._pump)
        self._to_pump.add(account)

    def _pump(self) -> None:
        accounts = list(self._to_pump)
        self._to_pump.clear()
        for account in accounts:
            for bind in account.binds:
                bind.send(account.ready)

    def _answered(self, outgoing: _Outgoing, status: int) -> None:
        if outgoing.message_id:
            self.receipts_answered += 1
            if self._observer:
                self._observer.on_receipt_answered(outgoing.message_id, status)
        if status:
            self._agenda.after(self.settings.resend_ms, partial(self._offer, outgoing))
        else:
            self.receipts_kept -= 1


_NO_RATES = SimulatorRates()
_FAILED = (Step("UNDELIV", "050"),)
_THROTTLED = Script(shows=DELIVERED.shows, what="", refusal=CommandStatus.ESME_RTHROTTLED)


class _Connection:
    """One connection of an ESME."""

    def __init__(self, smsc: Smsc) -> None:
        settings = smsc.settings
        limits = Limits(
            window=settings.window,
            enquire_link_s=settings.enquire_link_s,
            response_timeout_s=settings.receipt_timeout_s,
        )
        self._smsc = smsc
        self._account: _Account | None = None
        self.unanswered = 0
        """Submits that wait for their answer."""
        self.session = SmscSession(asyncio.get_running_loop().time(), limits)
        self.link = Link(self.session, self._on_events, self._on_room, read_while_stuck=False)
        smsc.connections.add(self)

    def answer(self, request: events.Incoming, status: int, message_id: bytes = b"") -> None:
        self.unanswered -= isinstance(request.pdu, SubmitSm)
        if message_id and self._smsc.settings.version == "5.0" and self.session.version >= _FIRST_WITH_CONGESTION:
            tlvs = {int(Tlv.CONGESTION_STATE): bytes((self._smsc.congestion,))}
            is_said = self.session.reply(request, SubmitSmResp(message_id, tlvs), status)
        else:
            is_said = self.session.answer(request, status, message_id)
        if is_said:
            self.link.wake()

    def reply(self, request: events.Incoming, pdu: Pdu) -> None:
        if self.session.reply(request, pdu):
            self.link.wake()

    def send(self, ready: deque[_Outgoing]) -> None:
        if not self.link.can_write:
            return
        now = self.link.now()
        for _ in range(len(ready)):
            if not self.session.room():
                break
            outgoing = ready.popleft()
            if outgoing.not_on is self and len(outgoing.account.binds) > 1:
                ready.append(outgoing)  # a bind that may take it has its turn
                continue
            pdu = outgoing.make()
            if self.session.version < FIRST_WITH_TLVS:
                pdu = msgspec.structs.replace(pdu, tlvs=None)
            self.session.submit(pdu, outgoing, now)
        self.link.wake()

    def _on_room(self) -> None:
        if self._account and self._account.ready:
            self._smsc._pump_soon(self._account)

    def _on_events(self, batch: Sequence[events.Event]) -> None:
        for event in batch:
            if isinstance(event, events.Incoming):
                self._incoming(event)
            elif isinstance(event, events.Accepted):
                self._smsc._answered(event.token, 0)
            elif isinstance(event, events.Refused):
                self._smsc._answered(event.token, event.status)
            elif isinstance(event, events.Unknown | events.NotSent):
                self._smsc._offer(event.token)
            elif isinstance(event, events.BindRequested):
                self._bind(event)
            elif isinstance(event, events.Ended):
                self._leave()
        self._on_room()

    def _incoming(self, request: events.Incoming) -> None:
        if self.session.is_over or self._account is None:
            return
        if isinstance(request.pdu, SubmitSm):
            self.unanswered += 1
            self._smsc._submit(self, self._account, request, request.pdu)
        elif isinstance(request.pdu, QuerySm):
            self._smsc._query(self, self._account, request, request.pdu)
        elif isinstance(request.pdu, CancelSm):
            self._smsc._cancel(self, self._account, request, request.pdu)
        else:
            self.answer(request, _NOT_SUPPORTED.get(request.pdu.command_id, CommandStatus.ESME_RSUBMITFAIL))

    def _bind(self, event: events.BindRequested) -> None:
        status, account = self._smsc._admit(event.pdu)
        if not status:
            self._account = account
            account.binds.append(self)
        self._on_events(self.session.answer_bind(status, b"simulator", self.link.now()))
        self.link.wake()

    def _leave(self) -> None:
        self._smsc.connections.discard(self)
        if self._account and self in self._account.binds:
            self._account.binds.remove(self)


class SimulatorSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a simulator connector needs to know."""

    name: str
    binds: int = 1
    """How many transceivers, over all nodes."""
    window: int = 100
    rate: float = 0.0
    response_timeout_s: float = 60.0
    query: bool = False
    """Whether the simulator is asked about parts with `query_sm`."""
    smsc: SmscSettings = SmscSettings()


class SimulatorConnector:
    """A `Connector` with its own message centre: an `Smsc` on loopback, and an `SmppConnector` bound to it."""

    settings_type: ClassVar[type[SimulatorSettings]] = SimulatorSettings

    def __init__(
        self, settings: SimulatorSettings, sink: Sink, now_ms: Callable[[], int], observer: Observer | None = None
    ) -> None:
        """Prepare; nothing listens before `run`. See `SmppConnector` and `Smsc` for the arguments."""
        self.name = settings.name
        self.smsc = Smsc(settings.smsc, now_ms, observer)
        esme = SmppSettings(
            name=settings.name,
            host=settings.smsc.host,
            port=settings.smsc.port,
            system_id="aldis",
            password=_password_of("aldis", settings.smsc.passwords),
            binds=settings.binds,
            window=settings.window,
            rate=settings.rate,
            response_timeout_s=settings.response_timeout_s,
            query=settings.query,
        )
        self.smpp = SmppConnector(esme, sink, now_ms)

    @property
    def binds(self) -> int:
        """How many binds the connector has over all nodes; each node's own message centre has those held there."""
        return self.smpp.binds

    @property
    def held(self) -> frozenset[int]:
        """The binds that are held, or whose connection is not gone yet."""
        return self.smpp.held

    @property
    def is_bound(self) -> bool:
        """Whether parts can be submitted now."""
        return self.smpp.is_bound

    @property
    def counters(self) -> Counters:
        """What the connector has done."""
        return self.smpp.counters

    @property
    def in_flight(self) -> int:
        """How many parts wait for their submit_sm_resp."""
        return self.smpp.in_flight

    @property
    def unanswered(self) -> int:
        """How many deliveries wait for their answer."""
        return self.smpp.unanswered

    @property
    def rate(self) -> float:
        """The submits a second that may be made now; infinity for no limit."""
        return self.smpp.rate

    def hold(self, numbers: Collection[int]) -> None:
        """Hold these binds and no others."""
        self.smpp.hold(numbers)

    def cut(self, reason: str) -> None:
        """Hold nothing, and drop every connection now."""
        self.smpp.cut(reason)

    def capacity(self) -> int:
        """Return how many parts `submit` would take now."""
        return self.smpp.capacity()

    def submit(self, parts: Sequence[OutboundPart]) -> int:
        """Send parts, in order, and return how many were taken."""
        return self.smpp.submit(parts)

    @property
    def can_query(self) -> bool:
        """Whether parts are asked about."""
        return self.smpp.can_query

    def query(self, parts: Sequence[SentPart], tell: Tell) -> int:
        """Ask how parts stand."""
        return self.smpp.query(parts, tell)

    def cancel(self, parts: Sequence[SentPart], tell: Tell) -> int:
        """Withdraw parts."""
        return self.smpp.cancel(parts, tell)

    async def run(self) -> None:
        """Listen, bind and serve until cancelled or drained."""
        async with self.smsc:
            self.smpp.move_to(self.smsc.settings.host, self.smsc.port)
            await self.smpp.run()

    async def drain(self, timeout_s: float) -> None:
        """Take no more parts, wait for the outcomes still out, then unbind."""
        await self.smpp.drain(timeout_s)


def _password_of(system_id: str, passwords: Mapping[str, str] | None) -> str:
    return passwords.get(system_id, "") if passwords else ""


if __name__ == "__main__":
    from aldis.connectors.simulator_main import run

    run()
