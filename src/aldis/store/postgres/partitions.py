"""Partitions by time: made ahead, and dropped whole when retention is over.

Ids rise with time, so what grows for ever is cut into weeks of ids; what upstreams call parts is cut into days. Rows of
a time without a partition go to the table's `_rest`, so that no insert ever fails for want of one.
"""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import asyncpg
import structlog

from aldis.model.errors import SettingsError
from aldis.model.ids import id_at, time_of
from aldis.store.postgres.connection import TURNED_AWAY, Connection
from aldis.store.rows import DAY_MS, KEEP_UPSTREAM_IDS_DAYS

log = structlog.get_logger()

WEEK_MS = 7 * DAY_MS
_MONDAY_MS = 4 * DAY_MS
"""The first Monday after 1970-01-01T00:00:00Z."""
WEEKS_AHEAD = 4
DAYS_AHEAD = 4
LOCK = 0x41_4C_44_49_53
"""Advisory lock of whoever changes tables."""
WEEKLY = {
    # Status moves twice or thrice in a message's first minutes: room in the page keeps the update there.
    "messages": "fillfactor = 75, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0",
    "parts": "fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0",
    "batches": "autovacuum_vacuum_insert_scale_factor = 0.1",
    "events": "autovacuum_vacuum_insert_scale_factor = 0.1",
}
_DAILY = "upstream_ids"


WAIT_S = 60
"""How long a node that starts waits for one that changes tables."""
_LONGEST_S = 3_600


@asynccontextmanager
async def turn(connection: Connection) -> AsyncIterator[None]:
    """Let one node at a time change tables; may be nested.

    Raises:
        SettingsError: another node is at it for too long.
    """
    await connection.execute(f"SET lock_timeout = '{WAIT_S}s'; SET statement_timeout = 0")
    try:
        await connection.execute("SELECT pg_advisory_lock($1)", LOCK, timeout=WAIT_S + 30)
    except asyncpg.LockNotAvailableError:
        raise SettingsError(f"another node has been changing the tables for {WAIT_S} s: try again later") from None
    finally:
        await connection.execute("RESET lock_timeout; RESET statement_timeout")
    try:
        yield
    finally:
        await connection.execute("SELECT pg_advisory_unlock($1)", LOCK)


async def tidy(connection: Connection, now: int, retention_ms: int) -> bool:
    """Make partitions ahead and drop old ones (with a retention of 0: of what upstreams call parts alone).

    Returns:
        False if it is to be tried again soon, because others hold the tables: all writers stand behind who waits for
        a table, so that we don't wait long.
    """
    await connection.execute("SET lock_timeout = '500ms'")
    try:
        await make_ahead(connection, now)
        await drop_days(connection, now)
        if retention_ms:
            await drop_weeks(connection, now - retention_ms)
    except TURNED_AWAY:
        log.warning("partitions can't be made or dropped while others hold the tables; tried again later")
        return False
    finally:
        if not connection.is_closed():
            await connection.execute("RESET lock_timeout")
    return True


def week_of(at_ms: int) -> int:
    """Return the start of a time's week, epoch ms."""
    return at_ms - (at_ms - _MONDAY_MS) % WEEK_MS


def _suffix(start_ms: int) -> str:
    return str(start_ms // DAY_MS)


async def _existing(connection: Connection, table: str) -> dict[int, str]:
    """Return a table's partitions by the day on which they begin."""
    found = await connection.fetch(
        "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = to_regclass($1)",
        table,
    )
    names = [str(row[0]) for row in found]
    return {int(name.rpartition("_")[2]): name for name in names if name.rpartition("_")[2].isdigit()}


def weeks_of(ids: Iterable[int]) -> set[int]:
    """Return the starts of the weeks that ids are of, epoch ms."""
    return {week_of(time_of(one)) for one in ids}


async def make_ahead(connection: Connection, now: int) -> int:
    """Make the partitions of the time around now; returns how many were missing."""
    today = now // DAY_MS
    made = await make_weeks(connection, [week_of(now) + n * WEEK_MS for n in range(-1, WEEKS_AHEAD)])
    return made + await make_days(connection, range(today - 1, today + DAYS_AHEAD))


async def make_weeks(connection: Connection, starts: Iterable[int]) -> int:
    """Make the partitions of weeks, of every table alike; returns how many were missing.

    Args:
        connection: Outside of a transaction.
        starts: When the weeks start, epoch ms.
    """
    made = 0
    weeks = sorted(starts)
    for table, options in WEEKLY.items():
        have = await _existing(connection, table)
        for start in weeks:
            if start // DAY_MS not in have:
                made += await _make(connection, table, start, (id_at(start), id_at(start + WEEK_MS)), options)
    return made


async def make_days(connection: Connection, days: Iterable[int]) -> int:
    """Make the partitions of days since 1970; returns how many were missing."""
    have = await _existing(connection, _DAILY)
    missing = [day for day in sorted(days) if day not in have]
    return sum([await _make(connection, _DAILY, day * DAY_MS, (day, day + 1), "") for day in missing])


async def _make(connection: Connection, table: str, start: int, limits: tuple[int, int], options: str) -> int:
    name = f"{table}_{_suffix(start)}"
    low, high = limits
    try:
        await connection.execute(
            f"CREATE TABLE {name} PARTITION OF {table} FOR VALUES FROM ({low}) TO ({high})"
            + (f" WITH ({options})" if options else "")
        )
    except asyncpg.CheckViolationError:
        log.warning("rows of this time are in the table's rest already, and stay there", partition=name)
        return 0
    return 1


async def drop_days(connection: Connection, now: int) -> int:
    """Drop what upstreams called parts of long ago; returns how many partitions went."""
    oldest = now // DAY_MS - KEEP_UPSTREAM_IDS_DAYS
    over = [name for day, name in (await _existing(connection, _DAILY)).items() if day < oldest]
    for name in over:
        await connection.execute(f"DROP TABLE {name}")
    await connection.execute(f"DELETE FROM {_DAILY}_rest WHERE day < $1", oldest)  # noqa: S608 - a name of our own
    return len(over)


async def drop_weeks(connection: Connection, before: int) -> list[int]:
    """Drop weeks of batches, messages and history that ended before a time; returns the days on which they began.

    A week stays while a message of it waits to be sent or a report of it to be pushed. What accounts were charged and
    refunded in it is carried over, in the same transaction, so that the books add up for ever.
    """
    dropped = []
    for day in sorted(await _existing(connection, "batches")):
        start = day * DAY_MS
        if start + WEEK_MS > before:
            break
        async with connection.transaction():
            await connection.execute("SET LOCAL statement_timeout = 0")
            if await _is_needed(connection, id_at(start), id_at(start + WEEK_MS)):
                log.warning("a week past retention is kept: something of it still waits", day=day)
                continue
            await _carry_sums(connection, day)
            for table in WEEKLY:
                await connection.execute(f"DROP TABLE IF EXISTS {table}_{day}")
        dropped.append(day)
    return dropped


async def _is_needed(connection: Connection, low: int, high: int) -> bool:
    return bool(
        await connection.fetchval(
            "SELECT EXISTS (SELECT FROM queue WHERE message_id >= $1 AND message_id < $2) OR "
            "EXISTS (SELECT FROM pushes WHERE message_id >= $1 AND message_id < $2 AND due_at IS NOT NULL)",
            low,
            high,
        )
    )


async def _carry_sums(connection: Connection, day: int) -> None:
    """Add up first, then lock accounts, for as short as can be: nobody can submit meanwhile."""
    await connection.execute(
        "UPDATE accounts a SET carried_charges = a.carried_charges + s.charges, "  # noqa: S608 - names of our own
        "carried_refunds = a.carried_refunds + s.refunds FROM ("
        "SELECT account_id, sum(charged)::bigint AS charges, sum(refunded)::bigint AS refunds FROM ("
        f"SELECT account_id, charged_milli AS charged, 0 AS refunded FROM batches_{day} UNION ALL "
        f"SELECT account_id, 0, refunded_milli FROM messages_{day} WHERE refunded_milli <> 0"
        ") entries GROUP BY account_id ORDER BY account_id) s WHERE a.account_id = s.account_id",
        timeout=_LONGEST_S,
    )
