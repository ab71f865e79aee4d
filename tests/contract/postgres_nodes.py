"""Several nodes on one database, each with a bench of its own."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from tests.stores import postgres_opener

from aldis.ledger import Ledger
from aldis.model.ids import IdMaker
from aldis.model.types import PushResult
from aldis.store.group import CommitStats
from aldis.store.postgres import PostgresStore
from aldis.store.postgres.lane import Seat, Tx
from aldis.store.testing import Bench
from aldis.store.testing.bench import NOON


class NodeBench(Bench):
    """A node beside others: with an epoch, ids of its own, and the others' messages known by name."""

    store: PostgresStore

    def __init__(self, url: str, number: int, *, pushes: bool = True) -> None:
        self.number = number
        self.epoch = NOON * 1024 + number
        super().__init__(postgres_opener(url, seat=Seat(self.epoch, pushes=pushes)))

    async def open(self) -> None:
        await super().open()
        self.ledger = Ledger(self.store, IdMaker(self.number), lambda: self.now)


class Site:
    """A database, its nodes, and a connection past them."""

    def __init__(self, url: str, connection: Any) -> None:
        self.url = url
        self.connection = connection
        self.nodes: list[NodeBench] = []

    async def start(self, count: int = 1, *, pushes: bool = True, alive: bool = True) -> list[NodeBench]:
        """Start nodes."""
        started = []
        for _ in range(count):
            node = NodeBench(self.url, len(self.nodes), pushes=pushes)
            if alive:
                await self.enrol(node)
            await node.open()
            if self.nodes:
                node._batches = self.nodes[0]._batches
            self.nodes.append(node)
            started.append(node)
        return started

    async def enrol(self, node: NodeBench) -> None:
        """Let a node count as alive."""
        await self.connection.execute(
            "INSERT INTO nodes (node_number, epoch, roles, host, process, started_at, expires_at) "
            "VALUES ($1, $2, '', '', '', 0, 0)",
            node.number,
            node.epoch,
        )

    async def bury(self, node: NodeBench) -> None:
        """Let the others have found a node dead."""
        await self.connection.execute("UPDATE nodes SET epoch = 0 WHERE epoch = $1", node.epoch)

    async def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in await self.connection.fetch(query, *values)]

    @asynccontextmanager
    async def transaction(self, seat: Seat | None = None) -> AsyncIterator[Tx]:
        """Hold a transaction open in which verbs can be run; it is committed at the end."""
        connection = await asyncpg.connect(self.url)
        try:
            async with connection.transaction():
                yield Tx(connection, seat or Seat(), (secrets.randbits(62), 1))
        finally:
            await connection.close()

    async def close(self) -> None:
        for node in self.nodes:
            await node.store.close()
        await self.connection.close()


@asynccontextmanager
async def site(url: str) -> AsyncIterator[Site]:
    made = Site(url, await asyncpg.connect(url))
    try:
        yield made
    finally:
        await made.close()


def result(push: Any, *, delivered: bool = True, next_at: int | None = None) -> PushResult:
    """Make the end of a push."""
    return PushResult(push.push_id, push.account_id, push.message_id, delivered, 1, next_at, "", NOON)


def no_stats() -> CommitStats:
    return CommitStats(lambda pushes: None)
