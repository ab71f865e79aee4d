"""Messages of subscribers: over real sockets into the ledger, put together, and told what they answer."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.contract.receipt_site import DEADLINE_S, DELIVERED, Site, open_site
from tests.stores import Engine
from tests.unit.test_assembly import KINDS, part

from aldis import dispatch as dispatch_module
from aldis import inbound as inbound_module
from aldis.connectors.assembly import GAP
from aldis.connectors.base import Delivery
from aldis.connectors.translate import to_delivery
from aldis.inbound import PARTS_WAIT_MS, Inbound
from aldis.smpp.commands import DeliverSm
from aldis.smpp.events import Incoming
from aldis.smpp.pdu import encode
from aldis.store.base import InboundMessage, WantedInbound
from aldis.store.inbound import GATHERED_AT_ONCE
from aldis.store.testing import Bench

LINE = "27820001111"
SUBSCRIBER = str(DELIVERED)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch_module, "POLL_S", 0.02)
    monkeypatch.setattr(inbound_module, "LOOK_AGAIN_S", 0.05)


def text_of(text: str, **fields: Any) -> DeliverSm:
    plain = {"source_addr": SUBSCRIBER.encode(), "destination_addr": LINE.encode()} | fields
    return DeliverSm(**plain, short_message=text.encode())


async def come(site: Site, *pdus: DeliverSm) -> None:
    """Let messages come from the network, in order, and wait until all are on disk."""
    before = site.inbound.received
    for pdu in pdus:
        site.centres["north"].deliver("id", pdu)
    await site.until(lambda: site.inbound.received == before + len(pdus))


async def read(store: Any, **wanted: Any) -> list[InboundMessage]:
    return list(await store.inbound_messages(WantedInbound(**wanted)))


async def until_read(site: Site, count: int) -> list[InboundMessage]:
    async with asyncio.timeout(DEADLINE_S):
        while len(found := await read(site.bench.store)) < count:
            await asyncio.sleep(0.01)
    return found


def waiting(engine: Engine) -> int:
    return int(engine.look("SELECT count(*) FROM inbox WHERE is_receipt = 0")[0][0])


@asynccontextmanager
async def open_bench(engine: Engine) -> AsyncIterator[Bench]:
    bench = Bench(engine.open)
    await bench.open()
    yield bench
    await bench.store.close()


# INB-1
async def test_a_message_is_kept_as_it_was_written(engine: Engine) -> None:
    async with open_site(engine) as site:
        await come(site, text_of("Where is my parcel?"))
        [one] = await until_read(site, 1)
        assert (one.source, one.destination, one.connector) == (SUBSCRIBER, LINE, "north")
        assert (one.text, one.octets, one.data_coding) == ("Where is my parcel?", b"Where is my parcel?", 0)
        assert (one.parts, one.parts_got, one.keyword, one.account_id, one.message_id) == (1, 1, "", 0, 0)
        assert waiting(engine) == 0
        assert (await site.parked(), site.inbound.messages) == (0, {("north", ""): 1})


# INB-3
@pytest.mark.parametrize("kind", KINDS)
async def test_parts_in_any_order_become_one_message(engine: Engine, kind: str) -> None:
    texts = [b"Once ", b"upon ", b"a ", b"time"]
    pdus = [part(text, number, 4, kind=kind) for number, text in enumerate(texts, 1)]
    random.Random(kind).shuffle(pdus)
    async with open_site(engine) as site:
        await come(site, *pdus[:3])
        assert await read(site.bench.store) == []
        await come(site, pdus[3])
        [one] = await until_read(site, 1)
        assert (one.text, one.octets, one.parts, one.parts_got) == ("Once upon a time", b"".join(texts), 4, 4)
        assert waiting(engine) == 0


# INB-3
async def test_many_long_messages_at_once_are_each_put_together(engine: Engine) -> None:
    """More parts than are looked at in one transaction, all mixed."""
    total = GATHERED_AT_ONCE
    pdus = [part(b"%d-%d;" % (ref, n), n, 3, reference=ref, kind="udh16") for ref in range(total) for n in (1, 2, 3)]
    random.Random(1).shuffle(pdus)
    async with open_site(engine) as site:
        await come(site, *pdus)
        await until_read(site, 100)
        async with asyncio.timeout(DEADLINE_S):
            while waiting(engine):
                await asyncio.sleep(0.02)
        found = await read(site.bench.store, limit=1_000)
    assert sorted(one.text for one in found) == sorted(f"{ref}-1;{ref}-2;{ref}-3;" for ref in range(total))


# INB-4
async def test_what_came_of_a_message_is_told_after_a_time(engine: Engine) -> None:
    async with open_site(engine) as site:
        await come(site, part(b"the end", 3, 3), part(b"it begins ", 1, 3))
        site.bench.now += PARTS_WAIT_MS - 1_000
        await come(site, text_of("another"))
        assert [one.text for one in await until_read(site, 1)] == ["another"]
        site.bench.now += 2_000
        found = {one.text: one for one in await until_read(site, 2)}
        one = found[f"it begins {GAP}the end"]
        assert (one.parts, one.parts_got) == (3, 2)
        assert (waiting(engine), site.inbound.incomplete["north"]) == (0, 1)


# INB-9
async def test_a_part_that_comes_again_too_late_is_no_message(engine: Engine) -> None:
    async with open_site(engine) as site:
        first, second = part(b"it begins ", 1, 2), part(b"and ends", 2, 2)
        await come(site, first, second)
        await until_read(site, 1)
        site.bench.now += 60_000
        await come(site, second, part(b"something else", 1, 2, reference=8))
        site.bench.now += PARTS_WAIT_MS + 1_000
        assert {one.text for one in await until_read(site, 2)} == {"it begins and ends", f"something else{GAP}"}
        assert (waiting(engine), site.inbound.incomplete["north"]) == (0, 1)


# INB-4
async def test_what_waited_when_the_process_died_is_put_together_once_by_the_next(engine: Engine) -> None:
    async with open_bench(engine) as bench:
        for number in (2, 1):
            await bench.ledger.receive([delivery(bench, part(b"ab"[number - 1 : number], number, 2))])
        await bench.ledger.receive([delivery(bench, text_of("alone"))])
    assert waiting(engine) == 3
    async with open_bench(engine) as bench:
        inbound = Inbound(bench.ledger)
        await inbound.gather(0, bench.now + 1)
        await inbound.gather(0, bench.now + 1)
        found = await read(bench.store)
        assert sorted(one.text for one in found) == ["ab", "alone"]
        assert waiting(engine) == 0
        assert await bench.store.largest_id() == max(one.inbound_id for one in found), "ids go on behind it"


def delivery(bench: Bench, pdu: DeliverSm) -> Delivery:
    return to_delivery("north", Incoming(1, pdu, encode(pdu, 1)), bench.now, lambda taken: None)


# INB-6
async def test_a_reply_knows_the_newest_message_that_it_may_answer(engine: Engine) -> None:
    async with open_site(engine) as site:
        sent: dict[str, list[int]] = {}
        for originator in (LINE, LINE, "27820002222", "Parcels"):
            site.bench.now += 1_000
            sent[originator] = await site.submit(originator=originator)
        await site.sent(4)
        await site.answered(4)
        [newest] = sent[LINE]
        await come(site, text_of("ok", destination_addr=b"+" + LINE.encode()))
        [one] = await until_read(site, 1)
        assert (one.account_id, one.message_id) == (site.account.account_id, newest)
        await come(site, text_of("who are you", source_addr=b"447700900999"))
        assert [one.message_id for one in await until_read(site, 2)] == [0, newest]


# INB-6
async def test_subscribers_of_the_simulator_answer(engine: Engine) -> None:
    numbers = (447700900120, 447700900121)
    async with open_site(engine) as site:
        sent = await site.submit(*numbers, originator=LINE)
        found = {one.text: one for one in await until_read(site, 2)}
        stop, thanks = found["STOP"], found["Thank you very much indeed"]
        assert [(one.keyword, one.parts, one.message_id) for one in (stop, thanks)] == [
            ("stop", 1, sent[0]),
            ("", 3, sent[1]),
        ]


# INB-7
async def test_a_stop_is_kept_as_news_and_found_by_it(engine: Engine) -> None:
    async with open_site(engine) as site:
        await come(site, text_of("Stop!"), text_of("hello"), text_of("START", source_addr=b"447700900999"))
        await until_read(site, 3)
        assert [one.text for one in await read(site.bench.store, keyword="stop")] == ["Stop!"]
        assert [one.text for one in await read(site.bench.store, keyword="start", number="0999")] == ["START"]
        assert site.inbound.messages == {("north", "stop"): 1, ("north", ""): 1, ("north", "start"): 1}


# INB-1
@pytest.mark.parametrize(
    "wanted", [{"connector": "south"}, {"number": "000"}, {"destination": "999"}, {"keyword": "stop"}]
)
async def test_messages_are_found_by_what_they_have(engine: Engine, wanted: dict[str, str]) -> None:
    async with open_bench(engine) as bench:
        await bench.ledger.receive([delivery(bench, text_of(text)) for text in ("one", "two", "three")])
        await Inbound(bench.ledger).gather(0, bench.now + 1)
        assert await read(bench.store, **wanted) == []
        right = {"connector": "north", "number": SUBSCRIBER[-5:], "destination": LINE[-4:]}
        assert [one.text for one in await read(bench.store, **right)] == ["three", "two", "one"]
        assert [one.text for one in await read(bench.store, limit=1)] == ["three"]


# INB-8
async def test_messages_are_forgotten_after_their_time(engine: Engine) -> None:
    async with open_bench(engine) as bench:
        await bench.ledger.receive([delivery(bench, text_of("old"))])
        bench.now += 10_000
        await bench.ledger.receive([delivery(bench, text_of("new"))])
        await Inbound(bench.ledger).gather(0, bench.now + 1)
        while await bench.store.tidy(bench.now, 0, bench.now - 5_000):
            pass
        assert [one.text for one in await read(bench.store)] == ["new"]


# INB-1
async def test_words_that_no_text_can_hold_are_kept(engine: Engine) -> None:
    hostile = [
        text_of("a\0b"),
        DeliverSm(source_addr=b"1", destination_addr=b"2", data_coding=8, short_message=b"\xd8\x00\x00\x00x"),
        DeliverSm(source_addr=b"\xff", destination_addr=b"", data_coding=255, short_message=b"\x00\xff"),
        DeliverSm(),
    ]
    async with open_site(engine) as site:
        await come(site, *hostile)
        found = await until_read(site, len(hostile))
        assert {one.octets for one in found} == {b"a\0b", b"\xd8\x00\x00\x00x", b"\x00\xff", b""}
