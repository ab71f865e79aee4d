"""One running process: everything wired together, started in order and stopped in reverse."""

import asyncio
import gc
import resource
import signal
import socket
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import TYPE_CHECKING

import structlog

from aldis.asking import Asking, ages_to_ask_at
from aldis.connectors.base import Accepted, Connector, Delivery, OutboundPart, Outcome, Refused
from aldis.dispatch import Dispatch
from aldis.inbound import Inbound
from aldis.intake import Intake, IntakeSettings
from aldis.ledger import Ledger
from aldis.model.errors import OurError, SettingsError
from aldis.model.ids import IdMaker, id_at, time_of
from aldis.model.types import Push
from aldis.push.client import Limits, PushClient
from aldis.push.endpoint import PushSettings
from aldis.push.engine import PushEngine
from aldis.push.guard import EgressGuard
from aldis.rules.admission import Admission
from aldis.rules.failover import connectors_of
from aldis.rules.routing import Router
from aldis.service.admin import Admin, AdminSocket
from aldis.service.profiles import ProfileKeeper
from aldis.service.samples import questions, receipts, samples_of
from aldis.service.settings import Settings
from aldis.store.base import QueueState, Store
from aldis.tracking import Tracking
from aldis.web.app import build
from aldis.web.auth import Authenticator
from aldis.web.eapi import Eapi
from aldis.web.limits import HttpLimits
from aldis.web.metrics import Histogram, Sample, Source
from aldis.web.server import HttpServer, bind_socket

if TYPE_CHECKING:
    from aldis.service.shared import SharedLedger

log = structlog.get_logger()

FOREVER_MS = 1 << 62
TIDY_EVERY_S = 5.0
CLOCKS_DIFFER_MS = 50
UNNOTED_IDS_MS = 10_000
"""More than the time between two notes of the last id."""


def wall_clock_ms() -> int:
    """Return the time, epoch ms: the one place where the process reads it."""
    return time.time_ns() // 1_000_000


def raise_file_limit() -> None:
    """Let the process open as many files as it may: every connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _calm_garbage_collector() -> None:
    """Look for cycles seldom: what the hot paths make has none, and what is here now stays."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


class Node:
    """The process. `run` returns after `stop`, or raises what ended it."""

    def __init__(self, settings: Settings, now_ms: Callable[[], int] = wall_clock_ms) -> None:
        """Take a checked configuration; nothing is opened before `run`."""
        self.settings = settings
        self.started = asyncio.Event()
        self.stopping = asyncio.Event()
        """A stop has begun."""
        self.address: tuple[str, int] = (settings.http_host, settings.http_port)
        self._clock = now_ms
        self._shared: SharedLedger | None = None
        """This node among others, where the ledger is on PostgreSQL."""
        self._ready = False
        self._connectors: dict[str, Connector] = {}
        self._queue = QueueState(0, None, 0, 0, None, 0)
        """How much waited at the last look."""

    def stop(self) -> None:
        """Begin a graceful stop."""
        self.stopping.set()

    def stop_on_signals(self) -> None:
        """Stop on SIGTERM and SIGINT."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)

    async def run(self) -> None:
        """Start in order, serve until stopped, then stop in reverse within the budget.

        Raises:
            SettingsError: the address, the data directory or the configuration can't be used.
        """
        raise_file_limit()
        bound = self._bind()
        try:
            await self._open()
            await self._recover()
            _calm_garbage_collector()
            await self._serve(bound)
        finally:
            bound.close()
            if hasattr(self, "_auth"):
                self._auth.close()
            if hasattr(self, "store"):
                await self.store.close()

    def _bind(self) -> socket.socket:
        settings = self.settings
        try:
            bound = bind_socket(settings.http_host, settings.http_port)
        except OSError as error:
            where = f"{settings.http_host}:{settings.http_port}"
            raise SettingsError(
                f"can't listen on {where} ({error.strerror}); set http.listen, or ALDIS_HTTP_LISTEN, to another"
            ) from None
        self.address = bound.getsockname()[:2]
        return bound

    def now_ms(self) -> int:
        """Return the time, epoch ms: the database's, where there is one."""
        return self._clock()

    def _does(self, role: str) -> bool:
        return role in self.settings.roles

    def _may_work(self) -> bool:
        """Tell whether this node is certain not to count as dead among others."""
        return self._shared is None or self._shared.membership.may_work()

    async def _open(self) -> None:
        settings = self.settings
        if self._does("dispatch"):
            for config in settings.connectors:
                self._connectors[config.name] = config.factory(config.options, self, self.now_ms)
        self.store = await self._open_store()
        self.ledger = Ledger(self.store, IdMaker(self._number), self.now_ms, self._may_work)
        self.ledger.early_ms = 0 if self._shared is None else CLOCKS_DIFFER_MS
        for config in settings.connectors:
            self.ledger.errors[config.name] = config.errors
        self.ledger.by_number = frozenset(one.name for one in settings.connectors if one.by_number)
        queues = {route.connector for route in settings.routes}
        self.dispatch = Dispatch(self.ledger, self._connectors, queues, settings.failover_after_s)
        self.inbound = Inbound(self.ledger)
        self.tracking = Tracking(self.ledger, self._ages_ms)
        self.asking = Asking(self.ledger, self._connectors, self._ages_to_ask_at)
        guard = EgressGuard(settings.push_allow_private_networks)
        limits = Limits(total_s=settings.push_timeout_s, per_host=settings.push_connections_per_host)
        self._client = PushClient(guard, limits)
        push = PushSettings(max_limit=settings.push_connections_per_host)
        self.push = PushEngine(self.ledger, self._client, self.now_ms, push, may_send=self._may_work)
        self.intake = Intake(
            self.ledger,
            Router(settings.routes),
            Admission(settings.blocklist, settings.censor),
            IntakeSettings(max_recipients=settings.eapi_max_recipients, validity_ms=settings.validity_ms),
            self._on_due,
        )
        self._auth = Authenticator(self.ledger, time.monotonic)
        self.eapi = Eapi(self.ledger, self._auth, self.intake, self.ledger, self.now_ms, settings.eapi_report_header)

    async def _open_store(self) -> Store:
        if not self.settings.is_shared:
            from aldis.store.sqlite import SqliteStore  # noqa: PLC0415 - a node loads the engine that it needs

            return SqliteStore(self.settings.data_dir, self._offer)
        from aldis.service.shared import SharedLedger  # noqa: PLC0415

        self._shared = await SharedLedger.open(self.settings, self._connectors, self._offer, self._hear, self._clock)
        self._clock = self._shared.membership.now_ms
        return self._shared.store

    @property
    def _number(self) -> int:
        return self.settings.node_number if self._shared is None else self._shared.membership.number

    async def _recover(self) -> None:
        """Continue behind the ledger's ids; call off the leases of dead workers: of all, where this is the only one."""
        largest = await self.store.largest_id()
        if largest and time_of(largest) >= self.now_ms():
            log.warning("the clock is behind the ledger: was it set back?", behind_ms=time_of(largest) - self.now_ms())
            largest = id_at(time_of(largest) + UNNOTED_IDS_MS)
        self.ledger.ids = IdMaker(self._number, after=largest)
        called_off = await self.ledger.recover(FOREVER_MS if self._shared is None else self.now_ms())
        log.info("recovered", unacknowledged=called_off, node=self._number)
        for name in await self.store.queued_connectors():
            if self._does("dispatch") and not self.dispatch.serve(name):
                log.warning("messages wait for a connector that is not configured", connector=name)

    async def _serve(self, bound: socket.socket) -> None:
        settings = self.settings
        sources: list[Source] = [self.samples, self.eapi.samples]
        web = build(self.eapi.routes() if self._does("web") else {}, self, sources)
        http = HttpServer(
            web.app,
            [bound],
            hot=web.hot,
            limits=HttpLimits(max_body=settings.http_max_body, max_connections=settings.http_max_connections),
            certificate=settings.http_certificate,
        )
        sources.append(http.samples)
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(machine, name=name) for name, machine in self._machines()]
            links = [tasks.create_task(one.run(), name=one.name) for one in self._connectors.values()]
            serving = tasks.create_task(http.run(), name="http")
            await http.started.wait()
            self._ready = True
            if not settings.connectors or not settings.routes:
                log.warning("nothing can be sent: a [[connector]] and a [[route]] to it are wanted")
            self.started.set()
            log.info(
                "serving",
                host=self.address[0],
                port=self.address[1],
                roles=sorted(settings.roles),
                connectors=list(self._connectors),
            )
            await self.stopping.wait()
            await self._wind_down(http)
            for task in (*running, *links, serving):
                task.cancel()
        await self._client.aclose()

    def _ages_ms(self) -> dict[str, int]:
        """Return by queue how old a message is when no receipt is expected any more."""
        profiles = self.ledger.profiles
        horizons = {one.name: one.horizon_ms or profiles.horizon_ms(one.name) for one in self.settings.connectors}
        queues = {*horizons, *(route.connector for route in self.settings.routes)}
        longest = {queue: max(horizons[name] for name in connectors_of(queue)) for queue in queues}
        return {queue: self.settings.validity_ms + horizon_ms for queue, horizon_ms in longest.items()}

    def _ages_to_ask_at(self) -> dict[str, dict[str, int]]:
        """Return by queue how old its messages are each time that upstreams are asked about them."""
        first = {config.name: config.query_after_ms for config in self.settings.connectors}
        return {
            queue: ages_to_ask_at(min(first[name] for name in connectors_of(queue)), end_ms)
            for queue, end_ms in self._ages_ms().items()
        }

    def _machines(self) -> Iterator[tuple[str, Coroutine[None, None, None]]]:
        """Yield what runs beside connectors and web, by this node's roles."""
        yield "tidy", self._tidy()
        if self._does("dispatch"):
            yield "inbound", self.inbound.run()
            yield "dispatch", self.dispatch.run()
            yield "tracking", self.tracking.run()
            yield "asking", self.asking.run()
            yield "profiles", ProfileKeeper(self.store, self.ledger.profiles).run()
        if self._does("push"):
            yield "push", self.push.run()
        if self._shared is None:
            yield "admin", AdminSocket(Admin(self.store, self.ledger), self.settings.data_dir).run()
        else:
            yield "membership", self._shared.membership.run()
            yield "bell", self._shared.bell.run()

    async def _wind_down(self, http: HttpServer) -> None:
        """Refuse new work, drain what is under way, record its outcomes: within the budget."""
        budget = self.settings.stop_budget_s
        log.info("stopping", budget_s=budget)
        self._ready = False
        try:
            async with asyncio.timeout(budget):
                await http.stop(budget / 4)
                self.dispatch.stop()
                await self._flush()
                await asyncio.gather(*(one.drain(budget / 2) for one in self._connectors.values()))
                await self._flush()
                if self._does("push"):
                    await self.push.drain(budget / 4)
                if self._shared is not None:
                    await self._shared.membership.leave()
        except TimeoutError:
            log.warning("stopped before all was drained: what was under way shows 12 after the next start")

    async def _flush(self) -> None:
        """Put on disk what was heard, unless the disk has failed: then there is no use in waiting for it."""
        if not self._does("dispatch"):
            return
        if self.store.problems():
            log.error("the ledger can't be written: parts whose outcome is not on disk show 12 after the next start")
            return
        await self.dispatch.flush()
        await self.inbound.flush()

    async def _tidy(self) -> None:
        """Note how far the ids have come and how much waits; forget upstream ids past their time."""
        noted = 0
        while True:
            try:
                last = self.ledger.ids.last
                if last != noted or self.store.problems():
                    await self.store.remember_last_id(last)
                    noted = last
                self._queue = await self.store.queue_state(self.now_ms())
                now, settings = self.now_ms(), self.settings
                while await self.store.tidy(now, now - settings.unmatched_ms, now - settings.inbound_ms):
                    pass
            except OurError as error:
                log.warning("tidying waits", error=str(error))
            except Exception:
                log.exception("tidying failed")
            await asyncio.sleep(TIDY_EVERY_S)

    # What connectors say

    def on_outcomes(self, connector: str, outcomes: Sequence[tuple[OutboundPart, Outcome]]) -> None:
        """Pass on the ends of submitted parts."""
        self.dispatch.on_outcomes(connector, outcomes)

    def on_late_outcomes(self, connector: str, outcomes: Sequence[tuple[OutboundPart, Accepted | Refused]]) -> None:
        """Pass on answers that came after their time-out."""
        self.dispatch.on_late_outcomes(connector, outcomes)

    def on_deliveries(self, connector: str, deliveries: Sequence[Delivery]) -> None:
        """Pass on what an upstream sent."""
        self.inbound.offer(deliveries)

    def may_send(self) -> bool:
        """Tell whether this node is certain to count as alive."""
        return self._may_work()

    def on_ready(self, connector: str) -> None:
        """Pass on that a connector has room."""
        self.dispatch.on_ready(connector)

    def _offer(self, pushes: list[Push]) -> None:
        self.push.offer(pushes)

    def _on_due(self) -> None:
        """Tell whoever sends that new work is on disk."""
        self.dispatch.wake()
        if self._shared is not None and (self._shared.membership.others_dispatch or not self._does("dispatch")):
            self._shared.bell.ring("due")

    def _hear(self, kind: str) -> None:
        """Take another node's wake-up; an empty word is for everything."""
        if kind in ("due", ""):
            self.dispatch.wake()
        if kind in ("pushes", ""):
            self.push.poke()

    # What watchers ask

    def problems(self) -> list[str]:
        """Return why no work should come here now."""
        found = list(self.store.problems())
        if not self._ready:
            found.append("starting or stopping")
        if not self._may_work():
            found.append("this node's lease has run out: the database does not answer")
        if self._does("dispatch"):
            found += self._dispatch_problems()
        return found

    def _dispatch_problems(self) -> list[str]:
        connectors = self._connectors.values()
        if not connectors:
            return ["no connector is configured"]
        is_standby = self._shared is not None and not self._shared.membership.owned
        if is_standby or any(connector.is_bound for connector in connectors):
            return []
        return ["no connector is bound"]

    def samples(self) -> Iterator[Sample | Histogram]:
        """Return the numbers for /metrics."""
        now = self.now_ms()
        links, ambiguous = self._connectors, dict(self.ledger.ambiguous)
        yield from samples_of(self.store, self.dispatch, self.inbound, self.push, links, self._queue, now, ambiguous)
        yield from receipts(self.ledger)
        yield from questions(self.asking.answers)
        if self._shared is not None:
            yield from self._shared.samples()
