"""Bring an SQLite ledger up to date."""

import apsw

from aldis.store.migrate import pending, refuse_unfinished

_TABLE = """CREATE TABLE IF NOT EXISTS migrations
(number INTEGER PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL) WITHOUT ROWID"""


def migrate(connection: apsw.Connection) -> int:
    """Apply what is missing, each migration in one transaction; returns how many were applied.

    Raises:
        SettingsError: the database is newer than this program, or a migration was changed after it ran.
    """
    connection.execute(_TABLE)
    missing = pending("sqlite", applied(connection))
    for one in missing:
        with connection:
            connection.execute(one.sql)
            connection.execute("INSERT INTO migrations VALUES (?, ?, ?)", (one.number, one.name, one.checksum))
    return len(missing)


def applied(connection: apsw.Connection) -> dict[int, str]:
    """Return the migrations that a database had, number -> checksum; none: it is no ledger."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'migrations'").fetchall():
        return {}
    return {int(number): str(text) for number, text in connection.execute("SELECT number, checksum FROM migrations")}


def refuse_incomplete(connection: apsw.Connection) -> None:
    """Refuse a ledger that another one is being copied into. Raises what `refuse_unfinished` raises."""
    refuse_unfinished([str(row[0]) for row in connection.execute("SELECT source FROM unfinished_copy LIMIT 1")])
