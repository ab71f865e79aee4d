"""What the fault scenarios on PostgreSQL have found, each in small."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from tests.postgres import Binaries, Cluster

from aldis.model.errors import LedgerUnavailable
from aldis.store.group import CommitStats
from aldis.store.postgres.connection import Connection
from aldis.store.postgres.folded import FoldedRead
from aldis.store.postgres.lane import Lane, Seat, Tx
from aldis.store.postgres.migrate import migrate


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


class _LostAtCommit:
    """A connection whose server crashes in place of the commit, and then gives the transaction's id to another."""

    def __init__(self, connection: Connection, cluster: Cluster, url: str) -> None:
        self._connection = connection
        self._cluster = cluster
        self._url = url

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    async def execute(self, statement: str, *arguments: Any) -> Any:
        if statement != "COMMIT":
            return await self._connection.execute(statement, *arguments)
        xid = await self._connection.fetchval("SELECT pg_current_xact_id()::text::bigint")
        await asyncio.to_thread(self._cluster.restart, "immediate")
        other = await asyncpg.connect(self._url)
        while (
            await other.fetchval("INSERT INTO notes VALUES ('other') RETURNING pg_current_xact_id()::text::bigint")
            < xid
        ):
            pass
        await other.close()
        raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")


async def _note(tx: Tx, items: list[str]) -> list[None]:
    await tx.connection.executemany("INSERT INTO notes VALUES ($1)", [(item,) for item in items])
    return [None] * len(items)


async def test_a_commit_that_a_crash_undid_is_not_taken_for_another_with_the_same_transaction_id(
    postgres_binaries: Binaries,
) -> None:
    """PROMISE-16. Found by pg-restart: a claim that was lost counted as made, and the message was sent twice."""
    with Cluster(postgres_binaries, durable=True, settings={"wal_writer_delay": "10s"}) as cluster:
        url = cluster.url("postgres")
        first = await asyncpg.connect(url)
        await migrate(first)
        await first.execute("CREATE TABLE notes (text TEXT)")
        await first.close()
        lane = Lane("test", url, Seat(), CommitStats(lambda pushes: None), lambda kind: None)
        await lane.open()
        assert await lane.call(_note, ["kept"]) == [None]
        lane._connection = _LostAtCommit(lane._connection, cluster, url)  # type: ignore[assignment,arg-type]
        with pytest.raises(LedgerUnavailable):
            await lane.call(_note, ["lost"])
        await lane.close()
        assert {row[0] for row in cluster.fetch("SELECT text FROM notes")} == {"kept", "other"}


class _Lost:
    """A connection that is gone."""

    def __getattr__(self, name: str) -> Any:
        raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")

    def is_closed(self) -> bool:
        return False

    def terminate(self) -> None:
        pass


async def test_a_lane_finds_out_by_itself_that_the_database_is_back(postgres_url: str) -> None:
    """PROMISE-13. Seen in pg-restart: a node stayed red until somebody submitted, and a balancer lets nobody."""
    first = await asyncpg.connect(postgres_url)
    await migrate(first)
    await first.close()
    lane = Lane("test", postgres_url, Seat(), CommitStats(lambda pushes: None), lambda kind: None)
    await lane.open()
    assert lane._connection is not None
    lane._connection.terminate()
    lane._connection = _Lost()  # type: ignore[assignment]
    with pytest.raises(LedgerUnavailable):
        await lane.call(_note, ["refused"])
    assert lane.problems()
    async with asyncio.timeout(20):
        while lane.problems():
            await asyncio.sleep(0.05)
    await lane.close()
