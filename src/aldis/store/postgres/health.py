"""What an operator should know of the database, and what to do about it."""

from typing import NamedTuple

import asyncpg

from aldis.store.postgres.connection import Connection, connect_first
from aldis.store.rows import DAY_MS

OLD_SNAPSHOT_S = 300
OLD_XID = 1_000_000_000
"""Half of what there is: autovacuum's own emergency begins at 200 million, so that something holds it back."""
MANY_DEAD = 500_000


class Remark(NamedTuple):
    """One thing that was looked at."""

    good: bool | None
    """None: worth knowing, and not wrong."""
    text: str


async def examine(url: str) -> list[Remark]:
    """Look at the database of a ledger.

    Raises:
        SettingsError: it can't be used at all, and what to do.
    """
    connection = await connect_first(url, must_be_durable=True)
    try:
        version = await connection.fetchval("SHOW server_version")
        remarks = [Remark(True, f"PostgreSQL {version}")]
        if await connection.fetchval("SELECT to_regclass('nodes')") is None:
            return [*remarks, Remark(None, "the database holds no ledger yet; the first start makes it")]
        return [
            *remarks,
            await _look_at_nodes(connection),
            await _look_at_snapshots(connection),
            await _look_at_xids(connection),
            *await _look_at_tables(connection),
        ]
    finally:
        await connection.close()


async def _look_at_nodes(connection: Connection) -> Remark:
    nodes = await connection.fetch("SELECT node_number, host, roles FROM nodes WHERE epoch <> 0 ORDER BY node_number")
    if not nodes:
        return Remark(None, "no node runs")
    return Remark(True, "nodes: " + "; ".join(f"{row[0]} on {row[1]} ({row[2]})" for row in nodes))


async def _look_at_snapshots(connection: Connection) -> Remark:
    row = await connection.fetchrow(
        "SELECT pid, application_name, extract(epoch FROM now() - xact_start)::bigint FROM pg_stat_activity "
        "WHERE backend_xmin IS NOT NULL AND pid <> pg_backend_pid() ORDER BY xact_start LIMIT 1"
    )
    if row is None or row[2] < OLD_SNAPSHOT_S:
        return Remark(True, "no transaction has been open for long")
    return Remark(
        False,
        f"process {row[0]} ({row[1] or 'unnamed'}) has had a transaction open for {row[2]} s: dead rows can't be "
        f"removed meanwhile; end it, or SELECT pg_terminate_backend({row[0]})",
    )


async def _look_at_xids(connection: Connection) -> Remark:
    age = await connection.fetchval("SELECT age(datfrozenxid) FROM pg_database WHERE datname = current_database()")
    if age < OLD_XID:
        return Remark(True, f"transaction ids: {age / 2_000_000_000:.0%} of what there is")
    return Remark(
        False,
        f"transaction ids: {age / 2_000_000_000:.0%} of what there is are in use, and the server stops at 100%: "
        "autovacuum can't keep up, or an old transaction, replication slot or prepared transaction holds it back",
    )


async def _look_at_tables(connection: Connection) -> list[Remark]:
    remarks = []
    for table in ("queue", "pushes", "inbox", "accounts"):
        dead = await connection.fetchval(
            "SELECT n_dead_tup FROM pg_stat_user_tables WHERE relid = to_regclass($1)", table
        )
        if dead and dead > MANY_DEAD:
            remarks.append(Remark(False, f"table {table} has {dead:,} dead rows: VACUUM {table}, and see what held it"))
    newest = await connection.fetchval(
        "SELECT max(substring(c.relname FROM '_([0-9]+)$')::bigint) FROM pg_inherits i "
        "JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = to_regclass('messages') AND c.relname ~ '_[0-9]+$'"
    )
    today = await connection.fetchval("SELECT (extract(epoch FROM now()) * 1000)::bigint / $1::bigint", DAY_MS)
    if newest is None or newest <= today:
        remarks.append(Remark(False, "no partitions are ready for next week: is any node running?"))
    rest = await _rows_in_rest(connection)
    if rest:
        remarks.append(Remark(None, f"rows of times without a partition are in {', '.join(rest)}"))
    return remarks


async def _rows_in_rest(connection: Connection) -> list[str]:
    found = []
    for table in ("batches_rest", "messages_rest", "events_rest"):
        try:
            if await connection.fetchval(f"SELECT EXISTS (SELECT FROM {table})"):  # noqa: S608 - names of our own
                found.append(table)
        except asyncpg.UndefinedTableError:
            continue
    return found
