"""The shared store keeps the contract of every store, and what is promised of PostgreSQL alone."""

from collections.abc import AsyncIterator

import pytest
from tests.stores import postgres_opener

from aldis.store.testing import Bench, StoreContract


@pytest.fixture
async def bench(postgres_url: str) -> AsyncIterator[Bench]:
    bench = Bench(postgres_opener(postgres_url))
    await bench.open()
    yield bench
    await bench.store.close()


class TestPostgresStore(StoreContract):
    """The whole contract."""
