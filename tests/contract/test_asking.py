"""Upstreams are asked about messages whose receipts do not come, and what they tell counts like a receipt."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.contract.receipt_site import DELIVERED, SILENT, Site, open_site
from tests.stores import Engine

from aldis import asking as asking_module
from aldis import dispatch as dispatch_module
from aldis.asking import LAST_WORD_MS, Asking, ages_to_ask_at
from aldis.connectors.simulator import Smsc
from aldis.ledger import _ids_in
from aldis.model.status import Status

TOLD_DELIVERED = 447700900111
HOUR_MS = 3_600_000
QUERY = {"query": True}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch_module, "POLL_S", 0.02)
    monkeypatch.setattr(asking_module, "PAUSE_S", 0.001)


@pytest.fixture
def queries(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Return the ids that the message centre is asked about, as they come."""
    seen: list[bytes] = []
    answer = Smsc._query

    def see(self: Smsc, connection: Any, account: Any, request: Any, pdu: Any) -> None:
        seen.append(pdu.message_id)
        answer(self, connection, account, request, pdu)

    monkeypatch.setattr(Smsc, "_query", see)
    return seen


@asynccontextmanager
async def sent(engine: Engine, *numbers: int, **link: Any) -> AsyncIterator[tuple[Site, Asking, list[int]]]:
    """Yield a site after messages were taken upstream, and what asks about them."""
    async with open_site(engine, link=QUERY | link) as site:
        messages = await site.submit(*numbers)
        await site.sent(len(numbers))
        await asyncio.sleep(0.05)  # the simulator knows how they stand
        yield site, Asking(site.ledger, site.links, dict), messages


# REC-28
async def test_a_message_whose_receipt_never_comes_is_told_by_its_upstream(engine: Engine) -> None:
    async with sent(engine, TOLD_DELIVERED, SILENT) as (site, asking, messages):
        await asking.sweep("north", "1", HOUR_MS)
        assert await site.statuses(messages) == [10, 10], "they are too young"
        site.bench.now += HOUR_MS + 1_000
        await asking.sweep("north", "1", HOUR_MS)
        assert await site.statuses(messages) == [11, 10]
        assert (await site.told(messages[0]))[-1] == ("query", 11)
        assert (await site.history(messages[0]))[-1].detail == "query_sm: DELIVRD err:000"
        assert len(await site.history(messages[1])) == 1, "on its way is no news"
        assert site.pushed(messages[0]) == [11]
        assert asking.answers == {("north", "found"): 2}


# REC-28
async def test_what_is_over_is_not_asked_about_and_the_rest_once_at_each_age(
    engine: Engine, queries: list[bytes]
) -> None:
    async with sent(engine, DELIVERED, SILENT) as (site, asking, messages):
        await site.answered(1)
        site.bench.now += HOUR_MS + 1_000
        for _ in range(3):
            await asking.sweep("north", "1", HOUR_MS)
        again = Asking(site.ledger, site.links, dict)
        await again.sweep("north", "1", HOUR_MS)
        assert len(queries) == 1, "another process knows how far the first had come"
        await again.sweep("north", "2", HOUR_MS // 2)
        assert len(queries) == 2
        assert await site.statuses(messages) == [11, 10]


# REC-28
async def test_each_part_of_a_long_message_is_asked_about(engine: Engine, queries: list[bytes]) -> None:
    async with open_site(engine, link=QUERY) as site:
        message_id = await site.submit_long(3, TOLD_DELIVERED)
        await site.sent(1)
        await asyncio.sleep(0.05)
        site.bench.now += HOUR_MS + 1_000
        await Asking(site.ledger, site.links, dict).sweep("north", "1", HOUR_MS)
        assert len(set(queries)) == 3
        assert (await site.status(message_id), site.parts(message_id)) == (Status.DELIVERED, [11, 11, 11])


# REC-28
async def test_more_than_the_window_holds_are_asked_a_few_at_a_time(engine: Engine, queries: list[bytes]) -> None:
    numbers = [TOLD_DELIVERED + 10_000 * n for n in range(45)]
    async with sent(engine, *numbers, window=3) as (site, asking, messages):
        site.bench.now += HOUR_MS + 1_000
        await asking.sweep("north", "1", HOUR_MS)
        assert await site.statuses(messages) == [11] * 45
        assert len(queries) == 45


# REC-28
async def test_a_receipt_that_comes_after_all_changes_nothing_and_one_that_contradicts_counts(engine: Engine) -> None:
    async with sent(engine, TOLD_DELIVERED) as (site, asking, [message_id]):
        site.bench.now += HOUR_MS + 1_000
        await asking.sweep("north", "1", HOUR_MS)
        upstream_id = (await site.history(message_id))[0].upstream_id
        for state in ("DELIVRD", "UNDELIV"):
            await site.ledger.receive([site.bench.delivery(upstream_id, state, source=str(TOLD_DELIVERED))])
        assert (await site.status(message_id), site.pushed(message_id)) == (Status.DELIVERED, [11])
        assert [kind for kind, _ in await site.told(message_id)] == ["submit", "query", "receipt", "receipt"]


# REC-28
async def test_an_upstream_that_is_not_to_be_asked_is_not(engine: Engine, queries: list[bytes]) -> None:
    async with sent(engine, TOLD_DELIVERED, query=False) as (site, asking, [message_id]):
        site.bench.now += HOUR_MS + 1_000
        await asking.sweep("north", "1", HOUR_MS)
        assert (queries, await site.status(message_id)) == ([], Status.DELIVERED_UPSTREAM)
        assert await site.bench.store.fact("asked north 1") == 0, "it is asked once it may be"


# REC-28
async def test_an_upstream_that_knows_no_such_question_is_asked_no_more(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def refuse(self: Smsc, connection: Any, account: Any, request: Any, pdu: Any) -> None:
        asked.append(1)
        connection.answer(request, 0x03)

    monkeypatch.setattr(Smsc, "_query", refuse)
    numbers = [TOLD_DELIVERED + 10_000 * n for n in range(30)]
    async with sent(engine, *numbers) as (site, asking, messages):
        site.bench.now += HOUR_MS + 1_000
        await asking.sweep("north", "1", HOUR_MS)
        assert len(asked) == asking_module.AT_ONCE
        assert set(await site.statuses(messages)) == {10}
        assert asking.answers == {("north", "declined"): asking_module.AT_ONCE}


# REC-28
async def test_while_the_link_is_down_nothing_is_passed_over(engine: Engine) -> None:
    async with sent(engine, TOLD_DELIVERED) as (site, asking, [message_id]):
        site.bench.now += HOUR_MS + 1_000
        site.links["north"].move_to("127.0.0.1", 1)
        site.links["north"].cut("a test")
        site.links["north"].hold((0,))
        with pytest.raises(asking_module._NotNow):
            await asking.sweep("north", "1", HOUR_MS)
        site.links["north"].move_to("127.0.0.1", site.centres["north"].port)
        await site.until(lambda: site.links["north"].is_bound)
        await asking.sweep("north", "1", HOUR_MS)
        assert await site.status(message_id) is Status.DELIVERED


# REC-28
async def test_only_the_node_with_the_first_bind_asks(engine: Engine, queries: list[bytes]) -> None:
    async with sent(engine, TOLD_DELIVERED, binds=2) as (site, asking, _):
        site.bench.now += HOUR_MS + 1_000
        site.links["north"].hold((1,))
        await site.until(lambda: site.links["north"].held == {1})
        await asking.sweep("north", "1", HOUR_MS)
        assert queries == []


# REC-28
@pytest.mark.parametrize(
    ("first", "end", "ages"),
    [
        (1.0, 96.0, [1.0, 4.0, 16.0, 64.0, 96.0]),
        (96.0, 96.0, [96.0]),
        (100.0, 96.0, [96.0]),
    ],
)
def test_messages_are_asked_about_less_and_less_often_and_before_their_end(
    first: float, end: float, ages: list[float]
) -> None:
    told = ages_to_ask_at(round(first * HOUR_MS), round(end * HOUR_MS))
    assert list(told.values()) == [*(round(age * HOUR_MS) for age in ages[:-1]), round(end * HOUR_MS) - LAST_WORD_MS]


def test_what_the_history_says_of_several_parts_tells_their_ids() -> None:
    assert _ids_in("1: a1; 2: refused 0x00000045; 3: b:2;x; 4: no answer in time") == [(1, "a1"), (3, "b:2;x")]
    assert _ids_in("1795696777843000") == []
