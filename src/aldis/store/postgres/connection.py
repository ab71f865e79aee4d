"""Connections to the database, and what its errors mean to us."""

from socket import gaierror
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import asyncpg
import structlog

from aldis.model.errors import LedgerUnavailable, SettingsError

log = structlog.get_logger()

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]
else:
    Connection = asyncpg.Connection

CONNECT_S = 5.0
COMMAND_S = 15.0
"""Longer than the server's own limits below: past it the server itself is not to be trusted."""
OLDEST_SERVER = 140_000
_SETTINGS = {
    "statement_timeout": "12s",
    "lock_timeout": "3s",
    "idle_in_transaction_session_timeout": "15s",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "client_encoding": "utf8",
    "jit": "off",
}
_KEPT_PLANS = {
    # What was true of a queue when it was looked at last is not what is true now: a plan that scans a table which is
    # empty today would be kept while it grows to millions of rows.
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_bitmapscan": "off",
    "enable_material": "off",
    "enable_memoize": "off",
    # Rows are what must not be read in vain: of an empty table's few pages, the usual costs make as much as of a key.
    "cpu_tuple_cost": "1",
    "cpu_index_tuple_cost": "1",
}

LOST = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.OperatorInterventionError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    OSError,
    TimeoutError,
)
"""The connection is gone or not to be trusted."""
CONFLICT = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError, asyncpg.InvalidCachedStatementError)
"""Two transactions stood in each other's way, or tables were changed under a plan: the same again works."""
TURNED_AWAY = (*CONFLICT, asyncpg.LockNotAvailableError, asyncpg.QueryCanceledError)
"""Something was in the way: the same works later."""
_OF_VALUES = ("21", "22", "23", "54")
"""Classes of SQLSTATE that are about the values in a statement; all others are about the server or its tables."""


def is_lost(error: BaseException) -> bool:
    """Tell whether an error says that the connection is of no more use."""
    return isinstance(error, LOST) and not isinstance(error, asyncpg.QueryCanceledError)


def is_outage(error: BaseException) -> bool:
    """Tell whether an error is not the fault of what the server was given: it can't be used now.

    Disk full, read only, too many connections, no privilege, a wrong password: it is all the same to who waits.
    """
    if isinstance(error, asyncpg.PostgresError) and not is_lost(error):
        return not isinstance(error, TURNED_AWAY) and (error.sqlstate or "")[:2] not in _OF_VALUES
    return is_lost(error)


async def connect(url: str, name: str, *, keep_plans: bool = True) -> Connection:
    """Open a connection.

    Args:
        url: `postgresql://user:password@host:port/database`.
        name: What it is for, shown in pg_stat_activity with the URL's own `application_name` behind it.
        keep_plans: Plan each statement once, by index; off for an operator's questions.

    Raises:
        OSError, TimeoutError, asyncpg.PostgresError: there is no server, or it does not let us in.
    """
    shown = " ".join(["aldis", name, *parse_qs(urlsplit(url).query).get("application_name", [])])
    settings = _SETTINGS | (_KEPT_PLANS if keep_plans else {}) | {"application_name": shown}
    connection: Connection = await asyncpg.connect(
        url, timeout=CONNECT_S, command_timeout=COMMAND_S, server_settings=settings, statement_cache_size=256,
        max_cached_statement_lifetime=0,
    )  # fmt: skip
    try:
        if await connection.fetchval("SHOW synchronous_commit") in ("off", "local"):
            await connection.execute("SET synchronous_commit = on")
    except BaseException:
        connection.terminate()
        raise
    return connection


def labelled(url: str, label: str) -> str:
    """Return a URL whose connections' names end with a label."""
    return f"{url}{'&' if '?' in url else '?'}application_name={label}"


async def connect_first(url: str, *, must_be_durable: bool, what: str = "the database of ledger.url") -> Connection:
    """Open the first connection of a process, with a look at the server.

    Args:
        url: The database.
        must_be_durable: Refuse a server that may lose what it has committed.
        what: The database in words, for what is raised.

    Raises:
        SettingsError: it can't be reached or used; the text says what to do.
    """
    try:
        connection = await connect(url, "start", keep_plans=False)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError, ValueError) as error:
        raise cant_be_used(words_of(error), what) from None
    problem = await _find_problem(connection, must_be_durable)
    if problem:
        await connection.close()
        raise cant_be_used(problem, what)
    return connection


def cant_be_used(problem: str, what: str = "the database of ledger.url") -> SettingsError:
    """Return what an operator gets who starts on a database that is not right."""
    return SettingsError(f"{what} can't be used: {problem}")


async def _find_problem(connection: Connection, must_be_durable: bool) -> str:
    version = int(await connection.fetchval("SHOW server_version_num"))
    if version < OLDEST_SERVER:
        return f"it is PostgreSQL {version // 10_000}, and 14 or newer is needed"
    if await connection.fetchval("SHOW server_encoding") != "UTF8":
        return "its encoding is not UTF8: create it with ENCODING 'UTF8'"
    if await connection.fetchval("SELECT pg_is_in_recovery()"):
        return "it is a standby, which can't be written"
    if must_be_durable:
        for setting in ("fsync", "full_page_writes"):
            if await connection.fetchval(f"SHOW {setting}") == "off":
                return f"{setting} is off there: it would lose what was acknowledged; set it on"
    return ""


def words_of(error: BaseException) -> str:
    """Return what a person can make of an error, and do: never the URL, nor a piece of it that may be a password."""
    if isinstance(error, ValueError):  # the driver shows what it could not read
        return (
            "it is not understood: postgresql://user:password@host:port/database, with %40 for @ and %2F for / in names"
        )
    if isinstance(error, asyncpg.InvalidAuthorizationSpecificationError):
        return f"{error}: are user and password right, and does pg_hba.conf let them in?"
    if isinstance(error, asyncpg.InvalidCatalogNameError):
        return f"{error}: create it with ENCODING 'UTF8'"
    if isinstance(error, asyncpg.PostgresError):
        return str(error)
    if isinstance(error, TimeoutError):
        return "no answer in time; are host and port right, and does a firewall let us through?"
    if isinstance(error, gaierror):
        return "its host has no address"
    if isinstance(error, ConnectionRefusedError) or "Connect call failed" in str(error):
        return "nothing listens there; is PostgreSQL running, and are host and port right?"
    return str(error) or type(error).__name__


def unavailable(error: BaseException) -> LedgerUnavailable:
    """Return what callers get when the database can't be used now; the log has the reason."""
    refusal = LedgerUnavailable()
    refusal.__cause__ = error
    return refusal


def columns(rows: list[tuple[Any, ...]], width: int = 0) -> list[list[Any]]:
    """Return rows as one array a column; without any row, as many empty arrays as are asked for."""
    if not rows:
        return [[]] * width
    return [list(column) for column in zip(*rows, strict=True)]
