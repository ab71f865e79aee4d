"""What the fault scenarios on PostgreSQL have found, each in small."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from aldis.store.postgres.connection import Connection
from aldis.store.postgres.folded import FoldedRead


async def _echo(connection: Connection, keys: list[int]) -> dict[int, int]:
    return {key: key for key in await connection.fetchval("SELECT $1::bigint[]", keys)}


@pytest.fixture
async def look_ups(postgres_url: str) -> AsyncIterator[FoldedRead[int, int]]:
    reads = FoldedRead("test", postgres_url, _echo, connections=2)
    await reads.open()
    yield reads
    await reads.close()


async def test_two_connections_answer_every_look_up_that_waits(look_ups: FoldedRead[int, int]) -> None:
    """Found by pg-restart: one connection waited for keys that the other had taken, and get_report hung for ever."""
    async with asyncio.timeout(10):
        for at in range(20):
            answers = await asyncio.gather(*(look_ups.find(at * 10 + n) for n in range(3)))
            assert answers == [at * 10 + n for n in range(3)]
