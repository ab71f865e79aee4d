"""Calls that wait at the same time share a transaction, on either engine."""

import asyncio
from collections.abc import Callable

import pytest
from tests.stores import Engine

from aldis.connectors.base import Refused
from aldis.model.errors import LedgerUnavailable, Overloaded
from aldis.model.status import Status
from aldis.model.types import Push
from aldis.store.base import Store
from aldis.store.testing import Bench
from aldis.store.testing.bench import NOON


async def test_what_waits_is_bounded(engine: Engine) -> None:
    bench = Bench(engine.opener(max_waiting=50))
    await bench.open()
    ada = await bench.account(credits_milli=1_000_000)
    batches = [bench.batch(ada, [4915100000001] * 10) for _ in range(40)]
    ends = await asyncio.gather(*map(bench.ledger.admit, batches), return_exceptions=True)
    taken = [end for end in ends if isinstance(end, int)]
    assert 5 <= len(taken) < 40
    assert {type(end) for end in ends} == {int, Overloaded}
    assert await bench.credits(ada) == 1_000_000 - 10_000 * len(taken)
    large = bench.batch(ada, [4915100000001] * 100)
    assert await bench.ledger.admit(large) == large.batch_id, "alone, a batch may be larger than the bound"
    await bench.store.close()


async def test_close_finishes_what_waits_and_refuses_what_comes_later(engine: Engine) -> None:
    bench = Bench(engine.open)
    await bench.open()
    ada = await bench.account()
    batches = [bench.batch(ada, [4915100000001]) for _ in range(20)]
    admitted = asyncio.gather(*map(bench.ledger.admit, batches))
    await asyncio.sleep(0)
    await bench.store.close()
    assert await admitted == [batch.batch_id for batch in batches]
    with pytest.raises(LedgerUnavailable):
        await bench.ledger.admit(bench.batch(ada, [4915100000001]))


async def test_calls_that_wait_together_share_a_commit(engine: Engine) -> None:
    bench = Bench(engine.open)
    await bench.open()
    ada = await bench.account(credits_milli=1_000_000)
    before = bench.store.stats.groups
    await asyncio.gather(*(bench.submit(ada) for _ in range(400)))
    assert bench.store.stats.groups - before <= 40
    assert await bench.credits(ada) == 600_000
    await bench.store.close()


async def test_an_acknowledgement_does_not_depend_on_who_hears_of_pushes(engine: Engine) -> None:
    async def broken(_: Callable[[list[Push]], None]) -> Store:
        def complain(pushes: list[Push]) -> None:
            raise RuntimeError("no room for a push")

        return await engine.open(complain)

    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    bench = Bench(broken)
    await bench.open()
    ada = await bench.account()
    async with asyncio.timeout(5):
        message_id = await bench.send(ada, Refused(0x45, retryable=False))
    assert await bench.status(ada, message_id) is Status.FAILED_NETWORK
    assert len(await bench.ledger.due_pushes(NOON, 10)) == 1
    await bench.send(ada, Refused(0x45, retryable=False))
    assert len(await bench.ledger.due_pushes(NOON, 10)) == 2, "it goes on"
    await bench.store.close()
