"""The table of nodes: who lives, under which number and epoch, and who owns which bind.

All times are the database's, so that nodes need not agree on the time.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import structlog

from aldis.model.ids import MAX_NODE
from aldis.rules.binds import Bind
from aldis.store.postgres.connection import Connection, connect
from aldis.store.postgres.lane import SQL

log = structlog.get_logger()

BEAT_TIMEOUT_S = 3.0
_JOIN_LOCK = 0x41_4C_44_49_54


class Joined(NamedTuple):
    """A life of a node."""

    number: int
    epoch: int
    now: int
    """The database's time, epoch ms."""


class Living(NamedTuple):
    """A node that lives."""

    epoch: int
    roles: str
    host: str
    process: str
    """Which process of which machine it is, as it says itself."""


class Beat(NamedTuple):
    """What a node learns with each beat."""

    now: int
    """The database's time, epoch ms."""
    nodes: list[Living]
    owners: dict[Bind, int]
    """Binds with the epoch of the living node that owns each; 0: nobody."""
    buried: list[int]
    """Numbers of nodes that were found dead."""


class NodeTable:
    """One node's way to the table, over a connection of its own. Raises what asyncpg raises."""

    def __init__(self, url: str, ttl_ms: int, label: str = "") -> None:
        """Take the database, how long a node lives after each beat, and what its connections' names end with."""
        self._url = url
        self._label = label
        self._ttl_ms = ttl_ms
        self._connection: Connection | None = None
        self._fences: dict[Bind, int] = {}
        """How often each bind had been taken, as of the last beat."""

    async def living(self) -> list[Living]:
        """Return the nodes that live."""
        connection = await self._connected()
        return [Living(*row) for row in await connection.fetch(SQL["living_nodes"])]

    async def join(self, roles: str, host: str, process: str, connectors: Iterable[tuple[str, int]]) -> Joined:
        """Begin a life under a free number; make rows for connectors' binds, of which there are so many each.

        Raises:
            RuntimeError: all numbers are taken.
        """
        connection = await self._connected()
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1)", _JOIN_LOCK)
            row = await connection.fetchrow(SQL["join_node"], MAX_NODE, self._ttl_ms, roles, host, process, self._label)
            if row is None:
                raise RuntimeError(f"{MAX_NODE + 1} nodes run on this database already")
            for name, binds in connectors:
                await connection.execute(SQL["know_binds"], name, binds)
        return Joined(row[0], row[1], row[2])

    async def beat(self, epoch: int, *, may_bury: bool) -> Beat | None:
        """Stay alive; None: others have found this life dead, and it counts no more.

        Args:
            epoch: This life.
            may_bury: Whether nodes that have not been heard of in time are to be found dead: only by who has been
                heard itself all that time, lest an outage of the database be taken for the death of all others.
        """
        connection = await self._connected()
        async with asyncio.timeout(BEAT_TIMEOUT_S):
            now = await connection.fetchval(SQL["beat"], epoch, self._ttl_ms)
            if now is None:
                return None
            buried = await connection.fetch(SQL["bury_nodes"], epoch) if may_bury else []
            if labels := [row[1] for row in buried if row[1]]:
                await connection.fetchval(SQL["end_connections"], labels)
            nodes = await self.living()
            owned = await connection.fetch(SQL["bind_owners"])
        self._fences = {Bind(row[0], row[1]): row[3] for row in owned}
        return Beat(now, nodes, {Bind(row[0], row[1]): row[2] for row in owned}, [row[0] for row in buried])

    async def take(self, epoch: int, binds: Sequence[Bind]) -> list[Bind]:
        """Take binds that nobody living owned at the last beat; returns those that nobody else was faster at."""
        return await self._change("take_binds", epoch, binds, [self._fences[bind] for bind in binds])

    async def give(self, epoch: int, binds: Sequence[Bind]) -> None:
        """Give binds up."""
        await self._change("give_binds", epoch, binds)

    async def _change(self, name: str, epoch: int, binds: Sequence[Bind], *more: list[int]) -> list[Bind]:
        if not binds:
            return []
        connection = await self._connected()
        columns = [bind.connector for bind in binds], [bind.number for bind in binds]
        async with asyncio.timeout(BEAT_TIMEOUT_S):
            return [Bind(row[0], row[1]) for row in await connection.fetch(SQL[name], epoch, *columns, *more)]

    async def leave(self, *epochs: int) -> None:
        """End lives in good order: what they owned is free at once."""
        connection = await self._connected()
        async with asyncio.timeout(BEAT_TIMEOUT_S):
            await connection.execute(SQL["leave_nodes"], list(epochs))

    async def _connected(self) -> Connection:
        if self._connection is None or self._connection.is_closed():
            self._connection = await connect(self._url, "node", keep_plans=False)
        return self._connection

    def drop(self) -> None:
        """Use another connection from now on: this one did not answer in time."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()
