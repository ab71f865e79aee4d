"""An SQLite ledger as a check sees it: one state of it, whatever is written meanwhile."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import apsw

from aldis.model.errors import SettingsError
from aldis.store.books import questions
from aldis.store.migrate import refuse_older
from aldis.store.rows import Row
from aldis.store.sqlite.files import check_sqlite
from aldis.store.sqlite.migrate import applied

QUESTIONS = questions("books", "books_sqlite")
_CACHE_KIB = 64 * 1024


class SqliteBooks:
    """A read-only snapshot; it may be taken while a server writes, whose log grows until `close`."""

    def __init__(self, path: Path) -> None:
        """Open a ledger's file.

        Raises:
            SettingsError: it is no ledger, or of another version.
        """
        check_sqlite()
        if not path.is_file():
            raise SettingsError(f"there is no ledger {path}")
        self._connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            self._connection.set_busy_timeout(5_000)
            self._connection.pragma("cache_size", -_CACHE_KIB)
            self._connection.execute("BEGIN")
            refuse_older("sqlite", applied(self._connection), str(path))
        except BaseException as error:
            self._connection.close()
            if isinstance(error, apsw.Error):
                raise SettingsError(f"{path} can't be read as a ledger: {error}") from None
            raise

    async def ask(self, question: str) -> Sequence[Row]:
        """Return the rows of an answer."""
        return await asyncio.to_thread(lambda: self._connection.execute(QUESTIONS[question]).fetchall())

    async def damage(self, *, quick: bool) -> list[str]:
        """Return what is wrong with the file itself, in SQLite's words.

        Args:
            quick: Leave out whether the indexes have what the tables have.
        """
        return await asyncio.to_thread(damage_of, self._connection, quick=quick)

    async def close(self) -> None:
        """Let the snapshot go."""
        self._connection.close()


def damage_of(connection: apsw.Connection, *, quick: bool = False) -> list[str]:
    """Return what is wrong with a database file, in SQLite's words."""
    try:
        found = connection.execute(f"PRAGMA {'quick' if quick else 'integrity'}_check(20)").fetchall()
    except apsw.CorruptError as error:
        return [str(error)]
    return [str(row[0]) for row in found if row[0] != "ok"]
