"""Bring a PostgreSQL ledger up to date."""

from aldis.store.migrate import pending, refuse_unfinished
from aldis.store.postgres import partitions
from aldis.store.postgres.connection import Connection

_TABLE = """CREATE TABLE IF NOT EXISTS migrations
(number BIGINT PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL)"""
_LONGEST_S = 3_600


async def migrate(connection: Connection) -> int:
    """Apply what is missing, each migration in one transaction; returns how many were applied.

    Nodes that start at the same time wait for each other.

    Raises:
        SettingsError: the database is newer than this program, or a migration was changed after it ran.
    """
    async with partitions.turn(connection):
        await connection.execute(_TABLE)
        missing = pending("postgres", await applied(connection))
        for one in missing:
            async with connection.transaction():
                await connection.execute("SET LOCAL lock_timeout = '60s'; SET LOCAL statement_timeout = 0")
                await connection.execute(one.sql, timeout=_LONGEST_S)
                await connection.execute(
                    "INSERT INTO migrations VALUES ($1, $2, $3)", one.number, one.name, one.checksum
                )
        return len(missing)


async def applied(connection: Connection) -> dict[int, str]:
    """Return the migrations that a database had, number -> checksum; none: it is no ledger."""
    if not await connection.fetchval("SELECT to_regclass('migrations') IS NOT NULL"):
        return {}
    return {row[0]: row[1] for row in await connection.fetch("SELECT number, checksum FROM migrations")}


async def refuse_incomplete(connection: Connection) -> None:
    """Refuse a ledger that another one is being copied into. Raises what `refuse_unfinished` raises."""
    refuse_unfinished([row[0] for row in await connection.fetch("SELECT source FROM unfinished_copy LIMIT 1")])
