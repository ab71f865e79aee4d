"""The whole way of a message for tests of receipts: a real ledger, real connectors, and simulated message centres."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import msgspec
from tests.stores import Engine

from aldis.connectors.base import Accepted, Delivery, OutboundPart, Outcome, Refused
from aldis.connectors.habits import SimulatorHabits
from aldis.connectors.simulator import Smsc, SmscSettings
from aldis.connectors.smpp import SmppConnector, SmppSettings
from aldis.dispatch import Dispatch
from aldis.inbound import Inbound
from aldis.intake import Intake, IntakeSettings
from aldis.model.status import Status
from aldis.model.types import Account, Submission
from aldis.rules.admission import Admission
from aldis.rules.routing import Route, Router
from aldis.smpp.commands import SubmitSm
from aldis.store.base import EventRow
from aldis.store.testing import Bench

DELIVERED, ALSO_DELIVERED, UNDELIVERABLE = 447700901111, 447700902222, 447700900051
SILENT, LATER = 447700900101, 447700900105
QUICK: dict[str, Any] = {"receipt_delay_ms": 5, "late_delay_ms": 300, "early_gap_ms": 150, "resend_ms": 20}
DEADLINE_S = 15.0


class Witness:
    """What a message centre saw, in order."""

    def __init__(self) -> None:
        self.submits: list[SubmitSm] = []
        self.answers: list[int] = []
        """The command_status of each answer to a receipt."""

    def on_submit(self, system_id: str, pdu: SubmitSm, message_id: str) -> None:
        self.submits.append(pdu)

    def on_receipt_answered(self, message_id: str, status: int) -> None:
        self.answers.append(status)


class Site:
    """One process of Aldis, without its HTTP, and the networks that it is bound to. Time stands still for it."""

    def __init__(self, bench: Bench, account: Account, engine: Engine) -> None:
        self.bench = bench
        self.account = account
        self.engine = engine
        self.ledger = bench.ledger
        self.centres: dict[str, Smsc] = {}
        self.witnesses: dict[str, Witness] = {}
        self.links: dict[str, SmppConnector] = {}
        self.dispatch: Dispatch
        self.inbound = Inbound(bench.ledger)
        self.intake: Intake
        self.deliveries: list[Delivery] = []

    # The sink

    def on_outcomes(self, connector: str, outcomes: Sequence[tuple[OutboundPart, Outcome]]) -> None:
        self.dispatch.on_outcomes(connector, outcomes)

    def on_late_outcomes(self, connector: str, outcomes: Sequence[tuple[OutboundPart, Accepted | Refused]]) -> None:
        self.dispatch.on_late_outcomes(connector, outcomes)

    def on_deliveries(self, connector: str, deliveries: Sequence[Delivery]) -> None:
        self.deliveries += deliveries
        self.inbound.offer(deliveries)

    def may_send(self) -> bool:
        return self.ledger.may_work()

    def on_ready(self, connector: str) -> None:
        self.dispatch.on_ready(connector)

    # What tests do

    async def submit(self, *numbers: int, body: bytes = b"hello", **options: Any) -> list[int]:
        """Submit a message to each number, as a customer would; returns their ids."""
        submission = Submission(msisdns=numbers or (DELIVERED,), body=body, **options)
        batch_id = (await self.intake.submit(self.account, submission)).batch_id
        reports = (await self.bench.report(self.account, batch_id)).reports
        for one in reports:
            self.bench._batches[one.message_id] = (self.account.account_id, batch_id)
        self.dispatch.wake()
        return [one.message_id for one in reports]

    async def submit_long(self, parts: int = 3, number: int = DELIVERED) -> int:
        [message_id] = await self.submit(number, body=b"x" * 153 * parts, max_parts=parts)
        return message_id

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not condition():
                await asyncio.sleep(0.005)

    async def answered(self, count: int, centre: str = "north") -> None:
        """Wait until the site has answered so many receipts: what they did is on disk then; and no more come."""
        await self.until(lambda: len(self.witnesses[centre].answers) >= count)
        await self.until(lambda: self.centres[centre].receipts_kept == 0)
        await self.dispatch.flush()
        await self.inbound.flush()
        assert len(self.witnesses[centre].answers) == count

    async def sent(self, count: int) -> None:
        """Wait until the outcomes of so many messages are on disk."""
        await self.until(lambda: self.dispatch.recorded >= count)
        await self.dispatch.flush()

    async def status(self, message_id: int) -> Status:
        return await self.bench.status(self.account, message_id)

    async def statuses(self, messages: Sequence[int]) -> list[int]:
        return [int(await self.status(one)) for one in messages]

    async def becomes(self, message_id: int, status: Status) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while await self.status(message_id) is not status:
                await asyncio.sleep(0.01)

    async def history(self, message_id: int) -> list[EventRow]:
        return await self.bench.history(message_id)

    async def told(self, message_id: int) -> list[tuple[str, int]]:
        """Return kind and status of each line of a message's history."""
        return [(event.kind, int(event.status)) for event in await self.history(message_id)]

    async def parked(self) -> int:
        return await self.bench.parked()

    def pushed(self, message_id: int) -> list[int]:
        """Return the statuses that the customer was told."""
        return [int(push.status) for push in self.bench.pushes if push.message_id == message_id]

    def parts(self, message_id: int) -> list[int]:
        """Return where the parts of a long message stand, by their numbers."""
        query = "SELECT status FROM parts WHERE message_id = $1 ORDER BY part_no"
        return [row[0] for row in self.engine.look(query, message_id)]


@asynccontextmanager
async def open_site(
    engine: Engine,
    habits: SimulatorHabits | dict[str, Any] | None = None,
    *,
    south: dict[str, Any] | None = None,
    centre: dict[str, Any] | None = None,
    link: dict[str, Any] | None = None,
    second_account: bool = False,
) -> AsyncIterator[Site]:
    """Yield a site that is bound to `north`, which takes all numbers.

    Args:
        engine: Where its ledger is.
        habits: Those of north.
        south: Habits of another message centre, which takes the numbers that begin with 1.
        centre: More settings of north.
        link: More settings of the connector to it.
        second_account: Whether south is another account with north's message centre.
    """
    bench = Bench(engine.open)
    await bench.open()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(bench.store.close)
        site = Site(bench, await bench.account(credits_milli=10_000_000), engine)
        await _connect(stack, site, "north", habits, centre or {}, link or {})
        if south is not None:
            await _connect(stack, site, "south", south, {}, {})
        if second_account:
            site.links["south"] = connector_to(site, "north", name="south", system_id="other")
        routes = [Route("" if name == "north" else "1", name, 1_000) for name in site.links]
        site.dispatch = Dispatch(bench.ledger, site.links)
        site.intake = Intake(bench.ledger, Router(routes), Admission([], []), IntakeSettings(), site.dispatch.wake)
        machines = [site.dispatch.run(), site.inbound.run(), *(link.run() for link in site.links.values())]
        stack.push_async_callback(_end, [asyncio.get_running_loop().create_task(machine) for machine in machines])
        await site.until(lambda: all(one.is_bound for one in site.links.values()))
        yield site


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in reversed(tasks):
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _connect(
    stack: AsyncExitStack,
    site: Site,
    name: str,
    habits: SimulatorHabits | dict[str, Any] | None,
    centre: dict[str, Any],
    link: dict[str, Any],
) -> None:
    given = msgspec.convert(habits or {}, SimulatorHabits) if not isinstance(habits, SimulatorHabits) else habits
    settings = SmscSettings(**(QUICK | centre), habits=given)
    site.witnesses[name] = Witness()
    site.centres[name] = await stack.enter_async_context(Smsc(settings, lambda: site.bench.now, site.witnesses[name]))
    site.links[name] = connector_to(site, name, **link)


def connector_to(site: Site, centre: str, /, **changes: Any) -> SmppConnector:
    """Return a connector to a message centre, of the same name unless told otherwise."""
    plain = {"name": centre, "host": "127.0.0.1", "port": site.centres[centre].port, "system_id": "id"}
    settings = SmppSettings(**plain | {"reconnect_min_s": 0.01, "window": 50} | changes)
    return SmppConnector(settings, site, lambda: site.bench.now, rng=lambda: 0.0)
