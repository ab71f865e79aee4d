"""A route with several connectors: real message centres, of which one is down or refuses."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import msgspec
import pytest
from smsc_site import DELIVERED, QUICK, SILENT, Witness, smpp_settings
from tests.stores import Engine

from aldis import dispatch as dispatch_module
from aldis.connectors.outcomes import OUTCOMES
from aldis.connectors.simulator import Smsc, SmscSettings
from aldis.connectors.smpp import SmppConnector
from aldis.dispatch import Dispatch
from aldis.inbound import Inbound
from aldis.model.status import Status
from aldis.rules.failover import queue_of
from aldis.smpp.errors import CommandStatus
from aldis.store.testing import Bench

NO_RECEIPT = 27820000101
assert not OUTCOMES["0101"].receipts
LONG_MS = 3_600.0


class Both:
    """What connectors tell, for dispatch and inbound."""

    dispatch: Dispatch
    inbound: Inbound

    def on_outcomes(self, connector, outcomes):
        self.dispatch.on_outcomes(connector, outcomes)

    def on_late_outcomes(self, connector, outcomes):
        self.dispatch.on_late_outcomes(connector, outcomes)

    def on_deliveries(self, connector, deliveries):
        self.inbound.offer(deliveries)

    def may_send(self):
        return True

    def on_ready(self, connector):
        self.dispatch.on_ready(connector)


class Site:
    """A ledger, dispatch, and the connectors a and b, each bound to a message centre of its own."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.stack = AsyncExitStack()
        self.centres: dict[str, Smsc] = {}
        self.witnesses = {name: Witness() for name in "ab"}
        self.connectors: dict[str, SmppConnector] = {}
        self.tasks: list[asyncio.Task[None]] = []

    async def start(self, failover_after_s: float, **changes: object) -> None:
        sink = Both()
        for name in "ab":
            self.centres[name] = await self.centre(name)
            settings = smpp_settings(self.centres[name], name=name, **changes)
            self.connectors[name] = SmppConnector(settings, sink, self.now_ms, rng=lambda: 0.0)
        sink.dispatch = self.dispatch = Dispatch(self.bench.ledger, self.connectors, [queue_of("ab")], failover_after_s)
        sink.inbound = self.inbound = Inbound(self.bench.ledger)
        self.account = await self.bench.account()
        loop = asyncio.get_running_loop()
        running = (self.dispatch.run(), self.inbound.run(), *(one.run() for one in self.connectors.values()))
        self.tasks = [loop.create_task(one) for one in running]
        await self.until(lambda: all(one.is_bound for one in self.connectors.values()))

    def now_ms(self) -> int:
        return self.bench.now

    async def centre(self, name: str, port: int = 0) -> Smsc:
        smsc = Smsc(SmscSettings(**QUICK, port=port), self.now_ms, self.witnesses[name])
        return await self.stack.enter_async_context(smsc)

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.stack.aclose()
        await self.bench.store.close()

    async def submit(self, msisdn: int, parts: int = 1, queue: str = queue_of("ab")) -> int:
        batch = self.bench.batch(self.account, [msisdn], parts=parts, connector=queue)
        await self.bench.ledger.admit(msgspec.structs.replace(batch, body=b"x" * (153 * parts if parts > 1 else 5)))
        self.dispatch.wake()
        return batch.last_message_id

    async def until(self, condition) -> None:
        async with asyncio.timeout(15):
            while not condition():
                await asyncio.sleep(0.005)

    async def reaches(self, message_id: int, status: Status) -> None:
        async with asyncio.timeout(15):
            while await self.bench.status(self.account, message_id) is not status:
                await asyncio.sleep(0.005)

    def seen(self) -> dict[str, int]:
        """Return how many submits each message centre saw."""
        return {name: len(witness.submits) for name, witness in self.witnesses.items()}

    async def ways_told(self, message_id: int) -> list[str]:
        """Return the connectors in a message's history."""
        account_id, batch_id = self.bench._batches[message_id]
        history = await self.bench.store.history(account_id, batch_id)
        return [event.connector for event in history if event.connector and event.upstream_id]


@pytest.fixture
async def site(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    monkeypatch.setattr(dispatch_module, "POLL_S", 0.02)
    bench = Bench(engine.open)
    await bench.open()
    site = Site(bench)
    yield site
    await site.close()


# SMPP-35
async def test_while_the_preferred_connector_is_down_the_next_one_takes_its_messages(site: Site) -> None:
    await site.start(0.1)
    await site.reaches(await site.submit(DELIVERED), Status.DELIVERED)
    assert site.seen() == {"a": 1, "b": 0}
    port = site.centres["a"].port
    await site.centres["a"].close()
    await site.until(lambda: not site.connectors["a"].is_bound)
    message_id = await site.submit(DELIVERED)
    await site.reaches(message_id, Status.DELIVERED)
    assert site.seen() == {"a": 1, "b": 1}
    assert set(await site.ways_told(message_id)) == {"b"}
    await site.centre("a", port)
    await site.until(lambda: site.connectors["a"].is_bound)
    await site.reaches(await site.submit(DELIVERED), Status.DELIVERED)
    assert site.seen() == {"a": 2, "b": 1}
    assert site.dispatch.moved == 0


# SMPP-35
async def test_a_short_outage_moves_nothing(site: Site) -> None:
    await site.start(LONG_MS)
    port = site.centres["a"].port
    await site.centres["a"].close()
    await site.until(lambda: not site.connectors["a"].is_bound)
    waiting = await site.submit(DELIVERED)
    own = await site.submit(DELIVERED, queue="b")
    await site.reaches(own, Status.DELIVERED)
    assert site.seen() == {"a": 0, "b": 1}
    await site.centre("a", port)
    await site.reaches(waiting, Status.DELIVERED)
    assert site.seen() == {"a": 1, "b": 1}


# SMPP-35
@pytest.mark.parametrize("parts", [1, 3])
async def test_what_this_upstream_can_not_take_goes_to_the_next_at_once(site: Site, parts: int) -> None:
    await site.start(LONG_MS)
    site.centres["a"].refuse = CommandStatus.ESME_RSUBMITFAIL
    message_id = await site.submit(NO_RECEIPT, parts)
    await site.reaches(message_id, Status.DELIVERED_UPSTREAM)
    assert site.seen() == {"a": parts, "b": parts}
    assert site.dispatch.moved == 1
    assert set(await site.ways_told(message_id)) == {"b"}
    [submit] = [event for event in await site.bench.history(message_id) if event.kind == "submit"]
    assert submit.detail.startswith("a refused 0x00000045; ")
    [(connector, sent)] = (await site.bench.ledger.sent_parts([site.bench.key_of(message_id)])).items()
    assert (connector, [one.part_no for one in sent]) == ("b", [*range(1, parts + 1)])
    assert submit.upstream_id == sent[0].upstream_id


# SMPP-35
@pytest.mark.parametrize(
    ("refusal", "status"),
    [
        (CommandStatus.ESME_RINVDSTADR, Status.UNROUTABLE),
        (CommandStatus.ESME_RINVMSGLEN, Status.DATA_INVALID),
        (CommandStatus.ESME_RTHROTTLED, Status.RETRY_QUEUED),
    ],
    ids=["number", "length", "pace"],
)
async def test_what_is_about_the_message_or_the_pace_goes_nowhere_else(
    site: Site, refusal: CommandStatus, status: Status
) -> None:
    await site.start(0.0)
    site.centres["a"].refuse = refusal
    await site.reaches(await site.submit(DELIVERED), status)
    assert site.seen() == {"a": 1, "b": 0}


# SMPP-35
async def test_where_nobody_can_take_it_now_it_waits_and_begins_anew(site: Site) -> None:
    await site.start(LONG_MS)
    for centre in site.centres.values():
        centre.refuse = CommandStatus.ESME_RX_T_APPN
    message_id = await site.submit(DELIVERED)
    await site.reaches(message_id, Status.RETRY_QUEUED)
    assert site.seen() == {"a": 1, "b": 1}
    site.centres["a"].refuse = 0
    site.bench.now += 60_000
    site.dispatch.wake()
    await site.reaches(message_id, Status.DELIVERED)
    assert site.seen() == {"a": 2, "b": 1}


# SMPP-35
async def test_a_refusal_by_the_upstream_moves_nothing_to_one_that_is_down(site: Site) -> None:
    await site.start(LONG_MS)
    await site.centres["b"].close()
    await site.until(lambda: not site.connectors["b"].is_bound)
    site.centres["a"].refuse = CommandStatus.ESME_RSUBMITFAIL
    await site.reaches(await site.submit(DELIVERED), Status.FAILED_NETWORK)
    assert site.seen() == {"a": 1, "b": 0}


# SMPP-35 SMPP-6
@pytest.mark.parametrize("end", ["no answer", "cut"])
async def test_what_may_have_been_taken_is_never_sent_by_another(site: Site, end: str) -> None:
    await site.start(0.0, response_timeout_s=0.2 if end == "no answer" else 60.0)
    message_id = await site.submit(SILENT)
    await site.until(lambda: site.seen()["a"] == 1)
    await site.centres["a"].close() if end == "cut" else None
    await site.reaches(message_id, Status.UPSTREAM_UNACKNOWLEDGED)
    if end == "no answer":
        await site.centres["a"].close()
    after = await site.submit(DELIVERED)
    site.bench.now += 7_200_000
    site.dispatch.wake()
    await site.reaches(after, Status.DELIVERED)
    assert [pdu.destination_addr for pdu, _ in site.witnesses["b"].submits] == [b"%d" % DELIVERED]
    assert await site.bench.status(site.account, message_id) is Status.UPSTREAM_UNACKNOWLEDGED


# SMPP-35
async def test_a_connector_whose_binds_other_nodes_hold_is_not_called_down(site: Site) -> None:
    await site.start(0.0)
    site.connectors["a"].hold(())
    await site.until(lambda: not site.connectors["a"].held)
    waiting = await site.submit(DELIVERED)
    await site.reaches(await site.submit(DELIVERED, queue="b"), Status.DELIVERED)
    assert site.seen() == {"a": 0, "b": 1}
    site.connectors["a"].hold({0})
    await site.reaches(waiting, Status.DELIVERED)
    assert site.seen() == {"a": 1, "b": 1}


async def test_a_queue_of_connectors_that_are_gone_is_not_served(site: Site) -> None:
    await site.start(LONG_MS)
    assert not site.dispatch.serve(queue_of(["x", "y"]))
    assert site.dispatch.serve(queue_of(["x", "b"]))
