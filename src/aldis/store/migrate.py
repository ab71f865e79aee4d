"""Migrations: `NNNN_name.sql`, forward only, each remembered with its checksum."""

import hashlib
from importlib.resources import files

import apsw

from aldis.model.errors import SettingsError

_TABLE = """CREATE TABLE IF NOT EXISTS migrations
(number INTEGER PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL) WITHOUT ROWID"""


def available() -> list[tuple[int, str, str]]:
    """Return all migrations in order: number, name, SQL."""
    folder = files("aldis.store") / "migrations"
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return [(int(name[:4]), name[:-4], (folder / name).read_text(encoding="utf-8")) for name in names]


def checksum(sql: str) -> str:
    """Return what a migration's text is known by."""
    return hashlib.sha256(sql.encode()).hexdigest()


def migrate(connection: apsw.Connection) -> int:
    """Bring a database up to date, each migration in one transaction; returns how many were applied.

    Raises:
        SettingsError: the database is newer than this program, or a migration was changed after it ran.
    """
    connection.execute(_TABLE)
    done = dict(connection.execute("SELECT number, checksum FROM migrations"))
    known = available()
    if done and max(done) > known[-1][0]:
        raise SettingsError(f"the ledger is newer (migration {max(done)}) than this aldis: install a newer version")
    applied = 0
    for number, name, sql in known:
        if number in done:
            if done[number] != checksum(sql):
                raise SettingsError(f"migration {name} differs from the one that made this ledger")
            continue
        with connection:
            connection.execute(sql)
            connection.execute("INSERT INTO migrations VALUES (?, ?, ?)", (number, name, checksum(sql)))
        applied += 1
    return applied
