"""Cancelling: what waits here is never sent, what an upstream has is asked back, and nothing is both."""

import asyncio
from typing import Any

import pytest
from tests.contract.receipt_site import DELIVERED, SILENT, Site, open_site
from tests.stores import Engine

from aldis import asking as asking_module
from aldis import dispatch as dispatch_module
from aldis.asking import Asking, Withdrawal, cancel
from aldis.connectors.simulator import Smsc
from aldis.smpp.errors import CommandStatus
from aldis.store.rows import DAY_MS

CREDITS = 10_000_000


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch_module, "POLL_S", 0.02)
    monkeypatch.setattr(asking_module, "PAUSE_S", 0.001)


async def batch_of(site: Site, message_id: int) -> int:
    return site.bench._batches[message_id][1]


async def cancelled(site: Site, message_id: int, number: int | None = None) -> Withdrawal | None:
    return await cancel(site.ledger, site.account.account_id, await batch_of(site, message_id), number)


async def credits_of(site: Site) -> int:
    return await site.bench.store.credits_of(site.account.account_id)


# REC-30
async def test_what_waits_is_never_sent_and_costs_nothing(engine: Engine) -> None:
    async with open_site(engine) as site:
        site.links["north"].hold(())
        await site.until(lambda: not site.links["north"].held)
        messages = await site.submit(DELIVERED, SILENT)
        assert await cancelled(site, messages[0], SILENT) == Withdrawal(1, 0, 0, 0)
        assert await site.statuses(messages) == [0, 29]
        assert await cancelled(site, messages[0]) == Withdrawal(1, 0, 0, 1)
        assert await cancelled(site, messages[0]) == Withdrawal(0, 0, 0, 2)
        assert (await credits_of(site), [site.pushed(one) for one in messages]) == (CREDITS, [[29], [29]])
        site.links["north"].hold((0,))
        await site.until(lambda: site.links["north"].is_bound)
        [sent] = await site.submit(DELIVERED)
        await site.answered(1)
        assert await site.statuses([*messages, sent]) == [29, 29, 11]
        assert len(site.witnesses["north"].submits) == 1


# REC-30
async def test_a_message_is_sent_or_cancelled_and_never_both(engine: Engine) -> None:
    numbers = [DELIVERED + 10_000 * n for n in range(60)]
    async with open_site(engine, link={"window": 5}) as site:
        for _ in range(5):
            before = len(site.witnesses["north"].submits)
            messages = await site.submit(*numbers)
            told = await cancelled(site, messages[0])
            assert told is not None and told.cancelled + told.asked + told.out_of_reach + told.over == len(numbers)
            await site.until(lambda: site.dispatch.unrecorded == 0)
            await site.dispatch.flush()
            await asyncio.sleep(0.1)
            await site.inbound.flush()
            statuses = await site.statuses(messages)
            sent = {int(pdu.destination_addr) for pdu in site.witnesses["north"].submits[before:]}
            assert {number for number, status in zip(numbers, statuses, strict=True) if status != 29} == sent
            assert statuses.count(29) == told.cancelled

        delivered = [one for one in await site.statuses(list(site.bench._batches)) if one != 29]
        assert await credits_of(site) == CREDITS - 1_000 * len(delivered)


# REC-31
async def test_what_an_upstream_gives_back_is_cancelled_and_refunded(engine: Engine) -> None:
    async with open_site(engine) as site:
        [message_id] = await site.submit(SILENT)
        await site.sent(1)
        assert await cancelled(site, message_id) == Withdrawal(0, 1, 0, 0)
        assert await site.statuses([message_id]) == [10]
        asking = Asking(site.ledger, site.links, dict)
        await asking.withdraw()
        assert (await site.statuses([message_id]), await credits_of(site)) == ([29], CREDITS)
        await site.answered(1)
        assert await site.told(message_id) == [("submit", 10), ("cancel", 29), ("receipt", 29)]
        assert site.pushed(message_id) == [29]
        assert await site.bench.store.facts(asking_module._WISH) == {}


# REC-31
async def test_what_an_upstream_does_not_give_back_goes_on(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Smsc, connection: Any, account: Any, request: Any, pdu: Any) -> None:
        connection.answer(request, CommandStatus.ESME_RCANCELFAIL)

    monkeypatch.setattr(Smsc, "_cancel", refuse)
    async with open_site(engine) as site:
        [message_id] = await site.submit(SILENT)
        await site.sent(1)
        await cancelled(site, message_id)
        await Asking(site.ledger, site.links, dict).withdraw()
        assert (await site.statuses([message_id]), await credits_of(site)) == ([62], CREDITS - 1_000)
        upstream_id = (await site.history(message_id))[0].upstream_id
        await site.ledger.receive([site.bench.delivery(upstream_id, "DELIVRD", source=str(SILENT))])
        assert await site.told(message_id) == [("submit", 10), ("cancel refused", 62), ("receipt", 11)]
        assert await site.bench.store.facts(asking_module._WISH) == {}


# REC-31
async def test_an_upstream_that_is_asked_too_fast_is_asked_again_for_each_part(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer, busy = Smsc._cancel, [CommandStatus.ESME_RTHROTTLED]

    def refuse_once(self: Smsc, connection: Any, account: Any, request: Any, pdu: Any) -> None:
        if busy:
            connection.answer(request, busy.pop())
        else:
            answer(self, connection, account, request, pdu)

    monkeypatch.setattr(Smsc, "_cancel", refuse_once)
    async with open_site(engine) as site:
        message_id = await site.submit_long(3, SILENT)
        await site.sent(1)
        await cancelled(site, message_id)
        asking = Asking(site.ledger, site.links, dict)
        await asking.withdraw()
        parts = site.parts(message_id)
        assert sorted(parts) == [10, 29, 29]
        await asking.withdraw()
        assert site.parts(message_id) == [29, 29, 29]
        assert await site.bench.store.facts(asking_module._WISH) == {}


# REC-31
async def test_nobody_is_asked_for_what_is_over(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Smsc, "_cancel", lambda *_: pytest.fail("asked"))
    async with open_site(engine) as site:
        [message_id] = await site.submit(SILENT)
        await site.sent(1)
        await cancelled(site, message_id)
        upstream_id = (await site.history(message_id))[0].upstream_id
        await site.ledger.receive([site.bench.delivery(upstream_id, "DELIVRD", source=str(SILENT))])
        assert await site.statuses([message_id]) == [11]
        await Asking(site.ledger, site.links, dict).withdraw()
        assert await site.bench.store.facts(asking_module._WISH) == {}


# REC-31
async def test_nobody_is_asked_for_ever(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Smsc, "_cancel", lambda *_: None)
    async with open_site(engine, link={"response_timeout_s": 0.1}) as site:
        [message_id] = await site.submit(SILENT)
        await site.sent(1)
        await cancelled(site, message_id)
        site.bench.now += 15 * DAY_MS
        await Asking(site.ledger, site.links, dict).withdraw()
        assert len(await site.bench.store.facts(asking_module._WISH)) == 1
        site.bench.now += 1_000
        await site.until(lambda: site.links["north"].is_bound)
        await Asking(site.ledger, site.links, dict).withdraw()
        assert await site.bench.store.facts(asking_module._WISH) == {}


# REC-31
async def test_an_upstream_that_says_nothing_is_asked_again(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = Smsc._cancel
    monkeypatch.setattr(Smsc, "_cancel", lambda *_: None)
    async with open_site(engine, link={"response_timeout_s": 0.2}) as site:
        [message_id] = await site.submit(SILENT)
        await site.sent(1)
        await cancelled(site, message_id)
        asking = Asking(site.ledger, site.links, dict)
        await asking.withdraw()
        assert await site.statuses([message_id]) == [10]
        monkeypatch.setattr(Smsc, "_cancel", answer)
        await site.until(lambda: site.links["north"].is_bound)
        await asking.withdraw()
        assert await site.statuses([message_id]) == [29]


# REC-30
async def test_another_accounts_batch_is_not_there(engine: Engine) -> None:
    async with open_site(engine) as site:
        [message_id] = await site.submit(SILENT)
        batch_id = await batch_of(site, message_id)
        assert await cancel(site.ledger, site.account.account_id + 1, batch_id) is None
        assert await cancel(site.ledger, site.account.account_id, batch_id + 10**6) is None
