"""The SMPP connector: one or more binds to a message centre, kept up for ever."""

import asyncio
import random
import ssl
from collections.abc import Callable, Collection, Sequence
from typing import ClassVar

import msgspec
import structlog

from aldis.connectors.addresses import Turn
from aldis.connectors.base import OutboundPart, Outcome, Refused, SentPart, Sink, Tell
from aldis.connectors.bind import LET_GO_S, Bind
from aldis.connectors.counters import Counters
from aldis.connectors.grant import grant
from aldis.connectors.questions import Question
from aldis.connectors.smpp_leg import SmppLeg
from aldis.connectors.smpp_settings import SmppSettings
from aldis.connectors.translate import Translator
from aldis.smpp.commands import Pdu
from aldis.smpp.errors import CommandStatus
from aldis.smpp.session import can_submit

__all__ = ["SmppConnector", "SmppSettings"]

_log = structlog.get_logger("aldis.connectors")


class SmppConnector:
    """A `Connector` that speaks SMPP as an ESME.

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
            tls_context: In place of the one that the settings make, where `settings.tls` is set.
        """
        self.name = settings.name
        self.settings = settings
        self.counters = Counters()
        self.sink = sink
        self.now_ms = now_ms
        self._rng = rng
        self.tls = (tls_context or settings.tls_context()) if settings.tls else None
        self.translator = Translator(settings.addressing, settings.service_type)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._own_outcomes: list[tuple[OutboundPart, Outcome]] = []
        requests = settings.bind_requests()
        turns = [Turn(number) for number in range(settings.binds)]
        by_bind = [[SmppLeg(self, at, turn, request) for request in requests] for at, turn in enumerate(turns)]
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
        """How many parts and questions wait for their response."""
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

        The parts of a message go together, as far as the windows are large enough; see `grant`. A part that can't be
        put into a submit_sm is taken, and its outcome is a `Refused` that is not retryable.
        """
        if self._loop is None:
            return 0
        now = self._loop.time()
        rooms = [leg.room(now) for leg in self._submitters]
        slots = [leg.slots() if room else 0 for leg, room in zip(self._submitters, rooms, strict=True)]
        taken = grant(parts, sum(rooms), sum(slots), sum(leg.window for leg in self._submitters))
        at = 0
        for leg, share in zip(self._submitters, _shares(taken, rooms, slots), strict=True):
            if share:
                leg.submit(parts[at : at + share], now)
                at += share
        return taken

    @property
    def can_query(self) -> bool:
        """Whether the upstream is to be asked about parts; see `Inquirer`."""
        return self.settings.query

    def query(self, parts: Sequence[SentPart], tell: Tell) -> int:
        """Ask how parts stand; see `Inquirer.query`."""
        return self._ask(parts, self.translator.query_sm, tell) if self.can_query else 0

    def cancel(self, parts: Sequence[SentPart], tell: Tell) -> int:
        """Withdraw parts; see `Inquirer.cancel`."""
        return self._ask(parts, self.translator.cancel_sm, tell)

    def _ask(self, parts: Sequence[SentPart], to_pdu: Callable[[SentPart], Pdu], tell: Tell) -> int:
        if not all(part.upstream_id for part in parts):
            raise ValueError("a part without the upstream's id can't be asked about")
        if self._loop is None:
            return 0
        pdus = [to_pdu(part) for part in parts]
        now = self._loop.time()
        asked = 0
        for leg in self._submitters:
            for _ in range(min(leg.room(now), len(parts) - asked)):
                leg.ask(pdus[asked], Question(parts[asked], tell), now)
                asked += 1
        return asked

    async def run(self) -> None:
        """Bind what is held, serve and bind again until cancelled or drained."""
        self._loop = asyncio.get_running_loop()
        if self.tls is not None and self.tls.verify_mode is ssl.CERT_NONE:
            _log.warning("TLS without verification: anyone may answer for the message centre", connector=self.name)
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
            self.sink.on_ready(self.name)

    async def _pause(self, failures: int) -> None:
        settings = self.settings
        longest = min(settings.reconnect_max_s, settings.reconnect_min_s * 2 ** min(failures - 1, 20))
        await asyncio.sleep(longest * (0.5 + self._rng() / 2))
        self.counters.reconnects += 1

    def _report_own(self) -> None:
        outcomes, self._own_outcomes = self._own_outcomes, []
        if outcomes:
            self.sink.on_outcomes(self.name, outcomes)


def _shares(count: int, rooms: Sequence[int], slots: Sequence[int]) -> list[int]:
    """Return how many of `count` parts each bind takes: even shares, above its room only where no other has any."""
    shares = [0] * len(rooms)
    order = sorted(range(len(rooms)), key=rooms.__getitem__)
    for left, at in zip(range(len(order), 0, -1), order, strict=True):
        shares[at] = min(rooms[at], -(-count // left))
        count -= shares[at]
    for at in reversed(order):
        more = min(slots[at] - shares[at], count)
        shares[at] += more
        count -= more
    return shares
