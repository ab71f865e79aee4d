"""Bring an SQLite ledger up to date."""

import apsw

from aldis.store.migrate import pending

_TABLE = """CREATE TABLE IF NOT EXISTS migrations
(number INTEGER PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL) WITHOUT ROWID"""


def migrate(connection: apsw.Connection) -> int:
    """Apply what is missing, each migration in one transaction; returns how many were applied.

    Raises:
        SettingsError: the database is newer than this program, or a migration was changed after it ran.
    """
    connection.execute(_TABLE)
    done = {int(number): str(text) for number, text in connection.execute("SELECT number, checksum FROM migrations")}
    missing = pending("sqlite", done)
    for one in missing:
        with connection:
            connection.execute(one.sql)
            connection.execute("INSERT INTO migrations VALUES (?, ?, ?)", (one.number, one.name, one.checksum))
    return len(missing)
